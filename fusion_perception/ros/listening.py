"""Listen to topics: to what is newest, and to a camera_info that was latched before we came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from fusion_perception.ros.node_settings import ImageType, LidarType, NodeSettings
from fusion_perception.ros.observed import clash
from fusion_perception.sensing.ledger import Stream

RCLError = rclpy_implementation.RCLError
# A newer measurement always beats an older one, so nothing may queue up before the node.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# DDS sends earlier messages only to subscriptions that ask for them and are reliable.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_SOURCES: dict[ImageType | LidarType, tuple[Any, str, str]] = {
    'raw': (Image, 'image', ''),
    'compressed': (CompressedImage, 'image', '/compressed'),
    'range_image': (Image, 'range_image', ''),
    'points': (PointCloud2, 'points', ''),
}


def source_of(stream: Stream, settings: NodeSettings) -> tuple[Any, str, str]:
    """Return the message and topic of a stream, and what image_transport appends to the topic."""
    return _SOURCES[settings.image_type if stream == 'camera' else settings.lidar_type]


def subscribe(
    node: Node, kind: Any, topic: str, take: Callable[..., None], qos: QoSProfile = NEWEST
) -> Subscription:
    """Return a subscription without callbacks on events.

    `take` is given a message, and what the middleware says of it where it has room for both.
    `findings` tells of QoS and types, and every callback costs each message time, because the
    executor asks them all whether something happened. Raises RCLError, with the topic, where there
    can be none, as of a topic that this process knows by another type.
    """
    events = SubscriptionEventCallbacks(use_default_callbacks=False)
    try:
        return node.create_subscription(kind, topic, take, qos, event_callbacks=events)
    except RCLError as fault:  # On Jazzy it says no more than 'invalid allocator'.
        name = node.resolve_topic_name(topic)
        raise RCLError(f'no {kind.__name__} can be heard on {name} ({fault})') from None


class CameraInfoInput:
    """The camera_info of a topic, whether it comes with each image or was latched once.

    `take` is given what differs from the last one: it comes with every image, and looking into it
    takes longer than decoding one. `subscription` hears every publisher, but no latched message
    that was sent before; a second one for that is there as long as a publisher latches, because
    other publishers would log that its QoS does not match theirs.
    """

    def __init__(self, node: Node, topic: str, take: Callable[[CameraInfo], None]) -> None:
        self.subscription = subscribe(node, CameraInfo, topic, self._on_message)
        self._node, self._topic, self._take = node, topic, take
        self._latched: Subscription | None = None
        self._last: CameraInfo | None = None
        self.look()

    def look(self) -> None:
        """Look for publishers that latch. Call it once per second."""
        topic = self.subscription.topic_name
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
        latches = any(not clash(offered, LATCHED) for offered in offers)
        if latches and self._latched is None:
            # By the name that was given: the full one would be remapped again.
            self._latched = subscribe(
                self._node, CameraInfo, self._topic, self._on_message, LATCHED
            )
        elif not latches and self._latched is not None:
            self._node.destroy_subscription(self._latched)
            self._latched = None

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self.subscription)
        if self._latched is not None:
            self._node.destroy_subscription(self._latched)
            self._latched = None

    def _on_message(self, message: CameraInfo) -> None:
        message.header = Header()
        if message != self._last:
            self._last = message
            self._take(message)
