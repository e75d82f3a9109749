"""Find the beam that each point of a cloud belongs to: points in, a range image out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion_perception.sensing.observation import Lidar

TURN = 2 * math.pi
# The step, radians, assumed for a LiDAR with a single row or column.
FALLBACK_STEP = math.radians(0.5)
NARROWEST_STEP = 1e-4
# Looking for a point's beam ends when its direction changes by less than this, radians, or after
# so many looks.
SETTLED, MOST_LOOKS = 1e-4, 8
# Cells of the map: at most so many in all, and so many on each side of a beam.
MOST_CELLS, FARTHEST = 2**24, 64


class Placement(NamedTuple):
    """A cloud as a range image, and what of it has no place there.

    ranges (R, C) float32 metres, the maximum range where nothing returned; `points` counts those
    that were measured, `outside` those of them that no beam of the LiDAR could have met, `hidden`
    those behind a closer point of the same beam.
    """

    ranges: NDArray[np.float32]
    points: int
    outside: int
    hidden: int


class Beams:
    """The beams of a LiDAR, and a map of angles that says which of them is closest.

    The map divides azimuth and zenith into cells of half a step between beams, and holds for
    each cell the beam closest to its centre. The four centres around a point then name the
    closest beams, however the beams are arranged.
    """

    def __init__(self, lidar: Lidar) -> None:
        self._shape, self._max_range = lidar.shape, lidar.max_range
        directions = lidar.directions.cpu().double().reshape(-1, 3)
        lengths = directions.norm(dim=1)
        azimuth, zenith = _angles(*directions.T)
        reach = _reach(azimuth.reshape(self._shape), zenith.reshape(self._shape))
        self._map = _Map(azimuth, zenith, *reach)
        self._units = (directions / lengths[:, None]).T.float().contiguous()
        self._lengths = lengths.float()
        self._offsets = None
        if lidar.offsets is not None:
            self._offsets = lidar.offsets.cpu().float().reshape(-1, 3).T.contiguous()

    def place(self, points: NDArray[np.float32], organised: bool = False) -> Placement:
        """Return the ranges that the points (3, N) float32, metres in LiDAR axes, amount to.

        A point that is not finite, or at the origin, is no return. `organised` points come one
        per beam in the order of the range image, and stay there, where their directions agree.
        Of several points of one beam the closest counts.
        """
        cloud = torch.from_numpy(np.require(points, np.float32, ['C', 'W']))
        count = self._lengths.numel()
        squares = cloud.square().sum(dim=0)
        measured = squares.isfinite() & (squares > 0)
        seen = int(measured.sum())
        if organised and cloud.shape[1] == count:
            ranges = self._in_order(cloud, measured)
            if ranges is not None:
                return Placement(ranges.reshape(self._shape).numpy(), seen, 0, 0)
        if seen < len(measured):
            cloud = cloud[:, measured]
        nearest = self._nearest(cloud)
        placed = nearest >= 0
        if not bool(placed.all()):
            cloud, nearest = cloud[:, placed], nearest[placed]
        away = self._from_origin_of(cloud, nearest).square().sum(dim=0).sqrt_()
        away /= self._lengths.index_select(0, nearest)
        image = torch.full((count,), torch.inf).scatter_reduce_(0, nearest, away, 'amin')
        met = int((image < torch.inf).sum())
        return Placement(
            image.clamp_(max=self._max_range).reshape(self._shape).numpy(),
            seen,
            outside=int(placed.numel() - nearest.numel()),
            hidden=int(nearest.numel() - met),
        )

    def _in_order(self, cloud: Tensor, measured: Tensor) -> Tensor | None:
        """Return the ranges (R * C,), or None where the points do not lie on their beams."""
        if self._offsets is not None:
            cloud = cloud - self._offsets
        away = cloud.square().sum(dim=0).sqrt_()
        astray = (cloud / away - self._units).square().sum(dim=0)[measured]
        # Most must lie within a step of their beam; the sensor's own motion moves some farther.
        if astray.numel() and (astray > (2 * self._map.widest) ** 2).float().mean() > 0.5:
            return None
        ranges = (away / self._lengths).clamp_(max=self._max_range)
        return torch.where(measured, ranges, self._max_range)

    def _nearest(self, cloud: Tensor) -> Tensor:
        """Return the index of each point's beam, -1 for a point that lies beside all of them."""
        if self._offsets is None:
            return self._map.nearest(*_angles(*cloud))
        # Where a beam begins is known once the beam is; from afar it hardly matters.
        moved = cloud - self._offsets.mean(dim=1, keepdim=True)
        for _ in range(2):
            guess = self._map.roughly(*_angles(*moved))
            moved = torch.where(guess >= 0, self._from_origin_of(cloud, guess.clamp(min=0)), moved)
        nearest = self._map.nearest(*_angles(*moved))
        # From nearby it does: look again until each point was seen from where its beam begins.
        left, rest = torch.arange(cloud.shape[1]), cloud  # Those not sure yet.
        for _ in range(MOST_LOOKS):
            found = nearest[left]
            guess = torch.where(found >= 0, found, self._map.roughly(*_angles(*moved)))
            begins = self._from_origin_of(rest, guess.clamp(min=0))
            apart = (begins - moved).square().sum(dim=0)
            unsure = (guess >= 0) & (apart > SETTLED**2 * rest.square().sum(dim=0))
            if not bool(unsure.any()):
                break
            left, rest, moved = left[unsure], rest[:, unsure], begins[:, unsure]
            nearest[left] = self._map.nearest(*_angles(*moved))
        return nearest

    def _from_origin_of(self, cloud: Tensor, beams: Tensor) -> Tensor:
        return cloud if self._offsets is None else cloud - self._offsets.index_select(1, beams)


