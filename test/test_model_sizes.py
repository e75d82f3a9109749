"""A model that no memory holds is refused in a sentence, before or while it is built."""

import pytest
from small_bundles import CONFIGS

from fusion_perception.models import build


@pytest.mark.parametrize(
    ('name', 'key', 'value'),
    [
        ('dense_fusion', 'lidar_widths', (10**9,)),
        ('dense_fusion', 'objects', 2**63),
        ('early_fusion', 'hidden', (10**30,)),
        ('early_fusion', 'size', 10**9),
        ('late_fusion', 'head', 10**12),
    ],
)
def test_a_model_of_absurd_size_is_refused_with_the_bound(name, key, value):
    with pytest.raises(ValueError, match=rf'{name}: {key}.* = .*: input should be'):
        build(name, {**CONFIGS[name], key: value}, 'recipe.yaml')


@pytest.mark.parametrize('name', ['early_fusion', 'late_fusion', 'lidar', 'rgb'])
def test_a_model_that_no_memory_holds_is_refused_in_a_sentence(name):
    # Each within its bounds; all together 64 exabytes of weights.
    sizes = {'channels': (65_536,), 'hidden': (65_536,), 'size': 65_536}
    said = f'{name}: a model of these sizes cannot be made .* smaller ones'
    with pytest.raises(ValueError, match=said):
        build(name, sizes)
