"""On a GPU a training is recorded or compiled, and learns what it learns step by step."""

import pytest
import torch
from training_runs import rows_of, tiny_recipe

from fusion_perception.learning.run import step_graph
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.training import train
from fusion_perception.models import FusionModel

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='no CUDA GPU on this machine'
)


@pytest.fixture
def settings(tmp_path):
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=40))
    return lambda run, **changes: tiny_recipe(tmp_path / 'scenes', tmp_path / run, **changes)


def test_a_compiled_model_learns_what_the_plain_one_learns(settings):
    recipe = {'model': 'rgb', 'device': 'cuda', 'epochs': 3, 'ema': 0.9}
    train(settings('compiled', **recipe, compile=True))
    train(settings('plain', **recipe))
    for found, expected in zip(
        rows_of(settings('compiled').out), rows_of(settings('plain').out), strict=True
    ):
        assert found['valid_loss'] == pytest.approx(expected['valid_loss'], rel=0.02)


def test_a_data_set_larger_than_its_share_of_the_memory_is_learned_from(settings):
    train(settings('streamed', model='rgb', device='cuda', epochs=2, memory_share=0.0))
    train(settings('held', model='rgb', device='cuda', epochs=2))
    for found, expected in zip(
        rows_of(settings('streamed').out), rows_of(settings('held').out), strict=True
    ):
        assert found['valid_loss'] == pytest.approx(expected['valid_loss'], rel=0.02)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_recorded_steps_learn_what_plain_steps_learn(settings, monkeypatch, precision):
    recipe = {
        'model': 'dense_fusion',
        'device': 'cuda',
        'architecture': {'lidar_widths': [8, 16], 'camera_widths': [8, 16]},
        'optimiser': 'adamw',
        'schedule': 'one_cycle',
        'clip_norm': 5.0,
        'ema': 0.9,
        'drop_last': False,
        'epochs': 3,
        'batch_size': 7,
        'precision': precision,
    }
    train(settings('recorded', **recipe))
    monkeypatch.setattr(step_graph, '_WARM_UPS', 10**9)
    train(settings('plain', **recipe))
    for found, expected in zip(
        rows_of(settings('recorded').out), rows_of(settings('plain').out), strict=True
    ):
        for key in ('train_loss', 'valid_loss', 'mse'):
            assert found[key] == pytest.approx(expected[key], rel=0.02)


@pytest.mark.parametrize('waits', [True, False])
def test_a_step_that_waits_for_the_gpu_is_taken_plainly_each_time(settings, monkeypatch, waits):
    loss_of, steps, taken = FusionModel.training_loss, 2 * 4, 0

    def counted(model, *given):
        nonlocal taken
        taken += torch.is_grad_enabled()
        loss = loss_of(model, *given)
        return loss * (1 + 0 * loss.item()) if waits else loss

    monkeypatch.setattr(FusionModel, 'training_loss', counted)
    train(settings('run', device='cuda'))
    assert len(rows_of(settings('run').out)) == 2
    # A recorded step is repeated without Python.
    assert (taken >= steps) == waits


def test_the_validation_of_fresh_scenes_is_that_of_a_cpu(settings):
    recipe = settings('run', data=None, fresh_scenes=32, validation=16)
    on_gpu, on_cpu = (TrainingData(recipe, device).describe() for device in ('cuda', 'cpu'))
    assert on_gpu == on_cpu


def test_a_gpu_validates_more_scenes_at_once_and_they_are_the_same(settings):
    recipe = settings('run', batch_size=2)
    on_cpu, on_gpu = (
        [raw.centers.cpu() for raw in TrainingData(recipe, device).validation()]
        for device in ('cpu', 'cuda')
    )
    assert len(on_gpu) == 1 < len(on_cpu)
    assert torch.equal(torch.cat(on_gpu), torch.cat(on_cpu))
