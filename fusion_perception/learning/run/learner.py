"""Let one stage of a model learn from batches: forward, loss, backward, step; and validate."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fusion_perception.learning.dataset import RawBatch
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.run.step_graph import Step, StepGraph
from fusion_perception.models import Estimate, FusionModel, Stage
from fusion_perception.sensing.observation import Observation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Observe = Callable[[RawBatch], Observation]


@contextmanager
def quick_kernels() -> Iterator[None]:
    """Let a GPU multiply float32 matrices as it convolves them by default: in TF32.

    And let it try, for each new convolution, which of its ways is the quickest.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.benchmark
    matmul.allow_tf32, cudnn.benchmark = True, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.benchmark = before


class Learner:
    """A stage's model with its optimiser, on a Fabric's device.

    `observe` turns a raw batch into an observation; see `TrainingData.observe`.
    `mean` is the running mean of the weights where the recipe keeps one; `kept` is the model
    whose weights count: the mean, or else the model itself.
    """

    def __init__(self, fabric: Fabric, recipe: Recipe, stage: Stage, observe: Observe) -> None:
        self._fabric, self._recipe = fabric, recipe
        self.model = stage.model
        self.optimiser = build_optimiser(recipe, stage.parameters)
        self._net, self._stepper = fabric.setup(
            _Forward(stage.model, recipe, observe), self.optimiser
        )
        self._full_batch = recipe.batch_size // fabric.world_size
        self._update: Callable[[], object] = self._stepper.step
        if recipe.compile:
            # Another stage's code is of no use any more, and counts as a variant of this one's.
            torch.compiler.reset()
            self._update = compiled_update(self.optimiser)
        self.mean: FusionModel | None = None
        self._kept_net: nn.Module = self._net
        if recipe.ema is not None:
            self.mean = copy.deepcopy(stage.model)
            self._kept_net = fabric.setup_module(_Forward(self.mean, recipe, observe))
        self.kept = self.model if self.mean is None else self.mean
        # What changes from step to step lies in tensors: a recorded step reads it from there.
        self._loss_sum = torch.zeros((), device=fabric.device)
        self._decay = torch.zeros((), device=fabric.device)
        self._take: Step = self._step
        if fabric.device.type == 'cuda' and fabric.world_size == 1:
            self._take = StepGraph(self._step, fabric.device)

    def learn(
        self,
        batches: Iterable[RawBatch],
        first: int,
        steps: int,
        advance: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Take one step per batch, from step number `first` of `steps`; return the losses' sum.

        A batch smaller than the recipe's counts by the part of it that it is. The sum stays on
        the device: reading it would wait for every step. `advance` is called with it after each
        step.
        """
        recipe = self._recipe
        self.model.train()
        self._loss_sum.zero_()
        for step, raw in enumerate(batches, start=first):
            set_learning_rate(self.optimiser, learning_rate(recipe, step, steps))
            if recipe.ema is not None:
                self._decay.fill_(min(recipe.ema, (1 + step) / (10 + step)))
            self._take(raw)
            if advance is not None:
                advance(self._loss_sum)
        return self._loss_sum.clone()

    @quick_kernels()
    def _step(self, raw: RawBatch) -> None:
        """Take one step; nothing in it waits for the device."""
        self._stepper.zero_grad()
        loss = self.model.training_loss(self._net(*raw), raw.centers)
        self._fabric.backward(loss)
        if self._recipe.clip_norm is not None:
            # A gradient that is not finite shows in the losses at the end of the epoch.
            self._fabric.clip_gradients(
                self._net,
                self._stepper,
                max_norm=self._recipe.clip_norm,
                error_if_nonfinite=False,
            )
        self._update()
        if self.mean is not None:
            follow(self.mean, self.model, self._decay)
        part = len(raw.centers) / self._full_batch
        # A product with 1 would be one more launch in every step.
        self._loss_sum += loss.detach() if part == 1 else part * loss.detach()

    @torch.inference_mode()
    def validate(self, batches: Iterable[RawBatch]) -> tuple[float, Estimate, Tensor]:
        """Return the mean loss over scenes, their estimate and the true centres."""
        self.kept.eval()
        losses, centers, truths = [], [], []
        for raw in batches:
            estimate: Estimate = self._kept_net(*raw)
            loss = self.kept.training_loss(estimate, raw.centers)
            losses.append(loss * len(raw.centers))
            centers.append(estimate.centers)
            truths.append(raw.centers)
        mean = float(torch.stack(losses).sum()) / sum(map(len, truths))
        return mean, Estimate(torch.cat(centers)), torch.cat(truths)


def build_optimiser(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; fused steps take a third of the time on a CPU.

    Those that are compiled cannot be fused. On a GPU its learning rate is a tensor there: a
    recorded step reads it anew.
    """
    kind = torch.optim.AdamW if recipe.optimiser == 'adamw' else torch.optim.Adam
    on_gpu = parameters[0].is_cuda
    rate = recipe.learning_rate
    return kind(
        parameters,
        lr=torch.tensor(rate, device=parameters[0].device) if on_gpu else rate,
        weight_decay=recipe.weight_decay,
        fused=not recipe.compile,
        foreach=recipe.compile or None,
        capturable=on_gpu,
    )


def compiled_update(optimiser: torch.optim.Optimizer) -> Callable[[], object]:
    """Return an optimiser's step as compiled kernels, which keep all of a GPU busy.

    torch wraps a step for profilers and for gradients of it; neither can be compiled.
    """
    step = partial(inspect.unwrap(type(optimiser).step), optimiser)
    update: Callable[[], object] = torch.no_grad()(torch.compile(step))
    return update


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        if isinstance(group['lr'], Tensor):
            group['lr'].fill_(rate)
        else:
            group['lr'] = rate


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step: a function of the step alone, so nothing is kept."""
    if recipe.schedule == 'constant':
        return recipe.learning_rate
    rise = max(1, round(recipe.warm_up * steps))
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, decay: Tensor) -> None:
    """Move the running mean of the weights towards the weights by 1 - decay, a number ()."""
    for kept, now in zip(mean.parameters(), model.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)
    for constant, value in zip(mean.buffers(), model.buffers(), strict=True):
        constant.copy_(value)


class _Forward(nn.Module):
    """Estimate the centres of a raw batch, given as the tensors that Fabric and DDP look for.

    Autocast is done here and not by Fabric, whose mixed precision would round the inputs too:
    in bfloat16 a point 25 m away is known to 10 cm.
    """

    def __init__(self, model: FusionModel, recipe: Recipe, observe: Observe) -> None:
        super().__init__()
        self.model = model
        self.reduced = recipe.precision == 'bfloat16'
        # A function: as a module it would be the model's weights a second time.
        forward = model.forward

        def compute(*raw: Tensor) -> Estimate:
            return forward(observe(RawBatch(*raw)))

        self.compute = torch.compile(compute, dynamic=False) if recipe.compile else compute

    def forward(self, *raw: Tensor) -> Estimate:
        with torch.autocast(raw[0].device.type, torch.bfloat16, enabled=self.reduced):
            return self.compute(*raw)
