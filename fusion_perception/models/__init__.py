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
from fusion_perception.sensing.quoting import reason
from fusion_perception.sensing.settings import closest, nearest

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


def build(name: str, config: Mapping[str, object] | None = None, source: str = '') -> FusionModel:
    """Build a model by name; without a config the first four are exactly the notebook's.

    `source` is the file that has the config as its `architecture`.
    Raises ValueError for an unknown name, a config key the model does not have, or sizes with
    which it cannot be made.
    """
    entry = MODELS.get(name)
    if entry is None:
        raise ValueError(f"There is no model '{name}'. {closest(name, list(MODELS))}")
    config = config or {}
    if source:
        source = f'{source}: architecture of {name}'
        if unknown := _unknown(config, entry.config):
            known = ', '.join(sorted(entry.config.model_fields))
            raise ValueError(f'{source} has no {" It has no ".join(unknown)} Known: {known}.')
    settings = entry.config.read(config, source or None)
    try:
        return entry.model(settings)
    except RuntimeError as fault:  # There is not so much memory, mostly.
        raise ValueError(
            f'{source or name}: a model of these sizes cannot be made ({reason(fault)}). Give '
            'smaller ones.'
        ) from None


def _unknown(config: Mapping[str, object], kind: type[ModelConfig]) -> list[str]:
    """Return each key that a model does not have, with the one meant or the models that do."""
    found = []
    for key in config:
        if key in kind.model_fields:
            continue
        owners = [name for name, entry in MODELS.items() if key in entry.config.model_fields]
        near = nearest(key, list(kind.model_fields), 0.5)
        if owners:
            found.append(f"'{key}'; it belongs to {', '.join(owners)}.")
        else:
            found.append(f"'{key}'." + (f" Did you mean '{near}'?" if near else ''))
    return found
