"""Write a safetensors file in place, through a memory map: no array is ever held whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_KINDS = {np.dtype(np.float32): 'F32', np.dtype(np.uint8): 'U8', np.dtype(np.float64): 'F64'}


def create(
    path: Path,
    layout: Mapping[str, tuple[type[np.generic], tuple[int, ...]]],
    about: dict[str, str],
) -> dict[str, NDArray[np.generic]]:
    """Create a file with room for these arrays, and return them to be filled.

    `layout` says the dtype and shape of each name; what is written to the arrays is in the file.
    Raises OSError where the file cannot be written or the disk has no room for all of it.
    """
    # Wider numbers first, so that each array begins at a multiple of its numbers' size.
    names = sorted(layout, key=lambda name: -np.dtype(layout[name][0]).itemsize)
    header: dict[str, object] = {'__metadata__': dict(about)}
    begins, end = {}, 0
    for name in names:
        kind, shape = np.dtype(layout[name][0]), layout[name][1]
        begins[name], end = end, end + kind.itemsize * math.prod(shape)
        header[name] = {
            'dtype': _KINDS[kind],
            'shape': list(shape),
            'data_offsets': [begins[name], end],
        }
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    first = 8 + len(text)
    with path.open('wb') as file:
        _reserve(file, first + end)
        file.write(len(text).to_bytes(8, 'little') + text)
    return {
        name: np.memmap(path, layout[name][0], 'r+', first + begins[name], layout[name][1])
        for name in names
    }


def _reserve(file: BinaryIO, size: int) -> None:
    # Without room on the disk, writing to the map would end the process instead of an OSError.
    if hasattr(os, 'posix_fallocate'):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for begin in range(0, size, 2**24):
        file.write(bytes(min(2**24, size - begin)))
    file.seek(0)
