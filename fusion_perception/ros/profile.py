"""Say where the node's time goes, by rclpy's executors and by threads: `fusion profile`."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rclpy
from pydantic import Field
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)

from fusion_perception.ros.child import Child, links, parameters
from fusion_perception.ros.domain import Domain
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.joining import join
from fusion_perception.ros.monitor import Times
from fusion_perception.ros.node_settings import NodeSettings, Threads
from fusion_perception.ros.pace import Window
from fusion_perception.ros.pipeline import Pipeline
from fusion_perception.runtime import Device, EngineChoice
from fusion_perception.sensing.ledger import Stream, fates_of
from fusion_perception.sensing.observation import Mode
from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.motion import FASTEST_HZ, SLOWEST_HZ
from fusion_perception.simulation.topics import INPUTS
from fusion_perception.stopping import undisturbed
from fusion_perception.whole_files import write_whole

LOGGER = logging.getLogger(__name__)
ExecutorName = Literal['single', 'multi']
EXECUTORS: dict[ExecutorName, Callable[[], Executor]] = {
    'single': SingleThreadedExecutor,
    'multi': lambda: MultiThreadedExecutor(num_threads=2),
}
STARTUP_S = 60.0


class ProfileSettings(Settings):
    """Settings of `fusion profile`."""

    out: Path = Field(Path('runs/profile'), description='Folder for profile.json and profile.md')
    hz: float = Field(
        60.0, ge=SLOWEST_HZ, le=FASTEST_HZ, description='Images and range images per second'
    )
    seconds: float = Field(10.0, gt=0, le=86_400, description='How long each of them is watched')
    executors: tuple[ExecutorName, ...] = Field(
        ('single', 'multi'), min_length=1, description="rclpy's executors to compare"
    )
    threads: tuple[Threads, ...] = Field(
        (NodeSettings().threads,),
        min_length=1,
        description='CPU threads of one inference to compare, each with each executor',
    )
    bundle: str = Field('shapes', description='A bundle file, or one that ships')
    device: Device = 'auto'
    engine: EngineChoice = 'auto'


@dataclass
class Stopwatch:
    """The times of calls, by the name of their stage, milliseconds."""

    times_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def around(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is timed."""

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                self.times_ms[stage].append(1000 * (time.perf_counter() - began))

        return timed

    def watch(self, pipeline: Pipeline) -> None:
        """Time the stages of a pipeline that has not begun to listen."""
        for owner, name, stage in (
            (pipeline, 'take', 'callback (decode, pair, hand over)'),
            (pipeline.intake, 'take', 'decode and pair'),
            (pipeline.runtime, 'predict_frame', 'observe and predict'),
            (pipeline, '_publish', 'publish'),
        ):
            setattr(owner, name, self.around(stage, getattr(owner, name)))


def profile(settings: ProfileSettings) -> tuple[str, int]:
    """Run the node between simulated sensors once in each way, and lay the times out.

    Exit code 1 when a message is not accounted for.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    runs = []
    with closing(Domain()) as domain, simulated_sensors(settings, domain):
        for threads, name in product(settings.threads, settings.executors):
            LOGGER.info('Watching the node: executor %s, threads: %d ...', name, threads)
            run = watched(settings, EXECUTORS[name], threads)
            runs.append({'executor': name, 'threads': threads, **run})
    good = all(run['accounted'] for run in runs)
    return keep(settings, runs), 0 if good else 1


def keep(settings: ProfileSettings, runs: list[dict[str, Any]]) -> str:
    """Write profile.json and profile.md, each whole or not at all, and return the tables."""
    text = as_markdown(settings, runs)
    values = {'settings': settings.model_dump(mode='json', exclude={'out'}), 'runs': runs}
    write_whole(settings.out / 'profile.json', json.dumps(values, indent=2) + '\n')
    write_whole(settings.out / 'profile.md', f'{text}\n')
    return f'{text}\n\n{settings.out}: profile.json, profile.md.'


@contextmanager
def simulated_sensors(settings: ProfileSettings, domain: Domain) -> Iterator[None]:
    """Run the simulated sensor in a process of its own, on a domain that is this one's too."""
    domain.enter()
    rates = parameters({'camera_hz': settings.hz, 'lidar_hz': settings.hz})
    sensor: Child | None = None
    try:
        with undisturbed():
            sensor = Child('sensor_sim', settings.out / 'sensor_sim.log', rates)
        yield
    finally:
        if sensor is not None:
            sensor.end(10.0)


