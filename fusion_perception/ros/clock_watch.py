"""Tell a clock that goes on from one that stands still, or seems about to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# A clock that shows one time for so long has stopped, seconds.
STILL_S = 3.0
# How slowly a clock may go is judged by so many looks at which it went on.
_BEFORE = 7
# So much of its speed a clock keeps from look to look. With less it may have stopped in between,
# and the sensors that it drives may have begun to repeat their stamps.
_KEEPS = 2 / 3


class ClockWatch:
    """Watches a clock by a steady one, `now`.

    `stands_still` says that it has not begun or has stopped, `falters` that since the last look it
    went at less than two thirds of the speed that it always had lately: it may have just stopped.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.stands_still, self.falters = True, False
        self._time_ns = 0
        self._looked_at = self._went_on_at = self._now()
        self._speeds: deque[float] = deque(maxlen=_BEFORE)

    def look(self, time_ns: int) -> None:
        """Take in what the clock shows. Call it once per second."""
        now, went_ns = self._now(), time_ns - self._time_ns
        if self._time_ns:
            # One that is set back goes on as well.
            speed = abs(went_ns) / max(now - self._looked_at, 1e-9)
            self.falters = bool(self._speeds) and speed < _KEEPS * min(self._speeds)
            if went_ns:
                # What goes on again ticks seldom or in bursts, and may stand still in between.
                stood_still = self._went_on_at < self._looked_at
                self._speeds.append(0.0 if stood_still else speed)
        if went_ns:
            self._time_ns, self._went_on_at = time_ns, now
        self._looked_at = now
        self.stands_still = time_ns == 0 or now - self._went_on_at > STILL_S

    def forget(self) -> None:
        """Compare with no time from before: it was that of another clock."""
        self._time_ns, self._went_on_at = 0, self._now()
        self._speeds.clear()
        self.falters = False
