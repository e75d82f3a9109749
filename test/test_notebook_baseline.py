"""The baseline does what the notebook does: its data, loop and calls, slow ones included."""

import math
from itertools import repeat

import numpy as np
import pytest
import torch
from torch import nn

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks.settings import linked
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.dataset import read_folder

pytestmark = pytest.mark.usefixtures('one_thread')
CPU = torch.device('cpu')


class Watched(nn.Module):
    """One weight, added to the first input; notes if it trained and if it built a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[bool, bool, int]] = []

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_grad_enabled(), len(inputs)))
        return inputs[0].flatten(1)[:, :9] + self.weight


@pytest.fixture(scope='module')
def scenes(forty_scenes):
    """Read the same scenes by the product's own code, without a packed file beside them."""
    return read_folder(linked(DataFolder.open(forty_scenes), forty_scenes.parent / 'linked'))


def batch(label: float, size: int = 2) -> notebook.Sample:
    return torch.zeros(size, 9), torch.zeros(size, 9), torch.full((size, 9), label)


def one_input(rgb: torch.Tensor, xyz: torch.Tensor) -> tuple[torch.Tensor]:
    return (rgb,)


def test_scenes_are_split_into_training_and_the_last_ones(forty_scenes, scenes):
    train, valid = notebook.loaders(forty_scenes, CPU, 40, 4)
    assert (len(train.dataset), len(valid.dataset)) == (36, 4)
    for data, first in ((train.dataset, 0), (valid.dataset, 36)):
        for index in (0, len(data) - 1):
            rgb, _, position = data[index]
            torch.testing.assert_close(rgb, scenes.images[first + index].permute(2, 0, 1) / 255)
            x, y, z = position.reshape(3, 3).T
            world = torch.stack((-x, 25 - y, z), 1)
            torch.testing.assert_close(world, scenes.centers[first + index])


def test_training_takes_whole_shuffled_batches_and_validation_every_scene(forty_scenes):
    train, valid = notebook.loaders(forty_scenes, CPU, 40, 4)
    torch.manual_seed(0)
    ((_, _, positions),) = train
    in_order = torch.tensor(train.dataset.positions, dtype=torch.float32)
    assert len(positions) == 32
    assert not torch.equal(positions, in_order[:32])
    ((_, _, positions),) = valid
    torch.testing.assert_close(positions, torch.tensor(valid.dataset.positions).float())


def test_a_point_lies_where_the_notebook_s_formula_puts_it():
    azimuth, zenith = torch.tensor([0.3]), torch.tensor([-0.2])
    x, y, z, seen = notebook.xyza(torch.tensor([[10.0]]), azimuth, zenith).flatten().tolist()
    assert x == pytest.approx(-10 * math.sin(0.3))
    assert y == pytest.approx(10 * math.cos(0.3) * math.cos(0.2))
    assert z == pytest.approx(10 * math.sin(0.2))
    assert seen == 1


@pytest.mark.parametrize(('reach', 'seen'), [(49.9, 1), (50.0, 0), (60.0, 0)])
def test_what_no_beam_returned_from_is_masked(reach, seen):
    angle = torch.zeros(1)
    assert notebook.xyza(torch.tensor([[reach]]), angle, angle)[3].item() == seen


def test_each_step_follows_the_gradient_of_its_own_batch_alone():
    net = Watched()
    rate = 0.25
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    notebook.train_epoch(net, optimiser, one_input, [batch(1.0), batch(1.0)])
    # Each step goes half of the way to the label: the gradient is 2 (weight - label).
    assert net.weight.item() == 0.75


def test_an_epoch_returns_the_mean_loss_of_its_steps():
    net = Watched()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
    loss = notebook.train_epoch(net, optimiser, one_input, [batch(1.0), batch(3.0)])
    assert loss == (1 + 9) / 2


def test_so_many_steps_are_taken_as_are_asked_for():
    net = Watched().eval()
    notebook.train_epoch(net, notebook.adam(net), one_input, repeat(batch(1.0)), 3)
    assert net.seen == [(True, True, 1)] * 3


def test_a_validation_builds_its_graph_and_leaves_dropout_out():
    net = Watched()
    notebook.validate(net, one_input, [batch(1.0)])
    assert net.seen == [(False, True, 1)]


@pytest.mark.parametrize(
    ('phase', 'values'), [('rgb', (1,)), ('lidar', (2,)), ('late_fusion', (1, 2))]
)
def test_each_training_sees_its_own_sensors(phase, values):
    inputs = notebook.INPUTS[phase](torch.tensor(1), torch.tensor(2))
    assert tuple(one.item() for one in inputs) == values


def test_the_notebook_learns_with_adam_at_its_rate_in_batches_of_32():
    net = Watched()
    assert notebook.adam(net).param_groups[0]['lr'] == 1e-4
    assert notebook.BATCH_SIZE == 32


def test_a_batch_is_predicted_as_its_scenes_are_one_by_one(scenes):
    images, ranges = scenes.images[:2].numpy(), scenes.ranges[:2].numpy()
    tables = (scenes.lidar.azimuth, scenes.lidar.zenith)
    torch.manual_seed(0)
    net = notebook.LateNet(notebook.Net(4), notebook.Net(4))
    many = notebook.predict_many(net, images, ranges, *tables)
    each = [notebook.predict(net, *pair, *tables) for pair in zip(images, ranges, strict=True)]
    np.testing.assert_allclose(many, each, atol=1e-5)
    with torch.no_grad():
        expected = net(
            torch.stack([notebook.image_tensor(image, CPU) for image in images]),
            torch.stack([notebook.xyza(one, *tables) for one in scenes.ranges[:2]]),
        )
    np.testing.assert_allclose(many, expected, atol=1e-5)


@pytest.mark.parametrize('many', [False, True])
def test_a_prediction_is_made_as_a_notebook_makes_it_with_autograd_on(many):
    net, angle = Watched(), torch.zeros(4)
    image, ranges = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.float32)
    if many:
        notebook.predict_many(net, image[None], ranges[None], angle, angle)
    else:
        notebook.predict(net, image, ranges, angle, angle)
    assert [grad for _, grad, _ in net.seen] == [True]
