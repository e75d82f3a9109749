"""Read a camera's intrinsics from its camera_info message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fusion_perception.sensing.observation import Camera


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
    binning_x: int
    binning_y: int

    @property
    def k(self) -> Sequence[float]:
        """Return the camera matrix, row by row."""

    @property
    def roi(self) -> Region:
        """Return which part of the sensor's pixels the image shows; all zeros: the whole."""


def camera_from_info(message: CameraInfoMessage, mounted: Camera) -> Camera:
    """Return the camera that takes the images a CameraInfo describes, posed as the mounted one.

    K and the region of interest count the sensor's pixels; the image has those of the region,
    then binned. Raises ValueError for an uncalibrated camera (K all zeros) or an impossible one.
    """
    fx, _, cx, _, fy, cy = (float(value) for value in message.k[:6])
    if fx == 0.0 or fy == 0.0:
        raise ValueError(
            'camera_info holds no calibration (K is zero). Calibrate the camera, or leave the '
            "topic unconnected to use the bundle's intrinsics."
        )
    region = message.roi
    wide, high = max(1, message.binning_x), max(1, message.binning_y)
    return Camera.read(
        {
            'width': int(region.width or message.width) // wide,
            'height': int(region.height or message.height) // high,
            'fx': fx / wide,
            'fy': fy / high,
            # A binned pixel's centre lies amid those of its own pixels.
            'cx': (cx - region.x_offset - (wide - 1) / 2) / wide,
            'cy': (cy - region.y_offset - (high - 1) / 2) / high,
            'T_camera_lidar': mounted.T_camera_lidar,
        },
        'camera_info',
    )
