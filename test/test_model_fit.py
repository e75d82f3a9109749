"""A model that does not fit its data is refused before anything is written or trained."""

from pathlib import Path

import pytest
import torch
from training_runs import TINY

from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.model_fit import misplaced, refuse_misfit
from fusion_perception.learning.training import train
from fusion_perception.models import MODELS, build
from fusion_perception.models.bundle import save_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize('model', ['rgb', 'lidar', 'late_fusion', 'early_fusion'])
def test_a_model_for_other_sizes_is_refused_and_leaves_nothing(settings, model):
    run = settings('run', model=model, architecture={**TINY, 'size': 32})
    with pytest.raises(ValueError, match=f'{model} does not fit .*scenes. .* `size: 64`'):
        train(run)
    assert not run.out.exists()


def test_a_model_for_other_objects_is_refused_and_leaves_nothing(settings):
    run = settings('run', architecture={**TINY, 'objects': 2})
    with pytest.raises(ValueError, match=r'has 3 objects .* predicts 2. Write `architecture: {o'):
        train(run)
    assert not run.out.exists()


def test_for_data_of_another_size_than_the_bundle_s_nothing_is_to_be_set(settings, tmp_path):
    start = str(tmp_path / 'small.safetensors')
    small = build('rgb', {**TINY, 'size': 32})
    save_bundle(Path(start), small, 'rgb', Rig(), UniformGrid().lidar(), {})
    run = settings('run', architecture={}, start_from=start)
    with pytest.raises(ValueError, match=f'takes 32x32. So it does in {start}: leave out') as said:
        train(run)
    assert 'Set `size' not in str(said.value)


def test_a_model_is_as_before_when_it_was_held_against_its_data(settings):
    recipe = settings('run', model='dense_fusion', architecture={})
    model = build('dense_fusion')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refuse_misfit('dense_fusion', model, TrainingData(recipe), recipe)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_training_s_scenes_lie_where_the_models_look(settings):
    recipe = settings('run')
    fresh = settings('run', data=None, fresh_scenes=8, validation=100)
    for data in map(TrainingData, (recipe, fresh)):
        for name in MODELS:
            assert misplaced(name, build(name), data.name, data.middle()) == ''


@pytest.mark.parametrize(
    ('model', 'architecture'),
    [('dense_fusion', {'scene_center': [0, 12, 0]}), ('rgb', {**TINY, 'origin': [0, 12, 0]})],
)
def test_objects_that_are_far_from_where_a_model_looks_are_told_with_what_to_set(
    model, architecture
):
    key = 'origin' if model == 'rgb' else 'scene_center'
    net = build(model, architecture)
    assert misplaced(model, net, 'd', (-6.0, 18.0, 6.0)) == ''
    assert misplaced(model, net, 'd', (0.0, 18.1, 0.0)) != ''
    assert misplaced(model, net, 'd', (-0.01, 25.04, 0.26)) == (
        f'The objects of d lie around (0, 25, 0.3) m, and {model} looks around (0, 12, 0). '
        f'Set `{key}: [0, 25, 0.3]` under `architecture`.'
    )


def test_how_far_objects_may_lie_is_a_matter_of_the_spread_that_the_model_expects():
    for sigma, near in ((6.4, False), (6.6, True)):
        model = build('dense_fusion', {'scene_sigma': sigma})
        assert (misplaced('dense_fusion', model, 'd', (0.0, 12.0, 0.0)) == '') == near


def test_of_objects_that_are_not_ahead_the_axes_are_doubted():
    said = misplaced('dense_fusion', build('dense_fusion'), 'd', (0.0, -12.0, 0.0))
    assert said.endswith('see in sensor.yaml that y is forward.')
