"""Hold a model against the data it is to learn from, before anything is written or trained."""

from __future__ import annotations

import torch

from fusion_perception.learning.batches import TrainingData
from fusion_perception.learning.recipe import Recipe
from fusion_perception.models import FusionModel
from fusion_perception.models.dense_fusion import DenseFusionConfig
from fusion_perception.sensing.rig import Rig


def refuse_misfit(name: str, model: FusionModel, data: TrainingData, recipe: Recipe) -> None:
    """Raise ValueError when a model cannot learn from data: for objects, camera, or sizes.

    `name` is that in MODELS. The model and the data are on one device; the model stays as it is.
    """
    refuse_other_number_of_objects(model, data.rig, recipe)
    refuse_a_scene_behind_the_camera(model, data.rig)
    learning = model.training
    # No running mean of a normalisation moves: the first step comes later.
    model.eval()
    with torch.no_grad():  # Not inference_mode: the data keeps its matrices, and learns with them.
        try:
            model(data.observe(data.one_scene()))
        except ValueError as fault:
            raise ValueError(f'{data.name} does not fit {name}. {fault}') from None
    model.train(learning)


def refuse_other_number_of_objects(model: FusionModel, rig: Rig, recipe: Recipe) -> None:
    """Raise ValueError when a model predicts more or fewer objects than the data has."""
    objects = len(rig.classes)
    if objects == model.config.objects:
        return
    raise ValueError(
        f'The data has {objects} objects ({", ".join(rig.classes)}), but the model predicts '
        f'{model.config.objects}. '
        + (
            f'Write `architecture: {{objects: {objects}}}` into a YAML file and give it as '
            '--config.'
            if recipe.start_from is None
            else f'So does {recipe.start_from}: leave out start_from, or give a bundle for '
            f'{objects} objects.'
        )
    )


def refuse_a_scene_behind_the_camera(model: FusionModel, rig: Rig) -> None:
    """Raise ValueError when a model's camera would look for objects where it does not look."""
    if not isinstance(model.config, DenseFusionConfig):
        return
    center = model.config.scene_center
    T_camera_lidar = torch.tensor(rig.camera.T_camera_lidar)
    depth = float(T_camera_lidar[2] @ torch.tensor((*center, 1.0)))
    if depth <= 0:
        raise ValueError(
            f'scene_center = {list(center)} lies {-depth:.3g} m behind the camera, by its '
            f'T_camera_lidar = {[list(row) for row in rig.camera.T_camera_lidar]}. Set '
            'scene_center to where the objects are, or correct T_camera_lidar in sensor.yaml.'
        )
