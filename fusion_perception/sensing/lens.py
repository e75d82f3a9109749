"""Say how far a lens is from the pinhole camera that the models take every camera for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.quoting import quoted

Point = tuple[float, float]
# What moves a point at depth 1, given the coefficients.
Formula = Callable[[Point, Sequence[float]], Point]
Bend = Callable[[Point], Point]
# An image is looked at in so many steps across, and as many down.
_STEPS = 8


@dataclass(frozen=True)
class Distortion:
    """How the lens of a camera differs from the one of the images that a model learned from.

    Of both the distortion_model, '' where there is no distortion. `most_px` is how far apart they
    show what a pinhole has in one place of the camera's image, at most, in pixels of that image;
    None where a model is not known, or where it bends beyond all bounds.
    """

    seen: str
    trained: str
    most_px: float | None


def distortion(camera: Camera, trained: Lens) -> Distortion | None:
    """Return how the camera's lens differs from that of the training, None where it does not."""
    if camera.lens == trained or not (camera.lens.bends or trained.bends):
        return None
    seen, learned = _bend(camera.lens), _bend(trained)
    most_px = None
    if seen is not None and learned is not None:
        # Some lenses bend most between the centre and the corners.
        apart_px = [
            _apart_px(camera, (column, row), seen, learned)
            for column in _places(camera.width)
            for row in _places(camera.height)
        ]
        most_px = max(apart_px) if all(map(math.isfinite, apart_px)) else None
    return Distortion(_name(camera.lens), _name(trained), most_px)


def _places(pixels: int) -> list[float]:
    """Return columns or rows evenly from the first to the last."""
    return [(pixels - 1) * step / _STEPS for step in range(_STEPS + 1)]


def _bend(lens: Lens) -> Bend | None:
    """Return what moves a point at depth 1 as a lens does, None for a model that is not known."""
    if not lens.bends:
        return lambda point: point
    most, formula = MODELS.get(lens.model, (0, _brown_conrady))
    given = lens.coefficients
    if any(given[most:]):
        return None
    d = (*given[:most], *(0.0,) * (most - len(given)))
    return lambda point: formula(point, d)


def _name(lens: Lens) -> str:
    if not lens.bends:
        return ''
    known = _bend(lens) is not None
    return (
        lens.model if known else f'{quoted(lens.model)} with {len(lens.coefficients)} coefficients'
    )


def _apart_px(camera: Camera, pixel: Point, seen: Bend, learned: Bend) -> float:
    """Return how far apart two lenses show what a pinhole would show in a pixel."""
    point = (pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy
    (x, y), (other_x, other_y) = seen(point), learned(point)
    return math.hypot(camera.fx * (x - other_x), camera.fy * (y - other_y))


def _brown_conrady(point: Point, d: Sequence[float]) -> Point:
    """Bend a point at depth 1 by k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tx, ty.

    OpenCV, calib3d, "Camera Calibration and 3D Reconstruction"; with all after k3 zero it is
    Brown's model (1966), which ROS calls plumb_bob. s1 to s4 are those of a thin prism, tx and ty
    tilt the sensor about the axes, radians.
    """
    (x, y), (k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tx, ty) = point, d
    r2 = x * x + y * y
    above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = above / below if below else math.inf
    bent = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4),
    )
    return _tilted(bent, tx, ty) if tx or ty else bent


def _tilted(point: Point, tx: float, ty: float) -> Point:
    """Return where a point at depth 1 meets a sensor that is turned about x, then about y.

    As in OpenCV's computeTiltProjectionMatrix: the turned point, seen along the sensor's own axis.
    """
    x, y = point
    along = y * math.cos(tx) + math.sin(tx)
    depth = math.cos(tx) - y * math.sin(tx)
    across, depth = (
        x * math.cos(ty) - depth * math.sin(ty),
        x * math.sin(ty) + depth * math.cos(ty),
    )
    # The sensor's axis, turned as well: where the middle of the image comes to lie.
    middle = -math.cos(tx) * math.sin(ty), math.sin(tx), math.cos(tx) * math.cos(ty)
    if depth == 0.0:
        return math.inf, math.inf
    return middle[2] * across / depth - middle[0], middle[2] * along / depth - middle[1]


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
    'plumb_bob': (14, _brown_conrady),
    'rational_polynomial': (14, _brown_conrady),
    'equidistant': (4, _equidistant),
}
