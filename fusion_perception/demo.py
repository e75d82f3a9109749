"""Run the simulated sensor and the fusion node over DDS, and judge what comes out."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from rich.live import Live

from fusion_perception.learning.evidence.evidence import spread
from fusion_perception.learning.metrics import score
from fusion_perception.learning.plots import scene_figure, write_png
from fusion_perception.learning.run.folder import versions
from fusion_perception.models.bundle import Bundle, load_bundle
from fusion_perception.runtime import Device
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.ledger import Stream, StreamCounts, fates_of
from fusion_perception.sensing.rig import TASK_CLASSES
from fusion_perception.simulation.motion import FASTEST_HZ, SLOWEST_HZ, LiveSettings
from fusion_perception.stopping import undisturbed
from fusion_perception.whole_files import write_whole

if TYPE_CHECKING:
    from fusion_perception.ros.child import Child
    from fusion_perception.ros.witness import Judged, Witness

LOGGER = logging.getLogger(__name__)
# A loaded machine takes this long to import torch twice.
STARTUP_S = 120.0
LAST_WORDS_S = 10.0
# Of so many predictions the status line tells the latency.
RECENT = 200
# What bag/ of a demo holds.
_RECORDED = {'bag.mcap', 'metadata.yaml'}


class DemoSettings(LiveSettings):
    """A live run of sensor, node and judge."""

    seconds: float = Field(
        15.0, gt=0, description='How long to watch, from the first judged prediction'
    )
    out: Path = Field(Path('runs/demo'), description='Folder for summary, picture, bag and logs')
    bundle: str | None = Field(
        None, description="A bundle file or name; left out, the task's own that ships"
    )
    rate: float | None = Field(
        None,
        ge=SLOWEST_HZ,
        le=FASTEST_HZ,
        description='Images and range images per second, instead of --camera-hz and --lidar-hz',
    )
    device: Device = 'auto'


def demo(settings: DemoSettings) -> tuple[str, int]:
    """Watch the node for a while; return what happened, and 0 only if centres came out.

    Writes summary.json, scene.png, bag/ (rosbag2, mcap) and the logs of both processes.
    """
    import rclpy

    from fusion_perception.ros.domain import Domain
    from fusion_perception.ros.joining import join
    from fusion_perception.ros.witness import Bag, Witness

    bundle = load_bundle(settings.bundle or settings.task)
    classes = TASK_CLASSES[settings.task]
    if bundle.rig.classes != classes:
        raise ValueError(
            f'{bundle.path} predicts {", ".join(bundle.rig.classes)}, but the scene of '
            f"task '{settings.task}' holds {', '.join(classes)}. {_remedy(bundle)}"
        )
    out = settings.out
    _clear(out)
    torch.set_num_threads(1)
    domain = Domain()
    domain.enter()
    LOGGER.info('Starting sensor_sim and fusion_node on ROS_DOMAIN_ID=%d ...', domain.number)
    children: list[Child] = []
    bag = Bag(out / 'bag')
    try:
        join()
        witness = Witness(bag)
        with undisturbed():
            _start(children, settings, bundle, out)
        fault = _watch(witness, children, settings)
        # The node says on /diagnostics what became of every message, so listen on.
        children[-1].ask_to_end()
        _spin_until(witness, lambda: not children[-1].running(), LAST_WORDS_S)
        _spin_until(witness, lambda: False, 0.2)
    finally:
        codes = [child.end() for child in reversed(children)]
        bag.close()
        rclpy.try_shutdown()
        domain.close()
    if fault is None and any(codes):
        fault = f'A process ended with {codes}. See the logs in {out}.'
    if fault is not None:
        return fault, 1
    return _report(witness, bundle, settings), 0


def _remedy(bundle: Bundle) -> str:
    tasks = [task for task, classes in TASK_CLASSES.items() if classes == bundle.rig.classes]
    if tasks:
        return f'Add --task {tasks[0]}.'
    return 'The demo knows no others; try it on a recording: fusion evaluate --bag.'


def _clear(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file. Choose a folder for the demo.')
    # What a former run left must not be taken for this one's.
    bag = out / 'bag'
    if bag.exists():
        others = sorted({file.name for file in bag.iterdir()} - _RECORDED)
        if others:
            raise ValueError(
                f'{bag} holds what no demo recorded: {", ".join(others[:3])}. '
                'Choose another folder with --out, or move it.'
            )
        shutil.rmtree(bag)
    for name in ('summary.json', 'scene.png'):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _start(children: list[Child], settings: DemoSettings, bundle: Bundle, out: Path) -> None:
    from fusion_perception.ros.child import Child, links, parameters

    sensor = {
        'task': settings.task,
        'seed': settings.seed,
        'camera_hz': settings.rate or settings.camera_hz,
        'lidar_hz': settings.rate or settings.lidar_hz,
    }
    node = {'bundle': bundle.path.resolve(), 'device': settings.device}
    # One by one: whatever interrupts us, the caller knows whom to end.
    children.append(Child('sensor_sim', out / 'sensor_sim.log', parameters(sensor)))
    children.append(Child('fusion_node', out / 'fusion_node.log', [*parameters(node), *links()]))


def _watch(witness: Witness, children: Sequence[Child], settings: DemoSettings) -> str | None:
    """Spin until enough was seen; return None, or the sentence that says what went wrong."""
    from fusion_perception.ros.node_status import values_of

    began = time.monotonic()
    first: float | None = None
    with _live() as show:
        while first is None or time.monotonic() - first < settings.seconds:
            _spin_until(witness, lambda: False, 0.1)
            now = time.monotonic()
            # Processes find each other seconds apart: the truth may be heard after predictions.
            if first is None and witness.judged:
                first = now
            for child in children:
                if not child.running():
                    return f'{child.last_words()}\n{child.node} ended by itself. See {child.log}.'
            status = witness.status
            if status is not None and 'fault' in values_of(status):
                return f'fusion_node: {status.message}'
            if first is None and now - began > STARTUP_S:
                return f'{_nothing_judged(witness)} See the logs in {settings.out}.'
            since = 'waiting,' if first is None else f'{now - first:5.1f} s '
            show(partial(_line, since, witness))
    return None


def _nothing_judged(witness: Witness) -> str:
    within = f'within {STARTUP_S:.0f} s'
    if witness.predictions:
        return (
            f'{counted(witness.predictions, "prediction")} came {within}, but none with the '
            'stamp of a true centre, so nothing can be judged.'
        )
    status = witness.status
    why = 'nothing was heard of fusion_node.' if status is None else status.message
    return f'No prediction {within}: {why}'


def _spin_until(witness: Witness, done: Callable[[], bool], timeout_s: float) -> None:
    import rclpy

    end = time.monotonic() + timeout_s
    while not done() and (left := end - time.monotonic()) > 0:
        rclpy.spin_once(witness, timeout_sec=min(left, 0.1))


@contextmanager
def _live() -> Iterator[Callable[[Callable[[], str]], None]]:
    """Yield what shows a line: in place on a terminal, elsewhere once a second in the log.

    The line is made when it is shown: whoever counts milliseconds makes it on the same thread.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=5, transient=True) as live:
            yield lambda line: live.update(line())
        return
    shown_at, shown = -math.inf, ''

    def show(line: Callable[[], str]) -> None:
        nonlocal shown_at, shown
        if time.monotonic() - shown_at >= 1.0 and (new := line()) != shown:
            shown_at, shown = time.monotonic(), new
            LOGGER.info(new)

    yield show


