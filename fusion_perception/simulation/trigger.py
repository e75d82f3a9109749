"""When a camera and a LiDAR that share a trigger are due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fusion_perception.sensing.ledger import Stream

_SECOND_NS = 1_000_000_000
# Rates with a common multiple meet at the same instant, up to rounding.
_SAME_NS = 1000


class Instant(NamedTuple):
    """A time at which at least one of the sensors is due."""

    stamp_ns: int
    streams: tuple[Stream, ...]


class Trigger:
    """The instants of sensors from `begin_ns` on, each at its own rate in Hz.

    As a sensor leaves out a frame that it has no time for, an instant is given up once half of
    the shortest period has passed, and counted in `skipped`: after a stall frames come at their
    pace, not in a burst.
    """

    def __init__(self, rates_hz: Mapping[Stream, float], begin_ns: int) -> None:
        self.begin_ns = begin_ns
        self.skipped = 0
        self._rates_hz = dict(rates_hz)
        self._ticks = dict.fromkeys(rates_hz, 0)
        self._patience_ns = round(_SECOND_NS / max(rates_hz.values()) / 2)

    def next_ns(self) -> int:
        """Return the time of the next instant."""
        return min(self._times().values())

    def after(self, ready_ns: int, count: int = 1) -> list[Instant]:
        """Return the next instants for frames that are ready at a time, in their order."""
        while self.gives_up(self.next_ns(), ready_ns):
            self._take()
        return [self._take() for _ in range(count)]

    def gives_up(self, stamp_ns: int, now_ns: int, allowed_ns: int = 0) -> bool:
        """Say whether it is too late for an instant, and count it if so.

        `allowed_ns` is how late it may be at least.
        """
        late = now_ns - stamp_ns > max(self._patience_ns, allowed_ns)
        self.skipped += late
        return late

    def _take(self) -> Instant:
        times = self._times()
        stamp_ns = min(times.values())
        due = tuple(stream for stream, time in times.items() if time - stamp_ns < _SAME_NS)
        for stream in due:
            self._ticks[stream] += 1
        return Instant(stamp_ns, due)

    def _times(self) -> dict[Stream, int]:
        return {
            stream: self.begin_ns + round(self._ticks[stream] * _SECOND_NS / hz)
            for stream, hz in self._rates_hz.items()
        }
