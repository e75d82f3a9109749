"""Read a camera's intrinsics from its camera_info message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fusion_perception.sensing.observation import Camera


class CameraInfoMessage(Protocol):
    """A message shaped like sensor_msgs/CameraInfo."""

    width: int
    height: int

    @property
    def k(self) -> Sequence[float]:
        """Return the camera matrix, row by row."""


def camera_from_info(message: CameraInfoMessage, mounted: Camera) -> Camera:
    """Return the camera that a CameraInfo describes, with the pose of the mounted one.

    Raises ValueError for an uncalibrated camera (K all zeros) or an impossible one.
    """
    fx, _, cx, _, fy, cy = (float(value) for value in message.k[:6])
    if fx == 0.0 or fy == 0.0:
        raise ValueError(
            'camera_info holds no calibration (K is zero). Calibrate the camera, or leave the '
            "topic unconnected to use the bundle's intrinsics."
        )
    return Camera.read(
        {
            'width': int(message.width),
            'height': int(message.height),
            'fx': fx,
            'fy': fy,
            'cx': cx,
            'cy': cy,
            'T_camera_lidar': mounted.T_camera_lidar,
        },
        'camera_info',
    )
