"""Write the sections of a report: figures in tables, drawings, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.metrics import HIT_RADII_M
from fusion_perception.learning.reports import figures
from fusion_perception.learning.reports.errors import MOST_POINTS, Axis, Errors
from fusion_perception.learning.reports.figures import MODE_NAMES
from fusion_perception.learning.reports.frames import frame_views
from fusion_perception.learning.reports.html import drawing, facts, listed, table, text
from fusion_perception.learning.reports.marks import key_to_marks
from fusion_perception.learning.reports.timeline import drops_over_time, modes_over_time
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX, Alignment
from fusion_perception.sensing.mounting import camera_at
from fusion_perception.sensing.observation import Camera, Mode

Report = Mapping[str, object]
# A number and its unit stay on one line.
WITHIN = [f'within {radius:g}\N{NO-BREAK SPACE}m' for radius in HIT_RADII_M]
_ERRORS = ('mean', 'median', 'p95', 'max')
_IN_METRES = (
    'mean\N{NO-BREAK SPACE}[m]',
    'median\N{NO-BREAK SPACE}[m]',
    '95\N{NO-BREAK SPACE}% below\N{NO-BREAK SPACE}[m]',
    'largest\N{NO-BREAK SPACE}[m]',
)


def recordings(report: Report) -> Iterator[str]:
    """Yield a row for each recording above the total."""
    rows = []
    bags = cast('Sequence[Report]', report['bags'])
    for number, bag in enumerate(bags, start=1):
        name = _short(str(bag['source']), [str(one['source']) for one in bags])
        rows.append([f'{number}. {name}', *_row(bag), f'{bag["recorded_s"]:.1f}'])
    rows.append(['Total', *_row(report), f'{report["recorded_s"]:.1f}'])
    header = [
        'recording',
        'predictions',
        'scored',
        *_IN_METRES[:3],
        *WITHIN,
        'length\N{NO-BREAK SPACE}[s]',
    ]
    yield table(header, rows, total=True)


def _short(source: str, all_sources: Sequence[str]) -> str:
    """Return the last part of a path where that names no other."""
    name = Path(source).name
    return name if [Path(one).name for one in all_sources].count(name) == 1 else source


def _row(report: Report) -> list[str]:
    counts = [f'{report["pairs"]:,}', f'{report["scenes"]:,}']
    if not report['scenes']:
        return [*counts, *'–' * (3 + len(WITHIN))]
    error = cast('dict[str, float]', report['error_m'])
    return [*counts, *(f'{error[key]:.3f}' for key in _ERRORS[:3]), *_hits(report)]


def errors(report: Report, errors: Errors, axis: Axis) -> Iterator[str]:
    """Yield the errors of each object in figures, over time, and by how often they occur."""
    rows = []
    for name, mine in zip(errors.classes, errors.away.T, strict=True):
        quantiles = np.quantile(mine, (0.5, 0.95, 1)).tolist()
        shares = (f'{100 * (mine < radius).mean():.1f} %' for radius in HIT_RADII_M)
        rows.append([name, *(f'{value:.3f}' for value in (mine.mean(), *quantiles)), *shares])
    error = cast('dict[str, float]', report['error_m'])
    rows.append(['all objects', *(f'{error[key]:.3f}' for key in _ERRORS), *_hits(report)])
    yield (
        '<p>The error is the distance between the predicted and the true centre of one object. '
        f'The mean squared error over all coordinates is {report["mse"]:.4f} m².</p>'
    )
    yield table(['object', *_IN_METRES, *WITHIN], rows, total=True)
    single = len(errors) <= MOST_POINTS
    yield f'<h3>Over {"time" if "time" in axis.label else "the scenes"}</h3>'
    yield drawing(
        figures.error_over_time(errors, axis),
        f'Error of each object over {axis.label}: {_means(report)}.',
        'Every scored prediction.'
        if single
        else 'Line: the median of each bin; bar above it: up to its largest error.',
    )
    yield '<h3>Distribution and hit rates</h3>'
    yield drawing(
        figures.error_distribution(errors),
        f'Left a histogram of the errors, right the share of centres nearer than a distance: '
        f'{listed(dict(zip(WITHIN, _hits(report), strict=True)))}.',
        'Left: which share of the centres has which error. Right: the share of centres nearer '
        'than a distance; dotted lines mark the radii of the hit rates.',
    )


def against_range(errors: Errors) -> Iterator[str]:
    """Yield the errors by the range of the true centre."""
    near, far = float(errors.reach.min()), float(errors.reach.max())
    yield drawing(
        figures.error_against_range(errors),
        f'Error of each object against its distance from the LiDAR, {near:.1f} to {far:.1f} m.',
        'Dots: single centres. Thick line: the median of ten bins with equally many centres; thin '
        'lines: their 10 % and 90 % quantiles.',
    )


def honesty(report: Report, errors: Errors) -> Iterator[str]:
    """Yield whether the truth lies within the covariances as often as they promise."""
    if errors.inside is None:
        yield '<p>This model estimates no covariance.</p>'
        return
    header = ['seen by', 'scenes', 'inside the 95 % ellipsoid', 'd²/3']
    rows = []
    for mode, scores in cast('dict[Mode, Report]', report['by_mode']).items():
        kept = cast('dict[str, float]', scores['calibration'])
        inside, squared = f'{100 * kept["coverage95"]:.1f} %', f'{kept["mahalanobis"]:.2f}'
        rows.append([MODE_NAMES[mode], f'{scores["scenes"]:,}', inside, squared])
    yield table(header, rows)
    calibration = cast('dict[str, float]', report['calibration'])
    yield drawing(
        figures.reliability(errors, errors.inside),
        'Observed against expected share of true centres inside the ellipsoid of the covariance; '
        f'{100 * calibration["coverage95"]:.1f} % lie inside the 95 % ellipsoid.',
        'An honest covariance follows the diagonal: the ellipsoid that promises to hold a centre '
        'with 80 % holds 80 % of them. Below the diagonal the model promises too much. d² is the '
        'squared Mahalanobis distance; d²/3 is 1 when errors are as large as promised.',
    )


def modes(report: Report, evidence: Evidence, axis: Axis) -> Iterator[str]:
    """Yield how good the predictions of each set of sensors are, and when it served."""
    modes = cast('dict[Mode, int]', report['modes'])
    counted = listed({f'{MODE_NAMES[mode]}:': f'{n:,}' for mode, n in modes.items()})
    yield f'<p>Predictions from {text(counted)}.</p>'
    if report['by_mode']:
        rows = []
        for mode, scores in cast('dict[Mode, Report]', report['by_mode']).items():
            error = cast('dict[str, float]', scores['error_m'])
            in_metres = (f'{error[key]:.3f}' for key in _ERRORS[:3])
            rows.append([MODE_NAMES[mode], f'{scores["scenes"]:,}', *in_metres, *_hits(scores)])
        yield table(['seen by', 'scenes', *_IN_METRES[:3], *WITHIN], rows)
    if evidence.runs:
        yield drawing(
            modes_over_time(evidence.runs, axis),
            f'Predictions a second by the sensors they were made from. {counted}.',
            'Where one sensor falls silent, the other serves alone.',
        )
    elif len(cast('dict[str, object]', report['by_mode'])) > 1:
        yield '<p>Every scene was also predicted with one of the sensors taken away.</p>'
    if (apart := cast('float | None', report['disagreement'])) is not None:
        yield (
            f'<p>Each by itself, camera and LiDAR put the objects {apart**0.5:.1f} times as far '
            f'apart as they say they err (d²/3 {apart:.2f} in the median; about 1 or less where '
            'both are where they are taken to be).</p>'
        )
    said = cast('Report | None', report['alignment'])
    alignment = None if said is None else Alignment.read(said)
    if alignment is not None and alignment.disagreement <= DISAGREEMENT_MAX:
        yield (
            f'<p>What they see fits a camera that is {alignment.away} from where it is taken to '
            f'be: {_as_set(alignment, in_folder=not evidence.runs)}. They would then put the '
            f'objects {alignment.disagreement**0.5:.1f} times as far apart.</p>'
        )


def _as_set(alignment: Alignment, in_folder: bool) -> str:
    """Return as HTML where a camera is, as one sets it; what is not a folder has `camera_pose`."""
    if not in_folder:
        return f'<code>camera_pose: "{alignment.camera_pose}"</code>'
    T_camera_lidar = np.array(camera_at(alignment.camera_pose, Camera()).T_camera_lidar)
    rows = (T_camera_lidar.round(6) + 0.0).tolist()
    return f'under <code>camera</code> in sensor.yaml <code>T_camera_lidar: {rows}</code>'


def messages(report: Report, evidence: Evidence, axis: Axis) -> Iterator[str]:
    """Yield what became of the messages of both streams, and when."""
    streams = cast('dict[str, dict[str, object]]', report['streams'])
    rows = []
    for name, stream in streams.items():
        dropped = {
            cause.replace('_', ' '): f'{n:,}'
            for cause, n in cast('dict[str, int]', stream['dropped']).items()
            if n
        }
        counts = (f'{stream[key]:,}' for key in ('received', 'used', 'pending'))
        rows.append([{'lidar': 'LiDAR'}.get(name, name), *counts, listed(dropped) or 'none'])
    yield table(['stream', 'received', 'used', 'pending', 'dropped'], rows, words=(4,))
    yield f'<p>{counted(evidence.pairs, "prediction was", "predictions were")} made of them.</p>'
    if evidence.runs:
        lost = {row[0]: f'lost {row[4]}' for row in rows}
        yield drawing(
            drops_over_time(evidence.runs, axis),
            f'Messages received and dropped over time, by cause: {listed(lost)}.',
            'Line: messages that came; areas: those that were lost, where the loss was noticed.',
        )


def latency(report: Report, evidence: Evidence) -> Iterator[str]:
    """Yield how long single frames took."""
    latency = cast('dict[str, float]', report['latency_ms'])
    time = cast('dict[str, float]', report['time'])
    yield (
        f'<p>From decoded arrays to centres, {counted(len(evidence.latency_ms), "frame")} one '
        f'by one on {text(report["device"])}. The whole evaluation, in batches and with reading, '
        f'made {time["pairs_per_s"]:.0f} predictions a second.</p>'
    )
    header = ['', '50 % [ms]', '95 % [ms]', '99 % [ms]', 'largest [ms]']
    yield table(
        header, [['latency', *(f'{latency[k]:.1f}' for k in ('p50', 'p95', 'p99', 'max'))]]
    )
    yield drawing(
        figures.latency_figure(evidence.latency_ms),
        f'Histogram of the latency: median {latency["p50"]:.1f} ms, 99 % below '
        f'{latency["p99"]:.1f} ms.',
    )


def worst(evidence: Evidence, bundle: Bundle) -> Iterator[str]:
    """Yield the frames that were furthest off, worst first."""
    classes = evidence.prediction.classes
    yield f'<p>The {len(evidence.worst)} with the largest mean error over their objects.</p>'
    yield key_to_marks(classes)
    for number, frame in enumerate(evidence.worst, start=1):
        yield frame_views(number, frame, classes, bundle.lidar, bundle.rig.camera)


def unread(report: Report) -> Iterable[str]:
    """Return what could not be read or evaluated, or is in doubt, in sentences."""
    sentences = cast('Sequence[str]', report.get('unread', ()))
    failed = cast('Mapping[str, str]', report.get('failed', {}))
    if not (sentences or failed):
        return ['<p>Everything was read, and nothing of it is in doubt.</p>']
    items = ''.join(f'<li>{text(sentence)}</li>' for sentence in (*failed.values(), *sentences))
    return [f'<ul>{items}</ul>']


def configuration(report: Report) -> Iterator[str]:
    """Yield what the evaluation was made with."""
    yield '<h3>Bundle, device and versions</h3>'
    yield facts(
        {
            **{f'bundle: {k}': v for k, v in cast('Report', report['bundle']).items()},
            'device': report['device'],
            **cast('Report', report['versions']),
        }
    )
    bags = cast('Sequence[Report]', report.get('bags', ()))
    if bags:
        yield '<h3>Topics</h3>'
        names = list(cast('Report', bags[0]['topics']))
        rows = [
            [bag['source'], *(v or '–' for v in cast('Report', bag['topics']).values())]
            for bag in bags
        ]
        yield table(['recording', *names], rows, words=range(1, len(names) + 1))
    yield '<h3>Settings</h3>'
    yield facts({k: v for k, v in _flat(cast('Report', report['settings'])) if v is not None})


def _flat(settings: Report, prefix: str = '') -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{name}.')
        elif isinstance(value, list):
            yield prefix + name, ', '.join(map(str, value)) or None
        else:
            yield prefix + name, value


def _hits(scores: Report) -> list[str]:
    hit_rate = cast('Mapping[str, float]', scores['hit_rate'])
    return [f'{100 * hit_rate[str(radius)]:.1f} %' for radius in HIT_RADII_M]


def _means(report: Report) -> str:
    error = cast('Mapping[str, Mapping[str, float]]', report['error_m'])
    return 'means ' + listed({k: f'{v:.3f} m' for k, v in error['per_class'].items()})
