"""Let a kernel of the GPU read and write the host's pinned memory, in place of the copy engine.

A copy by that engine takes three microseconds for a frame, but what waits for it begins twenty
later; a kernel that follows a kernel begins at once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_TILE = 256


@triton.jit
def _copy(source, target, count, TILE: tl.constexpr):
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(target + at, tl.load(source + at, mask=at < count), mask=at < count)


def copy(source: Tensor, target: Tensor) -> None:
    """Copy a tensor (N,) into another of its kind; each lies on the GPU or in pinned memory."""
    count = source.numel()
    _copy[(-(-count // _TILE),)](source, target, count, TILE=_TILE, num_warps=2)
