"""Evaluate recordings in processes of their own: what befalls one of them ends no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import torch
from tqdm import tqdm

from fusion_perception.learning.bag import BagRun, outcome_of
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Device, EngineName, Precision, Runtime

# Processes that are started anew: torch's threads and CUDA do not survive a fork.
_CONTEXT = multiprocessing.get_context('spawn')


@dataclass(frozen=True)
class Task:
    """What another process needs to evaluate recordings."""

    bundle: Path
    device: str
    precision: Precision
    engine: EngineName
    settings: BagSettings
    batch_size: int


def run_apart(task: Task, paths: Sequence[Path], jobs: int) -> list[BagRun | str]:
    """Return what came of each recording, as `outcome_of` does, `jobs` of them at a time.

    A process that dies costs the recording it was at; the next gets another process.
    """
    left = deque(paths)
    outcomes: dict[Path, BagRun | str] = {}
    busy: dict[Connection, _Helper] = {}
    with (
        ExitStack() as crew,
        tqdm(total=len(paths), desc='evaluate', unit='bag', leave=False, disable=None) as bar,
    ):
        idle = [crew.enter_context(_Helper(task)) for _ in range(jobs)]
        while left or busy:
            while left and idle:
                helper = idle.pop()
                busy[helper.take(left.popleft())] = helper
            for answering in wait(list(busy)):
                helper = busy.pop(cast('Connection', answering))
                outcomes[helper.path] = helper.answer()
                idle.append(helper)
                bar.update()
    return [outcomes[path] for path in paths]


class _Helper:
    """A process that evaluates one recording after the other; a context manager that ends it."""

    path: Path
    _process: multiprocessing.process.BaseProcess
    _connection: Connection

    def __init__(self, task: Task) -> None:
        self._task = task
        self._start()

    def __enter__(self) -> _Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def take(self, path: Path) -> Connection:
        """Begin with a recording; return what is ready when `answer` is."""
        if not self._process.is_alive():
            self._start()
        self.path = path
        with suppress(OSError):  # It died just now: then this is its answer.
            self._connection.send(path)
        return self._connection

    def answer(self) -> BagRun | str:
        """Return what came of the recording, or that the process did not live to say."""
        try:
            outcome: BagRun | str = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return (
                f'{self.path} cannot be evaluated: {_end_of(self._process.exitcode)}. If memory '
                'is short, evaluate fewer at a time (--jobs).'
            )
        return outcome

    def _start(self) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._task), daemon=True)
        # A new process keeps what is blocked: Ctrl-C is for the one that started it. To start
        # the tracker, as processes do, would unblock it.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()


def _end_of(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f'its process was killed (signal {-exitcode})'
    return f'its process ended (exit code {exitcode})'


def _serve(connection: Connection, task: Task) -> None:
    """Evaluate what comes, until nobody is there to ask; leave no temporary files behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Thread(target=_end_with_parent, daemon=True).start()
        torch.set_num_threads(1)
        bundle, device = load_bundle(task.bundle), cast('Device', task.device)
        runtime = Runtime(bundle, device, task.precision, task.engine)
        with suppress(EOFError, OSError):
            while True:
                path = connection.recv()
                connection.send(outcome_of(runtime, path, task.settings, task.batch_size))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
