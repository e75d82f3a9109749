"""A bundle carries scenes that it was not trained on, and what its model said of them."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fusion_perception.engines.base import TorchEngine
from fusion_perception.engines.choice import aged_m
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.training import TrainSettings, train
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.models.examples import COUNT, PREFIX, Examples, made_up_examples
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

SMALL = {'lidar_widths': (8, 16), 'camera_widths': (8, 16)}
CPU = torch.device('cpu')
GRID = UniformGrid().lidar()

pytestmark = pytest.mark.usefixtures('one_thread')


def saved(path, examples):
    torch.manual_seed(1)
    model = build('dense_fusion', SMALL).train()
    save_bundle(path, model, 'dense_fusion', Rig(), GRID, {}, examples)
    return load_bundle(path), model


def test_examples_come_back_with_the_centres_of_every_mode(tmp_path):
    scenes = made_up_examples(Rig().camera, GRID)
    bundle, model = saved(tmp_path / 'b.safetensors', scenes)
    assert torch.equal(bundle.examples.images, scenes.images)
    assert torch.equal(bundle.examples.ranges, scenes.ranges)
    assert bundle.examples.centers.shape == (3, COUNT, 3, 3)
    assert aged_m(TorchEngine(bundle, CPU), bundle) < 1e-4
    assert model.training  # Saving leaves a model as it was.


def test_a_model_that_is_understood_otherwise_is_found_out(tmp_path):
    bundle, _ = saved(tmp_path / 'b.safetensors', made_up_examples(Rig().camera, GRID))
    with torch.no_grad():
        bundle.model.prior_center.add_(0.5)
    assert aged_m(TorchEngine(bundle, CPU), bundle) > 1e-3


def test_examples_change_neither_the_weights_nor_the_tables(tmp_path):
    bare, _ = saved(tmp_path / 'bare.safetensors', None)
    full, _ = saved(tmp_path / 'full.safetensors', made_up_examples(Rig().camera, GRID))
    assert bare.examples is None
    assert aged_m(TorchEngine(bare, CPU), bare) is None
    without, with_them = load_file(bare.path), load_file(full.path)
    assert {key for key in with_them if not key.startswith(PREFIX)} == without.keys()
    assert all(torch.equal(with_them[key], without[key]) for key in without)


def test_an_altered_example_is_an_altered_bundle(tmp_path):
    bundle, _ = saved(tmp_path / 'b.safetensors', made_up_examples(Rig().camera, GRID))
    whole = bytearray(bundle.path.read_bytes())
    place = whole.find(bundle.examples.images.numpy().tobytes())
    whole[place + 100] ^= 1
    bundle.path.write_bytes(whole)
    with pytest.raises(ValueError, match='sha256'):
        load_bundle(bundle.path)


@pytest.mark.parametrize('part', ['images', 'ranges', 'centers'])
@pytest.mark.parametrize('cut', [lambda whole: whole[:0], lambda whole: whole.flatten()])
def test_examples_of_another_shape_are_refused(tmp_path, part, cut):
    bundle, _ = saved(tmp_path / 'b.safetensors', made_up_examples(Rig().camera, GRID))
    examples = replace(bundle.examples, **{part: cut(getattr(bundle.examples, part))})
    assert not examples.fit(3, 3, GRID.shape) and bundle.examples.fit(3, 3, GRID.shape)


class OfOneMode(Examples):
    """Examples that know what the model says of them in its first mode alone."""

    def judged_by(self, *sensors):
        judged = super().judged_by(*sensors)
        return replace(judged, centers=judged.centers[:1])


def test_a_bundle_with_examples_of_another_shape_is_refused(tmp_path):
    scenes = made_up_examples(Rig().camera, GRID)
    with pytest.raises(ValueError, match='its examples are not of the shape that its model'):
        saved(tmp_path / 'b.safetensors', OfOneMode(scenes.images, scenes.ranges))


def test_a_bundle_keeps_a_few_of_many_scenes_and_fewer_of_large_ones(tmp_path):
    small = made_up_examples(Rig().camera, GRID)
    many = Examples(small.images.repeat(3, 1, 1, 1), small.ranges.repeat(3, 1, 1))
    assert len(saved(tmp_path / 'b.safetensors', many)[0].examples) == COUNT
    assert len(small.few()) == COUNT
    # One is kept even where it alone is larger than a bundle is to be.
    for size in ((240, 320), (480, 640)):
        large = torch.zeros(9, *size, 4, dtype=torch.uint8)
        assert len(Examples(large, small.ranges).few()) == 1
    assert len(replace(small, images=small.images[:2], ranges=small.ranges[:2]).few()) == 2


@pytest.mark.slow
def test_training_puts_validation_scenes_into_the_bundle_and_so_does_resuming(tmp_path):
    simulate(SimulateSettings(out=tmp_path / 'data', count=16))
    settings = TrainSettings.read(
        {
            'data': tmp_path / 'data',
            'model': 'dense_fusion',
            'out': tmp_path / 'run',
            'epochs': 1,
            'batch_size': 4,
            'validation': 5,
            'device': 'cpu',
            'architecture': SMALL,
        }
    )
    train(settings)
    first = load_bundle(tmp_path / 'run')
    scenes = read_folder(tmp_path / 'data')
    held_out = scenes.split(5)[1][:COUNT]
    assert torch.equal(first.examples.ranges, scenes.ranges[held_out])
    assert torch.equal(first.examples.images, scenes.images[held_out])
    # A run from before there were examples: going on with it, though finished, adds them.
    weights = load_file(first.path)
    save_bundle(
        first.path, first.model, 'dense_fusion', first.rig, first.lidar, first.manifest.training
    )
    train(settings.model_copy(update={'resume': True}))
    again = load_file(first.path)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[key], weights[key]) for key in weights)
    assert load_bundle(first.path).manifest.weights_sha256 == first.manifest.weights_sha256