def _line(since: str, witness: Witness) -> str:
    """Say in less than the width of a terminal how it goes."""
    recent = witness.judged[-RECENT:]
    if not recent:
        return f'{since} {counted(witness.predictions, "prediction")}, none judged yet'
    latency = np.percentile([judged.latency_ms for judged in recent], (50, 95))
    # The node's own verdict where it is not content.
    status = witness.status
    worry = '' if status is None or status.level == b'\x00' else f'  {status.message}'
    return (
        f'{since} {counted(witness.predictions, "prediction")}  error '
        f'{_error_m(recent[-10:]):.2f} m now, {_error_m(witness.judged):.2f} in all  '
        f'latency p50 {latency[0]:.0f}, p95 {latency[1]:.0f} ms{worry}'
    )


def _error_m(judged: Sequence[Judged]) -> float:
    return fmean(each.error_m for each in judged)


def _report(witness: Witness, bundle: Bundle, settings: DemoSettings) -> str:
    from fusion_perception.ros.diagnostics import group, streams_of

    predicted = np.stack([judged.predicted for judged in witness.judged])
    truth = np.stack([judged.truth for judged in witness.judged])
    classes = bundle.rig.classes
    # Raises ValueError where a centre is not finite.
    scores = score(torch.from_numpy(predicted), torch.from_numpy(truth), classes)
    values = [] if witness.status is None else witness.status.values
    latency_ms = spread([judged.latency_ms for judged in witness.judged])
    streams = cast('dict[Stream, StreamCounts]', streams_of(values))
    missed = witness.missed()
    modes = {mode: int(count) for mode, count in group(values, 'modes').items()}
    summary = {
        **scores.as_json(),
        'modes': modes,
        'streams': streams,
        'pairs': sum(modes.values()),
        'missed': missed,
        'latency_ms': latency_ms,
        'node_latency_ms': group(values, 'latency_ms'),
        'bare_latency_ms': spread(witness.bare_ms) if witness.bare_ms else {},
        'bundle': bundle.identity(),
        'device': next((pair.value for pair in values if pair.key == 'device'), ''),
        'versions': dict(versions()),
    }
    out = settings.out
    write_whole(out / 'summary.json', json.dumps(summary, indent=2) + '\n')
    if (scene := witness.scene()) is not None:
        judged = scene.judged
        figure = scene_figure(
            scene.image, scene.ranges, bundle.lidar, classes, judged.predicted, judged.truth
        )
        write_png(figure, out / 'scene.png')
    near = scores.hit_rate['0.5']
    return (
        f'{counted(scores.scenes, "prediction")} judged: mean error {scores.error_m.mean:.3f} m, '
        f'{near:.0%} of the centres within 0.5 m; stamp to arrival p50 {latency_ms["p50"]:.1f} '
        f'ms, p99 {latency_ms["p99"]:.1f} ms; {counted(missed, "scan")} in between without a '
        'prediction.\n'
        f'{fates_of(streams)}\n'
        f'{out}: summary.json, scene.png, bag/, sensor_sim.log, fusion_node.log'
    )
