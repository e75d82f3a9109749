"""Keep one stream's messages that wait for a partner, and tell when its next one can come."""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

M = TypeVar('M')

# The shortest of so many periods tells when a stream's next message can come at the earliest;
# fewer than KNOWN of them could all span a lost message.
PERIODS = 16
KNOWN = 4
# A stamp that comes again is known as long as no more than so many messages left after it.
REMEMBERED = 256


@dataclass(frozen=True)
class Waiting(Generic[M]):
    """A message in line: its stamp, and its time (the stamp with the stream's offset)."""

    time_ns: int
    stamp_ns: int
    message: M


class WaitingLine(Generic[M]):
    """The messages of one stream that wait, in the order of their times, oldest first.

    Times are whole nanoseconds; `last`, the newest that was heard of, and `passed`, the newest
    that found its way out, are -inf before there is one.
    """

    def __init__(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns
        self.last: float = -math.inf
        self.passed: float = -math.inf
        self._messages: list[Waiting[M]] = []
        self._periods: deque[float] = deque(maxlen=PERIODS)
        self._left: deque[int] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: int) -> Waiting[M]:
        return self._messages[index]

    def add(self, stamp_ns: int, message: M) -> None:
        """Put a message, of a time that is not known yet, in its place."""
        waiting = Waiting(stamp_ns + self.offset_ns, stamp_ns, message)
        bisect.insort(self._messages, waiting, key=_time)
        self.hear(waiting.time_ns)

    def hear(self, time_ns: int) -> None:
        """Note that the stream gave a message of that time, whether it waits or not."""
        if time_ns > self.last:
            if math.isfinite(self.last):
                self._periods.append(time_ns - self.last)
            self.last = time_ns

    def pop(self) -> Waiting[M]:
        """Take the oldest message out."""
        oldest = self._messages.pop(0)
        self._left.append(oldest.time_ns)
        return oldest

    def knows(self, time_ns: int) -> bool:
        """Say whether a message of that very time waits, or was among the last that left."""
        if time_ns > self.last:
            return False
        at = bisect.bisect_left(self._messages, time_ns, key=_time)
        waits = at < len(self._messages) and self._messages[at].time_ns == time_ns
        return waits or time_ns in self._left

    def follower(self, index: int) -> int | None:
        """Return the index of the first message later than that at `index`, if it has come."""
        after = bisect.bisect_right(self._messages, self._messages[index].time_ns, key=_time)
        return after if after < len(self._messages) else None

    def likely_next(self) -> float:
        """Return when the next message comes at the earliest if no period is shorter than lately.

        As long as too few periods are known that is the time of the last message.
        """
        return self.last + (self.period() if len(self._periods) >= KNOWN else 0)

    def period(self) -> float:
        """Return the shortest of the last periods, 0 before there is one."""
        return min(self._periods, default=0)


def _time(waiting: Waiting[M]) -> int:
    return waiting.time_ns
