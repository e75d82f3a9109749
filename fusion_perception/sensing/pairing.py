"""Bring two stamped streams together: each LiDAR scan with the closest camera image.

What is paired with what is defined without regard to arrival: of all camera and LiDAR messages
within `slop_s` of each other the two closest belong together (of equals, the earlier); they split
both streams, and the same rule holds for what lies before them and for what lies after. So
pairs never cross, and each message is in one pair at most. Of messages of one stream with equal
stamps the first alone takes part; those that follow are duplicates.

Online the same pairs come out as early as they are certain. Take the oldest message of each
stream, one `near`, the other, later one `far`. Only one thing can part them: a rival that follows
`near` in its own stream and is closer to `far`. Once that stream has been seen up to as far behind
`far` as `near` lies before it, no rival can come. When one has come, the question moves on to
`far` and the rival, which may have a rival in turn, and so on along ever shorter gaps; where that
chain ends, its last gap is a pair, and so is every second gap before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from pydantic import Field, model_validator
from typing_extensions import Self

from fusion_perception.sensing.jump_back import JumpBack
from fusion_perception.sensing.ledger import STREAMS, Cause, Ledger, Stream, StreamCounts
from fusion_perception.sensing.observation import Mode
from fusion_perception.sensing.settings import Settings
from fusion_perception.sensing.stamps import can_be_stamp
from fusion_perception.sensing.waiting import Waiting, WaitingLine

M = TypeVar('M')

# Seconds; a larger distance of two clocks is no offset but a fault.
MOST_OFFSET_S = 100
MOST_WAITING = 1000
# What comes slowly has not stopped before so many of its periods have passed.
MISSED = 2

PARTNER: dict[Stream, Stream] = {'camera': 'lidar', 'lidar': 'camera'}


class PairingSettings(Settings):
    """When a camera message and a LiDAR message count as one observation."""

    policy: Literal['approximate', 'exact'] = Field(
        'approximate', description="'exact' pairs equal stamps only, after the offsets"
    )
    slop_s: float = Field(
        0.02, ge=0, le=10, description='Largest distance between two paired stamps, seconds'
    )
    camera_offset_s: float = Field(
        0.0,
        ge=-MOST_OFFSET_S,
        le=MOST_OFFSET_S,
        description='Added to camera stamps before comparing, seconds',
    )
    lidar_offset_s: float = Field(
        0.0,
        ge=-MOST_OFFSET_S,
        le=MOST_OFFSET_S,
        description='Added to LiDAR stamps before comparing, seconds',
    )
    queue_size: int = Field(
        20, ge=1, le=MOST_WAITING, description='Messages of one stream that may wait for a partner'
    )
    wait: Literal['likely', 'certain'] = Field(
        'likely',
        description="'certain' holds a pair until a later message shows that none can be closer; "
        "'likely' lets it go as soon as the shortest recent period rules a closer one out",
    )
    jump_back_s: float = Field(
        0.5, gt=0, le=3600, description='A stamp this much older starts anew (a looped bag), s'
    )
    allow_single: bool = Field(
        True, description='Let one sensor pass alone while the other is silent'
    )
    dropout_after_s: float = Field(
        0.5,
        gt=0,
        le=3600,
        description='Silence after which a sensor counts as gone, seconds (of a slow sensor two '
        'periods at least); more than the delay of one sensor behind the other',
    )

    @model_validator(mode='after')
    def _is_patient(self) -> Self:
        if self.dropout_after_s <= self.slop_s:
            raise ValueError(
                f'a dropout_after_s of {self.dropout_after_s} is not longer than the slop_s of '
                f'{self.slop_s}, so a sensor would be gone before it is due; give more'
            )
        return self

    @property
    def camera_to_lidar_s(self) -> float:
        """Return what moves a camera stamp onto the clock of the LiDAR's, seconds."""
        return self.camera_offset_s - self.lidar_offset_s


@dataclass(frozen=True)
class Pair(Generic[M]):
    """What both sensors saw at one time, or one of them while the other is silent.

    `stamp_ns` is the LiDAR message's own stamp, without offset; where there is no LiDAR, that of
    the camera, moved onto the LiDAR's clock by the offsets, so that the stamps go on in one time.
    `apart_ns` is the distance of the two stamps after the offsets.
    """

    stamp_ns: int
    camera: M | None
    lidar: M | None
    mode: Mode
    apart_ns: int = 0


