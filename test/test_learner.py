"""Each setting of a recipe does what it says to the weights, step by step."""

import shutil

import pytest
import torch
from torch import nn

from fusion_perception.learning.dataset import RawBatch
from fusion_perception.learning.run.learner import Learner, build_optimiser, compiled_update
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.training import start_fabric
from fusion_perception.models import Estimate, FusionModel
from fusion_perception.sensing.observation import Observation

pytestmark = pytest.mark.usefixtures('one_thread')


class Guess(FusionModel):
    """Say that the centres are always at the same place; a weight beside it does nothing."""

    modes = frozenset({'fusion'})

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 1, 3))
        self.idle = nn.Parameter(torch.ones(4))

    def forward(self, observation):
        place = self.place + 0 * self.idle.sum()
        return Estimate(place.expand(len(observation), 1, 3))


NOTHING_SEEN = Observation(
    rgba=torch.zeros(2, 4, 1, 1),
    xyza=torch.zeros(2, 4, 1, 1),
    camera=torch.ones(2, dtype=torch.bool),
    lidar=torch.ones(2, dtype=torch.bool),
    intrinsics=torch.eye(3).expand(2, 3, 3),
    T_camera_lidar=torch.eye(4).expand(2, 4, 4),
)


def raw(count, away):
    nothing = torch.zeros(count, 1, 1)
    return RawBatch(nothing, nothing, torch.full((count, 1, 3), away), nothing, nothing)


def learned(*centers, first=0, model=None, **recipe):
    """Return a learner that took a step towards each of the distances, metres."""
    settings = Recipe(device='cpu', learning_rate=0.1, **recipe)
    [stage] = (model or Guess()).stages()
    learner = Learner(
        start_fabric(settings), settings, stage, lambda raw: NOTHING_SEEN[: len(raw.centers)]
    )
    batches = [raw(2, away) for away in centers]
    learner.learn(batches, first=first, steps=first + len(batches))
    return learner


@pytest.mark.slow
def test_decay_pulls_a_weight_towards_zero_that_nothing_else_moves():
    kept = learned(1.0, optimiser='adamw').model.idle
    pulled = learned(1.0, optimiser='adamw', weight_decay=0.5).model.idle
    assert torch.equal(kept, torch.ones(4))
    # AdamW takes off the learning rate times the decay.
    torch.testing.assert_close(pulled, torch.full((4,), 1 - 0.1 * 0.5))


@pytest.mark.parametrize('away', [1e6, 1e-3])
def test_a_gradient_longer_than_its_limit_is_shortened_and_another_is_not(away):
    free, clipped = (learned(away, clip_norm=limit).model.place for limit in (None, 0.5))
    length = free.grad.norm()
    assert (length > 0.5) == (away == 1e6)
    torch.testing.assert_close(clipped.grad, free.grad * min(1.0, 0.5 / float(length)))


def test_after_one_odd_batch_only_a_clipped_model_soon_goes_on_learning():
    odd, usual = 1e6, [-1.0] * 30
    # Adam divides by the largest gradients it remembers, and it remembers them for long.
    assert (learned(odd, *usual).model.place > 0).all()
    assert (learned(odd, *usual, clip_norm=1.0).model.place < -0.5).all()


@pytest.mark.parametrize(('step', 'share'), [(0, 0.9), (10**6, 0.001)])
def test_the_running_mean_takes_over_the_first_weights_at_once_and_later_ones_slowly(step, share):
    learner = learned(1.0, first=step, ema=0.999)
    now = learner.model.place
    assert now.norm() > 0.1
    # It begins at the initial weights, which are zero.
    torch.testing.assert_close(learner.kept.place, share * now)


def test_the_running_mean_is_what_is_validated_and_each_scene_counts_alike():
    learner = learned(1.0, first=10**6, ema=0.9)
    place = learner.kept.place.detach()
    assert not torch.equal(place, learner.model.place)
    loss, found, truth = learner.validate([raw(2, 3.0), raw(1, 9.0)])
    assert torch.equal(found.centers, place.expand(3, 1, 3))
    assert loss == pytest.approx(float((found.centers - truth).square().mean()), rel=1e-5)


