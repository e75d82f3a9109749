"""Count over time what becomes of messages and predictions, in a bounded number of bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fusion_perception.sensing.ledger import STREAMS, Stream, StreamCounts

MOST_BINS = 240


class Timeline:
    """Counts by bins of time since the beginning; they widen as the recording goes on.

    What has left a stream by the end of a bin, and was still in it at the end of the bin before,
    is counted in that bin: losses where they were noticed.
    """

    def __init__(self) -> None:
        self.bin_s = 1.0
        self._bins: list[Counter[str]] = []
        self._before: Counter[str] = Counter()

    def parts(self, before_s: float, time_s: float) -> bool:
        """Say whether two times lie in different bins."""
        return int(before_s / self.bin_s) != int(time_s / self.bin_s)

    def count(self, time_s: float, what: str) -> None:
        """Count something at a time."""
        self._at(time_s)[what] += 1

    def counters(self, time_s: float, counters: Mapping[Stream, StreamCounts]) -> None:
        """Take the counts of both streams as they stand at a time."""
        now: Counter[str] = Counter()
        for stream in STREAMS:
            now[f'{stream}.received'] = counters[stream]['received']
            for cause, count in counters[stream]['dropped'].items():
                now[f'{stream}.dropped.{cause}'] = count
        self._at(time_s).update(now - self._before)
        self._before = now

    def as_json(self) -> dict[str, object]:
        """Return one list per thing counted, with a value for every bin."""
        names = sorted({name for counts in self._bins for name, n in counts.items() if n})
        return {
            'bin_s': self.bin_s,
            'time_s': [index * self.bin_s for index in range(len(self._bins))],
            'counts': {name: [counts[name] for counts in self._bins] for name in names},
        }

    def _at(self, time_s: float) -> Counter[str]:
        while time_s >= MOST_BINS * self.bin_s:
            self.bin_s *= 2
            pairs = [self._bins[at : at + 2] for at in range(0, len(self._bins), 2)]
            self._bins = [sum(pair, Counter()) for pair in pairs]
        index = max(0, int(time_s / self.bin_s))
        self._bins += [Counter() for _ in range(index + 1 - len(self._bins))]
        return self._bins[index]
