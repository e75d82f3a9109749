"""Estimate from stamps and sizes whether messages get lost on the way."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from fusion_perception.sensing.facts import InputFacts
from fusion_perception.sensing.offsets import Arrival

# On the default transports of Fast DDS messages from about this size on may vanish.
LARGE_BYTES = 500_000
# Some of the first may be lost while the ends find each other.
MOST = 0.9
# Fewer say nothing about a period.
_ENOUGH = 6


def loses_large(facts: InputFacts) -> bool:
    """Say whether messages of a size that gets lost came less often than they were sent."""
    if facts.message_bytes < LARGE_BYTES:
        return False
    usable = facts.usable
    return facts.received < MOST * facts.announced or len(usable) < MOST * sent_by_stamps(usable)


def sent_by_stamps(arrivals: Sequence[Arrival]) -> int:
    """Return how many messages their stamps tell of, as a sensor measures every so often.

    The period is that of the closest quarter, so that most may be lost. Without enough of them,
    as many as came.
    """
    steps = [after.stamp_ns - before.stamp_ns for before, after in pairwise(arrivals)]
    if len(steps) < _ENOUGH or min(steps) <= 0:
        return len(arrivals)
    period = statistics.quantiles(steps, n=4)[0]
    return 1 + sum(max(1, round(step / period)) for step in steps)