class Pairer(Generic[M]):
    """Pair two streams by their stamps alone: no clock, no thread, no callback.

    The same calls give the same pairs. `add` and `flush` return what has become certain; the
    caller sees to it that they run one at a time. `ledger` counts every message and may be used
    from any thread.
    """

    def __init__(self, settings: PairingSettings, ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.ledger = ledger or Ledger()
        self.clock_jumps = 0
        self._slop_ns = 0 if self.settings.policy == 'exact' else _ns(self.settings.slop_s)
        self._started: float = math.inf
        self._newest_out: float = -math.inf  # Time of the newest pair, which is its LiDAR's.
        self._jump: JumpBack | None = None  # As long as the other stream has not followed.
        self._lines = self._new_lines()

    def add(self, stream: Stream, stamp_ns: int, message: M) -> list[Pair[M]]:
        """Take one message and return the pairs that are certain now, in stamp order."""
        self.ledger.receive(stream)
        # What passes alone is stamped by the LiDAR's clock.
        moved_ns = stamp_ns + self._lines[stream].offset_ns - self._lines['lidar'].offset_ns
        if stamp_ns <= 0 or not can_be_stamp(moved_ns):
            self.ledger.drop(stream, 'unstamped')
            return []
        pairs: list[Pair[M]] = []
        line = self._lines[stream]
        time_ns = stamp_ns + line.offset_ns
        if self._is_from_before(stream, time_ns):
            # Now it would pass alone, and all that the other stream goes on with be older.
            self.ledger.drop(stream, 'clock_jump')
            return []
        if line.last - time_ns > _ns(self.settings.jump_back_s):
            # Nothing older can come any more, so what was only waiting to be sure leaves first.
            pairs += self._settle(ending='clock_jump')
            jump = self._jump_back(stream, time_ns)
            self._start_anew()
            self._jump = jump
            self.clock_jumps += 1
            line = self._lines[stream]
        elif line.knows(time_ns):
            # Sent twice, or by a driver that froze: a second prediction of it would be no news.
            self.ledger.drop(stream, 'duplicate')
            return []
        elif time_ns < line.passed:
            # Too late for its image, which passed alone; but from now on its stream is awaited.
            line.hear(time_ns)
            self.ledger.drop(stream, 'stale')
            return []
        if all(self._has_stopped(each, time_ns) for each in STREAMS):
            self._started = time_ns  # Both paused: whichever comes first need not be alone.
        self._started = min(self._started, time_ns)
        line.add(stamp_ns, message)
        pairs += self._settle()
        while len(line) > self.settings.queue_size:
            # A longer queue would help against an overflow, but not where the partner is gone.
            gone = self._is_silent(PARTNER[stream])
            self._drop(stream, 'no_partner' if gone else 'queue_overflow')
            pairs += self._settle()
        return pairs

    def flush(self) -> list[Pair[M]]:
        """End both streams: return the pairs still waiting, drop the rest, start anew."""
        pairs = self._settle(ending='no_partner')
        self._start_anew()
        return pairs

    def counters(self) -> dict[Stream, StreamCounts]:
        """Return the ledger's counts of both streams."""
        return self.ledger.counters()

    def _start_anew(self) -> None:
        self._started = math.inf
        self._newest_out = -math.inf
        self._jump = None
        self._lines = self._new_lines()

    def _jump_back(self, stream: Stream, time_ns: int) -> JumpBack:
        if self._jump is not None:  # It went back once more, and the other has not followed.
            return replace(self._jump, time_ns=time_ns)
        other = self._lines[PARTNER[stream]]
        least_ns, delay_ns = _ns(self.settings.jump_back_s), _ns(self.settings.dropout_after_s)
        return JumpBack(stream, time_ns, other.last, least_ns, patience(other.period(), delay_ns))

    def _is_from_before(self, stream: Stream, time_ns: int) -> bool:
        """Say whether a message was on its way when the clock of the other stream went back."""
        if self._jump is None or stream == self._jump.stream:
            return False
        if self._jump.precedes(time_ns, self._lines[self._jump.stream].last):
            return True
        self._jump = None
        return False

    def _new_lines(self) -> dict[Stream, WaitingLine[M]]:
        return {
            'camera': WaitingLine(_ns(self.settings.camera_offset_s)),
            'lidar': WaitingLine(_ns(self.settings.lidar_offset_s)),
        }

    def _settle(self, ending: Cause | None = None) -> list[Pair[M]]:
        """Decide about the oldest message for as long as that can be decided.

        `ending` says that no further message comes, and why what has no partner is dropped.
        """
        pairs: list[Pair[M]] = []
        while any(self._lines.values()):
            stream = min(STREAMS, key=self._head_time)
            partner = PARTNER[stream]
            if not self._lines[partner]:
                alone = self.settings.allow_single and self._is_silent(partner)
                if alone and ending is None:
                    pairs += self._pass_alone(stream)
                elif ending or self._lines[partner].last - self._head_time(stream) > self._slop_ns:
                    self._drop(stream, ending or 'no_partner')
                else:
                    break
            elif self._head_time(partner) - self._head_time(stream) > self._slop_ns:
                self._drop(stream, 'no_partner')
            else:
                belong_together = self._heads_belong_together(stream, ended=ending is not None)
                if belong_together is None:
                    break
                if belong_together:
                    pairs.append(self._pair_heads())
                else:
                    self._drop(stream, 'no_partner')
        return pairs

    def _heads_belong_together(self, stream: Stream, ended: bool) -> bool | None:
        """Say whether the oldest message, of `stream`, pairs with the other head; None: not yet.

        Walks the chain of ever shorter gaps that starts between the two heads.
        """
        lines = (self._lines[stream], self._lines[PARTNER[stream]])
        at = [0, 0]
        gap = 0
        while True:
            side = gap % 2
            near, far = lines[side][at[side]], lines[1 - side][at[1 - side]]
            apart = far.time_ns - near.time_ns
            heads_pair = gap % 2 == 0  # Should this be the last gap: every second one is a pair.
            rival = lines[side].follower(at[side])
            if rival is None:
                next_at = self._next_at(stream if side == 0 else PARTNER[stream])
                return heads_pair if ended or next_at - far.time_ns >= apart else None
            behind = lines[side][rival].time_ns - far.time_ns
            if behind <= 0:  # The rival lies between the two, which therefore are no pair.
                return not heads_pair
            if behind >= apart:
                return heads_pair
            at[side] = rival
            gap += 1

    def _head_time(self, stream: Stream) -> float:
        line = self._lines[stream]
        return line[0].time_ns if line else math.inf

    def _next_at(self, stream: Stream) -> float:
        """Return the earliest time at which a stream's next message can lie."""
        if self._is_silent(stream):
            return math.inf
        line = self._lines[stream]
        return line.likely_next() if self.settings.wait == 'likely' else line.last

    def _is_silent(self, stream: Stream) -> bool:
        return self._has_stopped(stream, max(line.last for line in self._lines.values()))

    def _has_stopped(self, stream: Stream, now: float) -> bool:
        line = self._lines[stream]
        since = max(line.last, self._started)
        return has_stopped(now - since, line.period(), _ns(self.settings.dropout_after_s))

    def _pair_heads(self) -> Pair[M]:
        camera, lidar = (self._use(stream) for stream in STREAMS)
        self._newest_out = lidar.time_ns
        return Pair(
            stamp_ns=lidar.stamp_ns,
            camera=camera.message,
            lidar=lidar.message,
            mode='fusion',
            apart_ns=abs(camera.time_ns - lidar.time_ns),
        )

    def _pass_alone(self, stream: Stream) -> list[Pair[M]]:
        if self._head_time(stream) < self._newest_out:
            self._drop(stream, 'stale')
            return []
        head = self._use(stream)
        self._newest_out = head.time_ns
        # A partner that comes back with an older stamp would make the pairs run backwards.
        partner = self._lines[PARTNER[stream]]
        partner.passed = max(partner.passed, head.time_ns)
        if stream == 'camera':
            stamp_ns = head.time_ns - partner.offset_ns
            return [Pair(stamp_ns, head.message, None, 'camera_only')]
        return [Pair(head.stamp_ns, None, head.message, 'lidar_only')]

    def _use(self, stream: Stream) -> Waiting[M]:
        line = self._lines[stream]
        head = line.pop()
        line.passed = head.time_ns
        self.ledger.use(stream)
        return head

    def _drop(self, stream: Stream, cause: Cause) -> None:
        self._lines[stream].pop()
        self.ledger.drop(stream, cause)


def has_stopped(age: float, period: float, least: float) -> bool:
    """Say whether what came last so long ago, and comes so often, has stopped.

    That is when more than `least`, and more than two of its periods, have passed; all three are
    in one unit of time.
    """
    return age > patience(period, least)


def patience(period: float, least: float) -> float:
    """Return how long what comes so often may stay away, `least` or more, in their unit."""
    return max(least, MISSED * period)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
