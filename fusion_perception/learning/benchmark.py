"""Measure the speed of each stage beside the notebook's way of doing it: `fusion benchmark`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from fusion_perception.learning.benchmark_bar import time_to_mse
from fusion_perception.learning.benchmark_machine import describe
from fusion_perception.learning.benchmark_result import Machine, Result
from fusion_perception.learning.benchmark_settings import Bench, BenchmarkSettings, prepared
from fusion_perception.learning.benchmark_stages import (
    inference,
    loading,
    simulator,
    throughput,
    xyza,
)
from fusion_perception.learning.benchmark_table import as_markdown, goal_of, slower_than
from fusion_perception.learning.benchmark_timing import Measured
from fusion_perception.learning.benchmark_training import training

__all__ = ['STAGES', 'BenchmarkSettings', 'benchmark']

log = logging.getLogger(__name__)

STAGES: dict[str, Callable[[Bench], list[Measured]]] = {
    'loading': loading,
    'xyza': xyza,
    'training': training,
    'inference': inference,
    'throughput': throughput,
    'simulator': simulator,
    'time_to_mse': time_to_mse,
}


def benchmark(settings: BenchmarkSettings) -> str:
    """Measure the stages, write benchmark.json and benchmark.md, and return the table.

    Where a result of the same class of machines is recorded, the table compares with it.
    """
    with prepared(settings) as bench:
        machine = describe(bench.device)
        before = recorded(settings, machine)
        stages = []
        for name in settings.stages:
            log.info('Measuring %s ...', name)
            stages += [
                one.judged(goal_of(one.stage, machine.device)) for one in STAGES[name](bench)
            ]
    result = Result(
        machine=machine,
        when=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        rounds=settings.rounds,
        quick=settings.quick,
        settings=settings.model_dump(
            mode='json', exclude={'data', 'out', 'records', 'baseline_run'}
        ),
        stages=tuple(stages),
    )
    text = as_markdown(result, before)
    keep(result, settings.out / 'benchmark', text)
    said = [text, '', f'{settings.out}: benchmark.json, benchmark.md.']
    if before is not None:
        slower = '; '.join(slower_than(before, result)) or 'nothing became slower'
        said.append(f'Compared with the record of {before.when}: {slower}.')
    elif settings.records is not None:
        said.append(f'No record of this class of machines ({machine.kind}) to compare with.')
    if settings.record and settings.records is not None:
        keep(result, settings.records / machine.kind, as_markdown(result))
        said.append(f'Recorded as {settings.records / machine.kind}.json.')
    return '\n'.join(said)


def recorded(settings: BenchmarkSettings, machine: Machine) -> Result | None:
    """Return the recorded result of this class of machines, None where there is none."""
    if settings.records is None:
        return None
    path = settings.records / f'{machine.kind}.json'
    return Result.read_json(path) if path.is_file() else None


def keep(result: Result, stem: Path, text: str) -> None:
    """Write a result and its table as STEM.json and STEM.md."""
    result.write(stem.with_name(f'{stem.name}.json'))
    stem.with_name(f'{stem.name}.md').write_text(text + '\n')
