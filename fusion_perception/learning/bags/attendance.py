"""Notice when the topics of a recording begin late, pause, or end early."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# A silence is mentioned if it is longer than this and than so many of the topic's periods.
SILENT_S = 1.0
_SILENT_PERIODS = 3


class Attendance:
    """When messages came on each topic, seconds since the recording began: 8 bytes of each."""

    def __init__(self) -> None:
        self._heard: dict[str, array[float]] = {}

    def note(self, topic: str, time_s: float) -> None:
        """Note that a message came; times do not go back."""
        self._heard.setdefault(topic, array('d')).append(time_s)

    def notes(self, end_s: float) -> Iterator[str]:
        """Say where topics were silent until the recording ended."""
        for topic, times in sorted(self._heard.items()):
            heard = np.array(times)
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
