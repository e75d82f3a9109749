"""Reserve a ROS_DOMAIN_ID, so that two runs on one machine do not hear each other."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

# Domain 0 is everybody's; above 101 the ports of DDS meet those that Linux gives to others.
DOMAINS = range(1, 102)


class Domain:
    """A domain that nobody else has reserved, until `close` or the end of this process.

    `number` is its ROS_DOMAIN_ID.
    Raises ValueError when all of `numbers` are taken.
    """

    def __init__(self, numbers: Iterable[int] = DOMAINS) -> None:
        candidates = list(numbers)
        # In any order: what another machine in this network took need not be the first.
        random.SystemRandom().shuffle(candidates)
        for number in candidates:
            path = Path(tempfile.gettempdir()) / f'fusion_perception_domain_{number}.lock'
            try:
                lock = _opened(path)
            except PermissionError:
                continue  # Another user may hold it; this one cannot tell.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self.number, self._lock = number, lock
            return
        raise ValueError(
            f'Other runs on this machine hold all of the {len(candidates)} ROS domains '
            f'({tempfile.gettempdir()}/fusion_perception_domain_*.lock). Wait for one to end.'
        )

    def enter(self) -> None:
        """Let this process and its children join it; nobody on another machine hears them."""
        os.environ['ROS_DOMAIN_ID'] = str(self.number)
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

    def close(self) -> None:
        """Give the domain back."""
        os.close(self._lock)


def _opened(path: Path) -> int:
    """Open a file that another user may have made: to lock it, reading it is enough."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        os.fchmod(lock, 0o644)  # Whatever the umask: others are to see that it is held.
        return lock
