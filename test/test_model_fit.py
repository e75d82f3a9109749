"""A model that does not fit its data is refused before anything is written or trained."""

import pytest
import torch
from training_runs import TINY

from fusion_perception.learning.batches import TrainingData
from fusion_perception.learning.model_fit import refuse_misfit
from fusion_perception.learning.training import train
from fusion_perception.models import build

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize('model', ['rgb', 'lidar', 'late_fusion', 'early_fusion'])
def test_a_model_for_other_sizes_is_refused_and_leaves_nothing(settings, model):
    run = settings('run', model=model, architecture={**TINY, 'size': 32})
    with pytest.raises(ValueError, match=f'scenes does not fit {model}. .* `size: 64`'):
        train(run)
    assert not run.out.exists()


def test_a_model_for_other_objects_is_refused_and_leaves_nothing(settings):
    run = settings('run', architecture={**TINY, 'objects': 2})
    with pytest.raises(ValueError, match=r'has 3 objects .* predicts 2. Write `architecture: {o'):
        train(run)
    assert not run.out.exists()


def test_a_model_is_as_before_when_it_was_held_against_its_data(settings):
    recipe = settings('run', model='dense_fusion', architecture={})
    model = build('dense_fusion')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refuse_misfit('dense_fusion', model, TrainingData(recipe), recipe)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
