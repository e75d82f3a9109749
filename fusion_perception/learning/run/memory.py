"""Say how much memory there is, and how much this process holds."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import torch


def memory_bytes(device: torch.device | None = None) -> int:
    """Return the memory of the machine, within what its container may use, or of a GPU."""
    if device is not None and device.type == 'cuda':
        return int(torch.cuda.get_device_properties(device).total_memory)
    physical = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    try:
        limit = Path('/sys/fs/cgroup/memory.max').read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def held_bytes() -> int | None:
    """Return the memory that stays taken until this process frees it or ends.

    Mapped files do not count: the kernel takes their pages back when it needs them. None where
    the system does not say (it is Linux that does).
    """
    try:
        status = Path('/proc/self/status').read_text()
    except OSError:
        return None
    lines = dict(line.split(':', 1) for line in status.splitlines() if ':' in line)
    return 1024 * int(lines['RssAnon'].split()[0]) if 'RssAnon' in lines else None


class Peak:
    """Watch how much memory a block takes beyond what was held before it.

    On a CPU the held bytes are looked at every few milliseconds; a GPU keeps its own account.
    `bytes` is None where nothing can be measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        if self._device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before: int | None = torch.cuda.memory_allocated(self._device)
        else:
            give_back()
            self._before = held_bytes()
            self._highest = self._before or 0
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        if self._device.type == 'cuda':
            self._highest = torch.cuda.max_memory_allocated(self._device)
        else:
            self._ended.set()
            self._thread.join()
            self._highest = max(self._highest, held_bytes() or 0)
        self.bytes = self._highest - self._before

    def _watch(self) -> None:
        while True:
            self._highest = max(self._highest, held_bytes() or 0)
            if self._ended.wait(0.002):
                return


def give_back() -> None:
    """Let the allocator return what is free, so that what is taken next is seen."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # Not glibc.
