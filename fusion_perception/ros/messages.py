"""Turn predictions and simulated sensors into messages, which hold REP-103 axes."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from fusion_perception.sensing.observation import Camera, Mode
from fusion_perception.sensing.rep103 import Floats, covariance_to_rep103, to_rep103
from fusion_perception.sensing.transforms import quaternion_of

try:
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection3D,
        Detection3DArray,
        LabelInfo,
        ObjectHypothesisWithPose,
        VisionClass,
    )
except ImportError:  # Not on the package index; a robot's ROS installation has it.
    Detection3DArray = LabelInfo = None

COLORS = ((0.91, 0.36, 0.29), (0.30, 0.72, 0.42), (0.29, 0.53, 0.91), (0.95, 0.77, 0.27))
WHITE = (1.0, 1.0, 1.0)
CENTER_DIAMETER = 0.6
TEXT_HEIGHT = 0.7
# This many standard deviations hold 90 % of a 3D Gaussian: the root of chi-square 6.2514.
ELLIPSOID_DEVIATIONS = 2.5003
# Radians squared: a deviation of half a turn.
UNKNOWN_ANGLE_VARIANCE = math.pi**2
NANOSECONDS = 1_000_000_000


def stamp_message(stamp_ns: int) -> Time:
    """Return integer nanoseconds as a message."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def header_message(stamp_ns: int, frame_id: str) -> Header:
    """Return the header of a message measured at a time, in a frame."""
    return Header(stamp=stamp_message(stamp_ns), frame_id=frame_id)


def centers_message(header: Header, centers: Floats) -> PoseArray:
    """Return centres (K, 3) metres, LiDAR frame, as one pose per class, in class order."""
    return PoseArray(header=header, poses=[_pose(point) for point in to_rep103(centers).tolist()])


def markers_message(
    header: Header,
    centers: Floats,
    classes: Sequence[str],
    covariance: Floats | None,
    lifetime_s: float,
    mode: Mode,
    lidar_at: Floats,
) -> MarkerArray:
    """Return a ball, a name and, with a covariance, a 90 % ellipsoid per class, and the mode.

    `lidar_at` (3,) metres is where the LiDAR is, in the frame of the centres; there stands the
    mode.
    """
    seconds, nanoseconds = divmod(round(lifetime_s * NANOSECONDS), NANOSECONDS)
    lifetime = Duration(sec=seconds, nanosec=nanoseconds)
    markers = []

    def add(
        kind: int, namespace: str, index: int, pose: Pose, scale: Vector3, alpha: float, text: str
    ) -> None:
        red, green, blue = WHITE if namespace == 'mode' else COLORS[index % len(COLORS)]
        markers.append(
            Marker(
                header=header,
                ns=namespace,
                id=index,
                type=kind,
                action=Marker.ADD,
                pose=pose,
                scale=scale,
                color=ColorRGBA(r=red, g=green, b=blue, a=alpha),
                lifetime=lifetime,
                text=text,
            )
        )

    ball = Vector3(x=CENTER_DIAMETER, y=CENTER_DIAMETER, z=CENTER_DIAMETER)
    letters = Vector3(x=0.0, y=0.0, z=TEXT_HEIGHT)
    points = to_rep103(centers)
    for index, (x, y, z) in enumerate(points.tolist()):
        name = classes[index]
        add(Marker.SPHERE, 'centers', index, _pose((x, y, z)), ball, 1.0, '')
        above = _pose((x, y, z + TEXT_HEIGHT))
        add(Marker.TEXT_VIEW_FACING, 'names', index, above, letters, 1.0, name)
        if covariance is not None:
            orientation, deviations = ellipsoid(covariance_to_rep103(covariance[index]))
            width, depth, height = (2 * ELLIPSOID_DEVIATIONS * deviations).tolist()
            pose = _pose((x, y, z), orientation)
            scale = Vector3(x=width, y=depth, z=height)
            add(Marker.SPHERE, 'covariance', index, pose, scale, 0.3, '')
    (x, y, z), *_ = to_rep103(lidar_at[None]).tolist()
    add(Marker.TEXT_VIEW_FACING, 'mode', 0, _pose((x, y, z + TEXT_HEIGHT)), letters, 1.0, mode)
    return MarkerArray(markers=markers)


