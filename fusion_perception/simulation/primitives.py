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
# Most rays need six steps; the last that graze need sixty. Rays that are done leave after each
# round.
_TORUS_ROUNDS = 24
_TORUS_STEPS_PER_ROUND = 3
_TORUS_TOUCH = 1e-5
_TORUS_SAFE_STEP = 0.25
_TORUS_LEAST_STEP = 0.02


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
    inverse = _inverse(directions)
    middle, half = -origins * inverse, CUBE_HALF_SIDE * inverse.abs()
    enter = (middle - half).amax(dim=0)
    leave = (middle + half).amin(dim=0)
    return torch.where((enter <= leave) & (enter > 0), enter, torch.inf)


def _inverse(directions: Tensor) -> Tensor:
    """Return 1 / directions; a ray within a plane gets a huge number, as inf * 0 is NaN."""
    return 1 / torch.where(directions.abs() < 1e-12, 1e-12, directions)


def _sphere_hit(origins: Tensor, directions: Tensor) -> Tensor:
    # From the point nearest to the centre: |origin|^2 - b^2 would cancel in float32.
    nearest = -(origins * directions).sum(dim=0)
    offset = origins + nearest * directions
    half_chord = torch.sqrt(SPHERE_RADIUS**2 - (offset * offset).sum(dim=0))  # NaN for a miss
    enter = nearest - half_chord
    return torch.where(enter > 0, enter, torch.inf)


def _torus_hit(origins: Tensor, directions: Tensor) -> Tensor:
    """March along the ray, by Newton's steps where they cannot overshoot.

    Outside the cylinder through the tube's middle circle the distance to the torus is a convex
    function of the way along the ray, so that Newton's steps approach the first root from one
    side. Inside the cylinder the distance itself is the largest step that is always safe, and
    a Newton step is taken once it is too short to pass through the tube.
    """
    nearest = -(origins * directions).sum(dim=0)
    offset = origins + nearest * directions
    outer = TORUS_MAJOR_RADIUS + TORUS_MINOR_RADIUS
    half_chord = torch.sqrt(outer**2 - (offset * offset).sum(dim=0))
    # The torus also lies between two planes.
    inverse = _inverse(directions[2])
    middle, half = -offset[2] * inverse, TORUS_MINOR_RADIUS * inverse.abs()
    # A sensor may stand in the hole, so that its rays begin on the way.
    enter = torch.maximum(torch.maximum(-half_chord, middle - half), -nearest)
    leave = torch.minimum(half_chord, middle + half)
    ray = (enter < leave).nonzero().squeeze(1)
    hits = torch.full_like(nearest, torch.inf)

    at, leave = enter.index_select(0, ray), leave.index_select(0, ray)
    start, along = offset.index_select(1, ray), directions.index_select(1, ray)
    into, out = _cylinder_crossings(start, along)
    for _ in range(_TORUS_ROUNDS):
        for _ in range(_TORUS_STEPS_PER_ROUND):
            gap, slope = _torus_distance(start + at * along, along)
            newton = gap / (-slope).clamp(min=1e-3)
            # One step across the border, so that it is not approached for ever.
            border = torch.where(at < into, into - at + 1e-6, torch.inf)
            outside = torch.maximum(gap, torch.minimum(newton, border))
            # Away from the tube a ray does not creep, or the far side would not be reached.
            away = torch.where(slope > 0, gap.clamp(min=_TORUS_LEAST_STEP), gap)
            inside = torch.where(newton < _TORUS_SAFE_STEP, newton, away)
            at = at + torch.where((at < into) | (at >= out), outside, inside)
        touching = (gap.abs() < _TORUS_TOUCH) & (at < leave + _TORUS_TOUCH)
        hits[ray[touching]] = at[touching]
        going = ((gap.abs() >= _TORUS_TOUCH) & (at < leave)).nonzero().squeeze(1)
        if not len(going):
            break
        ray, at, leave, into, out = (
            each.index_select(0, going) for each in (ray, at, leave, into, out)
        )
        start, along = start.index_select(1, going), along.index_select(1, going)
    met = nearest + hits
    return torch.where(met > 0, met, torch.inf)


def _cylinder_crossings(start: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave the cylinder through the tube's middle circle.

    A ray that never does gives infinity twice.
    """
    speed = along[0].square() + along[1].square()
    half_b = start[0] * along[0] + start[1] * along[1]
    outside = start[0].square() + start[1].square() - TORUS_MAJOR_RADIUS**2
    root = torch.sqrt(half_b * half_b - speed * outside)  # NaN for a ray that passes by
    crosses = root >= 0
    into, out = (-half_b - root) / speed, (-half_b + root) / speed
    return torch.where(crosses, into, torch.inf), torch.where(crosses, out, torch.inf)


def _torus_distance(points: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance (M,) of points (3, M) to the torus and how fast it changes."""
    (x, y, z), (along_x, along_y, along_z) = points, along
    around = torch.sqrt(x * x + y * y).clamp(min=1e-6)
    from_circle = around - TORUS_MAJOR_RADIUS
    from_tube_middle = torch.sqrt(from_circle * from_circle + z * z)
    outwards = (x * along_x + y * along_y) * (from_circle / around)
    slope = (outwards + z * along_z) / from_tube_middle
    return from_tube_middle - TORUS_MINOR_RADIUS, slope
