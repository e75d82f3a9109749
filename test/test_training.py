import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from training_runs import TINY, assert_same_run, rows_of

from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.run.batches import Share, TrainingData
from fusion_perception.learning.run.folder import git_commit
from fusion_perception.learning.run.learner import learning_rate
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.simulate import SimulateSettings
from fusion_perception.learning.training import TrainSettings, refuse_divergence, train
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.rgb import Rgb
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.settings import load_yaml_mapping

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


def test_the_defaults_are_the_notebook_s_recipe():
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (20, 32, 1e-4)
    assert (recipe.optimiser, recipe.schedule, recipe.weight_decay) == ('adam', 'constant', 0)
    assert (recipe.validation, recipe.drop_last, recipe.precision) == (320, True, 'float32')
    assert (recipe.ema, recipe.clip_norm, recipe.fresh_scenes) == (None, None, None)
    assert (recipe.drop_camera, recipe.drop_lidar) == (0, 0)


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'drop_camera': 0.5, 'drop_lidar': 0.5}, 'must stay below 1'),
        ({'devices': 2, 'batch_size': 9}, 'batch_size = 9 cannot be shared by 2 devices'),
        ({'devices': 2, 'drop_last': False}, 'leave drop_last on'),
    ],
)
def test_settings_that_exclude_each_other_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        Recipe.read(values)


def test_a_run_leaves_bundle_metrics_curves_events_and_its_recipe(settings):
    run = settings('run')
    said = train(run)
    assert str(run.out / 'bundle.safetensors') in said
    bundle = load_bundle(run.out / 'bundle.safetensors')
    best = min(rows_of(run.out), key=lambda row: row['valid_loss'])
    assert bundle.manifest.training['metrics']['epoch'] == best['epoch']
    assert bundle.manifest.training['seed'] == 0
    assert bundle.manifest.training['git_commit'] == git_commit()
    metrics = json.loads((run.out / 'metrics.json').read_text())
    assert bundle.manifest.training['seconds'] == metrics['seconds'] > 0
    assert (run.out / 'losses.png').read_bytes().startswith(b'\x89PNG')
    assert list((run.out / 'tensorboard').iterdir())
    recipe = load_yaml_mapping(run.out / 'config.yaml')
    assert {'config', 'out', 'resume'}.isdisjoint(recipe)
    assert TrainSettings.read({**recipe, 'out': run.out}) == run


def test_training_lowers_the_loss(settings):
    # With its origin in the wrong place the network has an easy thing to learn.
    misplaced = {**TINY, 'origin': [0.0, 15.0, 0.0]}
    run = settings('run', epochs=4, learning_rate=1e-2, architecture=misplaced)
    train(run)
    rows = rows_of(run.out)
    assert rows[-1]['train_loss'] < 0.5 * rows[0]['train_loss']


def test_one_seed_gives_one_result_and_another_seed_another(settings):
    for run, seed in (('a', 3), ('b', 3), ('c', 4)):
        train(settings(run, seed=seed))
    first = settings('a').out
    assert_same_run(first, settings('b').out)
    assert rows_of(first) != rows_of(settings('c').out)


def test_late_fusion_trains_both_networks_and_then_only_the_head(settings):
    run = settings('run', model='late_fusion')
    train(run)
    assert [row['stage'] for row in rows_of(run.out)] == [
        *('rgb', 'rgb', 'lidar', 'lidar', 'late_fusion', 'late_fusion')
    ]
    late = load_bundle(run.out / 'bundle.safetensors').model
    alone = load_bundle(run.out / 'rgb.safetensors').model
    assert all(
        torch.equal(kept, trained)
        for kept, trained in zip(late.rgb.parameters(), alone.parameters(), strict=True)
    )


@pytest.mark.parametrize('keeps', [True, False])
def test_what_diverged_is_to_be_repeated_elsewhere_only_where_something_is_kept(tmp_path, keeps):
    if keeps:
        (tmp_path / 'bundle.safetensors').touch()
    with pytest.raises(ValueError, match='Lower --learning-rate') as said:
        refuse_divergence(Recipe(), 'rgb', 0, (1.0, math.nan), tmp_path)
    assert ('give another --out' in str(said.value)) == keeps


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(settings, monkeypatch):
    monkeypatch.setattr(Rgb, 'training_loss', lambda *_: torch.tensor(torch.nan).requires_grad_())
    with pytest.raises(ValueError, match=r'In epoch 1 .* became nan .*Lower --learning-rate'):
        train(settings('run'))


