"""Ours and the notebook's way to train are one training, of one network on the same batches."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks.settings import linked
from fusion_perception.learning.benchmarks.table import GOALS
from fusion_perception.learning.benchmarks.training import (
    Ours,
    Theirs,
    compare_losses,
    copy_weights,
    how_far_apart,
    our_ways,
    projected_alike,
)
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.training import TrainSettings
from fusion_perception.models import build
from fusion_perception.sensing.geometry import direction_table, range_to_xyza

pytestmark = pytest.mark.usefixtures('one_thread')
LEARNING = Path(notebook.__file__).parent
CPU = torch.device('cpu')


def test_the_baseline_is_used_by_nothing_but_the_benchmark():
    users = {
        path.parent
        for path in LEARNING.parent.rglob('*.py')
        if 'notebook_baseline' in path.read_text() and path.name != 'notebook_baseline.py'
    }
    assert users == {LEARNING / 'benchmarks'}


def test_the_baseline_uses_nothing_of_the_package():
    tree = ast.parse((LEARNING / 'notebook_baseline.py').read_text())
    modules = [node.module or '' for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert modules
    assert not any(module.startswith('fusion_perception') for module in modules)


@pytest.mark.slow
def test_both_ways_see_the_same_images_points_and_labels(forty_scenes):
    ours = read_folder(linked(DataFolder.open(forty_scenes), forty_scenes.parent / 'same'))
    theirs = notebook.NotebookData(forty_scenes, CPU, 0, 3)
    rgb, xyza, position = theirs[2]
    table = direction_table(ours.lidar.azimuth, ours.lidar.zenith, 'notebook')
    torch.testing.assert_close(rgb, ours.images[2].permute(2, 0, 1) / 255)
    torch.testing.assert_close(xyza, range_to_xyza(ours.ranges[2], table, 50.0))
    turned = position.reshape(3, 3) * torch.tensor([-1, -1, 1]) + torch.tensor([0, 25, 0])
    torch.testing.assert_close(turned, ours.centers[2])


def test_both_networks_of_early_fusion_are_one_network(forty_scenes):
    net, model = notebook.EarlyNet(), build('early_fusion')
    copy_weights(model, net)
    scenes = read_folder(linked(DataFolder.open(forty_scenes), forty_scenes.parent / 'nets'))
    observation, _ = scenes.batch(slice(2))
    turned = net(observation.rgba, observation.xyza).reshape(2, 3, 3) * torch.tensor([-1, -1, 1])
    expected = model(observation).centers
    torch.testing.assert_close(turned + torch.tensor([0.0, 25.0, 0.0]), expected)


@pytest.mark.slow
def test_losses_are_compared_after_each_epoch(bench):
    settings = bench.settings.model_copy(update={'loss_steps': 3, 'quick': False})
    bench = projected_alike(replace(bench, settings=settings))
    recipe = TrainSettings(model='early_fusion', data=bench.folder, out=bench.scratch)
    data = TrainingData(recipe, CPU)
    losses = compare_losses(bench, data, Theirs(bench))
    assert losses['after_steps'] == (1, 2, 3)
    for way in our_ways(bench):
        assert losses[way.name] == pytest.approx(losses['notebook'], rel=0.02)


def test_on_a_gpu_compiled_ways_to_train_are_measured_beside_the_default(bench):
    settings = bench.settings.model_copy(update={'quick': False})
    on_gpu = our_ways(replace(bench, settings=settings, device=torch.device('cuda')))
    assert {way.name for way in on_gpu} == {'float32', 'float32, compiled', 'bfloat16, compiled'}
    assert {way.stage for way in our_ways(bench)} < {way.stage for way in on_gpu} <= set(GOALS)


def test_each_way_to_train_computes_in_its_own_precision(bench):
    data = TrainingData(
        TrainSettings(model='early_fusion', data=bench.folder, out=bench.scratch), CPU
    )
    for way in our_ways(bench):
        recipe = Ours(bench, data, way).recipe
        assert (recipe.precision, recipe.compile) == (way.precision, way.compiled)


def test_all_ways_to_train_see_the_same_points(bench):
    bench = projected_alike(bench)
    data = TrainingData(
        TrainSettings(model='early_fusion', data=bench.folder, out=bench.scratch), CPU
    )
    theirs = notebook.loaders(bench.folder, CPU, bench.scenes, bench.scenes // 10)[1]
    ((_, points, _),) = theirs
    (observation,) = map(data.observe, data.validation())
    torch.testing.assert_close(observation.xyza, points, atol=1e-4, rtol=0)


def test_the_baseline_s_validation_counts_every_scene_once():
    away = [torch.ones(2, 9), torch.full((1, 9), 4.0)]
    batches = [(torch.zeros_like(one), one, one) for one in away]
    loss = notebook.validate(torch.nn.Identity(), lambda rgb, xyz: (rgb,), batches)
    assert loss == (1 + 1 + 16) / 3


def test_of_several_epochs_the_later_half_is_averaged():
    losses = {'after_steps': (2, 4, 6, 8), 'notebook': (9, 8, 3, 5), 'float32': (9, 9, 2, 4)}
    assert '8 steps -20.0 % (the last 2 epochs averaged: -25.0 %)' in how_far_apart(
        losses, 'float32'
    )
    assert how_far_apart({name: part[:3] for name, part in losses.items()}, 'float32') == (
        "validation MSE after 6 steps -33.3 % against the notebook's"
    )


def test_late_fusion_of_the_baseline_trains_its_head_alone():
    net = notebook.LateNet(notebook.Net(4), notebook.Net(4))
    learned = [p.numel() for p in net.parameters() if p.requires_grad]
    assert sum(learned) == 18 * 90 + 90 + 90 * 9 + 9
    assert sum(p.numel() for p in notebook.Net(4).parameters()) == 13_129_159
