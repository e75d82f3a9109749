"""Say where the camera of a recording is, if need be by its /tf_static and /tf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.intake import Frame, Message
from fusion_perception.sensing.mounting import FROM_TF, Mounting
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import Pair
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.transforms import (
    TF,
    TF_STATIC,
    NoTransform,
    Transforms,
    TransformsMessage,
)


class BagMounting:
    """Where the camera of a recording is, by the setting `camera_pose`.

    `images` and `scans` are the topics of camera and LiDAR, `mounted` is the camera where no
    camera_info tells another.
    """

    def __init__(
        self,
        recording: Recording,
        images: str | None,
        scans: str | None,
        camera_pose: str,
        mounted: Camera,
    ) -> None:
        self._mounting = Mounting(camera_pose, mounted, self._find)
        self._transforms = Transforms()
        self._lidar_frame = ''  # Of the last scan; before that, of the first.
        if camera_pose == FROM_TF:
            self._lidar_frame = _first_frame(recording, scans)
            self._read(recording, _first_frame(recording, images))

    def placed(self, pair: Pair[Frame], told: Camera | None) -> Camera | None:
        """Return the camera of a pair, of which camera_info told, where it is.

        Raises NoTransform.
        """
        if pair.lidar is not None:
            self._lidar_frame = pair.lidar.frame_id
        if pair.camera is None:
            return told
        frames = pair.camera.frame_id, self._lidar_frame
        return self._mounting.placed(told, *frames, pair.stamp_ns)

    def _read(self, recording: Recording, camera_frame: str) -> None:
        for message in _transforms_of(recording, TF_STATIC):
            self._transforms.take(message)
        try:
            self._transforms.between(camera_frame, self._lidar_frame)
        except NoTransform:
            # Only now, for it has hundreds of messages a second.
            for message in _transforms_of(recording, TF):
                self._transforms.follow(message)

    def _find(self, camera_frame: str, lidar_frame: str, stamp_ns: int) -> NDArray[np.float64]:
        try:
            return self._transforms.between(camera_frame, lidar_frame, stamp_ns)
        except NoTransform as fault:
            raise NoTransform(f'{fault}; give camera_pose in numbers.') from None


def _first_frame(recording: Recording, topic: str | None) -> str:
    """Return the frame_id of a topic's first message, '' without any."""
    first = None if topic is None else recording.first(topic)
    return '' if first is None else cast('Message', first).header.frame_id


def _transforms_of(recording: Recording, topic: str) -> Iterator[TransformsMessage]:
    for recorded in recording.messages([topic]):
        if (message := recording.read(recorded)) is not None:
            yield cast('TransformsMessage', message)