def test_hidden_sensors_are_absent_and_zero_and_never_both(settings):
    recipe = settings('run', drop_camera=0.4, drop_lidar=0.4, batch_size=36)
    data = TrainingData(recipe)
    [observation] = map(data.observe, data.training('x', 0))
    assert 0 < int(observation.camera.sum()) < 36 and 0 < int(observation.lidar.sum()) < 36
    assert (observation.camera | observation.lidar).all()
    assert not observation.rgba[~observation.camera].any()
    assert not observation.xyza[~observation.lidar].any()
    assert observation.rgba[observation.camera].flatten(1).any(1).all()


@pytest.mark.parametrize('hidden', ['camera', 'lidar'])
def test_each_sensor_is_hidden_as_often_as_it_is_asked_for(settings, hidden):
    data = TrainingData(settings('run', batch_size=36, **{f'drop_{hidden}': 0.8}))
    [raw] = data.training('x', 0)
    other = 'lidar' if hidden == 'camera' else 'camera'
    assert 0 < int(getattr(raw, hidden).sum()) < 18
    assert getattr(raw, other).all()


def test_a_sensor_is_not_hidden_from_a_model_that_needs_it(settings):
    with pytest.raises(ValueError, match=r'drop_camera = 0.2, but Rgb predicts only'):
        train(settings('run', drop_camera=0.2))


def test_every_scene_is_seen_once_an_epoch_and_validation_never(settings):
    data = TrainingData(settings('run', batch_size=6))
    held_out = torch.cat([raw.centers for raw in data.validation()])
    seen = torch.cat([raw.centers for raw in data.training('rgb', 0)])
    assert (len(seen), len(held_out), data.steps) == (36, 4, 6)
    assert len(torch.unique(seen, dim=0)) == 36
    assert not torch.isin(seen[:, 0, 0], held_out[:, 0, 0]).any()


@pytest.mark.parametrize(('size', 'sizes'), [(1, [1, 1, 1, 1]), (3, [2, 2]), (4, [4]), (9, [4])])
def test_no_more_scenes_are_validated_at_a_time_than_a_step_takes(settings, size, sizes):
    data = TrainingData(settings('run', batch_size=size))
    assert [len(raw.images) for raw in data.validation()] == sizes
    assert data.describe()['validation'] == 4


def test_the_examples_of_a_bundle_are_the_first_scenes_that_validate(settings, forty_scenes):
    examples, scenes = TrainingData(settings('run')).examples(), read_folder(forty_scenes)
    assert torch.equal(examples.images, scenes.images[36:])
    assert torch.equal(examples.ranges, scenes.ranges[36:])


@pytest.mark.parametrize('drop_last', [True, False])
def test_as_many_scenes_are_counted_as_an_epoch_takes(settings, drop_last):
    data = TrainingData(settings('run', batch_size=8, drop_last=drop_last))
    assert data.taken == sum(len(raw.images) for raw in data.training('rgb', 0))


def test_fewer_scenes_to_validate_than_asked_for_are_said(settings):
    assert TrainingData(settings('run', validation=4)).short_of() == ''
    said = TrainingData(settings('run', validation=5)).short_of()
    assert 'the last 4 of 40 scenes validate, not 5' in said
    fresh = {'data': None, 'fresh_scenes': 8}
    assert TrainingData(settings('run', validation=5, **fresh)).short_of() == ''


def test_two_processes_share_what_one_would_see(settings):
    recipe = settings('run')
    alone = [raw.centers for raw in TrainingData(recipe).training('rgb', 0)]
    shares = [
        [raw.centers for raw in TrainingData(recipe, share=Share(rank, 2)).training('rgb', 0)]
        for rank in (0, 1)
    ]
    assert len(alone) == len(shares[0]) == len(shares[1])
    for whole, ours, theirs in zip(alone, *shares, strict=True):
        both = torch.cat((ours, theirs))[:, 0, 0].sort().values
        assert torch.equal(both, whole[:, 0, 0].sort().values)


