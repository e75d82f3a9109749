"""Measure how far predicted centres lie from the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

HIT_RADII_M = (0.1, 0.25, 0.5)
# The squared Mahalanobis distance of three coordinates that 95 % of a Gaussian stays within.
_CHI_SQUARED_3_AT_95 = 7.814728


@dataclass(frozen=True)
class ErrorM:
    """Distances between predicted and true centres, metres; per_class holds each mean."""

    mean: float
    median: float
    p95: float
    max: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """How honest the covariances are.

    `mahalanobis` is the mean squared Mahalanobis distance per coordinate, 1 when they are
    honest and more when they promise too much; `coverage95` the fraction of centres within
    their 95 % ellipsoid.
    """

    mahalanobis: float
    coverage95: float


@dataclass(frozen=True)
class Scores:
    """What is reported of a set of predictions; mse is over all coordinates, square metres."""

    scenes: int
    mse: float
    error_m: ErrorM
    hit_rate: dict[str, float]
    calibration: Calibration | None = None

    def as_json(self) -> dict[str, object]:
        """Return JSON values; calibration only where the model estimates a covariance."""
        values = asdict(self)
        if self.calibration is None:
            del values['calibration']
        return values


def distances(centers: Tensor, truth: Tensor) -> Tensor:
    """Return the distance (N, K) between predicted and true centres (N, K, 3), metres."""
    away: Tensor = torch.linalg.vector_norm(centers.double() - truth.double(), dim=-1)
    return away


def score(
    centers: Tensor,
    truth: Tensor,
    classes: Sequence[str],
    covariance: Tensor | None = None,
    first: int = 0,
) -> Scores:
    """Score predicted centres (N, K, 3) with optional covariance (N, K, 3, 3) against the truth.

    A hit lies closer to the truth than the radius; `first` is the first scene's number. Raises
    ValueError for shapes that disagree, for no scenes at all, and for values that are not finite:
    their mean would hide the fault.
    """
    if centers.shape != truth.shape or centers.shape[1:] != (len(classes), 3):
        raise ValueError(
            f'Predicted centres {tuple(centers.shape)}, true centres {tuple(truth.shape)} and '
            f'{len(classes)} classes do not fit; (N, K, 3) for K classes is needed.'
        )
    if not len(centers):
        raise ValueError('There are no scenes to score. Give at least one.')
    centers, truth = centers.detach().cpu().double(), truth.detach().cpu().double()
    broken = ~(centers.isfinite() & truth.isfinite()).all(dim=-1).all(dim=-1)
    if broken.any():
        raise ValueError(
            f'{int(broken.sum())} of {len(centers)} scenes have centres that are not finite, the '
            f'first at index {first + int(broken.nonzero()[0])}. Check its input for NaN.'
        )
    away = distances(centers, truth)
    return Scores(
        scenes=len(centers),
        mse=float((centers - truth).square().mean()),
        error_m=ErrorM(
            mean=float(away.mean()),
            median=float(away.quantile(0.5)),
            p95=float(away.quantile(0.95)),
            max=float(away.max()),
            per_class=dict(zip(classes, away.mean(dim=0).tolist(), strict=True)),
        ),
        hit_rate={str(r): float((away < r).double().mean()) for r in HIT_RADII_M},
        calibration=None if covariance is None else _calibration(centers, truth, covariance),
    )


def _calibration(centers: Tensor, truth: Tensor, covariance: Tensor) -> Calibration:
    error = (centers - truth).unsqueeze(-1)
    spread = covariance.detach().cpu().double()
    squared = (error.mT @ torch.linalg.solve(spread, error)).flatten()
    return Calibration(
        mahalanobis=float(squared.mean()) / 3,
        coverage95=float((squared <= _CHI_SQUARED_3_AT_95).double().mean()),
    )
