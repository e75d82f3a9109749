"""Let a scene move smoothly, as a live sensor would see it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.rig import Rig, Task
from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.rotations import rotations_about
from fusion_perception.simulation.scene import (
    ORIGINAL_RIG,
    Scenes,
    SceneSettings,
    sample_scenes,
)

_WAVES = 3
# Slower ones would be due after the last of ROS's stamps, or never.
SLOWEST_HZ, FASTEST_HZ = 0.001, 1000.0


class LiveSettings(Settings):
    """Which scene moves, and how often the two sensors see it."""

    task: Task = Field('shapes', description='Objects of the scene: shapes or cubes')
    seed: int = Field(0, ge=0, le=2**32 - 1, description='Seed of the scene and of its noise')
    camera_hz: float = Field(20.0, ge=SLOWEST_HZ, le=FASTEST_HZ, description='Images per second')
    lidar_hz: float = Field(
        10.0, ge=SLOWEST_HZ, le=FASTEST_HZ, description='Range images per second'
    )


class MovingScene:
    """One scene whose objects wander and turn; seed and time determine everything.

    Each coordinate is a sum of slow sinusoids that stays within the settings' reach, and each
    object turns steadily about an axis of its own.
    """

    def __init__(
        self,
        task: Task = 'shapes',
        seed: int = 0,
        rig: Rig = ORIGINAL_RIG,
    ) -> None:
        self.settings = SceneSettings(task=task)
        generator = torch.Generator().manual_seed(seed)
        self._start = sample_scenes(1, self.settings, generator, rig=rig)
        self._T_lidar_label = rig.T_lidar_label()
        count = len(self._start.kinds)
        waves = (count, 3, _WAVES)
        # Periods of 15 to 60 s: at most 2.1 m/s on an axis for a reach of 5 m, mostly far less.
        self._periods_s = 15 + 45 * torch.rand(waves, generator=generator, dtype=torch.float64)
        self._phases = 2 * math.pi * torch.rand(waves, generator=generator, dtype=torch.float64)
        weights = 0.2 + torch.rand(waves, generator=generator, dtype=torch.float64)
        self._weights = weights / weights.sum(dim=-1, keepdim=True)
        self._axes = torch.nn.functional.normalize(
            torch.randn(count, 3, generator=generator), dim=-1
        )
        self._turn_rates = 0.2 + 0.5 * torch.rand(count, generator=generator, dtype=torch.float64)

    def at(self, time_s: float | Tensor) -> Scenes:
        """Return the scene at a time, or one scene for each of the times (N,), seconds."""
        times = torch.as_tensor(time_s, dtype=torch.float64).reshape(-1)
        angles = 2 * math.pi * times[:, None, None, None] / self._periods_s + self._phases
        in_label_axes = self.settings.reach_m * (self._weights * torch.sin(angles)).sum(dim=-1)
        turned = torch.remainder(times[:, None] * self._turn_rates, 2 * math.pi).float()
        scenes = self._start[torch.zeros(len(times), dtype=torch.long)]
        return replace(
            scenes,
            centers=transform_points(self._T_lidar_label, in_label_axes.float()),
            rotations=rotations_about(self._axes.expand(len(times), -1, 3), turned)
            @ scenes.rotations,
        )
