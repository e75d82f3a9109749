"""Let a training start from a bundle: from its architecture, its weights and its normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models import FusionModel
from fusion_perception.models.bundle import Bundle, load_bundle
from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.settings import load_yaml_mapping


def load_start(recipe: Recipe, model: str) -> Bundle:
    """Return the bundle that a recipe for a model starts from.

    Raises FileNotFoundError when there is none, naming who asked for it, and ValueError when it
    is another model's or cannot be loaded.
    """
    assert recipe.start_from is not None
    try:
        bundle = load_bundle(recipe.start_from)
    except FileNotFoundError as missing:
        told = {} if recipe.config is None else load_yaml_mapping(recipe.config)
        in_file = told.get('start_from') == recipe.start_from
        asked = f'start_from in {recipe.config}' if in_file else '--start-from'
        if from_home(recipe.start_from).is_dir():
            raise FileNotFoundError(f'{asked}: {missing}') from None
        raise FileNotFoundError(
            f'{asked}: no bundle at {recipe.start_from} (looked in {Path.cwd()}). Give the path '
            'of a bundle, or the name of one that ships.'
        ) from None
    if bundle.manifest.model != model:
        raise _misfit(bundle, model, recipe.architecture)
    return bundle


def handed_on(bundle: Bundle) -> dict[str, object]:
    """Return what the architecture of a bundle's model has other than the defaults.

    That is what a training inherits that starts from it. What was fitted after its training is
    left out: it belongs to its own weights.
    """
    config = bundle.model.config
    return config.model_dump(mode='json', exclude_defaults=True, exclude=set(config.fitted))


def take_weights(model: FusionModel, bundle: Bundle, said: Mapping[str, object]) -> None:
    """Give a model the weights of a bundle of its kind, and its normalisation.

    `said` is the architecture that the recipe asks for. Raises ValueError when the weights do not
    fit it.
    """
    given = dict(bundle.model.named_parameters())
    wanted = dict(model.named_parameters())
    shapes = {name: value.shape for name, value in wanted.items()}
    if shapes != {name: value.shape for name, value in given.items()}:
        raise _misfit(bundle, bundle.manifest.model, said)
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(given[name])
    # The weights are for inputs as they were normalised; a short training would not measure anew
    # what all batches look like.
    for ours, theirs in zip(model.modules(), bundle.model.modules(), strict=True):
        if isinstance(ours, nn.BatchNorm2d):
            ours.load_state_dict(theirs.state_dict())


def contradiction(model: FusionModel, bundle: Bundle) -> str:
    """Say in a sentence in what a model's architecture is not that of the bundle it starts from.

    Nothing where they are the same.
    """
    ours, theirs = (m.config.model_dump(mode='json') for m in (model, bundle.model))
    differing = [
        f'{key} is {value!r} here and {theirs[key]!r} there'
        for key, value in ours.items()
        if value != theirs[key] and key not in model.config.fitted
    ]
    if not differing:
        return ''
    return (
        f'`architecture` is not that of {bundle.path}, from whose weights this training starts: '
        f'{"; ".join(differing)}. What is said here counts.'
    )


def _misfit(bundle: Bundle, model: str, said: Mapping[str, object]) -> ValueError:
    return ValueError(
        f'The weights of {bundle.path} are those of {bundle.manifest.model} with '
        f'{bundle.manifest.config}, not of {model} with {dict(said) or "its defaults"}. '
        'Train the same model, with the same `architecture`.'
    )
