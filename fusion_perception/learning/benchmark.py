"""Measure the speed of each stage beside the notebook's way of doing it: `fusion benchmark`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from fusion_perception.learning.benchmarks.bar import time_to_mse
from fusion_perception.learning.benchmarks.growth import growth
from fusion_perception.learning.benchmarks.growth_curve import Curve, draw
from fusion_perception.learning.benchmarks.growth_curve import as_markdown as as_table
from fusion_perception.learning.benchmarks.machine import describe
from fusion_perception.learning.benchmarks.result import Machine, Result, Stage
from fusion_perception.learning.benchmarks.settings import Bench, BenchmarkSettings, prepared
from fusion_perception.learning.benchmarks.stages import (
    inference,
    loading,
    simulator,
    throughput,
    xyza,
)
from fusion_perception.learning.benchmarks.table import (
    as_markdown,
    goal_of,
    notebook_against,
    on_the_same_terms,
    slower_than,
)
from fusion_perception.learning.benchmarks.timing import Measured
from fusion_perception.learning.benchmarks.training import training
from fusion_perception.runtime import choose_device
from fusion_perception.whole_files import write_whole

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
    """Measure the stages and return the tables.

    Writes benchmark.json and benchmark.md, and for the stage `growth` growth.json, growth.md and
    growth.png. Where a result of the same class of machines is recorded, the table compares
    with it.
    """
    said: list[str] = []
    # Before scenes are simulated: how busy the machine is without us.
    device = choose_device(settings.device)
    machine = describe(device)
    with prepared(settings, device) as bench:
        before = recorded(settings, machine)
        stages: list[Stage] = []
        for name in settings.stages:
            log.info('Measuring %s ...', name)
            if name == 'growth':
                said.append(keep_growth(growth(bench), machine, settings.out))
            else:
                measured = STAGES[name](bench)
                stages += [one.judged(goal_of(one.stage, machine.device)) for one in measured]
    if stages:
        result = Result(
            machine=machine,
            when=datetime.now(timezone.utc).isoformat(timespec='seconds'),
            rounds=settings.rounds,
            quick=settings.quick,
            settings={
                'scenes': bench.scenes,
                **settings.model_dump(
                    mode='json', exclude={'data', 'out', 'records', 'baseline_run'}
                ),
            },
            stages=tuple(stages),
        )
        said.append(keep_result(result, before, settings))
    return '\n\n'.join(said)


def keep_growth(curves: list[Curve], machine: Machine, out: Path) -> str:
    """Write the curves as JSON, table and chart, and return the table."""
    text = as_table(curves)
    values = {
        'machine': machine.model_dump(mode='json'),
        'curves': [
            {
                **curve.model_dump(mode='json'),
                'time_exponent': curve.time_exponent,
                'memory_exponent': curve.memory_exponent,
            }
            for curve in curves
        ],
    }
    write_whole(out / 'growth.md', f'{text}\n')
    write_whole(out / 'growth.json', json.dumps(values, indent=2) + '\n')
    draw(curves, out / 'growth.png')
    return f'{text}\n\n{out}: growth.json, growth.md, growth.png.'


def keep_result(result: Result, before: Result | None, settings: BenchmarkSettings) -> str:
    """Write the result, recorded too where that is wished, and return its table."""
    kind = result.machine.kind
    alike, apart = (None, []) if before is None else on_the_same_terms(before, result)
    text = as_markdown(result, alike)
    write(result, settings.out / 'benchmark', text)
    said = [text, '', f'{settings.out}: benchmark.json, benchmark.md.']
    if alike is not None:
        slower = '; '.join(slower_than(alike, result)) or 'nothing became slower'
        beside = notebook_against(alike, result)
        said.append(f'Compared with the record of {alike.when}: {slower}. {beside}'.rstrip())
    if before is not None and apart:
        said.append(f'Not compared with the record of {before.when}: {"; ".join(apart)}.')
    elif before is None and settings.records is not None:
        said.append(f'No record of this class of machines ({kind}) to compare with.')
    if settings.record and settings.records is not None:
        write(result, settings.records / kind, as_markdown(result))
        old = () if before is None else before.stages
        gone = [row.stage for row in old if result.of(row.stage) is None]
        left_out = f' It holds no longer what was not measured: {", ".join(gone)}.' if gone else ''
        said.append(f'Recorded as {settings.records / kind}.json.{left_out}')
    return '\n'.join(said)


def recorded(settings: BenchmarkSettings, machine: Machine) -> Result | None:
    """Return the recorded result of this class of machines, None where there is none."""
    if settings.records is None:
        return None
    path = settings.records / f'{machine.kind}.json'
    return Result.read_json(path) if path.is_file() else None


def write(result: Result, stem: Path, text: str) -> None:
    """Write a result and its table as STEM.json and STEM.md."""
    result.write(stem.with_name(f'{stem.name}.json'))
    write_whole(stem.with_name(f'{stem.name}.md'), f'{text}\n')
