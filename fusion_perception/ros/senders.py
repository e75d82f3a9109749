"""Tell by what the middleware says of each message whether several publishers send by turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

# Of so many of the last messages.
_REMEMBERED = 64


class Senders:
    """Notes of each message of a topic whether another publisher sent the one before."""

    def __init__(self) -> None:
        self._last: Mapping[str, Any] = {}
        self._turns: deque[bool] = deque(maxlen=_REMEMBERED)

    @property
    def turns(self) -> int:
        """Return how many of the last messages are known to follow one of another publisher."""
        return sum(self._turns)

    def note(self, info: Mapping[str, Any]) -> None:
        """Take in what rclpy hands to a callback beside a message."""
        self._turns.append(_is_of_another(self._last, info))
        self._last = info


def _is_of_another(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    gid, last_gid = (info.get('publisher_gid') for info in (after, before))
    if gid is not None and last_gid is not None:
        return bool(gid != last_gid)
    # Jazzy names no publisher. Each numbers its messages from 1 on, which never overtake each
    # other; 0 or None is what a middleware says that does not number them.
    number, last = (info.get('publication_sequence_number') for info in (after, before))
    return bool(number and last and number <= last)
