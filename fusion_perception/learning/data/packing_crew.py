"""Share the scenes of a data folder among processes that decode them into the packed file.

Threads would not do: of a small file the interpreter's own work takes as long as its decoding.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from fusion_perception.cores import usable_cores
from fusion_perception.learning.data.plain_packing import Names, Places, PlainPacking
from fusion_perception.own_modules import as_main

log = logging.getLogger(__name__)

# Below this one process is done before another has started.
_WORTH_HELP = 2000
_CHUNK = 128
_MOST_HELPERS = 7


def pack_scenes(
    places: Places,
    names: Names,
    put_scene: Callable[[int], None],
    helpers: int | None = None,
    chunk: int = _CHUNK,
) -> None:
    """Decode all scenes into the packed file: plain ones by the short way, others by `put_scene`.

    `put_scene` gets a scene's number, in any order and from several threads. What it raises is
    raised here, and ends the rest. `helpers` processes help (None: one per further core,
    where it is worth it), and each gets `chunk` scenes at a time. One that cannot start, or dies,
    leaves its share to this process.
    """
    wanted = _helpers_for(len(names)) if helpers is None else helpers
    chunks = iter(range(0, len(names), chunk))
    taking, failed = threading.Lock(), threading.Event()

    def starts() -> Iterator[int]:
        while not failed.is_set():
            with taking:
                start = next(chunks, None)
            if start is None:
                return
            yield start

    def work(pack: Callable[[int, Names], list[int]]) -> None:
        try:
            for start in starts():
                for number in pack(start, names[start : start + chunk]):
                    put_scene(number)
        except BaseException:
            failed.set()
            raise

    with ExitStack() as open_until_done:
        crew = []
        with suppress(OSError):  # No interpreter to start, or no more processes: do it here.
            for _ in range(wanted):
                crew.append(open_until_done.enter_context(_Helper(places)))
        here = open_until_done.enter_context(PlainPacking(places))
        pool = open_until_done.enter_context(ThreadPoolExecutor(max(1, len(crew))))
        asked = [pool.submit(work, helper.pack) for helper in crew]
        work(here.pack)
        for done in asked:
            done.result()


def _helpers_for(scenes: int) -> int:
    if scenes < _WORTH_HELP or not sys.executable:
        return 0
    return min(_MOST_HELPERS, usable_cores() - 1)


class _Helper:
    """A process that packs plain scenes; of what it does not answer for, nothing is done."""

    def __init__(self, places: Places) -> None:
        # Without `site`, which takes longer than all else: what it added to the path is there.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            (sys.executable, '-S', *as_main('learning.data.plain_packing')),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, 'PYTHONPATH': path},
        )
        self._say(places.as_line())

    def __enter__(self) -> _Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(OSError):
            self._process.communicate()

    def pack(self, first: int, names: Names) -> list[int]:
        """Have these scenes packed; return the numbers of those that are left to do."""
        self._say(json.dumps([first, names]) + '\n')
        assert self._process.stdout is not None
        try:
            left: list[int] = json.loads(self._process.stdout.readline())
        except ValueError:
            log.debug('A process that decodes scenes ended early.')
            return list(range(first, first + len(names)))
        return left

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # It has ended: then it gives no answer either.
            self._process.stdin.write(line)
            self._process.stdin.flush()
