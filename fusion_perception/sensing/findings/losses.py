"""Estimate from stamps and sizes whether messages get lost on the way, or come again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fusion_perception.sensing.findings.facts import InputFacts
from fusion_perception.sensing.offsets import Arrival, steps_ns

# A message that comes twice now and then does no harm.
_MANY_REPEATED = 0.1
# On the default transports of Fast DDS messages from about this size on may vanish.
LARGE_BYTES = 500_000
# Some of the first may be lost while the ends find each other.
MOST = 0.9
# Fewer say nothing about a period.
_ENOUGH = 6
# The shortest steps are one period, but for what jitter takes off the very shortest of them.
_SHORTEST = 0.05
# A sensor measures every so often where most steps are whole periods, but for so much of one.
_ASIDE, _MOST_STEPS = 0.3, 0.75
# What is lost leaves gaps all over: of rarer ones somebody paused, or switched the sensor off.
_LONG, _RARE = 1.5, 0.05


def repeats(facts: InputFacts) -> bool:
    """Say whether messages repeat stamps more often than does no harm."""
    return facts.dropped.get('duplicate', 0) > _MANY_REPEATED * facts.received


def loses_large(facts: InputFacts) -> bool:
    """Say whether messages of a size that gets lost came less often than they were sent."""
    if facts.message_bytes < LARGE_BYTES:
        return False
    if facts.announced >= MOST * facts.received:
        return facts.received < MOST * facts.announced
    usable = facts.usable
    return len(usable) < MOST * sent_by_stamps(usable)


def sent_by_stamps(arrivals: Sequence[Arrival]) -> int:
    """Return how many messages their stamps tell of, as a sensor measures every so often.

    The period is that of the shortest steps, so that most may be lost. Without enough of them, of
    an irregular sensor, and where the gaps are few, as many as came.
    """
    steps = steps_ns(arrivals)
    if len(steps) < _ENOUGH or min(steps) <= 0:
        return len(arrivals)
    short = sorted(steps)[int(_SHORTEST * len(steps))]
    period = statistics.median(step for step in steps if step < _LONG * short)
    periods = [step / period for step in steps]
    regular = sum(abs(each - max(1, round(each))) <= _ASIDE for each in periods)
    gaps = sum(each > _LONG for each in periods)
    if regular < _MOST_STEPS * len(steps) or gaps <= _RARE * len(steps):
        return len(arrivals)
    return 1 + sum(max(1, round(each)) for each in periods)
