"""Start nodes as processes of a command, and end them with it whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Child:
    """A node in a process of its own, whose output goes into a log file."""

    def __init__(self, node: str, log: Path, arguments: Sequence[str]) -> None:
        self.node, self.log = node, log
        command = [sys.executable, '-m', 'fusion_perception.ros.process', node, '--ros-args']
        with log.open('w') as output:
            # A session of its own: Ctrl-C is for the demo, which then ends its children in order.
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process.poll() is None

    def ask_to_end(self) -> None:
        """Send what Ctrl-C would."""
        if self.running():
            self._process.send_signal(signal.SIGINT)

    def end(self, patience_s: float = 5.0) -> int:
        """End the process, by force if need be, and return its exit code."""
        self.ask_to_end()
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self, lines: int = 8) -> str:
        """Return the last lines of its log."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])


@contextmanager
def terminable() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, so that the children are ended too."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt('Stopped by SIGTERM.')

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off SIGINT and SIGTERM: between a fork and its return nobody would know the child."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