def ellipsoid(covariance: Floats) -> tuple[Quaternion, NDArray[np.float64]]:
    """Return the orientation of a covariance's principal axes and its deviations (3,) metres."""
    variances, axes = np.linalg.eigh(covariance)
    if np.linalg.det(axes) < 0:
        axes = axes * np.array([1.0, 1.0, -1.0])
    x, y, z, w = quaternion_of(axes)
    return Quaternion(x=x, y=y, z=z, w=w), np.sqrt(np.maximum(variances, 1e-12))


def detections_message(
    header: Header, centers: Floats, classes: Sequence[str], covariance: Floats | None
) -> Any:
    """Return a Detection3DArray, one hypothesis per class, with covariance where it is known.

    The class_id is the one of `label_info_message`, the id of the detection the class's name.
    The box has no size: the models say where a centre is, not how big its object is.
    """
    detections = []
    rotated = None if covariance is None else covariance_to_rep103(covariance)
    for index, point in enumerate(to_rep103(centers).tolist()):
        pose = _pose(point)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = str(index)
        hypothesis.hypothesis.score = 1.0
        hypothesis.pose.pose = pose
        if rotated is not None:
            hypothesis.pose.covariance = pose_covariance(rotated[index])
        box = BoundingBox3D(center=pose)
        detections.append(
            Detection3D(header=header, results=[hypothesis], bbox=box, id=classes[index])
        )
    return Detection3DArray(header=header, detections=detections)


def pose_covariance(covariance: Floats) -> NDArray[np.float64]:
    """Return the covariance (36,) of a pose whose position has this one (3, 3), metres squared.

    Nothing is known of the orientation; zero would say that it is known exactly.
    """
    full = np.diag([0.0, 0.0, 0.0, *3 * [UNKNOWN_ANGLE_VARIANCE]])
    full[:3, :3] = covariance
    return full.reshape(-1)


def label_info_message(header: Header, classes: Sequence[str]) -> Any:
    """Return the LabelInfo that gives the class_ids of detections their names."""
    names = [VisionClass(class_id=number, class_name=name) for number, name in enumerate(classes)]
    return LabelInfo(header=header, class_map=names, threshold=0.0)


def image_message(header: Header, pixels: NDArray[np.uint8]) -> Image:
    """Return an rgb8 image of pixels (H, W, 3 or 4) uint8; an alpha channel is left out."""
    return _image(header, 'rgb8', pixels[..., :3])


def range_message(header: Header, ranges: NDArray[np.float32]) -> Image:
    """Return a 32FC1 image of ranges (R, C) in metres."""
    return _image(header, '32FC1', ranges.astype('<f4', copy=False))


def _image(
    header: Header, encoding: str, values: NDArray[np.uint8] | NDArray[np.float32]
) -> Image:
    height, width = values.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=values[0].nbytes,
        data=as_data(values),
    )


def camera_info_message(header: Header, camera: Camera) -> CameraInfo:
    """Return the intrinsics of a camera and what its lens does."""
    fx, fy, cx, cy = float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy)
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.lens.model,
        d=camera.lens.coefficients,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def as_data(values: NDArray[Any]) -> array.array[int]:
    """Return the bytes of an array, as the data of a message."""
    # An array('B') is the one type that message setters take without looking at every byte.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).data.cast('B'))
    return data


def _pose(point: Sequence[float], orientation: Quaternion | None = None) -> Pose:
    x, y, z = point
    upright = Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
    return Pose(position=Point(x=x, y=y, z=z), orientation=orientation or upright)