def watched(
    settings: ProfileSettings, create: Callable[[], Executor], threads: int
) -> dict[str, Any]:
    """Run a node of its own with an executor and return what became of messages and time.

    Raises ValueError when the node cannot be configured or nothing is heard or predicted.
    """
    chosen = {
        'bundle': settings.bundle,
        'device': settings.device,
        'engine': settings.engine,
        'threads': threads,
    }
    quiet = ('--ros-args', '--log-level', 'warn')
    arguments = [*quiet, *parameters(chosen), '-p', 'autostart:=false', *links()]
    join(arguments)
    node, executor = FusionNode(), create()
    node.owns_process = True  # As that of the executable, which is measured here.
    thread = threading.Thread(target=_spin, args=(executor,), name='executor', daemon=True)
    try:
        node.trigger_configure()
        pipeline = node._pipeline
        if pipeline is None:
            raise ValueError(f'The node cannot be configured: {node._fault}')
        stopwatch = Stopwatch()
        stopwatch.watch(pipeline)
        # An active node would warn that nobody publishes.
        _await(lambda: all(map(node.count_publishers, INPUTS.values())), 'No sensor was found')
        node.trigger_activate()
        executor.add_node(node)
        thread.start()
        _await(lambda: bool(pipeline.monitor.output()[2]), 'Nothing was predicted')
        # What the first frames find cold is not what the thousandth takes.
        time.sleep(min(1.0, settings.seconds / 4))
        stopwatch.times_ms.clear()
        latency = _latency_of(pipeline)
        before = sum(pipeline.monitor.output()[2].values())
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(settings.seconds)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        predictions = sum(pipeline.monitor.output()[2].values()) - before
        times = {stage: list(values) for stage, values in stopwatch.times_ms.items()}
        latency_ms = latency.percentiles()
    finally:
        executor.shutdown()
        if thread.is_alive():
            thread.join(10)
        node.finish()
        node.destroy_node()
        rclpy.try_shutdown()
    if not latency_ms:
        raise ValueError(f'Nothing was predicted in {seconds:.1f} s. Give more --seconds.')
    streams = pipeline.intake.ledger.counters()
    return {
        'seconds': seconds,
        'predictions': predictions,
        'predictions_per_s': predictions / seconds,
        'cpu_cores': cpu / seconds,
        'latency_ms': latency_ms,
        'streams': streams,
        'accounted': all(_accounted(counts) for counts in streams.values()),
        'stages': {stage: _summary(values, predictions) for stage, values in times.items()},
    }


def _latency_of(pipeline: Pipeline) -> Window:
    """Return what takes in the latency of all outputs from now on; the monitor's forgets."""
    window, note = Window(sys.maxsize, math.inf), pipeline.monitor.published

    def published(mode: Mode, times: Times, stamp_ages_s: Mapping[Stream, float]) -> None:
        window.add(times.latency_ms)
        note(mode, times, stamp_ages_s)

    pipeline.monitor.published = published  # type: ignore[method-assign]
    return window


def as_markdown(settings: ProfileSettings, runs: list[dict[str, Any]]) -> str:
    """Return the executors and the stages as two Markdown tables."""
    lines = [
        f'Both sensors at {settings.hz:g} Hz, {settings.bundle} by {settings.engine}, '
        f'{settings.seconds:g} s each.',
        '',
        '| executor | threads | predictions/s | latency p50 | p95 | p99 | max | cores | messages '
        '|',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |',
    ]
    for run in runs:
        latency = ' | '.join(
            f'{run["latency_ms"][key]:.2f} ms' for key in ('p50', 'p95', 'p99', 'max')
        )
        lines.append(
            f'| {run["executor"]} | {run["threads"]} | {run["predictions_per_s"]:.1f} | {latency} '
            f'| {run["cpu_cores"]:.2f} | {fates_of(run["streams"])} |'
        )
    lines += [
        '',
        '| stage | executor | threads | calls | p50 | p95 | per prediction |',
        '| --- | --- | ---: | ---: | ---: | ---: | ---: |',
    ]
    for run in runs:
        for stage, times in run['stages'].items():
            lines.append(
                f'| {stage} | {run["executor"]} | {run["threads"]} | {times["calls"]} '
                f'| {times["p50_ms"]:.3f} ms | {times["p95_ms"]:.3f} ms '
                f'| {times["per_prediction_ms"]:.3f} ms |'
            )
    return '\n'.join(lines)


def _spin(executor: Executor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


def _await(done: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + STARTUP_S
    while not done():
        if time.monotonic() > end:
            raise ValueError(f'{otherwise} within {STARTUP_S:.0f} s. Look into sensor_sim.log.')
        time.sleep(0.01)


def _accounted(counts: Any) -> bool:
    """Say whether everything was used or dropped, once the node has ended."""
    lost = sum(counts['dropped'].values())
    return bool(counts['received'] == counts['used'] + lost and not counts['pending'])


def _summary(values: list[float], predictions: int) -> dict[str, float]:
    p50, p95 = np.percentile(values, (50, 95)).tolist()
    return {
        'calls': len(values),
        'p50_ms': p50,
        'p95_ms': p95,
        'per_prediction_ms': sum(values) / predictions,
    }
