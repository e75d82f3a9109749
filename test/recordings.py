"""Small recordings of a moving scene, edited at will before they are written."""

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from fusion_perception.learning.bags.writing import SECOND, BagWriter
from fusion_perception.learning.to_bag import BEGIN_NS, CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.recordings.message_types import known_types
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.motion import MovingScene
from fusion_perception.simulation.render import render


@dataclass(frozen=True)
class Event:
    """A message to write: which topic, which of the frames, stamped and recorded when."""

    topic: str
    index: int
    stamp_ns: int
    log_ns: int

    def stamped(self, stamp_ns):
        return replace(self, stamp_ns=stamp_ns)


@lru_cache
def frames(count, rate):
    times = torch.arange(count) / rate
    return render(MovingScene(seed=4).at(times), Rig(), UniformGrid().lidar())


def at(index, rate=10):
    return BEGIN_NS + round(index * SECOND / rate)


def record(
    path,
    count=8,
    rate=10,
    edit=None,
    storage='mcap',
    compression='none',
    topics=None,
    mounted=None,
):
    """Write a recording; `edit` takes the list of events and returns the one to write.

    Where the camera `mounted` is, it says on /tf_static.
    """
    seen, names = frames(count, rate), topics or {}
    events = [
        Event(topic, index, at(index, rate), at(index, rate))
        for index in range(count)
        for topic in (IMAGE, CAMERA_INFO, RANGES, TRUTH)
    ]
    with BagWriter(path, storage, compression) as bag:
        if mounted:
            bag.camera_pose(at(0), mounted)
        for event in edit(events) if edit else events:
            values = {
                IMAGE: lambda i: seen.images[i].numpy(),
                CAMERA_INFO: lambda i: Rig().camera,
                RANGES: lambda i: seen.ranges[i].numpy(),
                TRUTH: lambda i: seen.centers[i].double().numpy(),
            }[event.topic](event.index)
            write = {
                IMAGE: bag.image,
                CAMERA_INFO: bag.camera_info,
                RANGES: bag.ranges,
                TRUTH: bag.centers,
            }[event.topic]
            topic = names.get(event.topic, event.topic)
            write(topic, event.stamp_ns, values, log_ns=event.log_ns)
    return path


def joined(folder, *bags):
    """Return a recording whose parts are the files of others, in this order by their names."""
    folder.mkdir()
    for number, bag in enumerate(bags):
        (file,) = [path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3')]
        shutil.copy(file, folder / f'drive_{number}{file.suffix}')
    return folder


def bent_info(bag, stamp_ns, camera, rectified, coefficients):
    """Write the camera_info of a lens that distorts: K of one camera, P of the other."""
    types = known_types().types
    bag.write(
        CAMERA_INFO,
        'sensor_msgs/msg/CameraInfo',
        stamp_ns,
        types['sensor_msgs/msg/CameraInfo'](
            header=bag._header(stamp_ns, 'camera'),
            height=camera.height,
            width=camera.width,
            distortion_model='plumb_bob',
            d=np.array(coefficients, np.float64),
            k=camera.intrinsics().double().numpy().reshape(-1),
            r=np.eye(3).reshape(-1),
            p=np.c_[rectified.intrinsics().double().numpy(), np.zeros(3)].reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=types['sensor_msgs/msg/RegionOfInterest'](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        ),
    )


def made(name, **fields):
    """Return a message of that type."""
    return known_types().types[name](**fields)


def header_of(stamp_ns, frame_id='lidar'):
    sec, nanosec = divmod(stamp_ns, SECOND)
    stamp = made('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return made('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def detections_message(stamp_ns, names, centers):
    """Return a Detection3DArray of centres (N, 3), one of each name."""
    header = header_of(stamp_ns)
    upright = made('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
    size = made('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0)
    detections = []
    for name, (x, y, z) in zip(names, centers.tolist(), strict=True):
        point = made('geometry_msgs/msg/Point', x=y, y=-x, z=z)
        pose = made('geometry_msgs/msg/Pose', position=point, orientation=upright)
        box = made('vision_msgs/msg/BoundingBox3D', center=pose, size=size)
        detections.append(
            made('vision_msgs/msg/Detection3D', header=header, results=[], bbox=box, id=name)
        )
    return made('vision_msgs/msg/Detection3DArray', header=header, detections=detections)


def cloud(stamp_ns, points):
    """Return a PointCloud2 of points (N, 3) as a driver would send them."""
    types = known_types().types
    rows = np.ascontiguousarray(points, '<f4')
    field = types['sensor_msgs/msg/PointField']
    return types['sensor_msgs/msg/PointCloud2'](
        header=header_of(stamp_ns),
        height=1,
        width=len(rows),
        fields=[
            field(name=name, offset=4 * index, datatype=7, count=1)
            for index, name in enumerate('xyz')
        ],
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(rows),
        data=rows.reshape(-1).view(np.uint8),
        is_dense=True,
    )


LATCHED, SPOKEN = '/robot_description', '/chat'


def profile(durability, depth):
    """Return the QoS that a recording notes of one publisher."""
    never = QosTime(0, 0)
    kept = QosHistory.KEEP_LAST if depth else QosHistory.UNKNOWN
    reliable, lively = QosReliability.RELIABLE, QosLiveliness.AUTOMATIC
    return Qos(kept, depth, reliable, durability, never, never, lively, never, False)


def record_latched(path, depths=(2,), spoken=1, storage='mcap', version=9):
    """Write three texts on a topic that was latched with these depths, then some on another.

    They come at 20 Hz. Version 8 writes policies as numbers.
    """
    types, text = known_types('jazzy'), 'std_msgs/msg/String'
    latched = [profile(QosDurability.TRANSIENT_LOCAL, depth) for depth in depths]
    with Writer(path, version=version, storage_plugin=StoragePlugin[storage.upper()]) as bag:
        for topic, first, count, profiles in (
            (LATCHED, 0, 3, [*latched, profile(QosDurability.VOLATILE, 7)]),
            (SPOKEN, 3, spoken, [profile(QosDurability.VOLATILE, 7)]),
        ):
            to = bag.add_connection(topic, text, typestore=types, offered_qos_profiles=profiles)
            for index in range(count):
                data = types.serialize_cdr(types.types[text](str(index)), text)
                bag.write(to, at(first + index, rate=20), data)
    return path
