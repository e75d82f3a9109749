"""Say what is wrong with a running node, a recording, a bundle or a data folder."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from pydantic import Field
from rich.console import Console
from rich.text import Text

from fusion_perception.engines.base import TorchEngine
from fusion_perception.engines.choice import ALLOWED_M, ENGINES, aged_m, try_engine
from fusion_perception.learning.bags.examination import examine_recording
from fusion_perception.learning.bags.settings import RecordingSettings
from fusion_perception.learning.data.folder import ASSUMED, DataFolder
from fusion_perception.models.bundle import Bundle, find_bundle, load_bundle
from fusion_perception.runtime import Runtime, choose_device
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.finding import Finding, Level, of_fault, worst
from fusion_perception.sensing.findings.watch import of_streams

if TYPE_CHECKING:
    from fusion_perception.ros.examination import Examined

# A busy machine takes a while to find the nodes of a graph.
DISCOVERY_S = 5.0
COLOURS = {'OK': 'green', 'WARN': 'yellow', 'ERROR': 'bold red'}


class DoctorSettings(RecordingSettings):
    """What to examine; exactly one of --live, --bag, --bundle and --data."""

    live: bool = Field(False, description='The fusion node that runs in this ROS_DOMAIN_ID')
    bag: Path | None = Field(None, description='A recording (rosbag2)')
    bundle: str | None = Field(None, description='A bundle file, or the name of one that ships')
    data: Path | None = Field(None, description='A data folder')
    node: str | None = Field(None, description='Which node, where several run (--live)')
    seconds: float = Field(5.0, gt=0, le=3600, description='How long to listen (--live)')


def doctor(settings: DoctorSettings) -> tuple[str, int]:
    """Return the findings, one per line with its remedy, and 1 if anything is wrong."""
    ways: dict[str, tuple[object, Callable[[DoctorSettings], list[Finding]]]] = {
        '--live': (settings.live or None, examine_live),
        '--bag': (settings.bag, examine_bag),
        '--bundle': (settings.bundle, examine_bundle),
        '--data': (settings.data, examine_data),
    }
    chosen = [flag for flag, (value, _) in ways.items() if value is not None]
    if len(chosen) != 1:
        given = f'{" and ".join(chosen)} were' if chosen else 'none was'
        raise ValueError(
            f'fusion doctor examines one of {", ".join(ways)}, but {given} given. Choose one.'
        )
    findings = ways[chosen[0]][1](settings)
    return report(findings, sys.stdout.isatty()), 0 if worst(findings) == 'OK' else 1


def report(findings: Sequence[Finding], terminal: bool) -> str:
    """Return the findings as text, coloured for a terminal, the remedies on lines of their own."""
    out = io.StringIO()
    width = None if terminal else 10_000
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False)
    for finding in findings:
        line = Text.assemble((f'{finding.level:<5}', COLOURS[finding.level]), '  ')
        console.print(line + Text(finding.sentence))
        if finding.remedy:
            console.print(Text(f'       -> {finding.remedy}', 'bold' if terminal else ''))
    wrong = sum(finding.level != 'OK' for finding in findings)
    console.print(f'{wrong} of {len(findings)} to correct.' if wrong else 'Nothing is wrong.')
    return out.getvalue().rstrip('\n')


def examine_bundle(settings: DoctorSettings) -> list[Finding]:
    """Verify a bundle and let it predict blank frames."""
    path = find_bundle(str(settings.bundle))
    try:
        bundle = load_bundle(path)
        runtime = Runtime(bundle, 'cpu')
        runtime.warm_up(frames=1)
    except ValueError as fault:
        return [of_fault(str(path), fault)]
    manifest, camera = bundle.manifest, bundle.rig.camera
    rows, columns = bundle.lidar.shape
    training, *before = map(_told_of_training, bundle.trainings)
    return [
        Finding('OK', f'{path}: hashes of weights, tables and manifest agree'),
        Finding('OK', f'Model {manifest.model}, by fusion_perception {manifest.package_version}'),
        Finding('OK', f'Objects: {", ".join(bundle.rig.classes)}'),
        Finding(
            'OK',
            f'Camera {camera.width}x{camera.height}, LiDAR {rows}x{columns} '
            f'({bundle.lidar.projection}, up to {bundle.lidar.max_range:g} m)',
        ),
        Finding('OK', f'Training: {training or "not recorded"}'),
        *(Finding('OK', f'Started from a bundle with training: {told}') for told in before),
        Finding('OK', f'Predicts blank frames in {", ".join(sorted(bundle.model.modes))}'),
        *_of_engines(bundle),
    ]


def _told_of_training(training: Mapping[str, object]) -> str:
    return ', '.join(
        f'{key} {value:.0f}' if isinstance(value, float) else f'{key} {value}'
        for key, value in training.items()
        if isinstance(value, str | int | float)
    )


def _of_engines(bundle: Bundle) -> list[Finding]:
    """Try every engine on the bundle's examples. That one is not installed here is no fault."""
    device = choose_device('auto')
    reference = TorchEngine(bundle, device)
    aged = aged_m(reference, bundle)
    findings = [
        Finding('OK', 'It carries no examples; engines are compared on made-up scenes')
        if aged is None
        else Finding(
            'OK' if aged <= ALLOWED_M else 'WARN',
            f'Its examples come out within {1e3 * aged:.3f} mm of what they did when saved',
        )
    ]
    for name in ('torch', *ENGINES):
        trial = try_engine(name, bundle, reference)
        if trial.missing:
            findings.append(Finding('OK', _half(trial.fault.partition('. ')[0])))
        elif trial.fault:
            findings.append(Finding('WARN', _half(trial.fault), '', trial.remedy))
        else:
            assert trial.apart_m is not None
            findings.append(
                Finding(
                    'OK',
                    f'Engine {name}: {trial.time_ms:.1f} ms a frame on {device}, at most '
                    f'{1e3 * trial.apart_m:.3f} mm from eager torch',
                )
            )
    return findings


