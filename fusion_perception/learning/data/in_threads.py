"""Work through many scenes on several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fusion_perception.cores import usable_cores

# Enough to keep a disk busy; more only wait for each other.
THREADS = min(8, usable_cores())


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1) from several threads; raise what the first call raised.

    A failure stops the others at their next scene.
    """
    failed: list[int] = []

    def stride(start: int) -> None:
        for index in range(start, count, THREADS):
            if failed:
                return
            try:
                work(index)
            except BaseException:
                failed.append(index)
                raise

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in [pool.submit(stride, start) for start in range(THREADS)]:
                done.result()
        except KeyboardInterrupt:
            failed.append(-1)
            raise
