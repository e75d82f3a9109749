"""Stop a command where it can be stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# Each of them would end a command without a word, and leave behind its children and drafts.
STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def terminable() -> Iterator[None]:
    """End on SIGTERM, SIGHUP and SIGQUIT as on Ctrl-C: children are ended, drafts removed.

    Signals reach the main thread alone: in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f'Stopped by {signal.Signals(number).name}.')

    # What is ignored stays so: `nohup` means that the command survives its terminal.
    heeded = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    with _handling(heeded, stop):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off what stops a command until a step is done that must not be left half way.

    So is the start of a child: between the fork and its return nobody would know it. In other
    threads than the main one there is nothing to put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    with _handling((signal.SIGINT, *STOPPING), lambda number, frame: caught.append(number)):
        yield
    if caught:
        signal.raise_signal(caught[0])


@contextmanager
def _handling(
    numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals in a way of their own for a while."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