class _Map:
    """Cells of azimuth and zenith, each with the beam closest to its centre."""

    def __init__(
        self, azimuth: Tensor, zenith: Tensor, azimuth_reach: Tensor, zenith_reach: Tensor
    ) -> None:
        self.widest = float(torch.maximum(azimuth_reach, zenith_reach).median())
        low = float(zenith.min() - zenith_reach.max())
        height = float(zenith.max() + zenith_reach.max()) - low
        across, down = (float(reach.quantile(0.05)) for reach in (azimuth_reach, zenith_reach))
        # Beams finer than memory has room for share cells.
        coarser = max(1.0, math.sqrt(TURN / across * height / down / MOST_CELLS))
        # An even division of the turn, so that the last cell meets the first.
        around = math.ceil(TURN / (across * coarser))
        rows = math.ceil(height / (down * coarser))
        self._across = TURN / around
        self._down, self._low = height / rows, low
        self._around, self._rows = around, rows
        self._azimuth, self._zenith = azimuth.float(), zenith.float()
        self._reach = azimuth_reach.float() * 1.001, zenith_reach.float() * 1.001
        self._cells = self._paint(azimuth, zenith, azimuth_reach, zenith_reach)
        _, edges = self._place_of(azimuth, torch.stack((zenith.min(), zenith.max())))
        self._rows_used = [int(row) for row in edges.round().clamp_(0, self._rows - 1)]

    def roughly(self, azimuth: Tensor, zenith: Tensor) -> Tensor:
        """Return a beam (N,) near each direction or straight below or above, -1 for none."""
        columns, rows = self._place_of(azimuth, zenith)
        column, row = columns.round().long() % self._around, rows.round().long()
        cell = row.clamp_(self._rows_used[0], self._rows_used[1]).mul_(self._around).add_(column)
        return self._cells.index_select(0, cell).long()

    def nearest(self, azimuth: Tensor, zenith: Tensor) -> Tensor:
        """Return the beam (N,) nearest to each direction, -1 where none is within its reach."""
        columns, rows = self._place_of(azimuth, zenith)
        left, above = columns.floor(), rows.floor()
        columns, rows = left.long(), above.long().clamp_(-1, self._rows)
        best = torch.full_like(columns, -1)
        least = torch.full_like(azimuth, torch.inf)
        slant = torch.cos(zenith).square_()
        for right in (0, 1):
            column = (columns + right) % self._around
            for below in (0, 1):
                row = (rows + below).clamp_(0, self._rows - 1)
                beam = self._cells.index_select(0, row.mul_(self._around).add_(column)).long()
                known = beam.clamp(min=0)
                aside = _turned(azimuth - self._azimuth.index_select(0, known))
                over = zenith - self._zenith.index_select(0, known)
                within = aside.abs() <= self._reach[0].index_select(0, known)
                within &= over.abs() <= self._reach[1].index_select(0, known)
                apart = aside.square_().mul_(slant).add_(over.square_())
                closer = (apart < least) & within & (beam >= 0)
                best = torch.where(closer, beam, best)
                least = torch.where(closer, apart, least)
        return best

    def _place_of(self, azimuth: Tensor, zenith: Tensor) -> tuple[Tensor, Tensor]:
        """Return column and row, counted from the centres of the first cells."""
        return azimuth / self._across - 0.5, (zenith - self._low) / self._down - 0.5

    def _paint(
        self, azimuth: Tensor, zenith: Tensor, azimuth_reach: Tensor, zenith_reach: Tensor
    ) -> Tensor:
        """Let every beam claim the cells in its reach, and the closest one have them."""
        columns, rows = (place.round().long() for place in self._place_of(azimuth, zenith))
        wide = ((azimuth_reach / self._across).ceil().long() + 1).clamp_(max=FARTHEST)
        high = ((zenith_reach / self._down).ceil().long() + 1).clamp_(max=FARTHEST)
        # Distance and beam in one number: the least distance brings its beam along.
        nobody = torch.iinfo(torch.int64).max
        claims = torch.full((self._rows * self._around,), nobody)
        for down in range(-int(high.max()), int(high.max()) + 1):
            row = rows + down
            tall = (abs(down) <= high) & (row >= 0) & (row < self._rows)
            over = (row + 0.5) * self._down + self._low - zenith
            for across in range(-int(wide.max()), int(wide.max()) + 1):
                beams = (tall & (abs(across) <= wide)).nonzero().squeeze(1)
                column, at = columns[beams] + across, zenith[beams]
                aside = _turned((column + 0.5) * self._across - azimuth[beams]) * torch.cos(at)
                apart = (aside.square() + over[beams].square()).float()
                cell = row[beams] * self._around + column % self._around
                claim = (apart.view(torch.int32).long() << 32) | beams
                claims.scatter_reduce_(0, cell, claim, 'amin')
        return torch.where(claims == nobody, -1, claims & 0xFFFFFFFF).int()


