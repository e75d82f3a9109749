"""Say whether a bundle's covariances were fitted to errors, as a training does at its end."""

from __future__ import annotations

from shlex import quote

from fusion_perception.learning.run.folder import CHECKPOINT
from fusion_perception.models.bundle import Bundle
from fusion_perception.models.dense_fusion import DenseFusionConfig


def are_fitted(bundle: Bundle) -> bool:
    """Say whether the covariances of a bundle were fitted; they are not where it has none.

    What the training began with is on record: a factor that is still that one was not fitted.
    """
    config = bundle.model.config
    if not isinstance(config, DenseFusionConfig):
        return False
    settings = bundle.manifest.training.get('settings')
    architecture = settings.get('architecture') if isinstance(settings, dict) else None
    began = architecture.get('covariance_scale') if isinstance(architecture, dict) else None
    default = DenseFusionConfig.model_fields['covariance_scale'].default
    return config.covariance_scale != (tuple(began) if isinstance(began, list) else default)


def not_fitted(bundle: Bundle) -> list[str]:
    """Return a warning when the training of a bundle has not come to fitting covariances."""
    has_some = isinstance(bundle.model.config, DenseFusionConfig)
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