@pytest.mark.parametrize('scenes', [36, 37, 38, 39])
@pytest.mark.parametrize('drop_last', [True, False])
def test_processes_take_as_many_steps_each_whatever_the_number_of_scenes(
    settings, scenes, drop_last
):
    # 40 scenes are there; with one step more a process would wait for the others for ever.
    recipe = settings('run', validation=40 - scenes, batch_size=12, drop_last=drop_last)
    assert TrainingData(recipe).scenes == scenes
    for of in (2, 3, 4):
        shares = [TrainingData(recipe, share=Share(rank, of)) for rank in range(of)]
        taken = [[len(raw.images) for raw in data.training('rgb', 0)] for data in shares]
        assert taken == [taken[0]] * of
        assert len(taken[0]) == shares[0].steps


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nothing():
    recipe = Recipe(schedule='one_cycle', learning_rate=1.0, warm_up=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[0] == pytest.approx(0.1) and rates[-1] < 1e-3


def test_an_epoch_tells_the_learning_rate_of_its_last_step(settings):
    run = settings('run', epochs=2, schedule='one_cycle')
    train(run)
    steps = 2 * TrainingData(run).steps
    last = [learning_rate(run, step, steps) for step in (steps // 2 - 1, steps - 1)]
    assert [row['learning_rate'] for row in rows_of(run.out)] == last


def test_too_few_scenes_for_a_batch_are_refused(settings):
    with pytest.raises(ValueError, match='36 scenes for training do not fill one batch of 64'):
        train(settings('run', batch_size=64))


def test_nothing_to_learn_from_is_refused(settings):
    with pytest.raises(ValueError, match='Give --data or --fresh-scenes'):
        train(settings('run', data=None))


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
def test_cuda_is_refused_where_there_is_none(settings):
    with pytest.raises(ValueError, match='cuda'):
        train(settings('run', device='cuda'))


def test_an_unknown_model_and_an_unknown_key_are_answered_with_the_meant_one(settings):
    with pytest.raises(ValueError, match="Did you mean 'late_fusion'"):
        train(settings('run', model='late_fuson'))
    with pytest.raises(ValueError, match="Did you mean 'hidden'"):
        train(settings('run', architecture={'hiden': [3]}))


def test_settings_of_another_model_are_named_with_the_file_and_what_is_known_once(
    settings, tmp_path
):
    given = {'config': tmp_path / 'mine.yaml', 'architecture': {'reach': 1.0, 'hiden': [3]}}
    with pytest.raises(ValueError, match=r'mine\.yaml: architecture of rgb has') as raised:
        train(settings('run', **given))
    said = str(raised.value).partition(': ')[2]
    assert said == (
        "architecture of rgb has no 'reach'; it belongs to dense_fusion. It has no 'hiden'. "
        "Did you mean 'hidden'? Known: channels, hidden, objects, origin, size."
    )


@pytest.mark.parametrize('y', [0.0, -8.0])
def test_objects_that_are_not_ahead_are_refused(settings, y):
    architecture = {'scene_center': [0.0, y, 0.0]}
    with pytest.raises(ValueError, match=r'scene_center = .*y is forward .* more than 0'):
        train(settings('run', model='dense_fusion', architecture=architecture))


def test_a_camera_that_looks_away_from_the_objects_is_refused(settings, forty_scenes, tmp_path):
    away = Path(shutil.copytree(forty_scenes, tmp_path / 'away'))
    rig = Rig.read_yaml(away / 'sensor.yaml')
    back = ((-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 0.0), (0.0, -1.0, 0.0, 2.0), (0, 0, 0, 1.0))
    camera = rig.camera.model_copy(update={'T_camera_lidar': back})
    rig.model_copy(update={'camera': camera}).write_yaml(away / 'sensor.yaml')
    with pytest.raises(ValueError, match=r'scene_center = .* 23 m behind the camera, by its T_'):
        train(settings('run', model='dense_fusion', data=away, architecture={}))


@pytest.mark.parametrize(('size', 'batches'), [(9, 4), (35, 2), (50, 1)])
def test_the_training_loss_is_the_mean_over_scenes_whatever_the_last_batch(
    settings, size, batches
):
    recipe = settings('run', epochs=1, batch_size=size, drop_last=False, learning_rate=1e-30)
    train(recipe)
    [row] = rows_of(recipe.out)
    model, data = load_bundle(recipe.out).model, TrainingData(recipe)
    assert data.steps == batches
    with torch.no_grad():
        pairs = [(model(data.observe(raw)), raw.centers) for raw in data.training('rgb', 0)]
        apart = torch.cat([(estimate.centers - truth).square() for estimate, truth in pairs])
    assert len(apart) == 36
    assert row['train_loss'] == pytest.approx(float(apart.mean()), rel=1e-5)


def test_a_seed_that_no_generator_takes_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r'seed = \d+: input should be less than'):
        settings('run', seed=2**64)
    with pytest.raises(ValueError, match=r'seed = \d+: input should be less than'):
        SimulateSettings.read({'out': tmp_path / 'scenes', 'seed': 2**64})


def test_to_compile_needs_a_gpu(settings):
    with pytest.raises(ValueError, match='--compile'):
        train(settings('run', compile=True))
