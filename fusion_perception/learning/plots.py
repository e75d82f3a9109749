"""Draw images, range images and points: what `fusion view` and the demo show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fusion_perception.sensing.observation import Lidar

Floats = NDArray[np.floating]
# Black over a strong green to a pale one.
GREENS = LinearSegmentedColormap.from_list('greens', ('#000000', '#76b900', '#e8f7c8'))
# Red, green, blue first, as the original's three cubes.
CLASS_COLOURS = ('#d62728', '#2ca02c', '#1f77b4', '#9467bd', '#ff7f0e', '#17becf')
# The original scenes reach a little further than 5 m from the origin of their labels.
HALF_WIDTH_M = 6.0
# Images more than so many times as wide as high, scans all around, are too low beside each other;
# beyond the second figure (32 beams, say) even alone, so that their pixels are stretched.
WIDE, WIDEST = 3.0, 8.0


class Box(NamedTuple):
    """Limits of a 3D drawing: a cube around `middle` (x, y, z), metres in the LiDAR frame."""

    middle: tuple[float, float, float]
    half_width: float

    @classmethod
    def around(cls, points: Floats, origin: Floats) -> Box:
        """Return the cube around the label origin that the original data is drawn in.

        Where it misses more than a tenth of the points (P, 3), a cube around the points.
        """
        inside = np.abs(points - origin).max(axis=-1) <= HALF_WIDTH_M if len(points) else True
        if np.mean(inside) > 0.9:
            x, y, z = origin.tolist()
            return cls((x, y, z), HALF_WIDTH_M)
        low, high = np.percentile(points, (1, 99), axis=0)
        x, y, z = ((low + high) / 2).tolist()
        return cls((x, y, z), 0.55 * float((high - low).max()) + 0.5)


def points_of(ranges: Floats, lidar: Lidar) -> NDArray[np.float32]:
    """Return the returns of a range image (R, C) as points (P, 3), metres, LiDAR frame."""
    xyza = lidar.xyza(torch.from_numpy(np.asarray(ranges)))
    points: NDArray[np.float32] = xyza[:3, xyza[3] > 0].T.numpy()
    return points


def images_figure(
    images: Sequence[tuple[str, Floats | NDArray[np.uint8]]],
    largest: float | None = None,
    labels: tuple[str, str] = ('', ''),
) -> Figure:
    """Draw images, each under its title: (H, W, C) as colours, (H, W) by value.

    They stand side by side, wide ones below each other; `labels` say what the columns and the
    rows are.
    Values from `largest` on, such as the range of a ray without return, get the last colour and
    leave the others to the rest.
    """
    count, aspect = len(images), max(image.shape[1] / image.shape[0] for _, image in images)
    if aspect > WIDE:
        rows, size = count, (12.0, count * (11 / min(aspect, WIDEST) + 0.4))
        # Beside a low image the colour bar's labels get longer once their room is set aside.
        layout = ConstrainedLayoutEngine(w_pad=0.15)
    else:
        width = 3.6 if count > 1 else 4.6
        rows, size = 1, (width * count, width * 0.9)
        layout = ConstrainedLayoutEngine()
    figure = Figure(figsize=size, layout=layout)
    for number, (title, image) in enumerate(images):
        axes = figure.add_subplot(rows, count // rows, number + 1)
        _draw_image(axes, image, title, largest)
        axes.set(xlabel=labels[0], ylabel=labels[1])
    return figure


def scatter_figure(
    points: Floats, box: Box, elevation: float = 0.0, azimuth: float = 270.0, pixels: int = 640
) -> Figure:
    """Draw points (P, 3) coloured by height in a square 3D figure; angles in degrees."""
    figure = Figure(figsize=(pixels / 100, pixels / 100), dpi=100)
    axes = _axes_3d(figure, 111, box, elevation, azimuth)
    axes.set_position((0.04, 0.04, 0.92, 0.92))
    _scatter_by_height(axes, points)
    return figure


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, without any display or global state."""
    FigureCanvasAgg(figure).print_figure(path, dpi=120)


def write_turning_gif(points: Floats, box: Box, path: Path, frames: int) -> None:
    """Write a GIF of the points turning once around, 30 frames a second."""
    elevation = 30.0
    figure = scatter_figure(points, box, elevation, 0.0, pixels=400)
    canvas, axes = FigureCanvasAgg(figure), figure.axes[0]
    assert isinstance(axes, Axes3D)
    pictures: list[Image.Image] = []
    for number in tqdm(range(frames), desc='turning GIF', unit=' frames', disable=None):
        axes.view_init(elev=elevation, azim=360 * number / frames)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        picture = Image.fromarray(pixels[..., :3])
        # One palette for all frames: colours do not flicker, and finding it takes the time.
        palette = pictures[0] if pictures else picture.quantize(128)
        pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    # A GIF counts in hundredths of a second: 30, 30 and 40 ms are 30 frames a second.
    durations_ms = [(30, 30, 40)[number % 3] for number in range(len(pictures))]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0
    )


