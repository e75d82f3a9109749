"""Turn XYZA points into point clouds, which hold REP-103 axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from fusion_perception.ros.messages import as_data
from fusion_perception.sensing.rep103 import to_rep103

FIELDS = ('x', 'y', 'z', 'a')
FLOAT_BYTES = 4


def cloud_message(header: Header, xyza: NDArray[np.float32]) -> PointCloud2:
    """Return points (4, R, C) float32, LiDAR frame, as an organised cloud of x, y, z and a.

    A ray without return has a = 0 and, as is the custom in organised clouds, NaN coordinates.
    """
    rows, columns = xyza.shape[1:]
    points = np.empty((rows, columns, len(FIELDS)), '<f4')
    points[..., :3] = to_rep103(np.moveaxis(xyza[:3], 0, -1))
    points[..., 3] = xyza[3]
    points[xyza[3] == 0, :3] = np.nan
    point_step = FLOAT_BYTES * len(FIELDS)
    return PointCloud2(
        header=header,
        height=rows,
        width=columns,
        fields=[
            PointField(name=name, offset=FLOAT_BYTES * n, datatype=PointField.FLOAT32, count=1)
            for n, name in enumerate(FIELDS)
        ],
        is_bigendian=False,
        point_step=point_step,
        row_step=point_step * columns,
        data=as_data(points),
        is_dense=bool(xyza[3].all()),
    )
