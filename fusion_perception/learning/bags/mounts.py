"""Say where the camera of a recording is, if need be by its /tf_static."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.intake import Frame, Message
from fusion_perception.sensing.mounting import FROM_TF, Mounting
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import Pair
from fusion_perception.sensing.recording import Recording
from fusion_perception.sensing.transforms import (
    TF_STATIC,
    NoTransform,
    StaticTransforms,
    TransformsMessage,
)


class BagMounting:
    """Where the camera of a recording is, by the setting `camera_pose`.

    `scans` is the topic of the LiDAR, `mounted` the camera where no camera_info tells another.
    Raises ValueError where /tf_static is to tell, and one of its rotations is none.
    """

    def __init__(
        self, recording: Recording, scans: str | None, camera_pose: str, mounted: Camera
    ) -> None:
        self._mounting = Mounting(camera_pose, mounted, self._find)
        self._transforms = StaticTransforms()
        self._lidar_frame = ''  # Of the last scan; before that, of the first.
        if camera_pose == FROM_TF:
            self._read(recording, scans)

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

    def _read(self, recording: Recording, scans: str | None) -> None:
        for recorded in recording.messages([TF_STATIC]):
            if (message := recording.read(recorded)) is not None:
                try:
                    self._transforms.take(cast('TransformsMessage', message))
                except ValueError as fault:
                    raise ValueError(f'{recording.path}: on {TF_STATIC} {fault}.') from None
        if scans is not None and (scan := recording.first(scans)) is not None:
            self._lidar_frame = cast('Message', scan).header.frame_id

    def _find(self, camera_frame: str, lidar_frame: str, _: int) -> NDArray[np.float64]:
        try:
            return self._transforms.between(camera_frame, lidar_frame)
        except NoTransform as fault:
            raise NoTransform(f'{fault}; give camera_pose in numbers.') from None
