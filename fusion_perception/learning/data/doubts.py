"""Tell what is in doubt about a data folder: at its first reading, and from its packed file.

A doubt is a sentence that does not name the folder, which may be moved once it is packed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

# What takes doubts about a folder.
Tell = Callable[[Path, Iterable[str]], None]
# Bytes of a packed file that hold them: they are known only once all else is packed.
ROOM = 1 << 13


def tell(folder: Path, doubts: Iterable[str]) -> None:
    """Log each doubt about a folder as a warning."""
    for doubt in doubts:
        log.warning('%s: %s', folder, doubt)


def as_bytes(doubts: Iterable[str]) -> NDArray[np.uint8]:
    """Return doubts as UTF-8 lines, (ROOM,) with zeros behind; what finds no room is cut off."""
    text = '\n'.join(doubts).encode(errors='replace')
    return np.frombuffer(text[:ROOM].ljust(ROOM, b'\0'), np.uint8)


def from_bytes(packed: NDArray[np.uint8]) -> list[str]:
    """Return the doubts that `as_bytes` packed."""
    return packed.tobytes().rstrip(b'\0').decode(errors='ignore').splitlines()
