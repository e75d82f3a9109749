"""Describe one camera and LiDAR mounted together: what `sensor.yaml` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from fusion_perception.sensing.geometry import Projection, invert_transform
from fusion_perception.sensing.observation import (
    LARGEST_RANGE,
    ORIGINAL_MAX_RANGE,
    Camera,
    Lens,
    MaxRange,
    Pose,
    check_rigid,
)
from fusion_perception.sensing.quoting import quoted
from fusion_perception.sensing.settings import Settings

Task = Literal['shapes', 'cubes']
TASK_CLASSES: dict[Task, tuple[str, ...]] = {
    'shapes': ('cube', 'sphere', 'torus'),
    'cubes': ('cube1', 'cube2', 'cube3'),
}
# Names head the columns of positions.csv.
_NOT_IN_NAMES = frozenset(',"\'')
# The original LiDAR stands at (0, 25, 0) in label axes and looks along their -y.
ORIGINAL_LIDAR_POSE: Pose = (
    (-1.0, 0.0, 0.0, 0.0),
    (0.0, -1.0, 0.0, 25.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)


class Rig(Settings):
    """A sensor rig and the objects it looks for; the defaults are the original data's."""

    classes: tuple[str, ...] = Field(
        TASK_CLASSES['shapes'], min_length=1, description='Object names in label order'
    )
    camera: Camera = Field(Camera(), description='Intrinsics and pose')
    T_label_lidar: Pose = Field(
        ORIGINAL_LIDAR_POSE, description='p_label = T_label_lidar @ p_lidar, metres'
    )
    projection: Projection = Field('spherical', description='How angles become directions')
    max_range: MaxRange = ORIGINAL_MAX_RANGE
    # It serves to check labels, and is no part of what a model was trained for.
    object_size_m: float = Field(
        3.0,
        gt=0,
        le=LARGEST_RANGE,
        exclude=True,
        description='Longest edge of the objects, metres',
    )

    @field_validator('T_label_lidar')
    @classmethod
    def _is_rigid(cls, pose: Pose) -> Pose:
        return check_rigid(pose)

    @field_validator('classes')
    @classmethod
    def _are_distinct_names(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for name in classes:
            plain = name.isprintable() and name == name.strip() and not set(name) & _NOT_IN_NAMES
            if not (name and plain):
                raise ValueError(
                    f'holds {quoted(name)}; give names without commas, quotes, blanks around them '
                    'and control characters'
                )
        if len(set(classes)) != len(classes):
            raise ValueError('holds a name twice; every object needs its own')
        return classes

    def T_lidar_label(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (4, 4) transform that moves labels into the LiDAR frame.

        Labels on a map need float64: float32 knows its coordinates to half a metre.
        """
        return invert_transform(torch.tensor(self.T_label_lidar, dtype=dtype))

    def told_from(self, T_lidar_other: NDArray[np.float64]) -> Rig:
        """Return the same rig in another frame of its LiDAR: p_lidar = T_lidar_other @ p_other.

        The transform is (4, 4), metres, in the package's axes.
        """
        camera = np.array(self.camera.T_camera_lidar) @ T_lidar_other
        label = np.array(self.T_label_lidar) @ T_lidar_other
        moved = self.camera.placed(camera)
        return self.model_copy(update={'camera': moved, 'T_label_lidar': _as_pose(label)})

    def through_a_pinhole(self) -> Rig:
        """Return this rig with a camera that has no lens: what is rendered is seen so."""
        camera = self.camera.model_copy(update={'lens': Lens()})
        return self.model_copy(update={'camera': camera})

    def write_yaml(self, path: Path) -> None:
        """Write this rig as `sensor.yaml`."""
        values = self.model_dump(mode='json')
        if self.object_size_m != Rig.model_fields['object_size_m'].default:
            values['object_size_m'] = self.object_size_m
        path.write_text(yaml.safe_dump(values, sort_keys=False))


def _as_pose(matrix: NDArray[np.float64]) -> Pose:
    first, second, third, last = (tuple(map(float, row)) for row in matrix)
    return cast('Pose', (first, second, third, last))
