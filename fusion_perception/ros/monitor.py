"""Keep what the diagnostics need between two publications: ages, rates, latencies, faults."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from fusion_perception.ros.pace import Pace, Window
from fusion_perception.sensing.findings.agreement import FEWEST_COMPARISONS, median_of
from fusion_perception.sensing.findings.facts import FAR_FROM_CLOCK_S
from fusion_perception.sensing.ledger import STREAMS, Stream, StreamCounts
from fusion_perception.sensing.observation import Mode
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import has_stopped

# The camera is often faster than the LiDAR: images left over are no sign of trouble.
EXPECTED_LOSSES = frozenset({'no_partner'})
# Publications of the diagnostics that `lately` reaches back.
LATELY = 5
# Changes of mode are said no more often than this, seconds.
SAY_S = 2.0
# The sensors are compared so often, seconds.
COMPARE_S = 2.0


class Times(NamedTuple):
    """Where the time of an output went, milliseconds.

    From its stamp to its publication; of that in the pairing, after the last message of the pair
    had come; in the model; and after it: the wait for the transform to target_frame, making and
    sending messages. `apart_ms` lies between the two stamps of a pair, None for a single sensor.
    """

    latency_ms: float
    pairing_ms: float
    inference_ms: float
    publishing_ms: float
    apart_ms: float | None


class Monitor:
    """What happened when. Times are of a steady clock, `now`; any thread may report."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._heard: dict[Stream, Pace] = {stream: Pace() for stream in STREAMS}
        self._output = Pace()
        self._mode: Mode | None = None
        self._modes: Counter[str] = Counter()
        self._entered: Mode | Literal['none'] = 'none'
        self._said_at, self._unsaid = float('-inf'), 0
        self._times = {name: Window(now=self._now) for name in Times._fields}
        self._stamp_age_s = {stream: Window(now=self._now) for stream in STREAMS}
        self._last_stamp_age_s: dict[Stream, float] = {}
        self._ticked_at = self._now()
        self._before: Mapping[Stream, StreamCounts] = {}
        self._counters: deque[Mapping[Stream, StreamCounts]] = deque(maxlen=LATELY)
        self._fused: deque[int] = deque(maxlen=LATELY)
        self._arrivals: dict[Stream, deque[Arrival]] = {s: deque(maxlen=64) for s in STREAMS}
        self._bytes: dict[Stream, int] = {}
        self._listening_since = self._now()
        self._compared_at = float('-inf')
        self._disagreements = Window(size=2 * FEWEST_COMPARISONS, now=self._now)
        self._fault, self._fault_at = '', self._now()
        # Why the last message was refused, and why the last pair was lost.
        self.faults: dict[Stream, str] = {}
        self.lost_by: dict[Stream, str] = {}

    def began_to_listen(self) -> None:
        """Note that subscriptions begin now."""
        self._listening_since = self._now()

    def listening_s(self) -> float:
        """Return for how long the node has been listening, seconds."""
        return self._now() - self._listening_since

    def heard(self, stream: Stream, stamp_ns: int, now_ns: int, size: int = 0) -> None:
        """Note that a message came, its stamp, the time by the same clock, and its bytes.

        A clock at 0 has not begun, and says nothing of the stamp.
        """
        with self._lock:
            self._bytes[stream] = size
            self._heard[stream].note(self._now())
            if now_ns:
                self._arrivals[stream].append(Arrival(stamp_ns, now_ns))

    def change_clock(self) -> None:
        """Forget when messages arrived: from now on another clock tells."""
        with self._lock:
            for arrivals in self._arrivals.values():
                arrivals.clear()

    def message_bytes(self, stream: Stream) -> int:
        """Return what the last message of a stream took, 0 before the first."""
        with self._lock:
            return self._bytes.get(stream, 0)

    def arrivals(self, stream: Stream) -> list[Arrival]:
        """Return the last messages that came of a stream."""
        with self._lock:
            return list(self._arrivals[stream])

    def published(self, mode: Mode, times: Times, stamp_ages_s: Mapping[Stream, float]) -> None:
        """Note an output, and how old the stamps behind it were when their messages came."""
        with self._lock:
            self._output.note(self._now())
            self._mode = mode
            self._modes[mode] += 1
            if self._clock_was_set(stamp_ages_s):
                # What was measured by it before is no latency.
                by_clock = (self._times['latency_ms'], self._times['pairing_ms'])
                for window in (*by_clock, *self._stamp_age_s.values()):
                    window.clear()
            for name, took_ms in times._asdict().items():
                if took_ms is not None:
                    self._times[name].add(took_ms)
            for stream, age_s in stamp_ages_s.items():
                self._stamp_age_s[stream].add(age_s)

    def _clock_was_set(self, stamp_ages_s: Mapping[Stream, float]) -> bool:
        """Note how old stamps are, and say whether one is much older or younger than before."""
        before = self._last_stamp_age_s
        steps_s = [abs(age_s - before.get(s, age_s)) for s, age_s in stamp_ages_s.items()]
        before.update(stamp_ages_s)
        return max(steps_s, default=0.0) > FAR_FROM_CLOCK_S

    def failed(self, fault: str) -> None:
        """Note what cost a message or an output, a sentence."""
        with self._lock:
            self._fault, self._fault_at = fault, self._now()

    def last_fault(self) -> tuple[str, float]:
        """Return the last of these, '' before the first, and how long ago it was, seconds."""
        with self._lock:
            return self._fault, self._now() - self._fault_at

    def is_to_compare(self) -> bool:
        """Say whether the sensors are to be compared again, which then counts as done."""
        now = self._now()
        due = now - self._compared_at >= COMPARE_S
        if due:
            self._compared_at = now
        return due

    def compared(self, disagreement: float | None) -> None:
        """Note how far the sensors put the objects apart, None where they do not say."""
        if disagreement is not None:
            with self._lock:
                self._disagreements.add(disagreement)

    def disagreement(self) -> float | None:
        """Return how far the sensors put the objects apart lately, in the median.

        None unless they were compared a few times.
        """
        with self._lock:
            return median_of(self._disagreements.values())

    def enter(self, mode: Mode | Literal['none']) -> str:
        """Note the mode of now, and return what to say of it: '' for nothing new.

        Of changes in quick succession the first is said, and later how many there were since.
        """
        with self._lock:
            now = self._now()
            self._unsaid += mode != self._entered
            self._entered = mode
            if not self._unsaid or now - self._said_at < SAY_S:
                return ''
            changes = f' It changed {self._unsaid} times.' if self._unsaid > 1 else ''
            self._said_at, self._unsaid = now, 0
            return f'Mode: {mode}.{changes}'

    def age_s(self, stream: Stream) -> float | None:
        """Return how long ago a stream was heard, None before its first message."""
        with self._lock:
            return self._heard[stream].age_s(self._now())

    def period_s(self, stream: Stream) -> float:
        """Return the usual time between the last messages of a stream, 0 before two came."""
        with self._lock:
            return self._heard[stream].period_s()

    def output(self) -> tuple[float | None, Mode | None, dict[str, int]]:
        """Return the age of the last output, its mode, and how many there were in each mode."""
        with self._lock:
            return self._output.age_s(self._now()), self._mode, dict(self._modes)

    def output_period_s(self) -> float:
        """Return the usual time between the last outputs, 0 before there were two."""
        with self._lock:
            return self._output.period_s()

    def overdue(self, after_s: float) -> bool:
        """Say whether nothing came out for that long, and for two of the usual intervals.

        A slow sensor, or simulated time that runs slowly, makes them long.
        """
        with self._lock:
            age_s = self._output.age_s(self._now())
            return age_s is None or has_stopped(age_s, self._output.period_s(), after_s)

    def times(self) -> dict[str, dict[str, float]]:
        """Return the percentiles of the last `Times`, by their names."""
        with self._lock:
            return {name: window.percentiles() for name, window in self._times.items()}

    def stamp_age_s(self, stream: Stream) -> float:
        """Return how old, in the p95, the stamps behind the outputs were when they came, seconds.

        Of the same outputs as `times`, so that the two may be compared; 0 before the first.
        """
        with self._lock:
            return self._stamp_age_s[stream].percentiles().get('p95', 0.0)

    def since_last_tick(
        self, counters: Mapping[Stream, StreamCounts]
    ) -> tuple[dict[Stream, float], float]:
        """Return the rate of each stream, Hz, and the share of messages lost, since last asked."""
        now = self._now()
        elapsed = max(now - self._ticked_at, 1e-9)
        new = {s: _since(counters[s], self._before.get(s)) for s in STREAMS}
        came = sum(counts['received'] for counts in new.values())
        lost = sum(
            count
            for counts in new.values()
            for cause, count in counts['dropped'].items()
            if cause not in EXPECTED_LOSSES
        )
        self._ticked_at, self._before = now, counters
        rates = {stream: counts['received'] / elapsed for stream, counts in new.items()}
        return rates, min(1.0, lost / came) if came else 0.0

    def lately(self, counters: Mapping[Stream, StreamCounts]) -> dict[Stream, StreamCounts]:
        """Return what the last LATELY seconds counted. Call it once per second."""
        before = self._counters[0] if self._counters else {}
        self._counters.append(counters)
        return {s: _since(counters[s], before.get(s)) for s in STREAMS}

    def lately_fused(self) -> int:
        """Return how many outputs were of both sensors in that time. Call it once per second."""
        with self._lock:
            now = self._modes['fusion']
        before = self._fused[0] if self._fused else 0
        self._fused.append(now)
        return now - before


def _since(now: StreamCounts, before: StreamCounts | None) -> StreamCounts:
    if before is None:
        return now
    return {
        'received': now['received'] - before['received'],
        'used': now['used'] - before['used'],
        'pending': now['pending'],
        'dropped': {cause: n - before['dropped'][cause] for cause, n in now['dropped'].items()},
    }
