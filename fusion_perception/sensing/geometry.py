"""Relate angles, ranges, points and pixels.

Axes of the LiDAR frame: x right, y forward, z up. Axes of the camera (optical) frame: x right,
y down, z forward. Metres and radians throughout; pixel centres lie at whole numbers.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Projection = Literal['notebook', 'spherical']
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

# Rows of this matrix are the camera's axes seen in the LiDAR frame.
LIDAR_TO_OPTICAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
# REP-103 (x forward, y left, z up) seen from the package's LiDAR frame: x_ros = y, y_ros = -x.
LIDAR_TO_REP103 = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def direction_table(azimuth: Tensor, zenith: Tensor, projection: Projection) -> Tensor:
    """Return the direction of every LiDAR pixel, (R, C, 3) in the dtype of the tables.

    `azimuth` is (R,) or (R, C), positive counter-clockwise seen from above; `zenith` is (C,) or
    (R, C), positive downwards; radians. 'spherical' gives unit vectors. 'notebook' is the
    formula of the course notebook "Early and Late Fusion", which leaves cos(zenith) out of x,
    so that its vectors grow longer than one towards the corners.
    Raises ValueError for tables that do not describe one grid.
    """
    if projection not in PROJECTIONS:
        raise ValueError(
            f"Unknown projection '{projection}'. Choose one of: {', '.join(PROJECTIONS)}."
        )
    if azimuth.ndim == 1 and zenith.ndim == 1:
        azimuth, zenith = (
            azimuth[:, None].expand(-1, len(zenith)),
            zenith[None, :].expand(len(azimuth), -1),
        )
    elif azimuth.ndim == 1 and zenith.ndim == 2 and len(azimuth) == zenith.shape[0]:
        azimuth = azimuth[:, None].expand_as(zenith)
    elif azimuth.ndim == 2 and zenith.ndim == 1 and len(zenith) == azimuth.shape[1]:
        zenith = zenith[None, :].expand_as(azimuth)
    elif azimuth.ndim != 2 or azimuth.shape != zenith.shape:
        raise ValueError(
            f'An azimuth table of shape {tuple(azimuth.shape)} and a zenith table of shape '
            f'{tuple(zenith.shape)} describe no grid. Give (R,) and (C,), or (R, C) tables.'
        )
    if not (azimuth.isfinite().all() and zenith.isfinite().all()):
        raise ValueError('The angle tables hold NaN or infinite angles. Give radians.')
    across = torch.sin(-azimuth)
    if projection == 'spherical':
        across = across * torch.cos(zenith)
    forward = torch.cos(azimuth) * torch.cos(zenith)
    # Each component lies in one piece, as range_to_xyza wants them.
    return torch.stack((across, forward, torch.sin(-zenith))).permute(1, 2, 0)


def range_to_xyza(
    range_image: Tensor, directions: Tensor, max_range: float, offsets: Tensor | None = None
) -> Tensor:
    """Turn ranges along the beam into points and a mask, (..., 4, R, C): x, y, z, a.

    `range_image` is (..., R, C) in metres, `directions` (R, C, 3). A reading that is not finite,
    not positive or not below `max_range` is no return: its a is 0 and its point lies at
    `max_range`, the value the original sensor reports for a ray that hits nothing. `offsets`
    (R, C, 3) in metres says where each beam begins; None means at the origin.
    Raises ValueError when the image and the table have different shapes.
    """
    if range_image.shape[-2:] != directions.shape[:2]:
        raise ValueError(
            f'The range image is {tuple(range_image.shape[-2:])} and the LiDAR table '
            f'{tuple(directions.shape[:2])} (rows, columns). Use the tables of this sensor.'
        )
    # Fill the gaps before multiplying: inf * 0 is NaN, and one NaN poisons every convolution.
    # NaN is not above 0, and what is at or beyond the maximum ends there.
    reached = torch.where(range_image > 0, range_image, max_range).clamp_max_(max_range)
    metres = reached.to(directions.dtype)
    if torch.onnx.is_in_onnx_export():
        # A graph knows no writing in place.
        points = metres.unsqueeze(-3) * directions.permute(2, 0, 1)
        if offsets is not None:
            points = points + offsets.permute(2, 0, 1)
        mask = (reached < max_range).to(points.dtype)
        return torch.cat((points, mask.unsqueeze(-3)), -3)
    # Written in place: a concatenation would move every value once more.
    xyza = metres.new_empty((*metres.shape[:-2], 4, *metres.shape[-2:]))
    points = xyza[..., :3, :, :]
    torch.mul(metres.unsqueeze(-3), directions.permute(2, 0, 1), out=points)
    if offsets is not None:
        points += offsets.permute(2, 0, 1)
    torch.lt(reached, max_range, out=xyza[..., 3, :, :])
    return xyza


def transform_points(T_target_source: Tensor, points: Tensor) -> Tensor:
    """Move points (..., 3) from the source into the target frame by a (..., 4, 4) transform.

    The leading shape of the transform, when it has one, is the batch of the points: (B, 4, 4)
    moves (B, ..., 3).
    """
    rotation, translation = T_target_source[..., :3, :3], T_target_source[..., :3, 3]
    batch = rotation.ndim - 2
    between = points.ndim - 1 - batch
    shape = (*rotation.shape[:batch], *(1,) * (between - 1), 3, 3)
    moved = (
        points @ rotation.transpose(-1, -2).reshape(shape)
        if between
        else (rotation @ points.unsqueeze(-1)).squeeze(-1)
    )
    return moved + translation.reshape(*translation.shape[:-1], *(1,) * between, 3)


def invert_transform(T_target_source: Tensor) -> Tensor:
    """Return T_source_target of rigid transforms (..., 4, 4)."""
    rotation = T_target_source[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(T_target_source)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ T_target_source[..., :3, 3:]).squeeze(-1)
    inverse[..., 3, 3] = 1
    return inverse


def project(points_camera: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project camera-frame points (B, ..., 3) through (B, 3, 3) intrinsics.

    Returns the pixels (B, ..., 2) as (u, v) and whether each point lies in front of the camera.
    """
    depth = points_camera[..., 2]
    in_front = depth > 1e-6
    safe_depth = torch.where(in_front, depth, torch.ones_like(depth)).unsqueeze(-1)
    between = points_camera.ndim - 2
    shape = (-1, *(1,) * between)
    focal = torch.stack((intrinsics[:, 0, 0], intrinsics[:, 1, 1]), dim=-1).reshape(*shape, 2)
    centre = torch.stack((intrinsics[:, 0, 2], intrinsics[:, 1, 2]), dim=-1).reshape(*shape, 2)
    return points_camera[..., :2] / safe_depth * focal + centre, in_front


def pixel_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Return the unit ray of each camera pixel, (B, H, W, 3) in the camera frame."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device),
        torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device),
        indexing='ij',
    )
    across = (u - intrinsics[:, 0, 2, None, None]) / intrinsics[:, 0, 0, None, None]
    down = (v - intrinsics[:, 1, 2, None, None]) / intrinsics[:, 1, 1, None, None]
    rays = torch.stack((across, down, torch.ones_like(across)), dim=-1)
    return torch.nn.functional.normalize(rays, dim=-1)


def cross_matrices(vectors: Tensor) -> Tensor:
    """Return matrices (..., 3, 3) that multiply as the cross product by vectors (..., 3) does."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1)
    return cross.reshape(*vectors.shape, 3)


def rotations_of(quaternions: Tensor) -> Tensor:
    """Return the rotations (..., 3, 3) of unit quaternions (..., 4): x, y, z, w."""
    x, y, z, w = quaternions.unbind(-1)
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
    return torch.stack(entries, dim=-1).reshape(*x.shape, 3, 3)
