"""Start nodes as processes of a command, and end them with it whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion_perception.own_modules import as_main
from fusion_perception.ros.process import main
from fusion_perception.simulation.topics import INPUTS

# How long a process may take to leave in order.
PATIENCE_S = 5.0


class Child:
    """A node in a process of its own, whose output goes into a log file.

    It ends with this process, even one that is killed.
    """

    def __init__(self, node: str, log: Path, arguments: Sequence[str]) -> None:
        self.node, self.log = node, log
        command = [sys.executable, *as_main('ros.child'), node, '--ros-args']
        with log.open('w') as output:
            # A session of its own: Ctrl-C is for the command, which ends its children in order.
            self._process = subprocess.Popen(
                [*command, *arguments],
                # The child's tie to us: the system closes this pipe, whatever ends us. A death
                # signal (prctl) would come when the thread ends that is here now.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process.poll() is None

    def ask_to_end(self) -> None:
        """Ask the process to end in order."""
        if self.running():
            # Not SIGINT: to a Python that is only starting that is an error, with its traceback.
            self._process.send_signal(signal.SIGTERM)

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """End the process, by force if need be, and return its exit code."""
        self.ask_to_end()
        with self._process:  # Which closes the pipe.
            try:
                return self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                return self._process.wait()

    def last_words(self) -> str:
        """Return the last lines of its log."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-8:])


def parameters(values: Mapping[str, object]) -> list[str]:
    """Return the arguments that set a node's parameters to numbers and strings."""
    # JSON is YAML: quotes keep a path a string, whatever it looks like.
    quoted = {
        k: v if isinstance(v, (int, float)) else json.dumps(str(v)) for k, v in values.items()
    }
    return [part for name, value in quoted.items() for part in ('-p', f'{name}:={value}')]


def links() -> list[str]:
    """Return the arguments that give a fusion node the simulated sensor as its input."""
    return [part for name, topic in INPUTS.items() for part in ('-r', f'{name}:={topic}')]


def _end_with_parent() -> None:
    """Wait until nobody holds the other end of standard input, then end as on SIGTERM."""
    while os.read(0, 1):
        pass
    # To the main thread: it is the one that waits for signals.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
    # The arguments are those of a node, after its name: NODE --ros-args ...
    threading.Thread(target=_end_with_parent, name='parent', daemon=True).start()
    main()
