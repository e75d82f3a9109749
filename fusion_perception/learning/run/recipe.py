"""Say how a model is trained; the defaults are the notebook's recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from tyro.conf import Suppress

from fusion_perception.learning.simulate import MOST_SCENES
from fusion_perception.runtime import Device, Precision
from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.noise import NoiseSettings
from fusion_perception.simulation.scene import SceneSettings

# More is a slip, and memory runs out before anybody hears of it.
LARGEST_BATCH = 1_000_000
# What may differ when a run continues: it changes where and how long, not what is learnt.
MAY_CHANGE = frozenset(
    {'data', 'out', 'config', 'resume', 'device', 'devices', 'epochs', 'memory_share'}
)


class Recipe(Settings):
    """How a model learns from a data folder, or from scenes simulated while it trains.

    Defaults: Adam at 1e-4, batches of 32, 20 epochs, mean squared error, no augmentation, and
    the last 320 scenes for validation. What has no flag is set in the YAML of `--config`.
    """

    data: Path | None = Field(None, description='Data folder; may be absent with fresh_scenes')
    config: Path | None = Field(
        None,
        description='YAML with defaults, which flags override; in it also architecture, scene and '
        'noise, which have no flags (docs/training.md)',
    )
    epochs: int = Field(20, ge=1, description='Passes over the data, for each stage of a model')
    batch_size: int = Field(
        32, ge=1, le=LARGEST_BATCH, description='Scenes per step, over all devices together'
    )
    learning_rate: float = Field(1e-4, gt=0, description='Largest step size of the optimiser')
    optimiser: Literal['adam', 'adamw'] = Field('adam', description='Update rule')
    weight_decay: float = Field(0.0, ge=0, description='Pull of the weights towards zero')
    schedule: Literal['constant', 'one_cycle'] = Field(
        'constant', description='Course of the learning rate; one_cycle rises, then falls to zero'
    )
    warm_up: float = Field(
        0.1, gt=0, lt=1, description='Part of all steps in which one_cycle rises'
    )
    clip_norm: float | None = Field(None, gt=0, description='Largest norm of the gradient')
    ema: float | None = Field(
        None, gt=0, lt=1, description='Decay of the running mean of the weights that is kept'
    )
    drop_last: bool = Field(True, description='Leave out the last, smaller batch of an epoch')
    validation: int = Field(
        320, ge=1, description='Scenes at the end of the folder to validate; at most a tenth'
    )
    drop_camera: float = Field(0.0, ge=0, lt=1, description='Chance to hide a sample of its image')
    drop_lidar: float = Field(0.0, ge=0, lt=1, description='Chance to hide a sample of its ranges')
    fresh_scenes: int | None = Field(
        None,
        ge=1,
        le=MOST_SCENES,
        description='Scenes to simulate anew for each epoch instead of reading them',
    )
    plain_scenes: float = Field(
        0.0, ge=0, le=1, description='Part of the fresh scenes that keep the original look'
    )
    hidden_scenes: float = Field(
        0.0, ge=0, le=1, description='Part of the fresh scenes in which an object is nearly hidden'
    )
    failing_scenes: float = Field(
        0.0, ge=0, le=1, description='Part of the fresh scenes in which a sensor fails, for each'
    )
    start_from: str | None = Field(
        None, description='Bundle whose weights the training starts from, a path or a name'
    )
    seed: int = Field(0, ge=0, lt=2**63, description='Start of all random numbers')
    device: Device = 'auto'
    devices: int = Field(1, ge=1, le=256, description='Number of devices to train on')
    memory_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Part of a GPU's memory that the scenes may take; a larger set is streamed",
    )
    precision: Precision = 'float32'
    compile: bool = Field(
        False,
        description='Compile for the GPU: half a minute at the start, quicker epochs',
    )
    architecture: Annotated[dict[str, object], Suppress] = Field(
        {}, description="Settings of the model; empty: the model's own defaults"
    )
    scene: Annotated[SceneSettings, Suppress] = Field(
        SceneSettings(), description='What varies among fresh scenes'
    )
    noise: Annotated[NoiseSettings, Suppress] = Field(
        NoiseSettings(), description='How imperfect the sensors of fresh scenes are'
    )

    @model_validator(mode='after')
    def _is_possible(self) -> Recipe:
        for part in ('plain_scenes', 'hidden_scenes', 'failing_scenes'):
            if self.fresh_scenes is None and getattr(self, part):
                raise ValueError(
                    f'{part} = {getattr(self, part)} is a part of the fresh scenes, and there are '
                    f'none; set fresh_scenes, or leave {part} out'
                )
        if self.drop_camera + self.drop_lidar >= 1:
            raise ValueError('drop_camera + drop_lidar must stay below 1, or nothing is left')
        if self.batch_size % self.devices:
            raise ValueError(
                f'batch_size = {self.batch_size} cannot be shared by {self.devices} devices; '
                'make it a multiple'
            )
        if self.devices > 1 and not self.drop_last:
            raise ValueError('several devices need equal batches; leave drop_last on')
        return self

    def differences(self, before: dict[str, object]) -> list[str]:
        """Return in words what differs from the settings that a run was begun with."""
        now = self.model_dump(mode='json', exclude=set(MAY_CHANGE))
        return [
            f'{key} was {before.get(key)!r} and is now {value!r}'
            for key, value in now.items()
            if key in before
            and before[key] != value
            and not (key == 'start_from' and _is_same_place(before[key], value))
        ]


def _is_same_place(one: object, other: object) -> bool:
    """Say whether two paths, if they are any, lead to one place."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    return from_home(one).resolve() == from_home(other).resolve()
