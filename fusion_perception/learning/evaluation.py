"""Measure a bundle against the truth, through the runtime that a robot uses."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from fusion_perception.learning.bags.settings import BagSettings, flags_of
from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.learning.evidence.evidence import Evidence, spread
from fusion_perception.learning.evidence.of_bags import (
    from_bags,
    remove_predictions,
    write_predictions,
)
from fusion_perception.learning.evidence.of_folder import from_folder
from fusion_perception.learning.gates import (
    Baseline,
    GateSettings,
    broken_limits,
    check_takes_baseline,
    other_scenes,
    read_baseline,
    why_no_baseline,
    write_baseline,
)
from fusion_perception.learning.report import write_html
from fusion_perception.learning.reports.folder import made_beforehand
from fusion_perception.learning.run.folder import versions
from fusion_perception.learning.run.recipe import LARGEST_BATCH
from fusion_perception.models.bundle import Bundle, load_bundle
from fusion_perception.runtime import Device, EngineChoice, Precision, Runtime
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX, DisagreementMax
from fusion_perception.sensing.ledger import fates_of
from fusion_perception.sensing.observation import LARGEST_RANGE
from fusion_perception.sensing.recordings.files import check_is_outside, find_recordings
from fusion_perception.whole_files import write_whole

BROKEN = 3  # The exit code when a limit is broken.
REPORT, PAGE, TABLE = WRITTEN = ('report.json', 'report.html', 'predictions.csv')
UNREAD = 2  # The exit code when some of several recordings could not be evaluated.


class EvaluateSettings(GateSettings, BagSettings):
    """Settings of `fusion evaluate`: of a data folder, or of recordings."""

    bundle: str = Field(description='Path of a bundle, or the name of one that ships')
    out: Path = Field(description=f'Folder for {REPORT}, {PAGE} and, with --bag, {TABLE}')
    data: Path | None = Field(None, description='Data folder with the truth')
    bag: tuple[str, ...] = Field(
        (), description='Recordings (rosbag2), folders of them or globs, instead of --data'
    )
    last: int | None = Field(None, ge=1, description='Only so many scenes at the end of --data')
    range_noise: float = Field(
        0.0,
        ge=0,
        le=LARGEST_RANGE,
        description='Noise to add to the ranges of --data: standard deviation, metres',
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description='Share of the LiDAR rays of --data to lose'
    )
    batch_size: int = Field(32, ge=1, le=LARGEST_BATCH, description='Scenes predicted at a time')
    jobs: int = Field(
        0, ge=0, description='Recordings evaluated at a time; 0: one per usable core'
    )
    disagreement_max: DisagreementMax = DISAGREEMENT_MAX
    device: Device = 'auto'
    precision: Precision = 'float32'
    engine: EngineChoice = 'torch'

    @model_validator(mode='after')
    def _has_one_source(self) -> Self:
        if (self.data is None) == (not self.bag):
            raise ValueError('Give either --data FOLDER or --bag RECORDING')
        if self.bag and (self.range_noise or self.dropout):
            raise ValueError('--range-noise and --dropout are for --data; a recording has its own')
        if self.bag and self.last is not None:
            raise ValueError('--last is for --data; a recording is evaluated whole')
        if self.data and (flag := next(flags_of(self, BagSettings()), None)):
            raise ValueError(f'{flag} is for --bag; the scenes of a folder are paired already')
        if self.data and self.jobs:
            raise ValueError('--jobs is for --bag; one process evaluates a folder')
        if self.baseline is None and self.tolerance != GateSettings().tolerance:
            raise ValueError(
                '--tolerance is for --baseline; give the report.json of an earlier evaluation'
            )
        return self


def evaluate(settings: EvaluateSettings) -> tuple[str, int]:
    """Write report.json and report.html, and return what they say in short with the exit code.

    Raises FileNotFoundError or ValueError for a bundle or source that cannot be read, and
    ValueError when they do not fit each other.
    """
    check_is_apart(settings.out, 'the report')
    bundle = load_bundle(settings.bundle)
    recordings = find_recordings(settings.bag)
    for target in filter(None, (settings.out, settings.write_baseline)):
        check_is_outside(target, recordings)
    if settings.write_baseline is not None:
        check_takes_baseline(settings.write_baseline, [settings.out / name for name in WRITTEN])
    baseline = None
    if settings.baseline is not None:
        if settings.baseline.resolve() == (settings.out / REPORT).resolve():
            raise ValueError(
                f'The baseline {settings.baseline} would be overwritten, and the next evaluation '
                'held to this one. Choose another --out, or keep the baseline elsewhere.'
            )
        baseline = read_baseline(settings.baseline, bundle.rig.classes)
    runtime = Runtime(bundle, settings.device, settings.precision, settings.engine)
    with made_beforehand(settings.out) as out:
        began = time.perf_counter()
        if (data := settings.data) is not None:
            evidence = from_folder(
                runtime,
                data,
                last=settings.last,
                range_noise=settings.range_noise,
                dropout=settings.dropout,
                batch_size=settings.batch_size,
                disagreement_max=settings.disagreement_max,
            )
        else:
            evidence = from_bags(
                runtime,
                settings.bag,
                settings,
                settings.batch_size,
                settings.jobs,
                settings.disagreement_max,
            )
        seconds = time.perf_counter() - began
        broken = broken_limits(settings, evidence, baseline)
        report = {**as_report(evidence, runtime, settings, seconds), 'broken_limits': broken}
        # Nothing of an earlier evaluation is to pass for a part of this one.
        for name in (REPORT, PAGE):
            (out / name).unlink(missing_ok=True)
        remove_predictions(out / TABLE)
        write_html(out / PAGE, report, evidence, bundle)
        if evidence.runs:
            write_predictions(out / TABLE, evidence.runs, bundle.rig.classes)
        # The last one: where it is, the others are too.
        write_whole(out / REPORT, json.dumps(report, indent=2) + '\n')
    if settings.write_baseline is not None and not why_no_baseline(evidence, broken):
        write_baseline(settings.write_baseline, report, evidence)
    return in_short(evidence, settings, bundle, baseline, broken)


def in_short(
    evidence: Evidence,
    settings: EvaluateSettings,
    bundle: Bundle,
    baseline: Baseline | None,
    broken: Sequence[str],
) -> tuple[str, int]:
    """Return what an evaluation says in a few lines, and its exit code."""
    scores = evidence.scores()
    model, source = bundle.manifest.model, evidence.source
    if scores is None:
        made = f'{model} made {counted(evidence.pairs, "prediction")} of {source}'
        lines = [f'{made}: there is no truth to score by.']
    else:
        error = scores.error_m
        lines = [
            f'{model} on {counted(scores.scenes, "scene")} of {source}: mean error '
            f'{error.mean:.3f} m, median {error.median:.3f} m, 95 % below {error.p95:.3f} m, '
            f'MSE {scores.mse:.4f} m2.'
        ]
    lines[0] += f' Open {settings.out / PAGE}'
    if evidence.runs:
        lines.append(f'{fates_of(evidence.streams)}.')
    for key in ('warnings', 'unread'):
        lines += cast('list[str]', evidence.about.get(key, []))
    failed = cast('dict[str, str]', evidence.about.get('failed', {}))
    lines += failed.values()
    code = UNREAD if failed else 0
    if baseline is not None and scores is not None:
        lines += other_scenes(baseline, scores)
    if broken:
        lines.append(f'Limits broken: {"; ".join(broken)}.')
        code = BROKEN
    if settings.write_baseline is not None and (why := why_no_baseline(evidence, broken)):
        lines.append(f'{settings.write_baseline} was not written: {why}')
    return '\n'.join(lines), code


def as_report(
    evidence: Evidence, runtime: Runtime, settings: EvaluateSettings, seconds: float
) -> dict[str, object]:
    """Return the content of report.json. Only `latency_ms` and `time` differ between two runs."""
    scores = evidence.scores()
    nothing: dict[str, object] = {'scenes': 0, 'mse': None, 'error_m': None, 'hit_rate': None}
    values = nothing if scores is None else scores.as_json()
    calibration = values.pop('calibration', None)
    report: dict[str, object] = {
        **values,
        'by_mode': {mode: scores.as_json() for mode, scores in evidence.by_mode.items()},
        'modes': dict(evidence.modes),
        'streams': evidence.streams,
        'pairs': evidence.pairs,
        'latency_ms': spread(evidence.latency_ms),
        'time': {'seconds': seconds, 'pairs_per_s': evidence.pairs / seconds},
        'source': evidence.source,
        'bundle': runtime.bundle.identity(),
        'device': device_name(runtime.device),
        'engine': runtime.engine,
        'versions': versions(),
        'settings': settings.model_dump(mode='json', exclude={'out', 'write_baseline'}),
        **evidence.about,
    }
    return report if calibration is None else {**report, 'calibration': calibration}


def device_name(device: torch.device) -> str:
    """Return the device with the name of its GPU or the number of its threads."""
    if device.type == 'cuda':
        return f'cuda ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'
