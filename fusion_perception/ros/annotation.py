"""Draw predicted centres into the camera image: names, and ellipses where they are sure of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fusion_perception.ros.messages import COLORS
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rep103 import Floats

# A name is not legible in fewer columns: smaller images are enlarged by a whole number.
LEGIBLE_WIDTH = 480
# But not beyond so many rows: of a single column (line cameras) it would take gigabytes.
MOST_ROWS = 4096
# This many standard deviations hold 90 % of a 2D Gaussian: the root of chi-square 4.6052.
ELLIPSE_DEVIATIONS = 2.1460
CORNERS = 48


def annotated(
    pixels: NDArray[np.uint8],
    camera: Camera,
    centers: Floats,
    classes: Sequence[str],
    covariance: Floats | None,
    caption: str = '',
) -> NDArray[np.uint8]:
    """Return an RGB image (H', W', 3) with the centres (K, 3), LiDAR frame, drawn into it.

    `pixels` is (H, W, 1, 3 or 4) uint8 of this camera; `covariance` (K, 3, 3) square metres gives
    each centre the ellipse that holds it with 90 % probability. What lies behind the camera or
    outside the image is left out. Narrow images are enlarged: H' / H is a whole number, 1 where H
    exceeds MOST_ROWS / 2.
    """
    height, width = pixels.shape[:2]
    zoom = max(1, min(-(-LEGIBLE_WIDTH // width), MOST_ROWS // height))
    canvas = _canvas(pixels, zoom)
    draw = ImageDraw.Draw(canvas)
    seen = camera.resized(width, height)
    spots, in_front = seen.project(centers)
    font = ImageFont.load_default(max(12, min(canvas.size) // 30))
    stroke = max(1, canvas.width // 400)
    for index, (u, v) in enumerate(spots):
        if not (in_front[index] and -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5):
            continue
        color = _color(index)
        # Pixel centres lie at whole numbers, and half a pixel from the image's edge.
        x, y = zoom * (u + 0.5), zoom * (v + 0.5)
        radius = 4 * stroke
        if covariance is not None:
            spread = _image_covariance(seen, centers[index], covariance[index])
            corners = _ellipse(spread) * zoom + (x, y)
            draw.polygon(
                [tuple(corner) for corner in corners.tolist()], outline=color, width=stroke
            )
        draw.line((x - radius, y, x + radius, y), fill=color, width=stroke)
        draw.line((x, y - radius, x, y + radius), fill=color, width=stroke)
        place = (x + radius, y - radius)
        draw.text(
            place, classes[index], fill=color, font=font, anchor='ls', stroke_width=stroke,
            stroke_fill='black',
        )  # fmt: skip
    if caption:
        draw.text((8, 8), caption, fill='white', font=font, stroke_width=1, stroke_fill='black')
    return np.asarray(canvas)


def _canvas(pixels: NDArray[np.uint8], zoom: int) -> Image.Image:
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    image = Image.fromarray(np.ascontiguousarray(rgb))
    size = (zoom * image.width, zoom * image.height)
    return image if zoom == 1 else image.resize(size, Image.Resampling.NEAREST)


def _image_covariance(camera: Camera, center: Floats, covariance: Floats) -> NDArray[np.float64]:
    """Return the covariance (2, 2) in square pixels, to first order about the centre."""
    step = 1e-3
    around = np.asarray(center, np.float64) + step * np.concatenate((np.eye(3), -np.eye(3)))
    spots, _ = camera.project(around)
    jacobian = (spots[:3] - spots[3:]).T / (2 * step)
    spread: NDArray[np.float64] = jacobian @ np.asarray(covariance, np.float64) @ jacobian.T
    return spread


def _ellipse(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners (N, 2) of the ellipse about the origin."""
    variances, axes = np.linalg.eigh(covariance)
    deviations = ELLIPSE_DEVIATIONS * np.sqrt(np.maximum(variances, 0.0))
    angles = np.linspace(0.0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    corners: NDArray[np.float64] = (circle * deviations) @ axes.T
    return corners


def _color(index: int) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in COLORS[index % len(COLORS)])
    return red, green, blue