def _angles(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return azimuth and zenith of points in LiDAR axes; see `direction_table`."""
    return torch.atan2(-x, y), torch.atan2(-z, torch.hypot(x, y))


def _turned(angle: Tensor) -> Tensor:
    """Return angles within half a turn of zero."""
    return angle - (angle / TURN).round_() * TURN


def _reach(azimuth: Tensor, zenith: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far in each angle a point may lie from each beam: half a step, (R * C,) each.

    One axis of the image leads from ring to ring, where the zenith changes most, and the other
    along the rings. Of the steps to both neighbours the wider one counts: of rings to those above
    and below, which a table in the order of the lasers has elsewhere.
    """
    changes = [
        (round(_typical(zenith, axis), 6), -_typical(azimuth, axis), axis) for axis in (0, 1)
    ]
    across_rings = max(changes)[2]
    climbing, order = zenith.sort(dim=across_rings)
    half = torch.empty_like(zenith).scatter_(
        across_rings, order, _half_steps(climbing, across_rings)
    )
    return _half_steps(azimuth, 1 - across_rings).flatten(), half.flatten()


def _steps(angles: Tensor, axis: int) -> Tensor:
    return _turned(angles.diff(dim=axis)).abs()


def _typical(angles: Tensor, axis: int) -> float:
    steps = _steps(angles, axis)
    return float(steps.median()) if steps.numel() else 0.0


def _half_steps(angles: Tensor, axis: int) -> Tensor:
    steps = _steps(angles, axis).movedim(axis, 0)
    if not steps.numel() or not float(steps.max()):
        return torch.full_like(angles, FALLBACK_STEP / 2)
    wider = torch.cat((steps[:1], torch.maximum(steps[:-1], steps[1:]), steps[-1:]))
    return wider.clamp(min=NARROWEST_STEP).movedim(0, axis) / 2
