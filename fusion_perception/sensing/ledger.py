"""Count what becomes of every message: received = used + pending + dropped, by cause."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

Stream = Literal['camera', 'lidar']
Cause = Literal[
    'no_partner',
    'queue_overflow',
    'duplicate',
    'stale',
    'superseded',
    'bad_encoding',
    'bad_shape',
    'unstamped',
    'clock_jump',
    'inference_error',
    'no_transform',
]
STREAMS: tuple[Stream, ...] = get_args(Stream)
CAUSES: tuple[Cause, ...] = get_args(Cause)


class StreamCounts(TypedDict):
    """How many messages of one stream came and what became of them; every cause is a key."""

    received: int
    used: int
    pending: int
    dropped: dict[str, int]


def fates_of(streams: Mapping[Stream, StreamCounts]) -> str:
    """Say what became of the messages of each stream, and how many there were."""
    told = []
    for stream, counts in streams.items():
        fates = {'used': counts['used'], 'pending': counts['pending'], **counts['dropped']}
        words = ', '.join(f'{n} {fate}' for fate, n in fates.items() if n or fate == 'used')
        told.append(f'{stream}: {counts["received"]} received = {words}')
    return '; '.join(told)


class Ledger:
    """The one place where messages are counted, from the topic to the prediction.

    A message is pending from `receive` until `use` or `drop`; one that was used and lost its
    way later (a newer pair superseded it, inference failed) moves over with `reclassify`.
    Every method may be called from any thread: none of them runs other code under the lock.
    Raises ValueError when something is counted that never came.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        # Counted by itself, so that the sum can be held to it.
        self._pending: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self._used: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self._dropped: dict[Stream, dict[Cause, int]] = {
            stream: dict.fromkeys(CAUSES, 0) for stream in STREAMS
        }

    def receive(self, stream: Stream) -> None:
        """Count a message that arrived; it is pending."""
        with self._lock:
            self._received[stream] += 1
            self._pending[stream] += 1

    def use(self, stream: Stream) -> None:
        """Count a pending message as used."""
        with self._lock:
            self._check(self._pending[stream], stream, 'pending', 'use')
            self._pending[stream] -= 1
            self._used[stream] += 1

    def drop(self, stream: Stream, cause: Cause) -> None:
        """Count a pending message as dropped."""
        with self._lock:
            self._check(self._pending[stream], stream, 'pending', 'drop')
            self._pending[stream] -= 1
            self._dropped[stream][cause] += 1

    def reclassify(self, stream: Stream, cause: Cause) -> None:
        """Count a message that was used as dropped after all."""
        with self._lock:
            self._check(self._used[stream], stream, 'used', 'reclassify')
            self._used[stream] -= 1
            self._dropped[stream][cause] += 1

    def counters(self) -> dict[Stream, StreamCounts]:
        """Return the counts of both streams at one moment, ready for a report."""
        with self._lock:
            return {
                stream: {
                    'received': self._received[stream],
                    'used': self._used[stream],
                    'pending': self._pending[stream],
                    'dropped': {str(cause): n for cause, n in self._dropped[stream].items()},
                }
                for stream in STREAMS
            }

    @staticmethod
    def _check(available: int, stream: Stream, state: str, verb: str) -> None:
        if available < 1:
            raise ValueError(
                f'The {stream} has no {state} message to {verb}. Count each message once, '
                'first as received.'
            )