def examine_data(settings: DoctorSettings) -> list[Finding]:
    """Read a data folder whole, with all its checks."""
    path = cast('Path', settings.data)
    if not path.exists():
        raise FileNotFoundError(f'No data folder at {path}. Check the path.')
    found: list[Finding] = []

    def tell(folder: Path, doubts: Iterable[str]) -> None:
        found.extend(of_fault(str(folder), doubt, _level(doubt)) for doubt in doubts)

    try:
        folder = DataFolder.open(path, tell)
        about_labels = len(found)
        images, ranges = folder.read(tell)
        fit = '' if found[about_labels:] else '; the labels fit the scans'
    except (ValueError, FileNotFoundError) as fault:
        return [*found, of_fault(str(path), fault)]
    returns = ((ranges > 0) & (ranges < folder.lidar.max_range)).mean(axis=(1, 2))
    # What is NaN everywhere was told of.
    if empty := sum(not np.isnan(scan).all() for scan in ranges[returns == 0]):
        found.append(
            Finding(
                'WARN',
                f'{empty} range images are empty',
                'no ray of them met anything',
                'Leave these scenes out, or check their units and the maximum range.',
            )
        )
    return [
        Finding(
            'OK', f'{path}: {counted(len(folder), "scene")} of {", ".join(folder.rig.classes)}'
        ),
        Finding('OK', f'Images {images.shape[2]}x{images.shape[1]}, all of one size'),
        Finding(
            'OK',
            f'Range images {ranges.shape[1]}x{ranges.shape[2]}, {returns.mean():.0%} of the rays '
            f'return within {folder.lidar.max_range:g} m{fit}',
        ),
        *found,
    ]


def _level(doubt: str) -> Level:
    # The original data has no description.
    return 'OK' if doubt == ASSUMED else 'WARN'


def examine_bag(settings: DoctorSettings) -> list[Finding]:
    """Read a recording's images, scans and camera_info: kinds, rates, stamps, pairs."""
    path = cast('Path', settings.bag)
    if not path.exists():
        raise FileNotFoundError(f'No recording at {path}. Check the path.')
    return examine_recording(path, settings)


def examine_live(settings: DoctorSettings) -> list[Finding]:
    """Join the graph and examine the node, its inputs and who hears its outputs."""
    from fusion_perception.ros.examination import examiner

    domain = os.environ.get('ROS_DOMAIN_ID') or '0'
    wanted = settings.node
    if wanted is not None and not wanted.startswith('/'):
        wanted = f'/{wanted}'
    with examiner() as graph:
        nodes = graph.fusion_nodes(max(settings.seconds, DISCOVERY_S), wanted)
        if not nodes:
            others = ', '.join(graph.others()) or 'no node at all'
            return [
                Finding(
                    'ERROR',
                    f'No fusion node runs in ROS_DOMAIN_ID {domain}',
                    f'what can be seen there is {others}',
                    'Start it with `ros2 launch fusion_perception fusion.launch.py`, or '
                    '`fusion_node` where there is no ros2; or set ROS_DOMAIN_ID and '
                    'ROS_AUTOMATIC_DISCOVERY_RANGE as it has them.',
                )
            ]
        if wanted is not None and wanted not in nodes:
            raise ValueError(
                f'There is no fusion node {wanted} in ROS_DOMAIN_ID {domain}, but '
                f'{", ".join(nodes)}. Name one of those with --node.'
            )
        if wanted is None and len(nodes) > 1:
            raise ValueError(
                f'{len(nodes)} fusion nodes run: {", ".join(nodes)}. Name one with --node.'
            )
        return _of_live(graph.examine(wanted or nodes[0], settings.seconds))


def _of_live(examined: Examined) -> list[Finding]:
    facts, values = examined.facts, examined.values
    wrong = [*examined.findings, *diagnose(facts)]
    state = facts.lifecycle or 'silent'
    findings = [Finding('OK', f'{examined.node} is there: {state}, {_bundle(values)}')]
    findings += of_streams(facts, examined.watch)
    said = _said(examined)
    if said and worst([*wrong, *said]) != worst(wrong):
        # It sees something worse, that cannot be seen from outside.
        wrong = [*said, *wrong]
    elif facts.lifecycle == 'active' and worst(wrong) == 'OK' and 'latency_ms.p95' in values:
        p50, p95 = (float(values[f'latency_ms.{key}']) for key in ('p50', 'p95'))
        findings.append(
            Finding(
                'OK',
                f'Output: {values.get("mode", "")}, {values.get("pairs", "0")} so far, '
                f'from stamp to output p50 {p50:.1f} ms, p95 {p95:.1f} ms',
            )
        )
    return findings + wrong


def _said(examined: Examined) -> list[Finding]:
    """Return what a node says is wrong, one finding or none."""
    status = examined.status
    if status is None or status.level == b'\0':
        return []
    level: Level = 'WARN' if status.level == b'\1' else 'ERROR'
    remedy = 'Where that does not say what to do, its log may.'
    return [Finding(level, f'The node says: {_half(status.message)}', '', remedy)]


def _bundle(values: dict[str, str]) -> str:
    if 'bundle' not in values:
        return 'no bundle loaded'
    return f'bundle {values["bundle"]} on {values.get("device", "")}'


def _half(sentence: str) -> str:
    return sentence.rstrip('.')
