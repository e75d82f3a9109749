"""Run inference off the executor's thread, always on the newest item."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestWorker(Generic[T]):
    """One thread and one slot: an item that waits in the slot gives way to a newer one.

    However slow the work is, an item waits for at most the one under way: latency stays flat, and
    what could not be borne is handed to `superseded` instead of queueing up. `work` runs on the
    worker's thread and must not raise; `superseded` runs on the thread that submits.
    """

    def __init__(self, work: Callable[[T], None], superseded: Callable[[T], None]) -> None:
        self._work, self._superseded = work, superseded
        self._slot: T | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def submit(self, item: T) -> None:
        """Hand over an item; return at once."""
        with self._changed:
            replaced, self._slot = self._slot, item
            self._changed.notify()
        if replaced is not None:
            self._superseded(replaced)

    def stop(self) -> None:
        """Let the item under way finish, supersede the waiting one, and end the thread."""
        with self._changed:
            waiting, self._slot = self._slot, None
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        if waiting is not None:
            self._superseded(waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._stopping)
                item, self._slot = self._slot, None
            if item is None:
                return
            self._work(item)
