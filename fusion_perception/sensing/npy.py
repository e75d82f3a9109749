"""Read .npy files that others wrote."""

from __future__ import annotations

from io import BytesIO

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
