"""Write a data folder as a recording that any ROS 2 tool plays: `fusion to-bag`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from tqdm import tqdm

from fusion_perception.learning.folder import DataFolder
from fusion_perception.sensing.message_types import known_types
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.sensing.settings import Settings

# Any fixed time that is not zero: the same data always makes the same recording.
BEGIN_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
CAMERA_FRAME, LIDAR_FRAME = 'camera', 'lidar'
# The topics and types of the simulated sensor.
TOPICS = {
    '/camera/image_raw': 'sensor_msgs/msg/Image',
    '/camera/camera_info': 'sensor_msgs/msg/CameraInfo',
    '/lidar/range_image': 'sensor_msgs/msg/Image',
    '/ground_truth/centers': 'geometry_msgs/msg/PoseArray',
}
Make = Callable[..., object]


class ToBagSettings(Settings):
    """Settings of `fusion to-bag`."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='DATA')] = Field(
        description='Data folder to read'
    )
    out: Path = Field(description='Folder of the recording to write; must not exist')
    rate: float = Field(10.0, gt=0, le=1000, description='Scenes per second')
    storage: Literal['mcap', 'sqlite3'] = Field('mcap', description='Kind of the storage file')
    compression: Literal['none', 'file', 'message'] = Field(
        'none', description='What to compress with zstd'
    )


def to_bag(settings: ToBagSettings) -> str:
    """Write every scene as an image, a camera_info, a range image and the true centres.

    Raises FileNotFoundError or ValueError for a folder that cannot be read or an `out` that
    exists.
    """
    folder = DataFolder.open(settings.data)
    out = settings.out
    if out.exists():
        raise ValueError(f'{out} exists. Choose another folder for the recording, or delete it.')
    writer = Writer(out, version=9, storage_plugin=StoragePlugin[settings.storage.upper()])
    writer.set_compression(CompressionMode[settings.compression.upper()], CompressionFormat.ZSTD)
    try:
        with writer:
            _write(writer, folder, settings.rate)
    except BaseException:
        # Half a recording looks like a whole one.
        shutil.rmtree(out, ignore_errors=True)
        raise
    return (
        f'{len(folder):,} scenes of {settings.data} are in {out}, {len(folder) / settings.rate:g} '
        f's at {settings.rate:g} Hz. Play it: fusion replay {out}'
    )


def _write(writer: Writer, folder: DataFolder, rate: float) -> None:
    types = known_types('jazzy')
    make: Mapping[str, Make] = types.types
    connections = {
        topic: writer.add_connection(topic, kind, typestore=types)
        for topic, kind in TOPICS.items()
    }
    for index in tqdm(range(len(folder)), desc='to-bag', unit=' scenes', disable=None):
        scene = folder.scene(index)
        stamp_ns = BEGIN_NS + round(index * SECOND / rate)
        camera = folder.rig.camera.resized(scene.image.shape[1], scene.image.shape[0])
        in_camera = _header(make, stamp_ns, CAMERA_FRAME)
        in_lidar = _header(make, stamp_ns, LIDAR_FRAME)
        messages = (
            _image(make, in_camera, scene.image),
            _camera_info(make, in_camera, camera),
            _range_image(make, in_lidar, scene.ranges),
            _centers(make, in_lidar, scene.centers),
        )
        for (topic, kind), message in zip(TOPICS.items(), messages, strict=True):
            writer.write(connections[topic], stamp_ns, types.serialize_cdr(message, kind))


def _header(make: Mapping[str, Make], stamp_ns: int, frame_id: str) -> object:
    stamp = make['builtin_interfaces/msg/Time'](sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return make['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def _image(make: Mapping[str, Make], header: object, pixels: NDArray[np.uint8]) -> object:
    # An alpha that is constantly 255 says nothing; any other is kept.
    opaque = bool((pixels[..., 3] == 255).all())
    kept = np.ascontiguousarray(pixels[..., :3] if opaque else pixels)
    return _array(make, header, kept, 'rgb8' if opaque else 'rgba8')


def _range_image(make: Mapping[str, Make], header: object, ranges: NDArray[np.float32]) -> object:
    return _array(make, header, np.ascontiguousarray(ranges, '<f4'), '32FC1')


def _array(
    make: Mapping[str, Make],
    header: object,
    values: NDArray[np.uint8] | NDArray[np.float32],
    encoding: str,
) -> object:
    height, width = values.shape[:2]
    return make['sensor_msgs/msg/Image'](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=values.nbytes // height,
        data=values.reshape(-1).view(np.uint8),
    )


def _camera_info(make: Mapping[str, Make], header: object, camera: Camera) -> object:
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    nowhere = make['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return make['sensor_msgs/msg/CameraInfo'](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
        r=np.eye(3).reshape(-1),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
        binning_x=0,
        binning_y=0,
        roi=nowhere,
    )


def _centers(make: Mapping[str, Make], header: object, centers: NDArray[np.float64]) -> object:
    upright = make['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0, w=1.0)
    poses = [
        make['geometry_msgs/msg/Pose'](
            position=make['geometry_msgs/msg/Point'](x=x, y=y, z=z), orientation=upright
        )
        for x, y, z in to_rep103(centers).tolist()
    ]
    return make['geometry_msgs/msg/PoseArray'](header=header, poses=poses)