class Normalised(Guess):
    """Guess by what is usual in the batches so far."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, observation):
        return Estimate(self.norm(observation.rgba[:, :3, 0, 0] + self.place[0]).unsqueeze(1))


def test_the_running_mean_takes_over_what_is_usual_in_the_batches():
    learner = learned(1.0, -1.0, ema=0.9, model=Normalised())
    assert torch.equal(learner.kept.norm.running_mean, learner.model.norm.running_mean)
    assert learner.kept.norm.num_batches_tracked == 2


class Multiplying(Guess):
    """Remember in which precision it multiplied."""

    def forward(self, observation):
        self.kind = (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        return super().forward(observation)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_a_model_learns_and_is_validated_in_the_precision_asked_for(precision):
    learner = learned(1.0, precision=precision, model=Multiplying())
    assert learner.model.kind == getattr(torch, precision)
    learner.model.kind = None
    learner.validate([raw(2, 3.0)])
    assert learner.model.kind == getattr(torch, precision)


def test_the_sum_of_the_losses_is_told_after_each_step_and_begins_anew_with_each_epoch():
    learner, told, place = learned(batch_size=2), [], []

    def advance(total):
        told.append(float(total))
        place.append(learner.model.place.detach().clone())

    batches = [raw(2, away) for away in (1.0, 5.0, 7.0)]
    first = learner.learn(batches, first=0, steps=6, advance=advance)
    sums = list(told)
    assert sums == sorted(sums) and len(sums) == 3
    assert sums[0] == pytest.approx(1.0) and sums[-1] == float(first)
    second = learner.learn(batches[:1], first=3, steps=6, advance=advance)
    assert float(second) == told[3] == pytest.approx(float((place[2] - 1).square().mean()))
    assert float(first) == sums[-1], 'what was returned stays as it is'


class Watching(Guess):
    """Remember what is switched on while it learns."""

    def forward(self, observation):
        self.switches = switches()
        return super().forward(observation)


def switches():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark


@pytest.mark.parametrize('before', [(False, False), (True, False), (False, True)])
def test_quick_kernels_are_on_in_a_step_and_then_as_they_were(monkeypatch, before):
    monkeypatch.setattr(torch.backends.cuda.matmul, 'allow_tf32', before[0])
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', before[1])
    assert learned(1.0, model=Watching()).model.switches == (True, True)
    assert switches() == before


def test_a_model_learns_nothing_of_the_scenes_that_validate_it_and_goes_on_learning():
    learner = learned(1.0, model=Normalised())
    before = {key: value.clone() for key, value in learner.model.state_dict().items()}
    learner.validate([raw(2, 3.0)])
    after = learner.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    learner.learn([raw(2, 3.0)], first=1, steps=2)
    assert learner.model.norm.num_batches_tracked == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='to compile for a CPU needs g++')
@pytest.mark.parametrize('optimiser', ['adam', 'adamw'])
def test_a_compiled_update_moves_the_weights_as_a_plain_one_does(optimiser):
    torch.manual_seed(0)
    start = [torch.randn(3, 2), torch.randn(5)]
    gradients = [[torch.randn_like(part) for part in start] for _ in range(4)]

    def moved(compiled):
        recipe = Recipe(optimiser=optimiser, weight_decay=0.1, learning_rate=0.1, compile=compiled)
        weights = [nn.Parameter(part.clone()) for part in start]
        plain = build_optimiser(recipe, weights)
        update = compiled_update(plain) if compiled else plain.step
        for step in gradients:
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient
            update()
        return weights

    for found, expected, before in zip(moved(True), moved(False), start, strict=True):
        torch.testing.assert_close(found, expected)
        assert (found - before).abs().min() > 0.01
