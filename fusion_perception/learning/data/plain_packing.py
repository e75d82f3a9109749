"""Decode the plain scenes of a data folder into its packed file; also as a process of its own.

The process decodes what its standard input asks for and answers on its standard output, a line of
JSON each way. It imports little, so that it starts in a twentieth of a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from fusion_perception.learning.data.plain_files import plain_npy, plain_png, png_size

Names = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Places:
    """Where scenes come from and go to; each pair is that of the images, then of the ranges.

    `sizes` are rows and columns, `begins` are places in the packed file, in bytes.
    """

    packed: str
    folders: tuple[str, str]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    begins: tuple[int, int]

    def as_line(self) -> str:
        """Return this as a line of JSON."""
        return json.dumps(asdict(self)) + '\n'

    @classmethod
    def from_line(cls, line: str) -> Places:
        """Return what `as_line` wrote."""
        given = json.loads(line)
        images, ranges = map(tuple, given['sizes'])
        folders, begins = tuple(given['folders']), tuple(given['begins'])
        return cls(given['packed'], folders, (images, ranges), begins)


class PlainPacking:
    """The open packed file, and the way into it for scenes of the plainest kind."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._file = os.open(places.packed, os.O_WRONLY)

    def __enter__(self) -> PlainPacking:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def pack(self, first: int, names: Names) -> list[int]:
        """Pack the scenes from number `first` on; return the numbers of those that are not plain.

        Those may be of another kind, of another size, torn or missing: nothing is said about them.
        """
        return [
            number for number, pair in enumerate(names, first) if not self._packed(number, pair)
        ]

    def _packed(self, number: int, names: tuple[str, str]) -> bool:
        places = self._places
        try:
            image, scan = (
                _content(f'{folder}/{name}')
                for folder, name in zip(places.folders, names, strict=True)
            )
            if png_size(image) != places.sizes[0]:
                return False
            found = plain_png(image), plain_npy(scan)
            for plain, size, begin in zip(found, places.sizes, places.begins, strict=True):
                if plain is None or plain[0] != size:
                    return False
                length = len(plain[1])
                if os.pwrite(self._file, plain[1], begin + number * length) != length:
                    return False
        except OSError:
            return False
        return True


def _content(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


def serve(asked: TextIO, answered: TextIO) -> None:
    """Answer each request, [first, names], with the numbers that were left, until input ends."""
    with PlainPacking(Places.from_line(asked.readline())) as packing:
        for line in asked:
            answered.write(json.dumps(packing.pack(*json.loads(line))) + '\n')
            answered.flush()


if __name__ == '__main__':
    # Ctrl-C reaches the whole group of processes: the one that asks decides, and ends the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin, sys.stdout)
