"""Draw random scenes: which objects stand where, how they are turned, coloured and lit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.observation import LARGEST_RANGE
from fusion_perception.sensing.rig import TASK_CLASSES, Rig, Task
from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.rotations import random_rotations, rotations_about
from fusion_perception.simulation.spans import Draw, FractionSpan, Span

Kind = Literal['cube', 'sphere', 'torus']
TASK_KINDS: dict[Task, tuple[Kind, ...]] = {
    'shapes': ('cube', 'sphere', 'torus'),
    'cubes': ('cube', 'cube', 'cube'),
}
ORIGINAL_RIG = Rig()
# Distinct pure colours, in class order; the cubes of the original data are the first three.
PURE_COLOURS = (
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0),
)


class SceneSettings(Settings):
    """What may vary from scene to scene; the defaults are the original data's look."""

    task: Task = Field('shapes', description='Family: shapes or cubes')
    kinds: tuple[Kind, ...] | None = Field(
        None, min_length=1, description="The objects in class order; none means the task's"
    )
    reach_m: float = Field(
        5.0,
        gt=0,
        le=LARGEST_RANGE,
        description='Centres lie within plus and minus this on each label axis',
    )
    size_jitter: float = Field(
        0.0, ge=0, lt=1, description='Sizes vary by up to this fraction, each object on its own'
    )
    to_light: tuple[float, float, float] = Field(
        (-5.0, -6.0, 6.0),
        description="Direction from the scene towards the light, the original LiDAR's axes, any "
        'length',
    )
    light_jitter_deg: float = Field(
        0.0, ge=0, le=180, description='The light turns away from to_light by up to this angle'
    )
    light_intensity: Span = Field(
        (1.0, 1.0), description='Smallest and largest brightness of a face turned to the light'
    )
    ambient: Span = Field((0.0, 0.0), description='Smallest and largest light on unlit faces')
    albedo: FractionSpan = Field(
        (0.2, 1.0), description='Smallest and largest red, green, blue of random colours'
    )
    colour_jitter: float = Field(
        0.0, ge=0, le=1, description='Pure colours vary by up to this much in each channel'
    )
    camera_shift_m: float = Field(
        0.0,
        ge=0,
        le=LARGEST_RANGE,
        description='True camera position errs from the rig by up to this per axis',
    )
    camera_turn_deg: float = Field(
        0.0, ge=0, le=180, description='True camera attitude errs from the rig by up to this angle'
    )

    @field_validator('to_light')
    @classmethod
    def _points_somewhere(cls, to_light: tuple[float, float, float]) -> tuple[float, ...]:
        if not any(to_light):
            raise ValueError('has no direction; give a vector that is not zero')
        return to_light

    @classmethod
    def robust(cls, task: Task = 'shapes') -> SceneSettings:
        """Return settings that vary everything a real or foreign sensor may vary."""
        return cls(
            task=task,
            size_jitter=0.1,
            light_jitter_deg=35.0,
            light_intensity=(0.7, 1.2),
            ambient=(0.0, 0.25),
            albedo=(0.15, 1.0),
            colour_jitter=0.1,
            camera_shift_m=0.03,
            camera_turn_deg=0.3,
        )

    def object_kinds(self) -> tuple[Kind, ...]:
        """Return the kind of each object, in class order."""
        return self.kinds if self.kinds is not None else TASK_KINDS[self.task]

    def class_names(self) -> tuple[str, ...]:
        """Return the name of each object: the task's, or its kind, numbered where it recurs."""
        if self.kinds is None:
            return TASK_CLASSES[self.task]
        names = []
        for index, kind in enumerate(self.kinds):
            number = self.kinds[: index + 1].count(kind)
            names.append(kind if self.kinds.count(kind) == 1 else f'{kind}{number}')
        return tuple(names)


