"""Measure training: early fusion as `fusion train` does it, beside the notebook's loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice, pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks.settings import Bench, linked
from fusion_perception.learning.benchmarks.timing import Measured, alternate, epoch_seconds
from fusion_perception.learning.data.folder import RIG, DataFolder
from fusion_perception.learning.dataset import RawBatch, read_folder, split_indices
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.learner import Learner
from fusion_perception.learning.training import TrainSettings, start_fabric
from fusion_perception.models import FusionModel, Stage, build
from fusion_perception.runtime import Precision

MODEL = 'early_fusion'


class Way(NamedTuple):
    """A way of ours to train, and the stage that it is measured as."""

    stage: str
    precision: Precision
    compiled: bool

    @property
    def name(self) -> str:
        """The way in words."""
        return self.precision + ', compiled' * self.compiled


def our_ways(bench: Bench) -> tuple[Way, ...]:
    """Return our ways to train: the default, then those that are quicker on the bench's device."""
    if bench.device.type == 'cpu' or bench.settings.quick:
        return (Way('training', 'float32', False), Way('training_bfloat16', 'bfloat16', False))
    return (
        Way('training', 'float32', False),
        Way('training_compiled', 'float32', True),
        Way('training_bfloat16', 'bfloat16', True),
    )


class Ours:
    """A training of early fusion by the product's own code."""

    def __init__(self, bench: Bench, data: TrainingData, way: Way) -> None:
        self.recipe = TrainSettings(
            model=MODEL,
            data=bench.folder,
            out=bench.scratch,
            device=bench.settings.device,
            precision=way.precision,
            compile=way.compiled,
        )
        fabric = start_fabric(self.recipe)
        torch.manual_seed(0)
        self.model = build(MODEL)
        self.model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        stage = Stage(MODEL, self.model, _all(self.model))
        self.learner = Learner(fabric, self.recipe, stage, data.observe)
        self.data, self._step = data, 0
        self._batches = _endless(data)

    def steps(self, number: int) -> None:
        """Take some steps; the batches go on where they stopped."""
        self.learner.learn(islice(self._batches, number), self._step, 10**9)
        self._step += number

    def validate(self) -> float:
        """Return the validation loss."""
        return self.learner.validate(self.data.validation())[0]


class Theirs:
    """A training of early fusion by the notebook's loop."""

    def __init__(self, bench: Bench) -> None:
        held_out = len(split_indices(bench.scenes)[1])
        self.train, self.valid = notebook.loaders(
            bench.folder, bench.device, bench.scenes, held_out
        )
        self.net = notebook.EarlyNet().to(bench.device)
        self.optimiser = notebook.adam(self.net)
        self.inputs = notebook.INPUTS[MODEL]
        self.batches: Iterator[notebook.Sample] = (batch for _ in count() for batch in self.train)

    def steps(self, number: int) -> None:
        """Take some steps; the batches go on where they stopped."""
        notebook.train_epoch(self.net, self.optimiser, self.inputs, self.batches, number)

    def validate(self) -> float:
        """Return the validation loss."""
        return notebook.validate(self.net, self.inputs, self.valid)


def training(bench: Bench) -> list[Measured]:
    """Measure an epoch of early fusion, in each of our ways.

    An epoch is put together from the time of a step and that of a validation; on a GPU, where it
    takes seconds, and with full_epochs it is one.
    """
    bench = projected_alike(bench)
    recipe = TrainSettings(model=MODEL, data=bench.folder, out=bench.scratch)
    data = TrainingData(recipe, bench.device)
    theirs = Theirs(bench)
    ours = {way.name: Ours(bench, data, way) for way in our_ways(bench)}
    settings = bench.settings
    whole = settings.full_epochs or (bench.device.type == 'cuda' and not settings.quick)
    taken = data.steps if whole else min(data.steps, bench.size(settings.steps, 2))

    def epoch_of(way: Ours | Theirs) -> float:
        return epoch_seconds(way.steps, taken, data.steps, way.validate, bench.device)

    ways: dict[str, Ours | Theirs] = {'notebook': theirs, **dict(ours.items())}
    figures = alternate(
        settings.rounds, {name: partial(epoch_of, way) for name, way in ways.items()}
    )
    losses = compare_losses(bench, data, theirs)
    measured = (
        f'{data.steps} steps of 32 and the validation'
        if whole
        else f'{taken} of {data.steps} steps and the validation in each round, for a whole epoch'
    )
    return [
        Measured(
            way.stage,
            's',
            figures[way.name],
            figures['notebook'],
            f'early_fusion, {way.name}, batch 32: {measured}; {how_far_apart(losses, way.name)}',
            {'validation_mse': losses},
        )
        for way in our_ways(bench)
    ]


