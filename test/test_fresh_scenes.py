"""What is simulated for each epoch of a training, and what of it fails."""

import pytest
import torch

from fusion_perception.learning.batches import TrainingData
from fusion_perception.learning.training import train
from fusion_perception.models.bundle import load_bundle

pytestmark = pytest.mark.usefixtures('one_thread')


def test_fresh_scenes_need_no_folder_and_differ_from_epoch_to_epoch(settings):
    recipe = settings('run', data=None, fresh_scenes=8, validation=4, epochs=1)
    data = TrainingData(recipe)
    first, second, again = (
        raw.centers for epoch in (0, 1, 0) for raw in data.training('rgb', epoch)
    )
    assert torch.equal(first, again) and not torch.equal(first, second)
    train(recipe)
    assert (recipe.out / 'bundle.safetensors').is_file()


def test_asked_for_scenes_with_hidden_objects_come_more_often(settings):
    def least_points(part):
        recipe = settings(
            'run', data=None, fresh_scenes=64, batch_size=64, validation=4, hidden_scenes=part
        )
        data = TrainingData(recipe)
        [raw] = data.training('rgb', 0)
        observation = data.observe(raw)
        points = observation.xyza[:, :3].flatten(2).transpose(1, 2)
        near = torch.cdist(points, raw.centers) < 2.0
        return (near & (observation.xyza[:, 3].flatten(1) > 0)[..., None]).sum(1).amin(1)

    few = [int((least_points(part) < 20).sum()) for part in (0.0, 1.0)]
    assert few[1] > 2 * few[0]


def test_asked_for_sensors_fail_in_that_part_of_the_scenes(settings):
    def blind_and_dazzled(part):
        recipe = settings(
            'run', data=None, fresh_scenes=64, batch_size=64, validation=4, failing_scenes=part
        )
        data = TrainingData(recipe)
        [observation] = map(data.observe, data.training('x', 0))
        returns = observation.xyza[:, 3].sum((1, 2))
        bright = observation.rgba[:, :3].amax((1, 2, 3))
        return int((returns < 100).sum()), int((bright < 0.1).sum())

    assert blind_and_dazzled(0.0) == (0, 0)
    blind, dazzled = blind_and_dazzled(1.0)
    assert 10 < blind < 54 and 5 < dazzled < 54


def test_scenes_to_validate_do_not_fail(settings):
    fresh = {'data': None, 'fresh_scenes': 32, 'validation': 16}
    whole, failing = (
        TrainingData(settings('run', failing_scenes=part, **fresh)).describe()['fingerprint']
        for part in (0.0, 1.0)
    )
    assert whole == failing


@pytest.mark.parametrize('part', ['plain_scenes', 'hidden_scenes', 'failing_scenes'])
def test_a_part_of_no_fresh_scenes_is_refused(settings, part):
    with pytest.raises(ValueError, match=f'{part} = 0.5 is a part of the fresh scenes'):
        settings('run', **{part: 0.5})


def test_fresh_scenes_show_the_objects_that_the_folder_validates(settings):
    cubes = {'task': 'cubes'}
    with pytest.raises(ValueError, match=r'but the fresh scenes show cube1, cube2, cube3'):
        train(settings('run', fresh_scenes=32, scene=cubes))


def test_as_many_objects_as_asked_for_are_learned(settings):
    recipe = settings(
        'run',
        data=None,
        fresh_scenes=32,
        validation=4,
        epochs=1,
        architecture={'objects': 4},
        scene={'kinds': ['sphere', 'cube', 'torus', 'cube']},
    )
    train(recipe)
    bundle = load_bundle(recipe.out / 'bundle.safetensors')
    assert bundle.rig.classes == ('sphere', 'cube1', 'torus', 'cube2')
