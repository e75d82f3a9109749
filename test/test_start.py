"""A training that starts from a bundle begins with the model that the bundle holds."""

import json

import pytest
import torch
from small_bundles import small_bundle
from training_runs import TINY, rows_of

from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.run.start import (
    contradiction,
    handed_on,
    load_start,
    take_weights,
)
from fusion_perception.learning.training import TrainSettings, new_model, train
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle
from fusion_perception.sensing.settings import load_yaml_mapping

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.slow
def test_a_training_starts_from_the_weights_of_a_bundle(settings):
    train(settings('first', epochs=1))
    first = settings('first').out / 'bundle.safetensors'
    train(settings('second', epochs=1, start_from=str(first), learning_rate=1e-12))
    weights = [
        dict(load_bundle(path).model.named_parameters())
        for path in (first, settings('second').out / 'bundle.safetensors')
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_bundle_tells_of_the_trainings_that_it_started_from_also_once_resumed(settings):
    first, second, third = (settings(name).out for name in ('first', 'second', 'third'))
    train(settings('first', epochs=1, seed=5))
    train(settings('second', epochs=1, seed=6, start_from=str(first)))
    train(settings('third', epochs=1, seed=7, start_from=str(second)))
    train(settings('third', epochs=2, seed=7, start_from=str(second), resume=True))
    bundle = load_bundle(third)
    assert [training['seed'] for training in bundle.trainings] == [7, 6, 5]
    assert bundle.manifest.training['started_from']['weights_sha256'] == (
        load_bundle(second).manifest.weights_sha256
    )
    assert 'started_from' not in load_bundle(first).manifest.training
    # A path of this machine means nothing on another.
    assert 'start_from' not in bundle.manifest.training['settings']
    told = json.loads((third / 'metrics.json').read_text())['started_from']['training']
    assert told == load_bundle(second).manifest.training


def test_a_training_starts_where_the_bundle_stood():
    bundle, model = load_bundle('shapes'), build('dense_fusion').eval()
    take_weights(model, bundle, {})
    seen = bundle.examples.seen_by('fusion', bundle.rig.camera, bundle.lidar)
    with torch.inference_mode():
        assert torch.equal(model(seen).centers, bundle.model(seen).centers)


ELSEWHERE = {**TINY, 'origin': [0.0, 20.0, 1.0]}


@pytest.mark.slow
def test_what_is_not_said_of_the_architecture_is_that_of_the_bundle(settings):
    base, run = settings('base', epochs=1, architecture=ELSEWHERE), settings('run').out
    train(base)
    start = str(base.out.resolve() / 'bundle.safetensors')
    train(settings('run', epochs=1, architecture={}, start_from=start))
    assert load_bundle(run).model.config == load_bundle(base.out).model.config
    # It goes on with it, by its own settings and by those that it was begun with.
    kept = load_yaml_mapping(run / 'config.yaml')
    assert kept['architecture'] == ELSEWHERE
    train(TrainSettings.read({**kept, 'out': run, 'epochs': 2, 'resume': True}))
    (base.out / 'bundle.safetensors').unlink()
    train(settings('run', epochs=3, architecture={}, start_from=start, resume=True))
    assert load_bundle(run).model.config.origin == (0.0, 20.0, 1.0)
    assert len(rows_of(run)) == 3


def test_what_is_said_of_the_architecture_counts_and_what_it_contradicts_is_named(
    settings, tmp_path
):
    path = small_bundle(tmp_path)
    said = {'scene_sigma': 4, 'reach': 2}
    recipe = settings('run', model='dense_fusion', architecture=said, start_from=str(path))
    kept, model, start = new_model(recipe)
    assert model.config.scene_sigma == 4 and model.config.lidar_widths == (8, 16)
    assert kept.architecture['lidar_widths'] == [8, 16]
    assert 'starts: scene_sigma is 4.0 here and 3.0 there' in contradiction(model, start)
    assert 'reach' not in contradiction(model, start)


def test_the_scale_of_the_covariances_is_not_handed_on():
    bundle = load_bundle('shapes')
    assert bundle.model.config.covariance_scale != (1, 1, 1)
    assert handed_on(bundle) == {}
    assert contradiction(build('dense_fusion'), bundle) == ''


def test_an_architecture_for_which_the_weights_have_another_shape_is_refused(settings, tmp_path):
    start = str(small_bundle(tmp_path, 'rgb'))
    with pytest.raises(ValueError, match=r"those of rgb .*, not of rgb with {'hidden': \[3\]}"):
        new_model(settings('run', architecture={'hidden': [3]}, start_from=start))


@pytest.mark.parametrize(('bundle', 'model'), [('dense_fusion', 'rgb'), ('rgb', 'lidar')])
def test_a_training_does_not_start_from_the_weights_of_another_model(tmp_path, bundle, model):
    recipe = Recipe(start_from=str(small_bundle(tmp_path, bundle)))
    with pytest.raises(ValueError, match=f'are those of {bundle} .* not of {model} with its'):
        load_start(recipe, model)


def test_another_number_of_objects_than_the_bundle_s_is_refused_with_what_can_be_done(settings):
    two = {'data': None, 'fresh_scenes': 8, 'validation': 1, 'scene': {'kinds': ['cube', 'cube']}}
    recipe = settings('run', model='dense_fusion', architecture={}, start_from='shapes', **two)
    said = 'data has 2 objects .* predicts 3. So does shapes: leave out start_from, or give a '
    with pytest.raises(ValueError, match=said):
        train(recipe)


def test_a_bundle_to_start_from_that_is_nowhere_is_named_with_who_named_it(
    settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    where = f'no bundle at runs/none \\(looked in {tmp_path}\\)'
    with pytest.raises(FileNotFoundError, match=f'--start-from: {where}'):
        train(settings('run', start_from='runs/none'))
    (tmp_path / 'mine.yaml').write_text('start_from: runs/none\n')
    with pytest.raises(FileNotFoundError, match=f'start_from in mine.yaml: {where}'):
        train(settings('run', config='mine.yaml', start_from='runs/none'))
