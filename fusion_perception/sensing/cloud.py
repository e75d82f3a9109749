"""Read point clouds into arrays by their shape, as views of the message wherever it allows that.

A message is anything with the fields of sensor_msgs/PointCloud2: one that rclpy received, one
read from a bag, or one whose data are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import Buffer

from fusion_perception.sensing.decode import BadEncoding, BadShape, StampedMessage
from fusion_perception.sensing.rep103 import ROTATION

# sensor_msgs/PointField's constants for the two kinds of number a coordinate may be.
DATATYPES = {7: 'f4', 8: 'f8'}
COORDINATES = ('x', 'y', 'z')

PointsOutsideMax = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Share of a cloud's points that may lie beside every beam of the bundle; "
        'more is a warning',
    ),
]
# Of a cloud in its LiDAR's own frame, next to none does.
POINTS_OUTSIDE_MAX: PointsOutsideMax = 0.02


class PointField(Protocol):
    """A message shaped like sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int


class PointCloudMessage(StampedMessage, Protocol):
    """A message shaped like sensor_msgs/PointCloud2."""

    height: int
    width: int
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Buffer

    @property
    def fields(self) -> Sequence[PointField]:
        """Return what a point is made of."""


def decode_points(message: PointCloudMessage) -> NDArray[np.float32]:
    """Return the points (H, W, 3) float32 in metres, in the axes of the message.

    A read-only view of the message's data where x, y and z are evenly spaced little-endian
    float32 numbers, else a copy. Points that are NaN stay so. Raises BadEncoding or BadShape.
    """
    axes = [_axis(message, name) for name in COORDINATES]
    data = _data(message)
    if not data or not message.width:
        # NumPy lays no array into a buffer that ends before the array begins.
        return np.empty((message.height, message.width, 3), np.float32)
    (first, kind), gaps = axes[0], {axes[1][0] - axes[0][0], axes[2][0] - axes[1][0]}
    if len(gaps) == 1 and {kind} == {other for _, other in axes}:
        evenly = (message.row_step, message.point_step, gaps.pop())
        shape = (message.height, message.width, 3)
        points = np.ndarray(shape, kind, data, first, evenly)
    else:
        points = np.stack([_column(message, data, *axis) for axis in axes], axis=-1)
    # What lies beyond float32 becomes infinite, which is no return.
    with np.errstate(over='ignore'):
        metres: NDArray[np.float32] = points.astype(np.float32, copy=False)
    return metres


def to_lidar_axes(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn points (..., 3) float32 from REP-103 axes into the package's, as columns (3, N)."""
    # An infinite coordinate times zero is NaN, which is no return either.
    with np.errstate(invalid='ignore'):
        turned: NDArray[np.float32] = ROTATION.T.astype(np.float32) @ points.reshape(-1, 3).T
    return turned


def _axis(message: PointCloudMessage, name: str) -> tuple[int, np.dtype[np.floating]]:
    """Return where in a point a coordinate stands, and the kind of number."""
    found = [field for field in message.fields if field.name == name]
    if not found:
        names = ', '.join(field.name for field in message.fields) or 'none'
        raise BadEncoding(
            f"A point cloud has no field '{name}' but {names}. Publish x, y and z in metres."
        )
    if found[0].datatype not in DATATYPES:
        raise BadEncoding(
            f"Field '{name}' of a point cloud has datatype {found[0].datatype}; coordinates are "
            'FLOAT32 (7) or FLOAT64 (8). Publish those, in metres.'
        )
    kind = np.dtype(('>' if message.is_bigendian else '<') + DATATYPES[found[0].datatype])
    if not 0 <= found[0].offset <= message.point_step - kind.itemsize:
        raise BadShape(
            f"Field '{name}' of a point cloud begins at byte {found[0].offset} and does not end "
            f'within the {message.point_step} bytes of a point. Check the driver.'
        )
    return found[0].offset, kind


def _column(
    message: PointCloudMessage, data: memoryview, offset: int, kind: np.dtype[np.floating]
) -> NDArray[np.floating]:
    steps = (message.row_step, message.point_step)
    return np.ndarray((message.height, message.width), kind, data, offset, steps)


def _data(message: PointCloudMessage) -> memoryview:
    """Return the bytes, once they are as many as the message says."""
    data = memoryview(message.data).cast('B').toreadonly()
    said = f'A point cloud says {message.height} x {message.width} points'
    row = message.width * message.point_step
    if message.row_step < row:
        raise BadShape(
            f'{said} of {message.point_step} bytes, but a row_step of {message.row_step} bytes; '
            f'a row takes {row}. Correct the row_step.'
        )
    if data.nbytes != message.height * message.row_step:
        raise BadShape(
            f'{said} with a row_step of {message.row_step} bytes, which makes '
            f'{message.height * message.row_step}, but carries {data.nbytes}. Check the driver.'
        )
    return data
