"""The models, by the name a user gives: `build('late_fusion')`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fusion_perception.models.base import Estimate, FusionModel, ModelConfig, Stage
from fusion_perception.models.dense_fusion import DenseFusion, DenseFusionConfig
from fusion_perception.models.early_fusion import EarlyFusion, EarlyFusionConfig
from fusion_perception.models.late_fusion import LateFusion, LateFusionConfig
from fusion_perception.models.lidar import LidarConfig, LidarOnly
from fusion_perception.models.rgb import Rgb, RgbConfig
from fusion_perception.sensing.settings import closest

__all__ = ['MODELS', 'Estimate', 'FusionModel', 'ModelConfig', 'Stage', 'build']


class Entry(NamedTuple):
    """A model and the settings it is built from."""

    model: type[FusionModel]
    config: type[ModelConfig]


MODELS: dict[str, Entry] = {
    'rgb': Entry(Rgb, RgbConfig),
    'lidar': Entry(LidarOnly, LidarConfig),
    'late_fusion': Entry(LateFusion, LateFusionConfig),
    'early_fusion': Entry(EarlyFusion, EarlyFusionConfig),
    'dense_fusion': Entry(DenseFusion, DenseFusionConfig),
}


def build(name: str, config: Mapping[str, object] | None = None) -> FusionModel:
    """Build a model by name; without a config the first four are exactly the notebook's.

    Raises ValueError for an unknown name or a config key the model does not have.
    """
    entry = MODELS.get(name)
    if entry is None:
        raise ValueError(f"There is no model '{name}'. {closest(name, list(MODELS))}")
    return entry.model(entry.config.read(config or {}))
