"""Say how far a lens is from the pinhole camera that the models take every camera for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusion_perception.sensing.observation import Camera

Point = tuple[float, float]
# What moves a point at depth 1, given the coefficients.
Formula = Callable[[Point, Sequence[float]], Point]


@dataclass(frozen=True)
class Distortion:
    """What a lens does that a pinhole does not: its model, as camera_info has it.

    `corner_px` is how far it moves a corner of the camera's image at most, pixels of that image;
    None where the model is not known.
    """

    model: str
    corner_px: float | None


def distortion(camera: Camera, model: str, coefficients: Sequence[float]) -> Distortion | None:
    """Return what a lens with these coefficients (d of camera_info) does, None for nothing.

    All zeros are no distortion, whatever the model: rectification leaves such images alone.
    """
    d = [float(value) for value in coefficients]
    if not any(d):
        return None
    most, bend = MODELS.get(model, (0, _brown_conrady))
    if len(d) > most:
        return Distortion(f"'{model}' with {len(d)} coefficients", None)
    d += [0.0] * (most - len(d))
    return Distortion(
        model,
        max(
            _moved_px(camera, (column, row), d, bend)
            for column in (0, camera.width - 1)
            for row in (0, camera.height - 1)
        ),
    )


def _moved_px(camera: Camera, pixel: Point, d: Sequence[float], bend: Formula) -> float:
    """Return how far from a pixel the lens shows what a pinhole would show there."""
    x, y = (pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy
    bent_x, bent_y = bend((x, y), d)
    return math.hypot(camera.fx * (bent_x - x), camera.fy * (bent_y - y))


def _brown_conrady(point: Point, d: Sequence[float]) -> Point:
    """Bend a point at depth 1 by k1, k2, p1, p2, k3, k4, k5, k6.

    OpenCV, calib3d, "Camera Calibration and 3D Reconstruction"; with k4 to k6 zero it is Brown's
    model (1966), which ROS calls plumb_bob.
    """
    (x, y), (k1, k2, p1, p2, k3, k4, k5, k6) = point, d
    r2 = x * x + y * y
    above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = above / below if below else math.inf
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def _equidistant(point: Point, d: Sequence[float]) -> Point:
    """Bend a point at depth 1 by k1 to k4 of a fisheye.

    OpenCV, calib3d, "Fisheye camera model", after Kannala and Brandt (2006).
    """
    (x, y), (k1, k2, k3, k4) = point, d
    r = math.hypot(x, y)
    if r == 0.0:
        return point
    angle = math.atan(r)
    a2 = angle * angle
    bent = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
    return x * bent / r, y * bent / r


# By distortion_model (sensor_msgs/distortion_models.hpp): the most coefficients, the formula.
MODELS: dict[str, tuple[int, Formula]] = {
    'plumb_bob': (8, _brown_conrady),
    'rational_polynomial': (8, _brown_conrady),
    'equidistant': (4, _equidistant),
}
