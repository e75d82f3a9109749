"""Combine and score Gaussian estimates of positions."""

from __future__ import annotations

import torch
from torch import Tensor

# 5 mm to 55 m: nothing this package measures is surer or less sure than that.
MIN_LOG_PRECISION_ROOT = -4.0
MAX_LOG_PRECISION_ROOT = 5.3


def precision_from(raw: Tensor) -> Tensor:
    """Turn (..., 6) free numbers into symmetric positive definite (..., 3, 3) precisions.

    The numbers are the logarithms of the diagonal of a lower triangular root, then its three
    other entries relative to the diagonal of their column.
    """
    # A smooth clamp: beyond the limits the gradient fades, yet never vanishes.
    middle = (MAX_LOG_PRECISION_ROOT + MIN_LOG_PRECISION_ROOT) / 2
    half = (MAX_LOG_PRECISION_ROOT - MIN_LOG_PRECISION_ROOT) / 2
    diagonal = torch.exp(middle + half * torch.tanh((raw[..., :3] - middle) / half))
    beside = raw[..., 3:].clamp(-10, 10)
    zero = torch.zeros_like(raw[..., :1])
    one = torch.ones_like(zero)
    unit = torch.cat((one, zero, zero, beside[..., :1], one, zero, beside[..., 1:], one), -1)
    root = unit.unflatten(-1, (3, 3)) * diagonal.unsqueeze(-2)
    precision: Tensor = root @ root.transpose(-1, -2)
    return precision


def invert_symmetric(matrix: Tensor) -> Tensor:
    """Invert symmetric positive definite (..., 3, 3) matrices in closed form.

    M^-1 = adj M / det M with adj M[i, j] = M[i+1, j+1] M[i+2, j+2] - M[i+1, j+2] M[i+2, j+1], the
    indices modulo 3: of a symmetric matrix the cofactors need no transposing. Exports to every
    engine, which torch.linalg does not.
    """
    # The cofactors all at once, by rows and columns that begin anew: one by one, nine numbers cost
    # an engine more time than a convolution.
    wide = torch.cat((matrix, matrix[..., :2]), -1)
    wide = torch.cat((wide, wide[..., :2, :]), -2)
    adjugate = wide[..., 1:4, 1:4] * wide[..., 2:, 2:] - wide[..., 1:4, 2:] * wide[..., 2:, 1:4]
    determinant = (matrix[..., :1, :] * adjugate[..., :1, :]).sum(-1, keepdim=True)
    return adjugate / determinant


def log_determinant(matrix: Tensor) -> Tensor:
    """Return the log determinant (...) of symmetric positive definite (..., 3, 3) matrices."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    # In float32 a matrix of condition 1e5 may look indefinite: then it is as good as singular.
    schur = (d - b * b / a).clamp_min(1e-12)
    cross = e - b * c / a
    last = f - c * c / a - cross * cross / schur
    return a.log() + schur.log() + last.clamp_min(1e-12).log()


def disagreement(
    one: Tensor, its_covariance: Tensor, other: Tensor, others_covariance: Tensor
) -> Tensor:
    """Return d^2 / 3 (...) of two independent estimates (..., 3) of the same position.

    d is the Mahalanobis distance of one from the other; on average the result is 1 where both are
    as far off as their covariances (..., 3, 3) say.
    """
    precision = invert_symmetric(its_covariance + others_covariance)
    return squared_mahalanobis(one - other, precision) / 3


def squared_mahalanobis(error: Tensor, precision: Tensor) -> Tensor:
    """Return error^T precision error, (...), for errors (..., 3)."""
    return torch.einsum('...i,...ij,...j->...', error, precision, error)
