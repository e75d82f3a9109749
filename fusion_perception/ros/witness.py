"""Watch a running graph from outside: record what passes, keep predictions beside the truth."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from fusion_perception.sensing.decode import decode_image, decode_range, stamp_ns
from fusion_perception.sensing.rep103 import centers_of
from fusion_perception.simulation.topics import CAMERA_INFO, IMAGE, RANGES, TRUTH

RELIABLE = QoSProfile(depth=50)
KEPT = 64
TOPICS: dict[str, tuple[Any, QoSProfile]] = {
    IMAGE: (Image, qos_profile_sensor_data),
    CAMERA_INFO: (CameraInfo, qos_profile_sensor_data),
    RANGES: (Image, qos_profile_sensor_data),
    TRUTH: (PoseArray, RELIABLE),
    '/fusion_node/centers': (PoseArray, RELIABLE),
    '/fusion_node/markers': (MarkerArray, RELIABLE),
    '/fusion_node/mode': (String, RELIABLE),
    '/diagnostics': (DiagnosticArray, RELIABLE),
}


@dataclass(frozen=True)
class Judged:
    """A prediction beside the truth of the same stamp: centres (K, 3) metres, LiDAR frame.

    error_m is the mean over the objects.
    """

    stamp_ns: int
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64]
    latency_ms: float
    error_m: float


@dataclass(frozen=True)
class Scene:
    """What the sensors saw of one judged prediction; no image where none came that close."""

    judged: Judged
    image: NDArray[np.uint8] | None
    ranges: NDArray[np.float32]


class Bag:
    """A rosbag2 (mcap) that takes messages as they left the middleware, serialised."""

    def __init__(self, path: Path) -> None:
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, message_type: Any, received_ns: int, data: bytes) -> None:
        """Append a message."""
        if topic not in self._connections:
            package, name = message_type.__module__.split('.')[0], message_type.__name__
            self._connections[topic] = self._writer.add_connection(
                topic, f'{package}/msg/{name}', typestore=self._types
            )
        self._writer.write(self._connections[topic], received_ns, data)

    def close(self) -> None:
        """Finish the bag; only then can it be opened."""
        self._writer.close()


class Witness(Node):
    """Subscribes to sensors, truth, predictions and diagnostics; one thread spins and asks it."""

    def __init__(self, bag: Bag) -> None:
        super().__init__('witness')
        self._bag = bag
        self.predictions = 0
        self.judged: list[Judged] = []
        self.status: DiagnosticStatus | None = None
        # How long range images take to a subscriber that only listens.
        self.bare_ms: list[float] = []
        self._scans: list[int] = []
        self._predicted: OrderedDict[int, tuple[NDArray[np.float64], float]] = OrderedDict()
        self._true: OrderedDict[int, NDArray[np.float64]] = OrderedDict()
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._ranges: OrderedDict[int, Image] = OrderedDict()
        for topic, (message_type, qos) in TOPICS.items():
            self.create_subscription(
                message_type, topic, self._recorder(topic, message_type), qos, raw=True
            )

    def _recorder(self, topic: str, message_type: Any) -> Any:
        handle = {
            IMAGE: lambda message: _keep(self._images, stamp_ns(message), message),
            RANGES: self._on_range,
            TRUTH: self._on_truth,
            '/fusion_node/centers': self._on_centers,
            '/diagnostics': self._on_diagnostics,
        }.get(topic)

        def record(data: bytes) -> None:
            self._bag.write(topic, message_type, self._now_ns(), data)
            if handle is not None:
                handle(deserialize_message(data, message_type))

        return record

    def scene(self) -> Scene | None:
        """Return the newest judged prediction whose range image is still at hand."""
        for judged in reversed(self.judged):
            if judged.stamp_ns in self._ranges:
                ranges = decode_range(self._ranges[judged.stamp_ns]).copy()
                nearest = min(
                    self._images, key=lambda stamp: abs(stamp - judged.stamp_ns), default=None
                )
                image = None if nearest is None else decode_image(self._images[nearest])
                return Scene(judged, image, ranges)
        return None

    def missed(self) -> int:
        """Return how many scans between the first and the last judged one got no prediction.

        Whatever the reason: also those that never reached the node count.
        """
        if not self.judged:
            return 0
        stamps = [judged.stamp_ns for judged in self.judged]
        began = bisect.bisect_left(self._scans, min(stamps))
        return bisect.bisect_right(self._scans, max(stamps)) - began - len(stamps)

    def _on_range(self, message: Image) -> None:
        stamp = stamp_ns(message)
        self.bare_ms.append((self._now_ns() - stamp) / 1e6)
        _keep(self._ranges, stamp, message)

    def _on_truth(self, message: PoseArray) -> None:
        bisect.insort(self._scans, stamp_ns(message))
        _keep(self._true, stamp_ns(message), centers_of(message))
        self._judge(stamp_ns(message))

    def _on_centers(self, message: PoseArray) -> None:
        stamp = stamp_ns(message)
        self.predictions += 1
        _keep(self._predicted, stamp, (centers_of(message), (self._now_ns() - stamp) / 1e6))
        self._judge(stamp)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == '/fusion_node':
                self.status = status

    def _judge(self, stamp: int) -> None:
        if stamp in self._predicted and stamp in self._true:
            predicted, latency_ms = self._predicted.pop(stamp)
            truth = self._true.pop(stamp)
            error_m = float(np.linalg.norm(predicted - truth, axis=-1).mean())
            self.judged.append(Judged(stamp, predicted, truth, latency_ms, error_m))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def _keep(queue: OrderedDict[int, Any], stamp: int, value: Any) -> None:
    queue[stamp] = value
    while len(queue) > KEPT:
        queue.popitem(last=False)
