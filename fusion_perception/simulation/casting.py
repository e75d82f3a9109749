"""Find where a sensor's rays meet objects, one kind of object at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fusion_perception.sensing.geometry import direction_table, transform_points
from fusion_perception.sensing.observation import Lidar
from fusion_perception.simulation.primitives import BOUNDING_RADIUS, first_hit
from fusion_perception.simulation.scene import Kind, Scenes


@dataclass(frozen=True)
class View:
    """N scenes as a sensor at the origin sees them, metres in that sensor's frame.

    centers (N, K, 3); rotations (N, K, 3, 3), sensor frame from object frame; scales (N, K).
    """

    kinds: tuple[Kind, ...]
    centers: Tensor
    rotations: Tensor
    scales: Tensor

    @classmethod
    def of(cls, scenes: Scenes, T_sensor_lidar: Tensor) -> View:
        """Look at scenes from sensors whose poses are (N, 4, 4)."""
        return cls(
            scenes.kinds,
            transform_points(T_sensor_lidar, scenes.centers),
            T_sensor_lidar[:, None, :3, :3] @ scenes.rotations,
            scenes.scales,
        )


@dataclass(frozen=True)
class Hits:
    """The M rays that met one object before anything else so far.

    scenes (M,); pixels (M,) count through all scenes' rays; points (3, M) lie on the surface,
    in the object's frame at its original size.
    """

    scenes: Tensor
    pixels: Tensor
    points: Tensor


def beams_of(lidar: Lidar, device: torch.device, step: int = 1) -> tuple[Tensor, Tensor | None]:
    """Return the directions (P, 3) of a LiDAR's beams, and where they begin where beside it.

    The physical beams leave along unit vectors, whichever projection the LiDAR's user assumes.
    `step` takes every step-th row and column only.
    """
    table = direction_table(lidar.azimuth.double(), lidar.zenith.double(), 'spherical')
    beams = table[::step, ::step].reshape(-1, 3).to(device, torch.float32)
    if lidar.offsets is None:
        return beams, None
    return beams, lidar.offsets[::step, ::step].reshape(-1, 3).to(device)


def scenes_at_once(device: torch.device) -> int:
    """Return how many scenes to cast at a time: a GPU wants many at once."""
    # On a CPU the working set should stay near the caches.
    return 256 if device.type == 'cpu' else 8192


def cast(
    view: View, slot: int, directions: Tensor, nearest: Tensor, begins: Tensor | None = None
) -> Hits:
    """Lower `nearest` (N, P), metres, in place where rays (P, 3) meet object number `slot`.

    The rays begin at the sensor, or beside it at `begins` (P, 3), from where they are measured.
    """
    kind = view.kinds[slot]
    centers, rotations = view.centers[:, slot], view.rotations[:, slot]
    scales = view.scales[:, slot]
    reach = BOUNDING_RADIUS[kind] * scales
    if begins is not None:
        reach = reach + torch.linalg.vector_norm(begins, dim=-1).max()
    scenes, rays = _candidates(centers, reach, directions)
    # The sensor and its rays in the frame of the object at its original size.
    origins = -(centers[:, None, :] @ rotations).squeeze(1) / scales[:, None]
    starts = _columns(origins, scenes)
    turns = _columns(rotations.reshape(-1, 9), scenes).reshape(3, 3, -1)
    along = (_columns(directions, rays)[:, None] * turns).sum(dim=0)
    if begins is not None:
        aside = (_columns(begins, rays)[:, None] * turns).sum(dim=0)
        starts = starts + aside / scales.index_select(0, scenes)
    at = first_hit(kind, starts, along)

    pixels, flat = scenes * len(directions) + rays, nearest.view(-1)
    distances = at * scales.index_select(0, scenes)
    won = (distances < flat.index_select(0, pixels)).nonzero().squeeze(1)
    pixels = pixels.index_select(0, won)
    flat[pixels] = distances.index_select(0, won)
    points = starts.index_select(1, won) + at.index_select(0, won) * along.index_select(1, won)
    return Hits(scenes.index_select(0, won), pixels, points)


def _candidates(centers: Tensor, radii: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (scene, ray) pairs whose ray meets the ball around the object."""
    away = torch.linalg.vector_norm(centers, dim=-1)
    cosine = torch.sqrt((1 - (radii / away).square()).clamp(min=0))
    # A little slack: a grazing ray must not be lost to rounding.
    threshold = torch.where(away > radii, away * (cosine - 1e-6), -torch.inf)
    scenes, rays = (centers @ directions.T >= threshold[:, None]).nonzero(as_tuple=True)
    return scenes, rays


def _columns(rows: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, D) picked by an index (M,) as columns (D, M), contiguous by component."""
    return rows.T.contiguous().index_select(1, index)
