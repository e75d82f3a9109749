"""Bring two stamped streams together: each LiDAR scan with the closest camera image.

What is paired with what is defined without regard to arrival: of all camera and LiDAR messages
within `slop_s` of each other the two closest belong together (of equals, the earlier); they split
both streams, and the same rule holds for what lies before them and for what lies after. So
pairs never cross, and each message is in one pair at most.

Online the same pairs come out as early as they are certain. Take the oldest message of each
stream, one `near`, the other, later one `far`. Only one thing can part them: a rival that follows
`near` in its own stream and is closer to `far`. Once that stream has been seen up to as far behind
`far` as `near` lies before it, no rival can come. When one has come, the question moves on to
`far` and the rival, which may have a rival in turn, and so on along ever shorter gaps; where that
chain ends, its last gap is a pair, and so is every second gap before it.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import Field, model_validator
from typing_extensions import Self

from fusion_perception.sensing.ledger import STREAMS, Cause, Ledger, Stream, StreamCounts
from fusion_perception.sensing.observation import Mode
from fusion_perception.sensing.settings import Settings

M = TypeVar('M')

# The shortest of so many periods tells when a stream's next message can come at the earliest;
# fewer than KNOWN of them could all hide a lost message.
PERIODS = 16
KNOWN = 4

PARTNER: dict[Stream, Stream] = {'camera': 'lidar', 'lidar': 'camera'}
ALONE: dict[Stream, Mode] = {'camera': 'camera_only', 'lidar': 'lidar_only'}


class PairingSettings(Settings):
    """When a camera message and a LiDAR message count as one observation."""

    policy: Literal['approximate', 'exact'] = Field(
        'approximate', description="'exact' pairs equal stamps only, after the offsets"
    )
    slop_s: float = Field(
        0.02, ge=0, le=10, description='Largest distance between two paired stamps, seconds'
    )
    camera_offset_s: float = Field(
        0.0, ge=-100, le=100, description='Added to camera stamps before comparing, seconds'
    )
    lidar_offset_s: float = Field(
        0.0, ge=-100, le=100, description='Added to LiDAR stamps before comparing, seconds'
    )
    queue_size: int = Field(
        20, ge=1, le=1000, description='Messages of one stream that may wait for a partner'
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
        False, description='Let one sensor pass alone while the other is silent'
    )
    dropout_after_s: float = Field(
        0.5, gt=0, le=3600, description='Silence after which a sensor counts as gone, seconds'
    )

    @model_validator(mode='after')
    def _is_patient(self) -> Self:
        if self.dropout_after_s <= self.slop_s:
            raise ValueError(
                f'dropout_after_s = {self.dropout_after_s} must be longer than '
                f'slop_s = {self.slop_s}, or a sensor would be gone before its partner is due'
            )
        return self


@dataclass(frozen=True)
class Pair(Generic[M]):
    """What both sensors saw at one time, or one of them while the other is silent.

    `stamp_ns` is the LiDAR message's own stamp (the camera's where there is no LiDAR), without
    offset; `apart_ns` is the distance of the two stamps after the offsets.
    """

    stamp_ns: int
    camera: M | None
    lidar: M | None
    mode: Mode
    apart_ns: int = 0


@dataclass(frozen=True)
class _Waiting(Generic[M]):
    time_ns: int  # The stamp with its stream's offset.
    stamp_ns: int
    message: M


class Pairer(Generic[M]):
    """Pair two streams by their stamps alone: no clock, no thread, no callback.

    The same calls give the same pairs. `add` and `flush` return what has become certain; the
    caller sees to it that they run one at a time. `ledger` counts every message and may be used
    from any thread.
    """

    def __init__(self, settings: PairingSettings | None = None) -> None:
        self.settings = settings or PairingSettings()
        self.ledger = Ledger()
        self.clock_jumps = 0
        self._slop = 0 if self.settings.policy == 'exact' else _ns(self.settings.slop_s)
        self._offset: dict[Stream, int] = {
            'camera': _ns(self.settings.camera_offset_s),
            'lidar': _ns(self.settings.lidar_offset_s),
        }
        self._start_anew()

    def add(self, stream: Stream, stamp_ns: int, message: M) -> list[Pair[M]]:
        """Take one message and return the pairs that are certain now, in stamp order."""
        self.ledger.receive(stream)
        if stamp_ns <= 0:
            self.ledger.drop(stream, 'unstamped')
            return []
        time_ns = stamp_ns + self._offset[stream]
        pairs: list[Pair[M]] = []
        last = self._last[stream]
        if last - time_ns > _ns(self.settings.jump_back_s):
            # Nothing older can come any more, so what was certain but for that is certain now.
            pairs += self._settle(ending='clock_jump')
            self._start_anew()
            self.clock_jumps += 1
        elif time_ns < self._left[stream]:
            self.ledger.drop(stream, 'stale')
            return []
        self._note_time(stream, time_ns)
        queue = self._queues[stream]
        bisect.insort(queue, _Waiting(time_ns, stamp_ns, message), key=lambda m: m.time_ns)
        pairs += self._settle()
        while len(queue) > self.settings.queue_size:
            self._drop_head(stream, 'queue_overflow')
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
        self._queues: dict[Stream, list[_Waiting[M]]] = {stream: [] for stream in STREAMS}
        self._last: dict[Stream, float] = dict.fromkeys(STREAMS, -math.inf)
        self._left: dict[Stream, float] = dict.fromkeys(STREAMS, -math.inf)
        self._left_at = -math.inf
        self._first = math.inf
        self._periods: dict[Stream, deque[float]] = {
            stream: deque(maxlen=PERIODS) for stream in STREAMS
        }

    def _note_time(self, stream: Stream, time_ns: int) -> None:
        self._first = min(self._first, time_ns)
        if time_ns > self._last[stream]:
            if math.isfinite(self._last[stream]):
                self._periods[stream].append(time_ns - self._last[stream])
            self._last[stream] = time_ns

    def _settle(self, ending: Cause | None = None) -> list[Pair[M]]:
        """Decide about the older of the two heads for as long as that can be decided.

        `ending` says that no further message comes, and why what finds no partner is dropped.
        """
        pairs: list[Pair[M]] = []
        while self._queues['camera'] or self._queues['lidar']:
            earlier = self._stream_of_oldest()
            later = PARTNER[earlier]
            head = self._queues[earlier][0]
            if not self._queues[later]:
                if ending is None and self._is_silent(later):
                    if self.settings.allow_single:
                        pairs += self._pass_alone(earlier)
                    else:
                        self._drop_head(earlier, 'no_partner')
                elif ending or self._last[later] > head.time_ns + self._slop:
                    self._drop_head(earlier, ending or 'no_partner')
                else:
                    break
            elif self._queues[later][0].time_ns - head.time_ns > self._slop:
                self._drop_head(earlier, 'no_partner')
            else:
                belong_together = self._heads_belong_together(earlier, ended=ending is not None)
                if belong_together is None:
                    break
                if belong_together:
                    pairs.append(self._pair_heads())
                else:
                    self._drop_head(earlier, 'no_partner')
        return pairs

    def _stream_of_oldest(self) -> Stream:
        return min(
            STREAMS, key=lambda s: self._queues[s][0].time_ns if self._queues[s] else math.inf
        )

    def _heads_belong_together(self, stream: Stream, ended: bool) -> bool | None:
        """Say whether the oldest message, of `stream`, pairs with the other head; None: not yet.

        Walks the chain of ever shorter gaps that starts between the two heads. Where it ends, that
        gap is a pair, and so is every second gap before it.
        """
        queues = {stream: self._queues[stream], PARTNER[stream]: self._queues[PARTNER[stream]]}
        at = dict.fromkeys(STREAMS, 0)
        pairs_up = True
        while True:
            near, far = queues[stream][at[stream]], queues[PARTNER[stream]][at[PARTNER[stream]]]
            apart = far.time_ns - near.time_ns
            rival = bisect.bisect_right(queues[stream], near.time_ns, key=lambda m: m.time_ns)
            if rival == len(queues[stream]):
                if not ended and self._next_at(stream) < far.time_ns + apart:
                    return None
                return pairs_up
            behind = queues[stream][rival].time_ns - far.time_ns
            if behind <= 0:  # The rival lies between the two, which therefore are no pair.
                return not pairs_up
            if behind >= apart:
                return pairs_up
            at[stream] = rival
            stream = PARTNER[stream]
            pairs_up = not pairs_up

    def _next_at(self, stream: Stream) -> float:
        """Return the earliest time at which a stream's next message can lie."""
        if self._is_silent(stream):
            return math.inf
        periods = self._periods[stream]
        if self.settings.wait == 'likely' and len(periods) >= KNOWN:
            return self._last[stream] + min(periods)
        return self._last[stream]

    def _is_silent(self, stream: Stream) -> bool:
        since = max(self._last[stream], self._first)
        return max(self._last.values()) - since > _ns(self.settings.dropout_after_s)

    def _pair_heads(self) -> Pair[M]:
        camera, lidar = (self._use_head(stream) for stream in STREAMS)
        self._left = {'camera': camera.time_ns, 'lidar': lidar.time_ns}
        self._left_at = lidar.time_ns
        return Pair(
            stamp_ns=lidar.stamp_ns,
            camera=camera.message,
            lidar=lidar.message,
            mode='fusion',
            apart_ns=abs(camera.time_ns - lidar.time_ns),
        )

    def _pass_alone(self, stream: Stream) -> list[Pair[M]]:
        if self._queues[stream][0].time_ns < self._left_at:
            self._drop_head(stream, 'stale')
            return []
        head = self._use_head(stream)
        # A partner that returns with an older stamp would make pairs run backwards.
        self._left = dict.fromkeys(STREAMS, head.time_ns)
        self._left_at = head.time_ns
        camera, lidar = (head.message if s == stream else None for s in STREAMS)
        return [Pair(head.stamp_ns, camera, lidar, ALONE[stream])]

    def _use_head(self, stream: Stream) -> _Waiting[M]:
        self.ledger.use(stream)
        return self._queues[stream].pop(0)

    def _drop_head(self, stream: Stream, cause: Cause) -> None:
        self._queues[stream].pop(0)
        self.ledger.drop(stream, cause)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