def scene_figure(
    image: NDArray[np.uint8] | None,
    ranges: Floats,
    lidar: Lidar,
    classes: Sequence[str],
    predicted: Floats,
    truth: Floats,
) -> Figure:
    """Draw a camera image, a range image and the points with predicted and true centres.

    `image` (H, W, C) uint8, None for a silent camera; `ranges` (R, C) metres; `predicted` and
    `truth` (K, 3) metres in the LiDAR frame.
    """
    figure = Figure(figsize=(14, 4.8), layout='constrained')
    grid = figure.add_gridspec(1, 3, width_ratios=(1, 1, 1.25))
    camera, lidar_axes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    if image is None:
        _draw_image(camera, np.zeros((1, 1, 3), np.uint8), 'camera image (silent)')
    else:
        _draw_image(camera, image, 'camera image')
    seen = (ranges > 0) & (ranges < lidar.max_range)  # Not so NaN.
    shown = upright(np.where(seen, ranges, lidar.max_range), lidar)
    _draw_image(lidar_axes, shown, 'range image [m]', lidar.max_range)
    points = points_of(ranges, lidar)
    both = np.concatenate([predicted, truth])
    middle = (points if len(points) else both).mean(axis=0)
    box = Box.around(np.concatenate((points, both)), middle)
    axes = _axes_3d(figure, grid[2], box, elevation=18.0, azimuth=285.0)
    _scatter_by_height(axes, points, alpha=0.35)
    for number, name in enumerate(classes):
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        axes.plot(*predicted[number, :, None], 'x', color=colour, ms=11, mew=3, zorder=9)
        axes.plot(*truth[number, :, None], 'o', color=colour, ms=13, mfc='none', mew=2, zorder=9)
        axes.plot(*np.stack((predicted[number], truth[number])).T, color=colour, lw=1)
        axes.plot([], [], [], 's', color=colour, label=name)
    axes.plot([], [], [], 'kx', label='predicted')
    axes.plot([], [], [], 'ko', mfc='none', label='true')
    error = np.linalg.norm(predicted - truth, axis=-1)
    axes.set_title(f'centres, mean error {error.mean():.2f} m')
    axes.legend(loc='center left', bbox_to_anchor=(1.08, 0.5), frameon=False)
    return figure


def beam_labels(lidar: Lidar) -> tuple[str, str]:
    """Return what the columns and the rows of a range image are, as `images_figure` takes it."""
    names = ('zenith', 'azimuth') if _lies_on_its_side(lidar) else ('azimuth', 'zenith')
    return f'columns: {names[0]}', f'rows: {names[1]}'


def _lies_on_its_side(lidar: Lidar) -> bool:
    z = lidar.directions[..., 2].cpu().numpy()
    return bool(np.ptp(z, axis=1).mean() > np.ptp(z, axis=0).mean())


def upright(image: Floats, lidar: Lidar) -> Floats:
    """Turn a range image (R, C) so that right is right and up is up, as in a camera image."""
    x, z = lidar.directions[..., 0].cpu().numpy(), lidar.directions[..., 2].cpu().numpy()
    if _lies_on_its_side(lidar):
        image, x, z = image.T, x.T, z.T
    if x[0, -1] < x[0, 0]:
        image = image[:, ::-1]
    if z[-1, 0] > z[0, 0]:
        image = image[::-1]
    return image


def _draw_image(
    axes: Axes,
    image: Floats | NDArray[np.uint8],
    title: str,
    largest: float | None = None,
) -> None:
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    if image.ndim == 3:
        axes.imshow(image, cmap='gray')  # The map is for images of one channel.
        return
    axes.set_facecolor('#000000')
    below = image[image < largest] if largest is not None else image
    low, high = (float(below.min()), float(below.max())) if below.size else (0.0, 1.0)
    extend = 'neither'
    if below.size < image.size:
        extend = 'max'
        # What is far away keeps a colour of its own beside the rays without return.
        high += (high - low) / 4
    stretched = max(1.0, image.shape[1] / image.shape[0] / WIDEST)
    shown = axes.imshow(image, cmap=GREENS, vmin=low, vmax=high, aspect=stretched)
    assert axes.figure is not None
    axes.figure.colorbar(shown, ax=axes, shrink=0.85, extend=extend)


def _axes_3d(figure: Figure, place: object, box: Box, elevation: float, azimuth: float) -> Axes3D:
    axes = figure.add_subplot(place, projection='3d')
    assert isinstance(axes, Axes3D)
    limits = [(middle - box.half_width, middle + box.half_width) for middle in box.middle]
    axes.set(xlim=limits[0], ylim=limits[1], zlim=limits[2])
    axes.set(xlabel='x right [m]', ylabel='y forward [m]', zlabel='z up [m]')
    axes.view_init(elev=elevation, azim=azimuth)
    axes.set_box_aspect((1, 1, 1), zoom=0.88)
    # Most of a turning picture's time goes into tick labels.
    axes.locator_params(nbins=3)
    if elevation == 0 and azimuth % 180 == 90:
        # Seen along y, its ticks would lie on top of each other.
        axes.set_yticks([])
        axes.set_ylabel('')
    return axes


def _scatter_by_height(axes: Axes3D, points: Floats, alpha: float = 1.0) -> None:
    if not len(points):
        return
    height = points[:, 2]
    scaled = (height - height.min()) / max(float(np.ptp(height)), 1e-9)
    axes.scatter(
        *points.T, c=scaled, cmap='rainbow', s=5, alpha=alpha, linewidths=0, depthshade=False
    )
