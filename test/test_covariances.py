"""A bundle whose training stopped before its covariances were fitted is told from others."""

from dataclasses import replace

import pytest
import torch
from small_bundles import CONFIGS, GRID
from training_runs import tiny_recipe

from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.run.covariances import are_fitted, stopped_early
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.training import train
from fusion_perception.models import MODELS, build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.models.dense_fusion import DenseFusion
from fusion_perception.models.examples import made_up_examples
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import Rig

SEEN = made_up_examples(Camera(), GRID).seen_by('fusion', Camera(), GRID)


@pytest.fixture
def saved(tmp_path):
    def save(name='dense_fusion', *, calibrated=False, training=None, **architecture):
        torch.manual_seed(0)
        model = build(name, {**CONFIGS[name], **architecture}).eval()
        if calibrated:
            model.calibrate([(SEEN, torch.zeros(4, 3, 3))])
        told = {'settings': {'architecture': architecture}} if training is None else training
        save_bundle(tmp_path / 'bundle.safetensors', model, name, Rig(), GRID, told)
        return load_bundle(tmp_path / 'bundle.safetensors')

    return save


@pytest.mark.parametrize('begun_with', [{}, {'covariance_scale': [2.0, 3.0, 4.0]}])
def test_covariances_are_fitted_once_their_factor_is_not_the_one_that_was_begun_with(
    saved, begun_with
):
    stopped = saved(**begun_with)
    [said] = stopped_early(stopped)
    assert not are_fitted(stopped) and '`fusion train --out RUN --resume`' in said
    ended = saved(calibrated=True, **begun_with)
    assert are_fitted(ended) and stopped_early(ended) == []


def test_a_model_without_covariances_has_none_to_fit(saved):
    bundle = saved('early_fusion')
    assert not are_fitted(bundle) and stopped_early(bundle) == []


@pytest.mark.parametrize('training', [{}, {'settings': 5}, {'settings': {'architecture': 'x'}}])
def test_a_bundle_that_tells_nothing_of_its_architecture_is_judged(saved, training):
    bundle = saved(training=training)
    assert not are_fitted(bundle)
    assert len(stopped_early(bundle)) == len(training)


@pytest.mark.parametrize('name', ['dense_fusion', 'early_fusion'])
def test_of_a_training_that_finished_no_epoch_that_is_said_and_not_more(saved, name):
    [said] = stopped_early(saved(name, training={'settings': {}, 'metrics': None}))
    assert 'before the end of the first epoch' in said and 'covariances' not in said


def test_the_way_to_go_on_names_the_run_that_is_there(saved, tmp_path):
    (tmp_path / 'my run').mkdir()
    (tmp_path / 'my run' / 'checkpoint.safetensors').touch()
    bundle = replace(saved(), path=tmp_path / 'my run' / 'bundle.safetensors')
    assert f"`fusion train --out '{tmp_path}/my run' --resume`" in stopped_early(bundle)[0]


@pytest.mark.slow
def test_an_evaluation_says_of_a_stopped_training_that_covariances_are_not_calibrated(
    tmp_path, monkeypatch
):
    def stop(self, batches):
        raise KeyboardInterrupt

    simulate(SimulateSettings(out=tmp_path / 'data', count=20))
    small = {'lidar_widths': [8, 8], 'camera_widths': [8, 8]}
    run = tiny_recipe(
        tmp_path / 'data', tmp_path / 'run', model='dense_fusion', epochs=1, architecture=small
    )
    with monkeypatch.context() as patch:
        patch.setattr(DenseFusion, 'calibrate', stop)
        with pytest.raises(KeyboardInterrupt, match='not calibrated yet'):
            train(run)

    def said():
        last = {'data': run.data, 'last': 2, 'out': tmp_path / 'report'}
        return evaluate(EvaluateSettings(bundle=str(run.out), **last))[0]

    assert 'not calibrated' in said() and 'were fitted' not in said()
    train(run.model_copy(update={'resume': True}))
    assert 'not calibrated' not in said() and 'covariances were fitted' in said()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'holds'),
    [
        ('dense_fusion', r'after epoch \d, its covariances calibrated\.$'),
        ('rgb', r'after epoch \d\.$'),
    ],
)
def test_ctrl_c_in_a_run_that_had_come_to_its_end_says_that_it_had(
    settings, monkeypatch, name, holds
):
    def stop(self, batches):
        raise KeyboardInterrupt

    run = settings('run', model=name, architecture=CONFIGS[name])
    train(run)
    before = (run.out / 'bundle.safetensors').read_bytes()
    monkeypatch.setattr(MODELS[name].model, 'calibrate', stop)
    with pytest.raises(
        KeyboardInterrupt, match=f'^Stopped, but the run was at its end: .*{holds}'
    ):
        train(run.model_copy(update={'resume': True}))
    assert (run.out / 'bundle.safetensors').read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_in_a_finished_run_whose_bundle_was_removed_says_that_it_is_not_there(
    settings, monkeypatch
):
    def stop(self, batches):
        raise KeyboardInterrupt

    run = settings('run')
    train(run)
    (run.out / 'bundle.safetensors').unlink()
    with monkeypatch.context() as patch:
        patch.setattr(MODELS['rgb'].model, 'calibrate', stop)
        with pytest.raises(
            KeyboardInterrupt, match=r'is not there, or torn. .* --resume` writes it'
        ):
            train(run.model_copy(update={'resume': True}))
    train(run.model_copy(update={'resume': True}))
    assert (run.out / 'bundle.safetensors').is_file()
