"""Show how work gets on: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor
from tqdm import tqdm

# Reading a loss waits for the GPU, so it is read this often and not at every step.
_READ_EVERY_S = 0.5


@contextmanager
def epoch_bar(
    title: str, steps: int, scenes_per_step: int, shown: bool
) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function to call after each step with the sum of the losses so far.

    The bar goes away when the epoch ends; one line of the log remains of it.
    """
    off = not (shown and sys.stderr.isatty())
    last_read = 0.0
    with tqdm(
        total=steps * scenes_per_step, desc=title, unit=' scenes', leave=False, disable=off
    ) as bar:

        def advance(loss_sum: Tensor) -> None:
            nonlocal last_read
            if off:
                return
            bar.update(scenes_per_step)
            now = time.perf_counter()
            if now - last_read > _READ_EVERY_S:
                last_read = now
                bar.set_postfix(loss=f'{float(loss_sum) * scenes_per_step / bar.n:.3f}')

        yield advance


@contextmanager
def messages_bar(title: str, stays: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the number of messages read and of all."""
    with tqdm(desc=title, unit=' messages', leave=stays, disable=None) as bar:

        def advance(read: int, total: int) -> None:
            bar.total = total
            bar.update(read - bar.n)

        yield advance
