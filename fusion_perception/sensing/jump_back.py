"""Tell what was on its way when a clock went back from what follows it there."""

from __future__ import annotations

from dataclasses import dataclass

from fusion_perception.sensing.ledger import Stream


@dataclass(frozen=True)
class JumpBack:
    """One stream went back to `time_ns`, by more than `least_ns`.

    The other one was at `other_ns` by then, -inf where it was not heard; none of its messages is
    on its way for longer than `delay_ns`. All are nanoseconds, with the offsets.
    """

    stream: Stream
    time_ns: int
    other_ns: float
    least_ns: int
    delay_ns: float

    def precedes(self, time_ns: int, now_ns: float) -> bool:
        """Say whether a message of the other stream is still of the time before.

        `now_ns` is the newest of the stream that went back. A stream that goes on in the old time
        for longer than `delay_ns`, by its own stamps or by the other's, did not go back.
        """
        goes_on = self.other_ns - self.least_ns <= time_ns <= self.other_ns + self.delay_ns
        is_ahead = time_ns - now_ns > self.least_ns
        return goes_on and is_ahead and now_ns - self.time_ns <= self.delay_ns
