"""Tell a lone stamp that leaps into the future from a clock that was set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.offsets import Arrival

# A stamp that is suddenly so much further ahead of its arrival is a slip, unless the next one is
# as well; nanoseconds.
LEAP_NS = 2_000_000_000


class Leaps:
    """Finds leaps message by message; `counts` is how many there were of each stream."""

    def __init__(self) -> None:
        self.counts: Counter[Stream] = Counter()
        self._before: dict[Stream, Arrival] = {}

    def take(self, stream: Stream, arrival: Arrival) -> bool:
        """Say whether a stamp lies in the future, and much further than the one before."""
        before, self._before[stream] = self._before.get(stream, arrival), arrival
        leapt = _leap_ns(before, arrival) > 0
        self.counts[stream] += leapt
        return leapt

    def forget(self) -> None:
        """Compare with no arrival from before: it was by another clock."""
        self._before.clear()


def leaps_s(arrivals: Sequence[Arrival]) -> list[float]:
    """Return how far the stamps that leap lie ahead of the times of their arrival, seconds."""
    pairs = pairwise(arrivals)
    return [leap / 1e9 for before, after in pairs if (leap := _leap_ns(before, after))]


def _leap_ns(before: Arrival, after: Arrival) -> int:
    """Return how far a stamp lies ahead of its arrival where it leapt there, else 0."""
    ahead_ns = after.stamp_ns - after.arrived_ns
    further_ns = ahead_ns - (before.stamp_ns - before.arrived_ns)
    return ahead_ns if min(ahead_ns, further_ns) > LEAP_NS else 0
