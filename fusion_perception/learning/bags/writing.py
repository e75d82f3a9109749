"""Write a recording (rosbag2) of what a camera and a LiDAR saw, without ROS."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from typing_extensions import Self

from fusion_perception.sensing.mounting import T_lidar_camera
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.recordings.message_types import known_types
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.sensing.transforms import TF, TF_STATIC, quaternion_of

Storage = Literal['mcap', 'sqlite3']
Compression = Literal['none', 'file', 'message']
SECOND = 1_000_000_000
_CAMERA, _LIDAR = 'camera', 'lidar'  # The frames of what they measure.
_NEVER = QosTime(0, 0)
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _NEVER,
    _NEVER,
    QosLiveliness.AUTOMATIC,
    _NEVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """A new recording; a context manager. One that ends in an exception is deleted.

    Each method writes one message, stamped and recorded at `stamp_ns` unless another `log_ns` is
    given. Raises ValueError when something is there already, and OSError where it cannot be
    written, as on a full disk.
    """

    def __init__(
        self, path: Path, storage: Storage = 'mcap', compression: Compression = 'none'
    ) -> None:
        if path.exists():
            raise ValueError(
                f'{path} exists. Choose another folder for the recording, or delete it.'
            )
        self._path = path
        self._types = known_types('jazzy')
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self._writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Self:
        with self._whole():
            self._writer.open()
        return self

    def __exit__(self, kind: object, fault: BaseException | None, *_: object) -> None:
        with self._whole():
            if fault is not None:
                raise fault
            self._writer.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Delete the recording, half of which looks like a whole one, where a step fails."""
        try:
            yield
        except BaseException as fault:
            with suppress(OSError, sqlite3.Error):  # The disk is as full as it was.
                self._writer.abort()
            shutil.rmtree(self._path, ignore_errors=True)
            if isinstance(fault, sqlite3.Error):
                raise OSError(
                    f'{self._path} cannot be written ({fault}). Make room, or write elsewhere.'
                ) from None
            raise

    def image(
        self, topic: str, stamp_ns: int, pixels: NDArray[np.uint8], log_ns: int | None = None
    ) -> None:
        """Write pixels (H, W, 4) as rgb8, or as rgba8 where alpha says something."""
        opaque = bool((pixels[..., 3] == 255).all())
        kept = np.ascontiguousarray(pixels[..., :3] if opaque else pixels)
        self._array(topic, stamp_ns, kept, 'rgb8' if opaque else 'rgba8', _CAMERA, log_ns)

    def ranges(
        self, topic: str, stamp_ns: int, ranges: NDArray[np.float32], log_ns: int | None = None
    ) -> None:
        """Write ranges (R, C) in metres as 32FC1."""
        self._array(topic, stamp_ns, np.ascontiguousarray(ranges, '<f4'), '32FC1', _LIDAR, log_ns)

    def camera_info(
        self, topic: str, stamp_ns: int, camera: Camera, log_ns: int | None = None
    ) -> None:
        """Write the intrinsics of a camera and what its lens does."""
        fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
        message = self._make('sensor_msgs/msg/CameraInfo')(
            header=self._header(stamp_ns, _CAMERA),
            height=camera.height,
            width=camera.width,
            distortion_model=camera.lens.model,
            d=np.array(camera.lens.coefficients, np.float64),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
            r=np.eye(3).reshape(-1),
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
            binning_x=0,
            binning_y=0,
            roi=self._make('sensor_msgs/msg/RegionOfInterest')(
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )
        self.write(topic, 'sensor_msgs/msg/CameraInfo', _logged(log_ns, stamp_ns), message)

    def camera_pose(self, log_ns: int, camera: Camera) -> None:
        """Write, as a robot latches it, where a camera is."""
        T = T_lidar_camera(np.array(camera.T_camera_lidar))
        x, y, z = T[:3, 3].tolist()
        self.transform(log_ns, _LIDAR, _CAMERA, (x, y, z), quaternion_of(T[:3, :3]))

    def transform(
        self,
        stamp_ns: int,
        parent: str,
        child: str,
        shift: tuple[float, float, float],
        turn: tuple[float, float, float, float],
        moving: bool = False,
    ) -> None:
        """Write where a frame is, metres and x, y, z, w: as a robot latches it, or at a time."""
        made = self._make
        translation = dict(zip('xyz', shift, strict=True))
        rotation = dict(zip('xyzw', turn, strict=True))
        mounted = made('geometry_msgs/msg/TransformStamped')(
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=made('geometry_msgs/msg/Transform')(
                translation=made('geometry_msgs/msg/Vector3')(**translation),
                rotation=made('geometry_msgs/msg/Quaternion')(**rotation),
            ),
        )
        message = made('tf2_msgs/msg/TFMessage')(transforms=[mounted])
        topic, qos = (TF, ()) if moving else (TF_STATIC, (_LATCHED,))
        self.write(topic, 'tf2_msgs/msg/TFMessage', stamp_ns, message, qos)

    def centers(
        self,
        topic: str,
        stamp_ns: int,
        centers: NDArray[np.float64],
        frame_id: str = _LIDAR,
        log_ns: int | None = None,
    ) -> None:
        """Write centres (K, 3) in metres, LiDAR frame, as a PoseArray."""
        upright = self._make('geometry_msgs/msg/Quaternion')(x=0.0, y=0.0, z=0.0, w=1.0)
        point, pose = self._make('geometry_msgs/msg/Point'), self._make('geometry_msgs/msg/Pose')
        message = self._make('geometry_msgs/msg/PoseArray')(
            header=self._header(stamp_ns, frame_id),
            poses=[
                pose(position=point(x=x, y=y, z=z), orientation=upright)
                for x, y, z in to_rep103(centers).tolist()
            ],
        )
        self.write(topic, 'geometry_msgs/msg/PoseArray', _logged(log_ns, stamp_ns), message)

    def write(
        self, topic: str, kind: str, log_ns: int, message: object, offered: Sequence[Qos] = ()
    ) -> None:
        """Write a message of any known type, recorded at a time; `offered` is its topic's QoS."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._types, offered_qos_profiles=offered
            )
        self._writer.write(
            self._connections[topic], log_ns, self._types.serialize_cdr(message, kind)
        )

    def _make(self, kind: str) -> Callable[..., object]:
        made: Callable[..., object] = self._types.types[kind]
        return made

    def _header(self, stamp_ns: int, frame_id: str) -> object:
        stamp = self._make('builtin_interfaces/msg/Time')(
            sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND
        )
        return self._make('std_msgs/msg/Header')(stamp=stamp, frame_id=frame_id)

    def _array(
        self,
        topic: str,
        stamp_ns: int,
        values: NDArray[np.uint8] | NDArray[np.float32],
        encoding: str,
        frame_id: str,
        log_ns: int | None,
    ) -> None:
        height, width = values.shape[:2]
        message = self._make('sensor_msgs/msg/Image')(
            header=self._header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=values.nbytes // height,
            data=values.reshape(-1).view(np.uint8),
        )
        self.write(topic, 'sensor_msgs/msg/Image', _logged(log_ns, stamp_ns), message)


def _logged(log_ns: int | None, stamp_ns: int) -> int:
    return stamp_ns if log_ns is None else log_ns
