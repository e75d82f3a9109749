"""Start nodes as processes of a command, and end them with it whatever ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# The inputs of a fusion node, by the topics of the simulated sensor.
REMAP = {
    'image': '/camera/image_raw',
    'camera_info': '/camera/camera_info',
    'range_image': '/lidar/range_image',
}


class Child:
    """A node in a process of its own, whose output goes into a log file."""

    def __init__(self, node: str, log: Path, arguments: Sequence[str]) -> None:
        self.node, self.log = node, log
        command = [sys.executable, '-m', 'fusion_perception.ros.process', node, '--ros-args']
        with log.open('w') as output:
            # A session of its own: Ctrl-C is for the command, which ends its children in order.
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


def parameters(values: Mapping[str, object]) -> list[str]:
    """Return the arguments that set a node's parameters to numbers and strings."""
    # JSON is YAML: quotes keep a path a string, whatever it looks like.
    quoted = {
        k: v if isinstance(v, (int, float)) else json.dumps(str(v)) for k, v in values.items()
    }
    return [part for name, value in quoted.items() for part in ('-p', f'{name}:={value}')]


def links() -> list[str]:
    """Return the arguments that give a fusion node the simulated sensor as its input."""
    return [part for name, topic in REMAP.items() for part in ('-r', f'{name}:={topic}')]


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
