"""What is simulated for each epoch of a training, and what of it fails."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from fusion_perception.learning.data.labels import read_positions, write_positions
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evidence.of_folder import learned_from, through_another_lens
from fusion_perception.learning.run.batches import (
    TrainingData,
    fingerprint,
    refuse_other_objects,
)
from fusion_perception.learning.training import train
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle
from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.observation import Lens
from fusion_perception.sensing.rig import Rig

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


@pytest.mark.slow
def test_a_training_in_batches_of_one_calibrates_in_larger_ones_and_to_the_same(settings):
    recipe, scales = settings('run', data=None, fresh_scenes=64, validation=4), []
    for size in (1, 64):
        data = TrainingData(recipe.model_copy(update={'batch_size': size}))
        batches = list(data.unseen())
        assert len(batches) <= 100 and sum(len(centers) for _, centers in batches) == 2048
        torch.manual_seed(0)
        model = build('dense_fusion', {'lidar_widths': [4, 4], 'camera_widths': [4, 4]})
        model.calibrate(batches)
        scales.append(model.config.covariance_scale)
    assert scales[0] == pytest.approx(scales[1], rel=1e-3)


@pytest.mark.parametrize('fresh', [True, False])
def test_seed_stage_and_epoch_each_give_other_batches(settings, fresh):
    changes = {'data': None, 'fresh_scenes': 16, 'validation': 4} if fresh else {}

    def seen(seed, stage, epoch):
        data = TrainingData(settings('run', seed=seed, batch_size=16, **changes))
        return next(data.training(stage, epoch)).centers

    first = seen(0, 'rgb', 0)
    assert torch.equal(first, seen(0, 'rgb', 0))
    for other in ((1, 'rgb', 0), (0, 'lidar', 0), (0, 'rgb', 1)):
        assert not torch.equal(first, seen(*other)), other


def test_fresh_scenes_are_as_noisy_as_asked_for_but_for_the_plain_ones(settings):
    recipe = settings(
        'run', data=None, fresh_scenes=32, batch_size=32, validation=4, plain_scenes=0.24,
        noise={'lost_rays': [1.0, 1.0]},
    )  # fmt: skip
    data = TrainingData(recipe)
    [raw] = data.training('rgb', 0)
    plain = (raw.ranges < data.lidar.max_range).flatten(1).any(1)
    assert plain.sum() == 8
    assert not plain[:8].all(), 'they come in any order'


def test_plain_scenes_show_the_objects_that_are_asked_for_in_their_original_look(settings):
    scene = {'kinds': ['sphere'], 'reach_m': 0.5, 'ambient': [1, 1], 'albedo': [1, 1]}
    fresh = {'data': None, 'fresh_scenes': 32, 'batch_size': 32, 'validation': 4, 'scene': scene}
    looks = {}
    for part in (0.0, 1.0):
        data = TrainingData(settings('run', plain_scenes=part, **fresh))
        [raw] = data.training('rgb', 0)
        assert raw.centers.shape == (32, 1, 3)
        assert (raw.centers - torch.tensor(data.middle())).abs().max() < 1.0
        red = raw.images[..., 0].float()
        looks[part] = red[red > 0]
    assert (looks[0.0] == 255).all() and looks[1.0].mean() < 200


@pytest.mark.slow
def test_the_scenes_that_no_epoch_saw_are_others_than_those_that_validate(settings):
    data = TrainingData(settings('run', data=None, fresh_scenes=8, validation=4))
    validated = torch.cat([raw.centers for raw in data.validation()])
    unseen = torch.cat([centers for _, centers in data.unseen()])
    assert len(unseen) == 2048
    assert not torch.isin(unseen[:, 0, 0], validated[:, 0, 0]).any()


def test_fresh_scenes_lie_where_the_folder_s_rig_has_its_labels(settings, folder):
    classes, positions = read_positions(folder / 'positions.csv')
    positions[..., 0] += 3.0
    write_positions(folder / 'positions.csv', classes, positions)
    described = yaml.safe_load((folder / 'sensor.yaml').read_text())
    described['T_label_lidar'][0][3] += 3.0
    (folder / 'sensor.yaml').write_text(yaml.safe_dump(described))
    for part in (0.0, 1.0):
        recipe = settings('run', data=folder, fresh_scenes=8, hidden_scenes=part)
        data = TrainingData(recipe)
        [raw] = data.training('rgb', 0)
        labels = transform_points(torch.tensor(data.rig.T_label_lidar), raw.centers)
        assert labels.abs().max() <= 5.001


def test_runs_of_any_seed_are_validated_by_the_same_scenes_and_folders_told_from_them(settings):
    told = [
        TrainingData(settings('run', seed=seed, **changes)).describe()
        for changes in ({'data': None, 'fresh_scenes': 16, 'validation': 4}, {})
        for seed in (0, 1)
    ]
    assert told[0] == told[1] and told[2] == told[3]
    assert [each['source'] for each in told[1:3]] == ['simulated for each epoch', 'folder']


def test_the_fingerprint_of_scenes_changes_with_whatever_they_hold(forty_scenes):
    scenes = read_folder(forty_scenes)
    others = [
        replace(scenes, **{name: getattr(scenes, name) + 1})
        for name in ('images', 'ranges', 'centers')
    ]
    others.append(replace(scenes, rig=scenes.rig.model_copy(update={'classes': ('a', 'b', 'c')})))
    others.append(replace(scenes, lidar=replace(scenes.lidar, max_range=60.0)))
    assert len({fingerprint(each) for each in (scenes, *others)}) == 6
    assert fingerprint(replace(scenes, source=Path('elsewhere'))) == fingerprint(scenes)


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


def test_objects_with_names_of_their_own_are_validated_by_as_many_fresh_ones(settings):
    rig = Rig(classes=('bollard', 'cone', 'barrel'))
    refuse_other_objects(settings('run', fresh_scenes=8), rig)
    two = settings('run', fresh_scenes=8, scene={'kinds': ['cube', 'cube']})
    with pytest.raises(ValueError, match='but the fresh scenes show cube1, cube2'):
        refuse_other_objects(two, rig)


def test_fresh_scenes_show_the_objects_that_the_folder_validates(settings):
    cubes = {'task': 'cubes'}
    with pytest.raises(ValueError, match=r'but the fresh scenes show cube1, cube2, cube3'):
        train(settings('run', fresh_scenes=32, scene=cubes))


@pytest.mark.slow
@pytest.mark.parametrize('last', [None, 4, 20])
def test_a_folder_that_validated_fresh_scenes_is_said_to_have_chosen_the_epoch(
    settings, forty_scenes, last
):
    small = {'lidar_widths': [4, 4], 'camera_widths': [4, 4]}
    run = settings('run', fresh_scenes=8, epochs=1, model='dense_fusion', architecture=small)
    train(run)
    bundle, scenes = load_bundle(run.out), read_folder(forty_scenes)
    [said] = learned_from(bundle, scenes, forty_scenes, last)
    assert f'By the last 4 scenes of {forty_scenes} the best epoch of' in said
    # They were fitted to simulated scenes.
    assert 'covariances' not in said
    others = replace(scenes, images=255 - scenes.images)
    assert learned_from(bundle, others, forty_scenes, last) == []


def test_fresh_scenes_know_no_lens_whatever_the_images_that_validate(settings, folder):
    fresh = settings('run', data=folder, fresh_scenes=8, epochs=1)
    assert TrainingData(fresh).bent() == ''
    straight = read_folder(folder).rig.camera
    described = yaml.safe_load((folder / 'sensor.yaml').read_text())
    described['camera']['lens'] = {'coefficients': [-0.4, 0.2, 0, 0, 0]}
    (folder / 'sensor.yaml').write_text(yaml.safe_dump(described))
    data = TrainingData(fresh)
    assert f'{folder}: images of a lens' in data.bent()
    assert TrainingData(settings('run', data=folder, batch_size=7)).bent() == ''
    train(fresh)
    bundle = load_bundle(fresh.out)
    assert bundle.rig.camera.lens == Lens()
    assert through_another_lens(bundle, straight, folder) == []
    assert through_another_lens(bundle, read_folder(folder).rig.camera, folder)
    # The scenes that validate are still known by what they are.
    assert bundle.manifest.training['data']['fingerprint'] == fingerprint(read_folder(folder))


@pytest.mark.slow
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
