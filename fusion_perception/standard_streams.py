"""Open what a process was started without: standard input, output, and errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def open_closed_streams() -> None:
    """Let those that are closed lead nowhere.

    Otherwise a file that is opened would be taken for one of them, and writing would be a fault.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open('w')  # noqa: SIM115  Until the process ends.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open('w')  # noqa: SIM115
