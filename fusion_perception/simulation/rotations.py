"""Make rotation matrices: random ones, and ones about given axes."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_perception.simulation.spans import Draw


def random_rotations(draw: Draw, *shape: int) -> Tensor:
    """Return (*shape, 3, 3) rotations, uniform over SO(3): normalised Gaussian quaternions."""
    w, x, y, z = torch.nn.functional.normalize(draw.normal(*shape, 4), dim=-1).unbind(-1)
    entries = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )
    return torch.stack(entries, dim=-1).reshape(*shape, 3, 3)


def rotations_about(axes: Tensor, angles: Tensor) -> Tensor:
    """Return (..., 3, 3) rotations about unit axes (..., 3) by angles (...), radians."""
    x, y, z = axes.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1)
    cross = cross.reshape(*x.shape, 3, 3)
    angles = angles[..., None, None]
    identity = torch.eye(3, device=axes.device)
    turned: Tensor = (
        identity + torch.sin(angles) * cross + (1 - torch.cos(angles)) * (cross @ cross)
    )
    return turned
