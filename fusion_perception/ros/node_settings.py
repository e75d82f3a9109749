"""Define the fusion node's parameters: each default, range and description exists here, once.

`make parameters` brings config/fusion.yaml and docs/parameters.md up to date.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fusion_perception.ros.diagnostics import Thresholds
from fusion_perception.ros.parameter_files import as_yaml
from fusion_perception.runtime import Device, EngineChoice, Precision
from fusion_perception.sensing.camera_info import CAMERA_MATRIX, CameraMatrix
from fusion_perception.sensing.cloud import POINTS_OUTSIDE_MAX, PointsOutsideMax
from fusion_perception.sensing.decode import (
    INVALID_VALUES,
    RANGE_SCALE,
    InvalidValues,
    RangeScale,
)
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX, DisagreementMax
from fusion_perception.sensing.mounting import CAMERA_POSE, CameraPose
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.settings import Settings

ImageType = Literal['raw', 'compressed']
LidarType = Literal['range_image', 'points']
Threads = Annotated[int, Field(ge=1, le=256)]


def _without_slash(name: str) -> str:
    if name.startswith('/'):
        raise ValueError(
            f"tf2 refuses names that begin with a slash; give '{name.lstrip('/') or 'lidar'}'"
        )
    return name


def _given(name: str) -> str:
    if not name:
        raise ValueError("output without a frame cannot be placed; give a name, as 'lidar'")
    return name


# Not a pattern: the refusal would say nothing but the pattern.
FrameId = Annotated[str, AfterValidator(_without_slash)]


class NodeSettings(Settings):
    """What an operator can set."""

    bundle: str = Field('shapes', description='A bundle file, or the name of one that ships')
    device: Device = 'auto'
    precision: Precision = 'float32'
    engine: EngineChoice = 'auto'
    threads: Threads = Field(
        1, description='CPU threads of one inference; `fusion profile --threads 1 2` compares'
    )
    autostart: bool = Field(
        True, description='Configure and activate at the start; false waits for the services'
    )
    image_type: ImageType = Field(
        'raw',
        description='How the camera comes: Image on image, or CompressedImage (JPEG, PNG) '
        'on image/compressed',
    )
    lidar_type: LidarType = Field(
        'range_image',
        description='How the LiDAR comes: Image on range_image, or PointCloud2 on points',
    )
    range_scale: RangeScale = RANGE_SCALE
    invalid_values: InvalidValues = INVALID_VALUES
    points_outside_max: PointsOutsideMax = POINTS_OUTSIDE_MAX
    disagreement_max: DisagreementMax = DISAGREEMENT_MAX
    camera_matrix: CameraMatrix = CAMERA_MATRIX
    camera_pose: CameraPose = CAMERA_POSE
    max_age_s: float = Field(
        0.0, ge=0, le=60, description='Drop what is older than this when its turn comes; 0 = never'
    )
    lidar_frame: Annotated[FrameId, AfterValidator(_given)] = Field(
        'lidar', description='frame_id of the output while no LiDAR message has named one'
    )
    target_frame: FrameId = Field(
        '', description="Frame of the output, through tf2; empty: the LiDAR message's own"
    )
    marker_lifetime_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description='Markers vanish this long after the last output (of slow sensors two periods '
        'at least); 0 = never',
    )
    pairing: PairingSettings = Field(PairingSettings(), description='What belongs together')
    diagnostics: Thresholds = Field(Thresholds(), description='Where the verdict turns')


# What may change while the node runs; the rest is read when it is configured.
LIVE = frozenset(
    {
        'max_age_s',
        'range_scale',
        'invalid_values',
        'points_outside_max',
        'disagreement_max',
        'lidar_frame',
        'marker_lifetime_s',
        *(f'pairing.{name}' for name in PairingSettings.model_fields),
        *(f'diagnostics.{name}' for name in Thresholds.model_fields),
    }
)
READ_ONLY = frozenset({'autostart'})

if __name__ == '__main__':
    sys.stdout.write(as_yaml(NodeSettings))
