"""Keep unfinished files in a folder of their own, and clear away what killed processes left."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX, _LOCK = '.packing-', 'lock'
_A_DAY_S = 24 * 3600


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """Give a new folder in a folder, which is made where needed; in the end it is removed.

    First, the drafts there that no living process holds are removed. One says that it is held by
    a lock, which the system releases however the process ends; where there are no locks, a draft
    counts as held for a day. Raises OSError where nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob(f'{_PREFIX}*'):
        if _is_abandoned(draft):
            log.debug('%s was left by a process that was killed.', draft)
            shutil.rmtree(draft, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as name:
        lock = _held(Path(name))
        try:
            yield Path(name)
        finally:
            # Before the folder goes: NFS keeps a file for as long as it is open.
            os.close(lock)


def _held(draft: Path) -> int:
    """Lock a draft, where there are locks, and return the file to close."""
    # Under its name the lock is there only once it is taken.
    lock = os.open(draft / f'{_LOCK}.new', os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (draft / f'{_LOCK}.new').rename(draft / _LOCK)
    return lock


def _is_abandoned(draft: Path) -> bool:
    try:
        if (draft / _LOCK).exists():
            return _is_free(draft / _LOCK)
        touched_s = max(path.stat().st_mtime for path in (draft, *draft.iterdir()))
    except OSError:  # It has just been removed, or is another user's.
        return False
    return time.time() - touched_s > _A_DAY_S


def _is_free(path: Path) -> bool:
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
