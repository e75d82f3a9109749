"""Notice when the topics of a recording begin late, pause, or end early."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000_000
# A silence is mentioned if it is longer than this and than so many of the topic's periods.
SILENT_S = 1.0
_SILENT_PERIODS = 3


class Attendance:
    """When messages came on each topic, in any order, nanoseconds: 8 bytes of each."""

    def __init__(self) -> None:
        self._heard: dict[str, array[float]] = {}

    def note(self, topic: str, log_ns: int) -> None:
        """Note that a message came."""
        self._heard.setdefault(topic, array('d')).append(log_ns)

    def notes(self, began_ns: int, ended_ns: int) -> Iterator[str]:
        """Say where topics were silent while the recording lasted."""
        end_s = (ended_ns - began_ns) / SECOND
        for topic, times in sorted(self._heard.items()):
            heard = np.sort(np.array(times) - began_ns) / SECOND
            periods = np.diff(heard)
            usual_s = float(np.median(periods)) if len(periods) > 1 else 0.0
            silent_s = max(SILENT_S, _SILENT_PERIODS * usual_s)
            if heard[0] > silent_s:
                yield f'{topic} begins {heard[0]:.1f} s after the recording.'
            yield from _pauses(topic, heard, periods, silent_s)
            if (early := end_s - heard[-1]) > silent_s:
                yield f'{topic} ends {early:.1f} s before the recording.'


def _pauses(
    topic: str, heard: NDArray[np.float64], periods: NDArray[np.float64], silent_s: float
) -> Iterator[str]:
    pauses = periods > silent_s
    if len(periods) < 2 or not pauses.any():
        return
    longest = int(periods.argmax())
    often = f'{pauses.sum():,} times, longest ' if pauses.sum() > 1 else ''
    yield (
        f'{topic} is silent {often}for {periods[longest]:.1f} s, from {heard[longest]:.1f} s on.'
    )
