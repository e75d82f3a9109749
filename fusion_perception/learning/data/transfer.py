"""Move large arrays from a mapped file to a GPU: several threads read while others' parts move."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_CHUNK, _THREADS = 4 << 20, 4


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return the tensor on a device.

    From memory that is not pinned the driver copies in one thread, through a buffer of its own,
    and in that thread the pages of a mapped file are read. Here both are shared among threads.
    """
    device = torch.device(device)
    if device.type != 'cuda' or tensor.is_cuda or tensor.nbytes < 2 * _CHUNK:
        return tensor.to(device)
    whole = tensor.contiguous()
    result = torch.empty_like(whole, device=device)
    parts = list(zip(_parts(whole), _parts(result), strict=True))

    def move(first: int) -> None:
        stream = torch.cuda.Stream(device)
        buffers = torch.empty(2, _CHUNK, dtype=torch.uint8, pin_memory=True)
        moved = [torch.cuda.Event(), torch.cuda.Event()]
        with torch.cuda.stream(stream):
            for turn, (source, target) in enumerate(parts[first::_THREADS]):
                buffer, event = buffers[turn % 2, : len(source)], moved[turn % 2]
                event.synchronize()  # Returns at once where nothing was recorded.
                buffer.copy_(source)
                target.copy_(buffer, non_blocking=True)
                event.record()
            stream.synchronize()

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(move, range(_THREADS)))
    return result


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = tensor.view(-1).view(torch.uint8).split(_CHUNK)
    return parts
