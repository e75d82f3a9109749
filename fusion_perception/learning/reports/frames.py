"""Show single frames: camera image, range image and top view, with truth and prediction marked."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fusion_perception.learning.bags.judging import JudgedFrame
from fusion_perception.learning.plots import GREENS, points_of, upright
from fusion_perception.learning.reports.errors import Floats, share_within
from fusion_perception.learning.reports.figures import MODE_NAMES
from fusion_perception.learning.reports.html import listed, table, text
from fusion_perception.learning.reports.marks import ELLIPSE_DEVIATIONS, ellipse, marked
from fusion_perception.sensing.observation import Camera, Lidar

# More pixels than this across are lost on the page, and only make it large.
_MOST_PIXELS = 640
_MOST_RETURNS = 1200
# An ellipse that is larger runs out of the picture.
_MOST_REACH_M = 5.0
_NO_RETURN = (32, 36, 42)


def frame_views(
    number: int, frame: JudgedFrame, classes: Sequence[str], lidar: Lidar, camera: Camera
) -> str:
    """Return one frame in three views above a table; `camera` holds where the frame has none."""
    away = np.linalg.norm(frame.predicted - frame.truth, axis=-1).tolist()
    each = listed({name: f'{value:.2f} m' for name, value in zip(classes, away, strict=True)})
    title = f'{number}. {frame.place}: {frame.error_m:.2f} m off, by {MODE_NAMES[frame.mode]}'
    views = (
        _camera_view(frame, frame.camera or camera, each),
        _range_view(frame, lidar, each),
        _top_view(frame, lidar, each),
    )
    return (
        f'<div class="frame"><h3>{text(title)}</h3><div class="views">{"".join(views)}</div>'
        f'{_centres(frame, classes)}</div>'
    )


def _camera_view(frame: JudgedFrame, camera: Camera, each: str) -> str:
    if frame.image is None:
        return _silent('camera')
    height, width = frame.image.shape[:2]
    seen = camera.resized(width, height)

    def place(center: Floats) -> tuple[float, float] | None:
        pixels, in_front = seen.project(center[None])
        # Pixel centres lie at whole numbers, and half a pixel from the image's edge.
        u, v = (pixels[0] + 0.5).tolist()
        return (u, v) if in_front[0] and 0 <= u <= width and 0 <= v <= height else None

    image = frame.image[..., 0] if frame.image.shape[-1] == 1 else frame.image[..., :3]
    drawn = _picture(np.ascontiguousarray(image), width, height) + marked(frame, place, width)
    return _view(drawn, width, height, f'Camera image. {each}.', 'camera image')


def _range_view(frame: JudgedFrame, lidar: Lidar, each: str) -> str:
    if frame.ranges is None:
        return _silent('LiDAR')
    ranges = frame.ranges
    seen = np.isfinite(ranges) & (ranges > 0) & (ranges < lidar.max_range)
    low, high = (float(ranges[seen].min()), float(ranges[seen].max())) if seen.any() else (0, 1)
    near = 1 - 0.7 * (np.where(seen, ranges, low) - low) / max(high - low, 1e-6)
    pixels = (255 * GREENS(near)[..., :3]).astype(np.uint8)
    pixels[~seen] = _NO_RETURN
    # One number per pixel goes through `upright` and says where each of them went.
    order = upright(np.arange(ranges.size, dtype=np.float64).reshape(ranges.shape), lidar)
    went = order.astype(np.intp)
    rows, columns = went.shape
    width, height = float(columns), float(max(rows, columns / 3))
    directions = torch.nn.functional.normalize(lidar.directions.cpu().double(), dim=-1).numpy()
    # The tables end a pixel from the edge of what is seen.
    apart = 1.5 * float(np.arccos(np.clip((directions[0, 0] * directions[0, 1]).sum(), -1, 1)))

    def place(center: Floats) -> tuple[float, float] | None:
        aligned = directions @ (center / max(float(np.linalg.norm(center)), 1e-9))
        best = int(aligned.argmax())
        if np.arccos(min(1.0, float(aligned.ravel()[best]))) > max(apart, 0.02):
            return None
        row, column = np.argwhere(went == best)[0].tolist()
        return column + 0.5, (row + 0.5) * height / rows

    shown = pixels.reshape(-1, 3)[went]
    drawn = _picture(shown, width, height) + marked(frame, place, width)
    caption = f'ranges: {low:.1f} m (bright) to {high:.1f} m'
    return _view(drawn, width, height, f'Range image. {each}.', caption)


def _top_view(frame: JudgedFrame, lidar: Lidar, each: str) -> str:
    points = np.zeros((0, 3)) if frame.ranges is None else points_of(frame.ranges, lidar)
    centres = np.concatenate((frame.predicted, frame.truth))[:, :2]
    seen = [centres]
    if len(points):
        seen.append(np.percentile(points[:, :2], (2, 98), axis=0))
    if frame.covariance is not None:
        variances = np.diagonal(frame.covariance, axis1=1, axis2=2)[:, :2]
        reach = np.minimum(ELLIPSE_DEVIATIONS * np.sqrt(variances), _MOST_REACH_M)
        seen += [frame.predicted[:, :2] - reach, frame.predicted[:, :2] + reach]
    around = np.concatenate(seen)
    low, high = around.min(axis=0), around.max(axis=0)
    half = 0.5 * float((high - low).max()) + 1.0
    left, near = ((low + high) / 2 - half).tolist()
    size, margin = 320.0, 34.0
    scale = (size - margin) / (2 * half)

    def place(center: Floats) -> tuple[float, float]:
        return (
            margin + scale * (float(center[0]) - left),
            size - margin - scale * (float(center[1]) - near),
        )

    parts = list(_grid(left, near, half, size, margin))
    some = points[:: -(-len(points) // _MOST_RETURNS) or 1, :2]
    some = some[
        ((some >= (left, near)) & (some <= (left + 2 * half, near + 2 * half))).all(axis=1)
    ]
    dots = ''.join('M{:.1f} {:.1f}h0'.format(*place(point)) for point in some)
    parts.append(f'<path d="{dots}" stroke="#9aa3ad" stroke-width="2.2" stroke-linecap="round"/>')
    if frame.covariance is not None:
        for number, (center, spread) in enumerate(
            zip(frame.predicted, frame.covariance, strict=True)
        ):
            parts.append(ellipse(place(center), scale, spread[:2, :2], number))
    parts.append(marked(frame, place, size))
    return _view(''.join(parts), size, size, f'From above. {each}.', _above(frame))


def _above(frame: JudgedFrame) -> str:
    return 'from above' + (', ellipses: 95 %' if frame.covariance is not None else '')


def _grid(left: float, near: float, half: float, size: float, margin: float) -> Iterator[str]:
    scale, end = (size - margin) / (2 * half), size - margin
    step = next(s * 10**n for n in count() for s in (0.5, 1, 2) if 2 * half / (s * 10**n) <= 7)
    words = 'font-size="11" fill="#2a3038" font-family="sans-serif"'
    yield f'<rect x="{margin}" y="0" width="{end}" height="{end}" fill="#fff" stroke="#5b6470"/>'
    for value in _ticks(left, left + 2 * half, step):
        x = margin + scale * (value - left)
        yield f'<path d="M{x:.1f} 0V{end}" stroke="#d9dde2"/>'
        yield f'<text x="{x:.1f}" y="{end + 13}" text-anchor="middle" {words}>{value:g}</text>'
    for value in _ticks(near, near + 2 * half, step):
        y = end - scale * (value - near)
        yield f'<path d="M{margin} {y:.1f}H{size}" stroke="#d9dde2"/>'
        yield f'<text x="{margin - 4}" y="{y + 4:.1f}" text-anchor="end" {words}>{value:g}</text>'
    middle = margin + end / 2
    yield f'<text x="{middle}" y="{size - 6}" text-anchor="middle" {words}>x, right [m]</text>'
    yield (
        f'<text x="10" y="{end / 2}" text-anchor="middle" {words} '
        f'transform="rotate(-90 10 {end / 2})">y, forward [m]</text>'
    )


def _ticks(first: float, last: float, step: float) -> Floats:
    # Adding zero makes a positive zero of a negative one.
    ticks: Floats = np.arange(np.ceil(first / step), last / step) * step + 0.0
    return ticks


def _picture(pixels: NDArray[np.uint8], width: float, height: float) -> str:
    """Return the pixels (H, W) or (H, W, 3) as an image that fills the drawing."""
    image = Image.fromarray(pixels)
    if max(image.size) > _MOST_PIXELS:
        image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    png = BytesIO()
    image.save(png, format='PNG')
    source = base64.b64encode(png.getvalue()).decode()
    return (
        f'<image width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{source}"/>'
    )


def _view(drawn: str, width: float, height: float, seen: str, caption: str) -> str:
    return (
        f'<figure><svg role="img" aria-label="{text(seen)}" viewBox="0 0 {width:g} {height:g}">'
        f'{drawn}</svg><figcaption>{text(caption)}</figcaption></figure>'
    )


def _silent(sensor: str) -> str:
    words = (
        '<rect width="100" height="100" fill="#eef0f2"/><text x="50" y="53" font-size="8" '
        f'fill="#2a3038" text-anchor="middle" font-family="sans-serif">{sensor}: silent</text>'
    )
    return _view(words, 100, 100, f'The {sensor} was silent.', f'{sensor}: no message')


def _centres(frame: JudgedFrame, classes: Sequence[str]) -> str:
    rows = []
    for number, name in enumerate(classes):
        truth, predicted = frame.truth[number], frame.predicted[number]
        off = predicted - truth
        row = [
            name,
            f'{np.linalg.norm(off):.2f}',
            *(', '.join(f'{value:.2f}' for value in center) for center in (truth, predicted)),
            f'{np.linalg.norm(truth):.1f}',
        ]
        if frame.covariance is not None:
            spread = frame.covariance[number].astype(np.float64)
            squared = np.array(off @ np.linalg.solve(spread, off.astype(np.float64)))
            row.append('yes' if float(share_within(squared)) <= 0.95 else 'no')
        rows.append(row)
    header = ['object', 'error [m]', 'truth x, y, z [m]', 'prediction x, y, z [m]', 'range [m]']
    if frame.covariance is not None:
        header.append('in its 95 % ellipsoid')
    return table(header, rows)
