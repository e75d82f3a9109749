"""Read a camera's intrinsics from its camera_info messages."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from fusion_perception.sensing.lens import Distortion, distortion
from fusion_perception.sensing.observation import LARGEST_SIDE, Camera, Lens

CameraMatrix = Annotated[
    Literal['k', 'p'],
    Field(
        description='Intrinsics of camera_info to take: k of images as they leave the camera, '
        'p of rectified ones (image_rect)'
    ),
]
CAMERA_MATRIX: CameraMatrix = 'k'
# Half of the field of view of a pinhole camera, radians: wider ones are made of placeholders.
_WIDEST = math.radians(85)
# The same of the longest telephoto lens.
_NARROWEST = math.radians(0.02)
# So many cameras are remembered, and what came back for so long, nanoseconds.
_REMEMBERED, _LATELY_NS = 4, 60_000_000_000


class Region(Protocol):
    """A message shaped like sensor_msgs/RegionOfInterest."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfoMessage(Protocol):
    """A message shaped like sensor_msgs/CameraInfo."""

    width: int
    height: int
    distortion_model: str
    binning_x: int
    binning_y: int

    @property
    def d(self) -> Sequence[float]:
        """Return the coefficients of the distortion."""

    @property
    def k(self) -> Sequence[float]:
        """Return the camera matrix of the images as they leave the camera, row by row."""

    @property
    def p(self) -> Sequence[float]:
        """Return the 3x4 projection matrix of the rectified images, row by row."""

    @property
    def roi(self) -> Region:
        """Return which part of the sensor's pixels the image shows; all zeros: the whole."""


def camera_from_info(
    message: CameraInfoMessage, mounted: Camera, matrix: CameraMatrix = CAMERA_MATRIX
) -> Camera:
    """Return the camera that takes the images a CameraInfo describes, posed as the mounted one.

    K, P and the region of interest count the sensor's pixels; the image has those of the region,
    then binned. Rectified images show nothing of the lens. Raises ValueError for an uncalibrated
    camera (K or P all zeros) or an impossible one.
    """
    fx, cx, fy, cy = _intrinsics(message, matrix)
    _check(message, fx, fy)
    _check_principal_point(message, cx, cy, matrix)
    region = message.roi
    across, down = region.width or message.width, region.height or message.height
    wide, high = max(1, message.binning_x), max(1, message.binning_y)
    width, height = int(across) // wide, int(down) // high
    within = region.x_offset + across <= message.width and region.y_offset + down <= message.height
    if not (within and 0 < min(width, height) <= max(width, height) <= LARGEST_SIDE):
        raise ValueError(
            f'camera_info describes images of {width}x{height} pixels: of '
            f'{message.width}x{message.height} by a roi of {region.width}x{region.height} at '
            f'({region.x_offset}, {region.y_offset}) and a binning of {wide}x{high}. Look at its '
            'driver: width and height count all pixels of the sensor, of which roi is a part.'
        )
    return Camera.read(
        {
            'width': width,
            'height': height,
            'fx': fx / wide,
            'fy': fy / high,
            # A binned pixel's centre lies amid those of its own pixels.
            'cx': (cx - region.x_offset - (wide - 1) / 2) / wide,
            'cy': (cy - region.y_offset - (high - 1) / 2) / high,
            'T_camera_lidar': mounted.T_camera_lidar,
            'lens': _lens(message) if matrix == 'k' else Lens(),
        },
        'camera_info',
    )


