"""Say how a recording is read: topics, units, pairing and truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field

from fusion_perception.learning.bags.topics import TopicSettings
from fusion_perception.sensing.camera_info import CAMERA_MATRIX, CameraMatrix
from fusion_perception.sensing.cloud import POINTS_OUTSIDE_MAX, PointsOutsideMax
from fusion_perception.sensing.decode import (
    INVALID_VALUES,
    RANGE_SCALE,
    Decoder,
    ImageMessage,
    InvalidValues,
    RangeScale,
)
from fusion_perception.sensing.ledger import Stream, StreamCounts
from fusion_perception.sensing.mounting import CAMERA_POSE, CameraPose
from fusion_perception.sensing.pairing import PairingSettings


def _no_cv_bridge(message: ImageMessage) -> NDArray[np.generic]:
    """Refuse what the robot leaves to cv_bridge: here no ROS package is at hand."""
    raise ValueError('recordings are read without cv_bridge')


class RecordingSettings(TopicSettings):
    """How the messages of a recording are read and paired."""

    pairing: Annotated[PairingSettings, tyro.conf.arg(name='')] = Field(
        PairingSettings(), description='What belongs together'
    )
    range_scale: RangeScale = RANGE_SCALE
    invalid_values: InvalidValues = INVALID_VALUES
    points_outside_max: PointsOutsideMax = POINTS_OUTSIDE_MAX
    camera_matrix: CameraMatrix = CAMERA_MATRIX

    def decoder(self) -> Decoder:
        """Return what decodes the images."""
        return Decoder(self.range_scale, self.invalid_values, _no_cv_bridge, _no_cv_bridge)


class BagSettings(RecordingSettings):
    """How a recording is read, and what is held against it as the truth."""

    camera_pose: CameraPose = CAMERA_POSE
    truth_slop: float = Field(
        0.005, ge=0, le=10, description='Largest distance of the truth from a stamp, seconds'
    )
    same_frames: bool = Field(
        False, description="Take the truth's frame for the LiDAR's, whatever their names"
    )


def no_pair(
    path: Path,
    settings: RecordingSettings,
    streams: Mapping[Stream, StreamCounts],
    bundle: Path | None = None,
) -> str:
    """Say that no pair came of a recording, what became of its messages, and how to ask why.

    `bundle` is the one that predicted, None where none did.

    `fusion doctor --bag` asks for no transforms and infers nothing; whoever lacked a transform has
    said which.
    """
    lost = ', '.join(
        f'{count:,} of {counts["received"]:,} {stream} messages {cause}'
        for stream, counts in streams.items()
        for cause, count in counts['dropped'].items()
        if count
    )
    if any(counts['dropped']['no_transform'] for counts in streams.values()):
        return f'No pair is left of which it is known where the camera was ({lost}).'
    if bundle is not None and any(c['dropped']['inference_error'] for c in streams.values()):
        command = f'fusion doctor --bundle {quote(str(bundle))}'
        return f'No pair is left on which inference did not fail ({lost}). Ask why: {command}'
    command = ' '.join(
        ('fusion doctor --bag', quote(str(path)), *flags_of(settings, RecordingSettings()))
    )
    return f'No image and range image form a pair ({lost or "no messages"}). Ask why: {command}'


def flags_of(settings: RecordingSettings, usual: RecordingSettings) -> Iterator[str]:
    """Yield the flags by which settings differ from the usual ones, in what these know."""
    for given, default in ((settings, usual), (settings.pairing, usual.pairing)):
        for name in type(default).model_fields:
            value = getattr(given, name)
            if value == getattr(default, name) or isinstance(value, PairingSettings):
                continue
            flag = name.replace('_', '-')
            if isinstance(value, bool):
                yield f'--{flag}' if value else f'--no-{flag}'
            else:
                values = value if isinstance(value, tuple) else (value,)
                yield ' '.join((f'--{flag}', *(quote(str(each)) for each in values)))
