"""Turn the package's LiDAR axes into REP-103 axes and back: the one place that knows both.

Inside the package the LiDAR frame is x right, y forward, z up; messages hold x forward, y left,
z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.geometry import LIDAR_TO_REP103

Floats = NDArray[np.float32] | NDArray[np.float64]
ROTATION: NDArray[np.float64] = np.array(LIDAR_TO_REP103)


class PointMessage(Protocol):
    """A message shaped like geometry_msgs/Point."""

    x: float
    y: float
    z: float


class PoseMessage(Protocol):
    """A message shaped like geometry_msgs/Pose."""

    @property
    def position(self) -> PointMessage:
        """Return where it is."""


class PoseArrayMessage(Protocol):
    """A message shaped like geometry_msgs/PoseArray."""

    @property
    def poses(self) -> Sequence[PoseMessage]:
        """Return the poses in order."""


def to_rep103(points: Floats) -> NDArray[np.float64]:
    """Turn points (..., 3) in metres from the package's LiDAR axes into REP-103 axes."""
    turned: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ ROTATION.T
    return turned


def from_rep103(points: Floats) -> NDArray[np.float64]:
    """Turn points (..., 3) in metres from REP-103 axes into the package's LiDAR axes."""
    turned: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ ROTATION
    return turned


def transform_from_rep103(T_ros: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a (4, 4) transform between two frames in REP-103 axes into the package's LiDAR axes."""
    to_ros = np.eye(4)
    to_ros[:3, :3] = ROTATION
    turned: NDArray[np.float64] = to_ros.T @ T_ros @ to_ros
    return turned


def covariance_to_rep103(covariance: Floats) -> NDArray[np.float64]:
    """Turn covariances (..., 3, 3) in square metres into REP-103 axes."""
    rotated: NDArray[np.float64] = ROTATION @ np.asarray(covariance, dtype=np.float64) @ ROTATION.T
    return rotated


def centers_of(message: PoseArrayMessage) -> NDArray[np.float64]:
    """Return the poses of a message as centres (K, 3) in metres, LiDAR frame."""
    rows = [(p.position.x, p.position.y, p.position.z) for p in message.poses]
    return from_rep103(np.array(rows, dtype=np.float64).reshape(-1, 3))
