"""Publish predictions: centres always, everything else while someone listens."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray

from fusion_perception.ros import messages
from fusion_perception.ros.annotation import annotated
from fusion_perception.ros.clouds import cloud_message
from fusion_perception.ros.frames import Frames
from fusion_perception.ros.messages import NANOSECONDS
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.pace import Pace
from fusion_perception.sensing.observation import Camera, Lidar, Mode, Prediction
from fusion_perception.sensing.pairing import patience

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPICS = {
    'mode': String,
    'centers': PoseArray,
    'markers': MarkerArray,
    'points': PointCloud2,
    'image_annotated': Image,
}


@dataclass(frozen=True)
class Result:
    """A prediction of one pair and what it was made of.

    `frame_id` is the LiDAR's, '' while none was heard. `ranges` is (R, C) metres, of `lidar`; None
    while the LiDAR is silent. `image` is (H, W, C) uint8 as it came, of `camera` (at any
    resolution) in `camera_frame`; None while the camera is silent.
    """

    stamp_ns: int
    frame_id: str
    prediction: Prediction
    ranges: NDArray[np.float32] | None
    lidar: Lidar
    image: NDArray[np.uint8] | None
    camera: Camera
    camera_frame: str


class Outputs:
    """The topics of a configured node.

    `publish` is called by one thread, the one that predicts; the others belong to the executor.
    `frames` are needed for a target_frame.
    """

    def __init__(
        self, node: LifecycleNode, classes: tuple[str, ...], frames: Frames | None = None
    ) -> None:
        self._node, self._frames = node, frames
        kinds = dict(TOPICS)
        if messages.Detection3DArray is not None:
            kinds['detections'] = messages.Detection3DArray
        self._publishers: dict[str, Any] = {
            name: node.create_lifecycle_publisher(kind, f'~/{name}', 10)
            for name, kind in kinds.items()
        }
        self._labels: Any = None
        if messages.LabelInfo is not None:
            # No lifecycle publisher: it keeps what it says for those who come later.
            self._labels = node.create_publisher(messages.LabelInfo, '~/label_info', LATCHED)
            now_ns = node.get_clock().now().nanoseconds
            header = messages.header_message(now_ns, '')
            self._labels.publish(messages.label_info_message(header, classes))
        self._said: Mode | Literal['none'] = 'none'
        self._predicted_at = -math.inf
        self._shown: list[Marker] = []
        self._stamps = Pace()
        self._lock = threading.RLock()

    def publish(self, result: Result, settings: NodeSettings, period_s: float) -> list[str]:
        """Publish a prediction; one usually comes every `period_s` by the wall clock (0: unknown).

        Returns a sentence for each message that could not be made, once the centres had left.
        Raises NoTransform, before anything has left.
        """
        frame_id = result.frame_id or settings.lidar_frame
        prediction, T_target_lidar = result.prediction, None
        centers: NDArray[np.float64] = prediction.centers[0].double().numpy()
        covariance = None
        if prediction.covariance is not None:
            covariance = prediction.covariance[0].double().numpy()
        placed, spread = centers, covariance
        if self._frames is not None and (target := settings.target_frame):
            T_target_lidar = self._frames.T_target_lidar(target, frame_id, result.stamp_ns)
            rotation, translation = T_target_lidar[:3, :3], T_target_lidar[:3, 3]
            placed = centers @ rotation.T + translation
            spread = None if covariance is None else rotation @ covariance @ rotation.T
            frame_id = target
        header = messages.header_message(result.stamp_ns, frame_id)
        mode = prediction.mode[0]
        self._note_stamp(result.stamp_ns / NANOSECONDS)
        # First, so that whoever hears the centres knows already what they were made of.
        self._say(mode)
        self._publishers['centers'].publish(messages.centers_message(header, placed))
        classes, faults = prediction.classes, list[str]()
        if self._heard('detections'):
            with _left_out('detections', faults):
                self._publishers['detections'].publish(
                    messages.detections_message(header, placed, classes, spread)
                )
        if self._heard('markers'):
            lidar_at = np.zeros(3) if T_target_lidar is None else T_target_lidar[:3, 3]
            # Whoever shows them may count by the one clock or by the other.
            usual_s = max(period_s, self._stamps.period_s())
            lifetime_s = marker_lifetime_s(settings.marker_lifetime_s, usual_s)
            shown = (placed, classes, spread, lifetime_s, mode, lidar_at)
            with _left_out('markers', faults):
                self._show(messages.markers_message(header, *shown))
        if result.ranges is not None and self._heard('points'):
            with _left_out('points', faults):
                xyza = result.lidar.xyza(torch.tensor(result.ranges)).numpy()
                moved = _moved(xyza, T_target_lidar)
                self._publishers['points'].publish(cloud_message(header, moved))
        if result.image is not None and self._heard('image_annotated'):
            with _left_out('image_annotated', faults):
                drawn = annotated(result.image, result.camera, centers, classes, covariance, mode)
                header = messages.header_message(result.stamp_ns, result.camera_frame)
                self._publishers['image_annotated'].publish(messages.image_message(header, drawn))
        return faults

    def clear(self, silent_s: float = 0.0) -> bool:
        """Say that nothing is predicted any more, and delete the markers that are shown.

        Not where a prediction was published within the last `silent_s`; returns whether it was
        said.
        """
        with self._lock:
            if time.monotonic() - self._predicted_at < silent_s:
                return False
            # The host may have shut the context down, at any moment: then nobody hears.
            with suppress(rclpy_implementation.RCLError):
                if self._said != 'none':
                    self._say('none')
                self._show(MarkerArray())
            return True

    def close(self) -> None:
        """Take the topics back."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        if self._labels is not None:
            self._node.destroy_publisher(self._labels)

    def _say(self, mode: Mode | Literal['none']) -> None:
        with self._lock:
            self._said = mode
            if mode != 'none':
                self._predicted_at = time.monotonic()
            self._publishers['mode'].publish(String(data=mode))

    def _note_stamp(self, stamp_s: float) -> None:
        if (self._stamps.age_s(stamp_s) or 0.0) < 0:
            self._stamps = Pace()  # A recording that began anew.
        self._stamps.note(stamp_s)

    def _heard(self, name: str) -> bool:
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _show(self, message: MarkerArray) -> None:
        """Publish markers, with the end of those that were shown before and are no more."""
        with self._lock:
            here = {(marker.ns, marker.id) for marker in message.markers}
            gone = [marker for marker in self._shown if (marker.ns, marker.id) not in here]
            self._shown = list(message.markers)
            ends = [_end(marker) for marker in gone]
            if message.markers or ends:
                self._publishers['markers'].publish(MarkerArray(markers=[*ends, *self._shown]))


def marker_lifetime_s(least_s: float, period_s: float) -> float:
    """Return how long markers stay that are due anew after a period; 0, which is for ever, stays.

    Those of slow sensors would vanish between two outputs.
    """
    return patience(period_s, least_s) if least_s > 0 else 0.0


@contextmanager
def _left_out(name: str, faults: list[str]) -> Iterator[None]:
    """Note why a message cannot be made: the centres of its pair have left, and count."""
    try:
        yield
    except Exception as fault:
        faults.append(f'~/{name} is left out: {type(fault).__name__}: {fault}')


def _end(marker: Marker) -> Marker:
    header = Header(stamp=marker.header.stamp, frame_id=marker.header.frame_id)
    return Marker(header=header, ns=marker.ns, id=marker.id, action=Marker.DELETE)


def _moved(
    xyza: NDArray[np.float32], T_target_lidar: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Move points (4, R, C) into another frame; their a stays."""
    if T_target_lidar is None:
        return xyza
    T = T_target_lidar.astype(np.float32)
    moved = xyza.copy()
    moved[:3] = np.tensordot(T[:3, :3], xyza[:3], axes=1) + T[:3, 3, None, None]
    return moved
