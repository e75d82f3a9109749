"""Measure ways of doing the same thing, alternating, and say how far the rounds spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter, sleep

import numpy as np
import torch

from fusion_perception.learning.benchmarks.result import Spread, Stage

Work = Callable[[], object]
# Measures once and returns the figure: seconds, or whatever the stage counts in.
Measure = Callable[[], float]
# Threads of OpenMP wait for more work by spinning for some milliseconds: until they rest, they
# take a core from whoever is measured next.
_REST_S = 0.05


@dataclass(frozen=True)
class Measured:
    """One stage: the figures of each round, ours and, where there is one, the notebook's way's.

    `unit` is 's', 'ms' or 'scenes/s'; `ratio` says how many times better ours is, whichever way
    the unit counts. `what` says in a sentence what was measured, `details` holds what else is
    worth keeping.
    """

    stage: str
    unit: str
    ours: tuple[float, ...]
    notebook: tuple[float, ...]
    what: str
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Return the ratio of the medians, more than 1 where ours is better."""
        return (
            better(self.unit, median(self.ours), median(self.notebook)) if self.notebook else None
        )

    def judged(self, goal: float) -> Stage:
        """Return the stage with its verdict."""
        paired = [better(self.unit, *pair) for pair in zip(self.ours, self.notebook, strict=False)]
        ratio = self.ratio
        return Stage(
            stage=self.stage,
            unit=self.unit,
            ours=Spread.of(self.ours),
            notebook=Spread.of(self.notebook) if self.notebook else None,
            ratio=ratio,
            ratio_by_round=Spread.of(paired) if paired else None,
            goal=goal,
            reached=(median(self.ours) if ratio is None else ratio) >= goal,
            what=self.what,
            details=dict(self.details),
        )


def better(unit: str, ours: float, other: float) -> float:
    """Return how many times better `ours` is: smaller times, larger rates."""
    return ours / other if unit.endswith('/s') else other / ours


def alternate(rounds: int, measures: Mapping[str, Measure]) -> dict[str, tuple[float, ...]]:
    """Call the measures in turn, A B A B, after one round that does not count.

    What disturbs the machine meanwhile then disturbs all of them alike. Before each, the threads
    of the one before come to rest.
    """
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(rounds + 1):
        for name, measure in measures.items():
            sleep(_REST_S)
            figure = measure()
            if turn:
                figures[name].append(figure)
    return {name: tuple(values) for name, values in figures.items()}


def seconds_of(work: Work, device: torch.device, calls: int = 1) -> float:
    """Return the mean time of some calls in a row, until the device has finished, seconds."""
    wait_for(device)
    began = perf_counter()
    for _ in range(calls):
        work()
    wait_for(device)
    return (perf_counter() - began) / calls


def epoch_seconds(
    step: Callable[[int], object], taken: int, steps: int, validate: Work, device: torch.device
) -> float:
    """Return the time of an epoch of so many steps, from that of some taken and a validation.

    `step` takes as many steps as it is told.
    """
    stepping = seconds_of(lambda: step(taken), device)
    return stepping / taken * steps + seconds_of(validate, device)


def wait_for(device: torch.device) -> None:
    """Return when the device has nothing left to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def median(values: tuple[float, ...]) -> float:
    """Return the median."""
    return float(np.median(values))
