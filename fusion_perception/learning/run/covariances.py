"""Say how far the training of a bundle has come: to its covariances, at its end, or less far."""

from __future__ import annotations

from pathlib import Path

from fusion_perception.learning.run.folder import way_on
from fusion_perception.models.bundle import CHECKPOINT, Bundle


def are_fitted(bundle: Bundle) -> bool:
    """Say whether the covariances of a bundle were fitted; they are not where it has none.

    What the training began with is on record: a factor that is still that one was not fitted.
    """
    config = bundle.model.config
    now, usual = (
        each.model_dump(mode='json', include=set(config.fitted))
        for each in (config, type(config)())
    )
    settings = bundle.manifest.training.get('settings')
    said = settings.get('architecture') if isinstance(settings, dict) else None
    began = {name: said[name] for name in now if name in said} if isinstance(said, dict) else {}
    return now != {**usual, **began}


def stopped_early(bundle: Bundle) -> list[str]:
    """Return a warning when a bundle's training came to no epoch, or not to its covariances."""
    training = bundle.manifest.training
    run = bundle.path.parent
    here = run if (run / CHECKPOINT).is_file() else Path('RUN')
    go_on = f'Where it was stopped, go on with {way_on(here)}.'
    if training.get('metrics', {}) is None:
        return [
            f'{bundle.path} has the weights as they were when its training was stopped, before '
            f'the end of the first epoch. {go_on}'
        ]
    has_some = bool(bundle.model.config.fitted)
    if not has_some or 'settings' not in training or are_fitted(bundle):
        return []
    return [
        f'The covariances of {bundle.path} are not calibrated: that is done at the end of a '
        f'training, to which this one has not come. {go_on}'
    ]
