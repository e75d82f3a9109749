"""Say whether a bundle's covariances were fitted to errors, as a training does at its end."""

from __future__ import annotations

from shlex import quote

from fusion_perception.learning.run.folder import CHECKPOINT
from fusion_perception.models.bundle import Bundle


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


def not_fitted(bundle: Bundle) -> list[str]:
    """Return a warning when the training of a bundle has not come to fitting covariances."""
    has_some = bool(bundle.model.config.fitted)
    trained = 'settings' in bundle.manifest.training
    if not (has_some and trained) or are_fitted(bundle):
        return []
    run = bundle.path.parent
    here = quote(str(run)) if (run / CHECKPOINT).is_file() else 'RUN'
    return [
        f'The covariances of {bundle.path} are not calibrated: that is done at the end of a '
        'training, to which this one has not come. Where it was stopped, go on with '
        f'`fusion train --out {here} --resume`.'
    ]
