"""Read .npy files that others wrote, and write our own."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.quoting import reason


def read_npy(content: bytes) -> NDArray[np.generic]:
    """Return the array of a .npy file; raise ValueError, in one line, for whatever is none.

    Nothing is unpickled, and an archive of arrays (.npz) is none.
    """
    try:
        array: NDArray[np.generic] = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
    except Exception as fault:  # Of a damaged header it raises many kinds.
        raise ValueError(reason(fault)) from None
    return array


def write_npy(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array as a .npy file; raise what the system says where that cannot be.

    `np.save` counts items where a disk is full, and names neither the fault nor the file.
    """
    content = BytesIO()
    np.save(content, array)
    path.write_bytes(content.getvalue())