def _intrinsics(message: CameraInfoMessage, matrix: CameraMatrix) -> tuple[float, ...]:
    """Return fx, cx, fy, cy of one of the two matrices."""
    if matrix == 'p':
        chosen = tuple(float(message.p[index]) for index in (0, 2, 5, 6))
        remedy = (
            'Calibrate the camera, or set camera_matrix to k where its images are not rectified.'
        )
    else:
        chosen = tuple(float(message.k[index]) for index in (0, 2, 4, 5))
        remedy = 'Calibrate the camera (camera_calibration), and let its driver load the result.'
    if chosen[0] == 0.0 or chosen[2] == 0.0:
        raise ValueError(f'camera_info holds no calibration ({matrix.upper()} is zero). {remedy}')
    if not all(map(math.isfinite, chosen)):
        raise ValueError(
            f'camera_info holds no calibration ({matrix.upper()} is not finite). {remedy}'
        )
    return chosen


def _check(message: CameraInfoMessage, fx: float, fy: float) -> None:
    """Raise ValueError where no camera has such a size and such focal lengths."""
    size = f'{message.width}x{message.height} pixels'
    if not message.width or not message.height or min(fx, fy) < 0:
        raise ValueError(
            f'camera_info describes no camera ({size}, focal lengths {fx:g} and {fy:g}). Look at '
            'its driver.'
        )
    halves = math.atan2(message.width, 2 * fx), math.atan2(message.height, 2 * fy)
    if not _NARROWEST <= min(halves) <= max(halves) <= _WIDEST:
        odd = max(halves) if max(halves) > _WIDEST else min(halves)
        raise ValueError(
            f'camera_info has focal lengths of {fx:g} and {fy:g} pixels for {size}: no pinhole '
            f'camera sees {math.degrees(2 * odd):.3g} degrees. Calibrate the camera '
            '(camera_calibration), and let its driver load the result.'
        )


def _check_principal_point(
    message: CameraInfoMessage, cx: float, cy: float, matrix: CameraMatrix
) -> None:
    """Raise ValueError where the optical axis meets none of the sensor's pixels."""
    if not (0 < cx < message.width and 0 < cy < message.height):
        name = matrix.upper()
        raise ValueError(
            f'camera_info has its principal point at ({cx:g}, {cy:g}), outside of '
            f'{message.width}x{message.height} pixels: {name} is that of images of another size, '
            f'or a placeholder. Let whatever resizes the images scale {name} as well.'
        )


def _lens(message: CameraInfoMessage) -> Lens:
    told = {'model': message.distortion_model, 'coefficients': tuple(map(float, message.d))}
    if not all(map(math.isfinite, message.d)):
        raise ValueError(
            'camera_info: the coefficients of the distortion (D) are not all finite. Calibrate '
            'the camera (camera_calibration), and let its driver load the result.'
        )
    lens = Lens.read(told, 'camera_info')
    # A model without coefficients, or with zeros alone, is none.
    return lens if lens.bends else Lens()


class Calibration:
    """A camera as its camera_info describes it: the last message that could be used counts.

    `camera` is None before the first of them, `distortion` how its lens differs from that of the
    mounted one; `fault` says why the last message could not be used.
    """

    def __init__(self, mounted: Camera, matrix: CameraMatrix = CAMERA_MATRIX) -> None:
        self.camera: Camera | None = None
        self.distortion: Distortion | None = None
        self.fault = ''
        self._cameras: deque[Camera] = deque(maxlen=_REMEMBERED)
        self._returned_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._mounted, self._matrix = mounted, matrix

    def take(self, message: CameraInfoMessage, now_ns: int) -> bool:
        """Take in a message, and say whether it can be used."""
        try:
            camera = camera_from_info(message, self._mounted, self._matrix)
        except ValueError as fault:
            self.fault = str(fault)
            return False
        self.fault = ''
        if camera == self.camera:
            return True
        if camera in self._cameras:
            self._returned_ns.append(now_ns)
        else:
            self._cameras.append(camera)
        self.camera, self.distortion = camera, distortion(camera, self._mounted.lens)
        return True

    def returns(self, now_ns: int) -> int:
        """Count, up to a few, how often camera_info lately came back to an earlier camera.

        It does where several cameras publish on one topic.
        """
        return sum(abs(now_ns - at_ns) < _LATELY_NS for at_ns in self._returned_ns)
