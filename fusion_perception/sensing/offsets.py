"""Measure how far the stamps of two streams lie apart, and how far a stream's lie from a clock."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

# Fewer messages of a stream than this say nothing about a constant offset.
ENOUGH = 3
# A sensor pauses that is not heard for longer than this many periods of the slower one.
_PAUSE = 3


class Arrival(NamedTuple):
    """A message's stamp and when it came, both in nanoseconds."""

    stamp_ns: int
    arrived_ns: int


@dataclass(frozen=True)
class Apart:
    """LiDAR stamps minus those of their camera images, seconds: the median and the extremes."""

    median_s: float
    least_s: float
    most_s: float

    @property
    def spread_s(self) -> float:
        """Return how far the furthest one lies from the median."""
        return max(self.most_s - self.median_s, self.median_s - self.least_s)


def age_s(arrivals: Sequence[Arrival]) -> float | None:
    """Return the median of arrival minus stamp, seconds; None before the first message."""
    if not arrivals:
        return None
    return statistics.median(a.arrived_ns - a.stamp_ns for a in arrivals) / 1e9


def rate_hz(arrivals: Sequence[Arrival]) -> float:
    """Return the mean rate of arrival, 0 for fewer than two messages."""
    if len(arrivals) < 2:
        return 0.0
    elapsed_ns = arrivals[-1].arrived_ns - arrivals[0].arrived_ns
    return (len(arrivals) - 1) * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0


def oldest_s(late: Sequence[Arrival], early: Sequence[Arrival], shift_ns: int) -> float:
    """Return how old the last of one stream gets before its next comes, seconds.

    By the stamps of the other, `shift_ns` further on. Once in ten times it is older: a sensor that
    was switched off for a while is not meant.
    """
    came = [arrival.arrived_ns for arrival in early]
    ages = []
    for last, following in pairwise(late):
        heard = bisect_left(came, following.arrived_ns)
        if heard and came[heard - 1] >= last.arrived_ns:
            ages.append(early[heard - 1].stamp_ns + shift_ns - last.stamp_ns)
    return sorted(ages)[int(0.9 * (len(ages) - 1))] / 1e9 if ages else 0.0


def period_s(arrivals: Sequence[Arrival]) -> float:
    """Return the median time between two stamps, seconds; 0 for fewer than two."""
    steps = steps_ns(arrivals)
    return statistics.median(steps) / 1e9 if steps else 0.0


def steps_ns(arrivals: Sequence[Arrival]) -> list[int]:
    """Return the times between two stamps, nanoseconds: negative where they go back."""
    return [after.stamp_ns - before.stamp_ns for before, after in pairwise(arrivals)]


def jumps_back(arrivals: Sequence[Arrival], least_s: float) -> list[float]:
    """Return by how many seconds stamps jump back, where by more than `least_s`."""
    stamps = [arrival.stamp_ns for arrival in arrivals if arrival.stamp_ns > 0]
    back = [(before - after) / 1e9 for before, after in pairwise(stamps)]
    return [by for by in back if by > least_s]


def apart(camera: Sequence[Arrival], lidar: Sequence[Arrival]) -> Apart | None:
    """Return how far the LiDAR's stamps lie after those of the images that belong to them.

    Stamps of two periodic streams alone leave whole periods open; what was measured at one time
    also arrives at about one time, which settles them. None for too few messages, and where no
    image came while the scans did.
    """
    if len(camera) < ENOUGH or len(lidar) < ENOUGH:
        return None
    # What came after a later one came late.
    camera_age_s, lidar_age_s = (age_s(_in_order(stream)) or 0.0 for stream in (camera, lidar))
    coarse_ns = round(1e9 * (camera_age_s - lidar_age_s))
    gaps = _gaps(camera, lidar, coarse_ns)
    if not gaps:
        return None
    return Apart(statistics.median(gaps) / 1e9, min(gaps) / 1e9, max(gaps) / 1e9)


def _in_order(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Return those whose stamps are later than all that came before."""
    stamps = [arrival.stamp_ns for arrival in arrivals]
    newest = [-math.inf, *accumulate(stamps, max)][: len(stamps)]
    return [a for a, before in zip(arrivals, newest, strict=True) if a.stamp_ns > before]


def together(
    camera: Sequence[Arrival], lidar: Sequence[Arrival]
) -> tuple[list[Arrival], list[Arrival]]:
    """Return what came since both are heard: as many messages of the slower reach further back."""
    if not camera or not lidar:
        return list(camera), list(lidar)
    since = max(camera[0].arrived_ns, lidar[0].arrived_ns)
    both = [[a for a in stream if a.arrived_ns >= since] for stream in (camera, lidar)]
    return both[0], both[1]


def _gaps(camera: Sequence[Arrival], lidar: Sequence[Arrival], coarse_ns: int) -> list[int]:
    """Return how far the LiDAR's stamps lie after those of their images: about `coarse_ns`."""
    images, scans = (sorted(a.stamp_ns for a in stream) for stream in (camera, lidar))
    rest_images = _accompanied(images, scans, coarse_ns)
    rest_scans = _accompanied(scans, images, -coarse_ns)
    # Each message of the rarer sensor has a partner. Of two alike one may have lost one at an end.
    if len(rest_images) + 1 < len(rest_scans):
        return [_nearest(scans, stamp + coarse_ns) - stamp for stamp in rest_images]
    return [stamp - _nearest(images, stamp - coarse_ns) for stamp in rest_scans]


def _accompanied(these: Sequence[int], others: Sequence[int], shift_ns: int) -> list[int]:
    """Return those of sorted stamps that, moved, do not lie where the others pause.

    They pause before their first and after their last message, too.
    """
    longest = _PAUSE * max(_step_ns(these), _step_ns(others))
    found = []
    for stamp in these:
        after = bisect_left(others, stamp + shift_ns)
        since, until = others[max(0, after - 1)], others[min(after, len(others) - 1)]
        if since <= stamp + shift_ns <= until and until - since <= longest:
            found.append(stamp)
    return found


def _step_ns(stamps: Sequence[int]) -> float:
    return statistics.median(after - before for before, after in pairwise(stamps))


def fit(camera: Sequence[Arrival], lidar: Sequence[Arrival], offset_ns: int, slop_ns: int) -> bool:
    """Say whether most stamps of the rarer sensor have a partner within the slop.

    The camera's are moved by an offset. However late either of them arrives: no other offset
    helps such streams to pairs.
    """
    if len(camera) < ENOUGH or len(lidar) < ENOUGH:
        return False
    gaps = [gap - offset_ns for gap in _gaps(camera, lidar, offset_ns)]
    return 2 * sum(abs(gap) <= slop_ns for gap in gaps) > len(gaps)


def _nearest(stamps: Sequence[int], wanted: int) -> int:
    index = bisect_left(stamps, wanted)
    return min(stamps[max(0, index - 1) : index + 1], key=lambda stamp: abs(stamp - wanted))