def projected_alike(bench: Bench) -> Bench:
    """Return the bench with scenes whose ranges become points by the notebook's formula.

    By the true, spherical one they lie up to half a metre elsewhere, and the loss is another.
    """
    folder = linked(DataFolder.open(bench.folder), bench.scratch / 'projected')
    rig = read_folder(bench.folder).rig.model_copy(update={'projection': 'notebook'})
    rig.write_yaml(folder / RIG)
    return replace(bench, folder=folder)


def compare_losses(
    bench: Bench, data: TrainingData, theirs: Theirs
) -> dict[str, tuple[float, ...]]:
    """Return the validation losses of a training from the same weights, by the way to train.

    Each way is validated after each epoch and at the end, which is where `after_steps` says. All
    see the same batches in the same order.
    """
    steps = bench.size(bench.settings.loss_steps, 2)
    after = (*range(data.steps, steps, data.steps), steps)

    def losses_of(way: Ours | Theirs) -> tuple[float, ...]:
        losses = []
        for begin, end in pairwise((0, *after)):
            way.steps(end - begin)
            losses.append(way.validate())
        return tuple(losses)

    losses: dict[str, tuple[float, ...]] = {'after_steps': after}
    for way in our_ways(bench):
        ours = Ours(bench, data, way)
        if 'notebook' not in losses:
            copy_weights(ours.model, theirs.net)
            theirs.optimiser = notebook.adam(theirs.net)
            theirs.batches = in_our_order(ours, theirs)
            losses['notebook'] = losses_of(theirs)
        losses[way.name] = losses_of(ours)
    return losses


def how_far_apart(losses: Mapping[str, Sequence[float]], name: str) -> str:
    """Say how the losses of one of our ways to train compare with the notebook's.

    One loss says little after epochs at a constant rate, so the later half of several is averaged.
    """
    ours, theirs = losses[name], losses['notebook']
    said = f'after {losses["after_steps"][-1]} steps {100 * ours[-1] / theirs[-1] - 100:+.1f} %'
    late = len(ours) // 2
    if late > 1:
        ratio = sum(ours[-late:]) / sum(theirs[-late:])
        said += f' (the last {late} epochs averaged: {100 * ratio - 100:+.1f} %)'
    return f"validation MSE {said} against the notebook's"


def in_our_order(ours: Ours, theirs: Theirs) -> Iterator[notebook.Sample]:
    """Yield the notebook's batches, shuffled as ours are."""
    for epoch in count():
        order = ours.data.order(MODEL, epoch).tolist()
        yield from DataLoader(
            theirs.train.dataset, notebook.BATCH_SIZE, sampler=order, drop_last=True
        )


@torch.no_grad()
def copy_weights(model: FusionModel, net: nn.Module) -> None:
    """Give the notebook's network the weights of ours.

    Its labels are in world axes, where x and y point the other way: the last layer turns round.
    """
    for ours, theirs in zip(model.parameters(), net.parameters(), strict=True):
        theirs.copy_(ours)
    turned = torch.tensor([-1.0, -1.0, 1.0], device=theirs.device).repeat(3)
    *_, weight, bias = net.parameters()
    weight.mul_(turned[:, None])
    bias.mul_(turned)


def _endless(data: TrainingData) -> Iterator[RawBatch]:
    for epoch in count():
        yield from data.training(MODEL, epoch)


def _all(model: nn.Module) -> list[nn.Parameter]:
    return list(model.parameters())
