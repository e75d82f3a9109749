"""Say how many processes or threads of this one can compute at a time."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may use: under `taskset` or in a cpuset, fewer."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
