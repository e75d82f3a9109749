"""Write a safetensors file piece by piece: no array is ever held whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Layout = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]
_KINDS = {np.dtype(np.float32): 'F32', np.dtype(np.uint8): 'U8'}


class Packing:
    """A safetensors file to be filled; what was never put reads as zeros.

    `layout` says the dtype and shape of each name. Writing is preferred to a memory map: a page
    of a map costs a fault, and a full disk ends the process instead of being an OSError.
    """

    def __init__(self, path: Path, layout: Layout, about: Mapping[str, str]) -> None:
        self._layout = layout
        # Wider numbers first, so that each array begins at a multiple of its numbers' size.
        names = sorted(layout, key=lambda name: -np.dtype(layout[name][0]).itemsize)
        header: dict[str, object] = {'__metadata__': dict(about)}
        self._begins, end = {}, 0
        for name in names:
            kind, shape = np.dtype(layout[name][0]), layout[name][1]
            self._begins[name], end = end, end + kind.itemsize * math.prod(shape)
            header[name] = {
                'dtype': _KINDS[kind],
                'shape': list(shape),
                'data_offsets': [self._begins[name], end],
            }
        text = json.dumps(header).encode()
        text += b' ' * (-len(text) % 8)
        self._first = 8 + len(text)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.truncate(self._file, self._first + end)
            self._write(len(text).to_bytes(8, 'little') + text, 0)
        except OSError:
            os.close(self._file)
            raise

    def __enter__(self) -> Packing:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def begin_of(self, name: str) -> int:
        """Return where an array begins in the file, in bytes."""
        return self._first + self._begins[name]

    def put(self, name: str, values: NDArray[np.generic], index: int | None = None) -> None:
        """Write a whole array, or its part `index` along the first axis; from any thread.

        Raises ValueError for another shape than the layout's, OSError where the disk is full.
        """
        kind, shape = self._layout[name]
        expected = shape if index is None else shape[1:]
        if values.shape != expected:
            raise ValueError(f'{name} is {values.shape} and the layout says {expected}.')
        whole = np.ascontiguousarray(values, dtype=kind)
        begin = self.begin_of(name) + whole.nbytes * (index or 0)
        self._write(whole.data.cast('B') if whole.size else b'', begin)

    def _write(self, content: bytes | memoryview, begin: int) -> None:
        rest = memoryview(content)
        while len(rest):
            written = os.pwrite(self._file, rest, begin)
            rest, begin = rest[written:], begin + written
