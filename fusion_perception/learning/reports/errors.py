"""Arrange what was scored, and when, for the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.learning.bags.judging import MODES
from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.metrics import distances
from fusion_perception.sensing.observation import Mode

Floats = NDArray[np.float64]
# Enough for every pixel of a figure on paper, and few enough for a small page.
MOST_POINTS = 240


@dataclass(frozen=True)
class Axis:
    """What the figures over time run along: scenes, or seconds of one recording after another.

    `begins` holds where each recording begins, or the number of the first scene.
    """

    label: str
    begins: tuple[float, ...]
    end: float

    @classmethod
    def of(cls, evidence: Evidence) -> Axis:
        """Return the axis of a data folder, or of recordings in their order."""
        if not evidence.runs:
            first = evidence.first_scene
            return cls('scene', (float(first),), float(first + max(1, evidence.pairs)))
        ends = np.cumsum([max(run.seconds, 1.0) for run in evidence.runs]).tolist()
        after = ' (recordings one after another)' if len(ends) > 1 else ''
        return cls(f'time{after} [s]', (0.0, *ends[:-1]), ends[-1])

    def ends(self) -> tuple[float, ...]:
        """Return where each recording ends."""
        return (*self.begins[1:], self.end)

    def edges(self) -> Floats:
        """Return the edges of MOST_POINTS equal bins along the whole axis."""
        return np.linspace(self.begins[0], self.end, MOST_POINTS + 1)


@dataclass(frozen=True)
class Errors:
    """N scored predictions of K objects: metres, in order.

    away (N, K) is the distance from the true centre and reach (N, K) that centre's range; at (N,)
    lies on an Axis. inside (N, K) is the share of its distribution that a prediction promises to
    be nearer than the truth turned out to be, None without covariance: evenly spread over 0..1
    where promises are kept.
    """

    classes: Sequence[str]
    away: Floats
    reach: Floats
    at: Floats
    modes: Sequence[Mode]
    inside: Floats | None

    def __len__(self) -> int:
        return len(self.away)

    def modes_seen(self) -> list[Mode]:
        """Return the modes that occur, in their usual order."""
        return [mode for mode in MODES if mode in self.modes]

    def of_mode(self, mode: Mode) -> NDArray[np.bool_]:
        """Say which predictions were made in a mode, (N,)."""
        return np.array([seen == mode for seen in self.modes], dtype=bool)


def errors_of(evidence: Evidence, axis: Axis) -> Errors:
    """Measure every scored prediction of an evaluation."""
    prediction, truth = evidence.prediction, evidence.truth
    at = axis.begins[0] + np.arange(len(truth), dtype=np.float64)
    if evidence.runs:
        placed = zip(axis.begins, evidence.runs, strict=True)
        at = np.concatenate(
            [begin + run.judged.time_s[run.judged.scored] for begin, run in placed]
        )
    inside = None
    if prediction.covariance is not None:
        error = (prediction.centers.double() - truth.double()).unsqueeze(-1)
        squared = error.mT @ torch.linalg.solve(prediction.covariance.double(), error)
        inside = share_within(squared[..., 0, 0].numpy())
    return Errors(
        classes=prediction.classes,
        away=distances(prediction.centers, truth).numpy(),
        reach=torch.linalg.vector_norm(truth.double(), dim=-1).numpy(),
        at=at,
        modes=prediction.mode,
        inside=inside,
    )


def share_within(squared: Floats) -> Floats:
    """Return how much of a Gaussian in space lies within these squared Mahalanobis distances.

    The distribution function of chi squared with three degrees of freedom.
    """
    half = np.sqrt(np.maximum(squared, 0.0) / 2)
    shares = np.array([math.erf(value) for value in half.ravel()]).reshape(half.shape)
    shares -= 2 / math.sqrt(math.pi) * half * np.exp(-(half**2))
    return shares


def quantiles_by_bin(
    bins: NDArray[np.intp], values: Floats, count: int, ranks: Sequence[float]
) -> Floats:
    """Return quantiles (ranks, count) of the values (N,) in each bin, NaN in empty ones."""
    order = np.argsort(bins, kind='stable')
    cuts = np.searchsorted(bins[order], np.arange(count + 1))
    found = np.full((len(ranks), count), np.nan)
    for index in range(count):
        mine = values[order[cuts[index] : cuts[index + 1]]]
        if len(mine):
            found[:, index] = np.quantile(mine, ranks)
    return found
