"""How often something comes, and how long it takes: of the last times only."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import numpy as np

# What was slow longer ago says nothing about how the node is, seconds.
LATEST_S = 20.0
# Two intervals are alike of which the longer takes less than so many times the shorter.
ALIKE = 2.0


class Window:
    """The last values of a quantity, none older than so many seconds, for percentiles."""

    def __init__(
        self,
        size: int = 512,
        seconds: float = LATEST_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=size)
        self._seconds, self._now = seconds, now

    def add(self, value: float) -> None:
        """Take a value in; the oldest leaves."""
        self._values.append((self._now(), value))

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()

    def values(self) -> list[float]:
        """Return the values, the oldest first."""
        since = self._now() - self._seconds
        # A copy, as another thread may add meanwhile.
        return [value for at, value in list(self._values) if at >= since]

    def percentiles(self) -> dict[str, float]:
        """Return p50, p95, p99 and max, or nothing without a value."""
        values = self.values()
        if not values:
            return {}
        p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
        return {'p50': p50, 'p95': p95, 'p99': p99, 'max': max(values)}


class Pace:
    """When something came last, and how often it does, seconds of one clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._intervals_s: deque[float] = deque(maxlen=8)

    def note(self, now: float) -> None:
        """Note that it came."""
        if self._last is not None:
            self._intervals_s.append(now - self._last)
        self._last = now

    def age_s(self, now: float) -> float | None:
        """Return how long ago it came, None before the first time."""
        return None if self._last is None else now - self._last

    def period_s(self) -> float:
        """Return the longest of the last intervals that is usual, 0 before there is one.

        One long gap is not: usual is what came before, or nearly as long, among them. So a rate
        that falls is known after two intervals, and a trigger that pauses now and then after two
        pauses. Of intervals that all differ the shortest counts.
        """
        longest_first = sorted(self._intervals_s, reverse=True)
        for interval_s, next_s in pairwise(longest_first):
            if next_s > interval_s / ALIKE:
                return next_s
        return min(self._intervals_s, default=0.0)