@dataclass(frozen=True)
class Scenes:
    """N scenes of K objects each, in the LiDAR frame, metres.

    `kinds` names the K objects. centers (N, K, 3); rotations (N, K, 3, 3), LiDAR frame from
    object frame; scales (N, K), 1 is the original size; colours (N, K, 3) in [0, 1];
    to_light (N, 3) unit vectors; light_intensity (N,); ambient (N,); camera_error (N, 4, 4):
    p_true_camera = camera_error @ p_claimed_camera.
    """

    kinds: tuple[Kind, ...]
    centers: Tensor
    rotations: Tensor
    scales: Tensor
    colours: Tensor
    to_light: Tensor
    light_intensity: Tensor
    ambient: Tensor
    camera_error: Tensor

    def __len__(self) -> int:
        return int(self.centers.shape[0])

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        return replace(self, **{name: getattr(self, name)[index] for name in _TENSORS})

    def to(self, device: torch.device | str) -> Scenes:
        """Return these scenes on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    @classmethod
    def joined(cls, parts: Sequence[Scenes]) -> Scenes:
        """Return the scenes of several draws of the same kinds, one after the other."""
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return cls(parts[0].kinds, **tensors)


_TENSORS = tuple(field.name for field in fields(Scenes) if field.name != 'kinds')


def sample_scenes(
    count: int,
    settings: SceneSettings,
    generator: torch.Generator,
    device: torch.device | str = 'cpu',
    rig: Rig = ORIGINAL_RIG,
) -> Scenes:
    """Draw `count` independent scenes.

    Centres are uniform in the label cube and moved into the LiDAR frame; rotations are uniform
    over SO(3). Numbers are drawn where the generator lives and then moved, so one seed gives
    the same scenes on every device.
    """
    kinds = settings.object_kinds()
    draw = Draw(generator)
    in_label_axes = settings.reach_m * draw.signed(count, len(kinds), 3)
    T_lidar_label = rig.T_lidar_label()
    centers = transform_points(T_lidar_label.to(draw.device), in_label_axes)
    # The light stands still in label axes, however the LiDAR's frame lies in them.
    T_lidar_original = T_lidar_label @ torch.tensor(ORIGINAL_RIG.T_label_lidar)
    turn = T_lidar_original[:3, :3].T.to(draw.device)
    return Scenes(
        kinds=kinds,
        centers=centers,
        rotations=random_rotations(draw, count, len(kinds)),
        scales=1 + settings.size_jitter * draw.signed(count, len(kinds)),
        colours=_colours(settings, draw, count),
        to_light=_light_directions(settings, draw, count) @ turn,
        light_intensity=draw.within(settings.light_intensity, count),
        ambient=draw.within(settings.ambient, count),
        camera_error=_camera_errors(settings, draw, count),
    ).to(device)


def _colours(settings: SceneSettings, draw: Draw, count: int) -> Tensor:
    kinds = settings.object_kinds()
    if settings.task == 'shapes':
        return draw.within(settings.albedo, count, len(kinds), 3)
    pure = torch.tensor(
        [PURE_COLOURS[index % len(PURE_COLOURS)] for index in range(len(kinds))],
        device=draw.device,
    )
    jitter = settings.colour_jitter * draw.signed(count, len(kinds), 3)
    return (pure + jitter).clamp(0, 1)


def _light_directions(settings: SceneSettings, draw: Draw, count: int) -> Tensor:
    # Of any length: in float32 a long one would overflow, and a short one vanish.
    # A power of two changes no bit of what it becomes.
    _, exponent = math.frexp(max(map(abs, settings.to_light)))
    scaled = [math.ldexp(one, -exponent) for one in settings.to_light]
    towards = torch.tensor(scaled, device=draw.device)
    turns = _small_turns(settings.light_jitter_deg, draw, count)
    return turns @ torch.nn.functional.normalize(towards, dim=0)


def _camera_errors(settings: SceneSettings, draw: Draw, count: int) -> Tensor:
    errors = torch.eye(4, device=draw.device).repeat(count, 1, 1)
    errors[:, :3, :3] = _small_turns(settings.camera_turn_deg, draw, count)
    errors[:, :3, 3] = settings.camera_shift_m * draw.signed(count, 3)
    return errors


def _small_turns(largest_deg: float, draw: Draw, count: int) -> Tensor:
    axes = torch.nn.functional.normalize(draw.normal(count, 3), dim=-1)
    return rotations_about(axes, math.radians(largest_deg) * draw.within((0.0, 1.0), count))
