"""Hold a model against the data it is to learn from, before anything is written or trained."""

from __future__ import annotations

import torch

from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models import FusionModel
from fusion_perception.models.convnet import ConvNetConfig
from fusion_perception.models.dense_fusion import DenseFusionConfig
from fusion_perception.sensing.counted import counted
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
            why = str(fault)
            if recipe.start_from is not None:  # Sizes of layers cannot be set otherwise.
                why = (
                    f'{why.partition(". ")[0]}. So it does in {recipe.start_from}: leave out '
                    'start_from, or give a bundle for such data.'
                )
            raise ValueError(f'{name} does not fit {data.name}. {why}') from None
    model.train(learning)


def refuse_other_number_of_objects(model: FusionModel, rig: Rig, recipe: Recipe) -> None:
    """Raise ValueError when a model predicts more or fewer objects than the data has."""
    objects = len(rig.classes)
    if objects == model.config.objects:
        return
    raise ValueError(
        f'The data has {counted(objects, "object")} ({", ".join(rig.classes)}), but the model '
        f'predicts {model.config.objects}. '
        + (
            f'Write `architecture: {{objects: {objects}}}` into a YAML file and give it as '
            '--config.'
            if recipe.start_from is None
            else f'So does {recipe.start_from}: leave out start_from, or give a bundle for '
            f'{counted(objects, "object")}.'
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


def misplaced(name: str, model: FusionModel, data: str, middle: tuple[float, float, float]) -> str:
    """Say in a sentence when a model looks far from where the objects are; nothing otherwise.

    `data` is what they are of, `middle` the mean of their centres, LiDAR frame, metres.
    Far is more than two standard deviations of the places where the model expects objects, in any
    axis: 2 scene_sigma. The notebook's networks, which do not state any, learn labels that are
    spread about `origin` as those of the original data, whose spread is the default of that.
    """
    if isinstance(model.config, DenseFusionConfig):
        key, expected, sigma = 'scene_center', model.config.scene_center, model.config.scene_sigma
    elif isinstance(model.config, ConvNetConfig):
        key, expected, sigma = 'origin', model.config.origin, DenseFusionConfig().scene_sigma
    else:
        return ''
    if max(abs(there - here) for there, here in zip(middle, expected, strict=True)) <= 2 * sigma:
        return ''
    # To decimetres, and no -0.
    place = ', '.join(f'{round(value, 1) + 0.0:g}' for value in middle)
    looks = ', '.join(f'{value:g}' for value in expected)
    if key == 'scene_center' and middle[1] < 0.05:
        remedy = 'It finds objects ahead alone: see in sensor.yaml that y is forward.'
    else:
        remedy = f'Set `{key}: [{place}]` under `architecture`.'
    return (
        f'The objects of {data} lie around ({place}) m, and {name} looks around ({looks}). '
        f'{remedy}'
    )
