"""Make rotation matrices: random ones, and ones about given axes."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_perception.sensing.geometry import cross_matrices, rotations_of
from fusion_perception.simulation.spans import Draw


def random_rotations(draw: Draw, *shape: int) -> Tensor:
    """Return (*shape, 3, 3) rotations, uniform over SO(3): normalised Gaussian quaternions."""
    drawn = torch.nn.functional.normalize(draw.normal(*shape, 4), dim=-1)
    return rotations_of(drawn.roll(-1, dims=-1))  # w is drawn first.


def rotations_about(axes: Tensor, angles: Tensor) -> Tensor:
    """Return (..., 3, 3) rotations about unit axes (..., 3) by angles (...), radians."""
    cross = cross_matrices(axes)
    angles = angles[..., None, None]
    identity = torch.eye(3, device=axes.device)
    turned: Tensor = (
        identity + torch.sin(angles) * cross + (1 - torch.cos(angles)) * (cross @ cross)
    )
    return turned
