"""Intersect rays with a cube, a sphere and a torus of the original size at the origin.

Vectors are (3, M): component by component, which keeps every operation contiguous. Directions
have unit length. A ray that meets nothing, or starts inside the object, gives infinity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_perception.simulation.scene import Kind

CUBE_HALF_SIDE = 1.5
SPHERE_RADIUS = 1.5
TORUS_MAJOR_RADIUS = 1.0
TORUS_MINOR_RADIUS = 0.5
# The radius of the ball around the origin that holds the whole object.
BOUNDING_RADIUS: dict[Kind, float] = {
    'cube': CUBE_HALF_SIDE * 3**0.5,
    'sphere': SPHERE_RADIUS,
    'torus': TORUS_MAJOR_RADIUS + TORUS_MINOR_RADIUS,
}
_TORUS_STEPS = 48
_TORUS_TOUCH = 2e-5


def first_hit(kind: Kind, origins: Tensor, directions: Tensor) -> Tensor:
    """Return how far along each ray (M,) the object's surface is first met from outside."""
    if kind == 'cube':
        return _cube_hit(origins, directions)
    if kind == 'sphere':
        return _sphere_hit(origins, directions)
    return _torus_hit(origins, directions)


def normals(kind: Kind, points: Tensor) -> Tensor:
    """Return the outward unit normals (3, M) at points on the surface (3, M)."""
    if kind == 'cube':
        x, y, z = points.abs()
        across = (x >= y) & (x >= z)
        over = ~across & (y >= z)
        return torch.stack((across, over, ~(across | over))) * points.sign()
    if kind == 'sphere':
        return points / SPHERE_RADIUS
    x, y, z = points
    # The nearest point of the circle in the tube's middle is (x, y) * major / |(x, y)|.
    outwards = 1 - TORUS_MAJOR_RADIUS / torch.sqrt(x * x + y * y)
    return torch.stack((x * outwards, y * outwards, z)) / TORUS_MINOR_RADIUS


def _cube_hit(origins: Tensor, directions: Tensor) -> Tensor:
    inverse = 1 / directions
    middle, half = -origins * inverse, CUBE_HALF_SIDE * inverse.abs()
    enter = (middle - half).amax(dim=0)
    leave = (middle + half).amin(dim=0)
    return torch.where((enter <= leave) & (enter > 0), enter, torch.inf)


def _sphere_hit(origins: Tensor, directions: Tensor) -> Tensor:
    # From the point nearest to the centre: |origin|^2 - b^2 would cancel in float32.
    nearest = -(origins * directions).sum(dim=0)
    offset = origins + nearest * directions
    half_chord = torch.sqrt(SPHERE_RADIUS**2 - (offset * offset).sum(dim=0))  # NaN for a miss
    enter = nearest - half_chord
    return torch.where(enter > 0, enter, torch.inf)


def _torus_hit(origins: Tensor, directions: Tensor) -> Tensor:
    """March along the ray by the distance to the torus, then polish with Newton's method."""
    nearest = -(origins * directions).sum(dim=0)
    offset = origins + nearest * directions
    outer = TORUS_MAJOR_RADIUS + TORUS_MINOR_RADIUS
    half_chord = torch.sqrt(outer**2 - (offset * offset).sum(dim=0))
    # The torus also lies between two planes.
    inverse = 1 / directions[2]
    middle, half = -offset[2] * inverse, TORUS_MINOR_RADIUS * inverse.abs()
    enter = torch.maximum(-half_chord, middle - half)
    leave = torch.minimum(half_chord, middle + half)
    inside = ((enter < leave) & (nearest + enter > 0)).nonzero().squeeze(1)
    hits = torch.full_like(nearest, torch.inf)

    at, end = enter[inside], leave[inside]
    start, along = offset[:, inside], directions[:, inside]
    for step in range(_TORUS_STEPS):
        gap = _torus_distance(start + at * along)
        at = at + gap
        if step % 8 == 7:
            touching = gap < _TORUS_TOUCH
            done = touching & (at < end + _TORUS_TOUCH)
            hits[inside[done]] = _polish(at[done], start[:, done], along[:, done])
            going = (~touching & (at < end)).nonzero().squeeze(1)
            if not len(going):
                break
            inside, at, end = inside[going], at[going], end[going]
            start, along = start[:, going], along[:, going]
    return nearest + hits


def _torus_distance(points: Tensor) -> Tensor:
    x, y, z = points
    from_circle = torch.sqrt(x * x + y * y) - TORUS_MAJOR_RADIUS
    return torch.sqrt(from_circle * from_circle + z * z) - TORUS_MINOR_RADIUS


def _polish(at: Tensor, start: Tensor, along: Tensor) -> Tensor:
    points = start + at * along
    slope = (normals('torus', points) * along).sum(dim=0).clamp(max=-0.05)
    return at - _torus_distance(points) / slope
