"""Write an evaluation as one HTML file that opens and prints anywhere, without network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib import RcParams, rc_context

from fusion_perception.learning import report_figures as figures
from fusion_perception.learning.evidence import Evidence
from fusion_perception.learning.metrics import HIT_RADII_M
from fusion_perception.learning.report_errors import MOST_POINTS, Axis, Errors, errors_of
from fusion_perception.learning.report_figures import MODE_NAMES
from fusion_perception.learning.report_frames import frame_views
from fusion_perception.learning.report_html import (
    DRAWING,
    STYLE,
    drawing,
    facts,
    headline,
    listed,
    section,
    table,
    text,
)
from fusion_perception.learning.report_marks import key_to_marks
from fusion_perception.learning.report_timeline import drops_over_time, modes_over_time
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.observation import Mode

Report = Mapping[str, object]
# A number and its unit stay on one line.
_WITHIN = [f'within {radius:g}\N{NO-BREAK SPACE}m' for radius in HIT_RADII_M]
_ERRORS = ('mean', 'median', 'p95', 'max')
_IN_METRES = (
    'mean\N{NO-BREAK SPACE}[m]',
    'median\N{NO-BREAK SPACE}[m]',
    '95\N{NO-BREAK SPACE}% below\N{NO-BREAK SPACE}[m]',
    'largest\N{NO-BREAK SPACE}[m]',
)


def write_html(path: Path, report: Report, evidence: Evidence, bundle: Bundle) -> None:
    """Write the report as a page. Without a truth it holds what there is: messages and latency.

    Two runs write the same bytes but for what is measured in time: the elements of class
    `measured` and the section `latency`.
    """
    # Also the colours of the data and the order of ids follow from these settings alone.
    with rc_context(RcParams(DRAWING)):
        sections = list(_sections(report, evidence, bundle))
    about = cast('dict[str, str]', report['bundle'])
    title = f'{about["model"]} on {report["source"]}'
    named = [(part.split('"', 2)[1], part.split('<h2>')[1].split('</h2>')[0]) for part in sections]
    contents = ' '.join(f'<a href="#{name}">{heading}</a>' for name, heading in named)
    head = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>\n'
    )
    path.write_text(
        head + '<header>\n' + '\n'.join(_opening(report, evidence)) + '\n</header>\n'
        f'<nav aria-label="Contents">{contents}</nav>\n<main>\n'
        + '\n'.join(sections) + '\n</main>\n</body>\n</html>\n',
        encoding='utf-8',
    )  # fmt: skip


def _opening(report: Report, evidence: Evidence) -> Iterator[str]:
    bundle = cast('dict[str, str]', report['bundle'])
    count = len(evidence.runs)
    what = f'{count} recordings' if count > 1 else 'a recording' if count else 'a data folder'
    yield f'<h1>Evaluation of {text(bundle["model"])} on {what}</h1>'
    yield (
        f'<p class="sub">{text(report["source"])} · bundle {text(Path(bundle["path"]).name)} '
        f'({text(bundle["weights_sha256"][:12])})</p>'
    )
    yield headline(_figures_to_see_first(report, evidence))
    broken = cast('Sequence[str]', report.get('broken_limits', ()))
    if broken:
        yield f'<p class="verdict bad"><b>Limits broken:</b> {text("; ".join(broken))}.</p>'
    failed = cast('Mapping[str, str]', report.get('failed', {}))
    if failed:
        yield (
            f'<p class="verdict bad"><b>Not evaluated:</b> {len(failed)} of '
            f'{len(failed) + count} recordings. <a href="#unread">Why</a></p>'
        )


def _figures_to_see_first(report: Report, evidence: Evidence) -> Iterator[tuple[str, str, str]]:
    error = cast('dict[str, float] | None', report['error_m'])
    latency = cast('dict[str, float]', report['latency_ms'])
    yield 'scenes scored', f'{report["scenes"]:,}', f'of {evidence.pairs:,}'
    if error is not None:
        hits = cast('dict[str, float]', report['hit_rate'])
        radius = str(HIT_RADII_M[1])
        yield 'mean error', f'{error["mean"]:.3f}', 'm'
        yield 'median error', f'{error["median"]:.3f}', 'm'
        yield '95 % of errors below', f'{error["p95"]:.3f}', 'm'
        yield f'centres within {radius} m', f'{100 * hits[radius]:.1f}', '%'
    yield 'median latency', f'{latency["p50"]:.1f}', 'ms'


def _sections(report: Report, evidence: Evidence, bundle: Bundle) -> Iterator[str]:
    axis = Axis.of(evidence)
    if len(evidence.runs) > 1:
        yield section('recordings', 'Recordings', _recordings(report))
    if report['error_m'] is None:
        nothing = '<p>There is no ground truth: nothing could be scored.</p>'
        yield section('errors', 'Errors', [nothing])
    else:
        errors = errors_of(evidence, axis)
        yield section('errors', 'Errors', _errors(report, errors, axis))
        yield section('range', 'Error against range', _against_range(errors), 'whole')
        yield section('covariance', 'How honest the covariance is', _honesty(report, errors))
    yield section('modes', 'Which sensors served', _modes(report, evidence, axis), 'whole')
    yield section('messages', 'What became of the messages', _messages(report, evidence, axis))
    yield section('latency', 'Latency', _latency(report, evidence), 'whole')
    if evidence.worst:
        yield section('worst', 'Worst frames', _worst(evidence, bundle), 'page')
    yield section('unread', 'What could not be read', _unread(report), 'whole')
    yield section('configuration', 'Configuration and versions', _configuration(report))


def _recordings(report: Report) -> Iterator[str]:
    rows = []
    bags = cast('Sequence[Report]', report['bags'])
    for number, bag in enumerate(bags, start=1):
        rows.append([f'{number}. {bag["source"]}', *_row(bag), f'{bag["recorded_s"]:.1f}'])
    rows.append(['Total', *_row(report), f'{report["recorded_s"]:.1f}'])
    header = ['recording', 'pairs', 'scored', *_IN_METRES[:3], *_WITHIN, 'length [s]']
    yield table(header, rows, total=True)


def _row(report: Report) -> list[str]:
    counts = [f'{report["pairs"]:,}', f'{report["scenes"]:,}']
    if not report['scenes']:
        return [*counts, *'–' * (3 + len(_WITHIN))]
    error = cast('dict[str, float]', report['error_m'])
    return [*counts, *(f'{error[key]:.3f}' for key in _ERRORS[:3]), *_hits(report)]


def _errors(report: Report, errors: Errors, axis: Axis) -> Iterator[str]:
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
    yield table(['object', *_IN_METRES, *_WITHIN], rows, total=True)
    single = len(errors) <= MOST_POINTS
    yield '<h3>Over time</h3>'
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
        f'{listed(dict(zip(_WITHIN, _hits(report), strict=True)))}.',
        'Left: how many centres have which error. Right: the share of centres that lie nearer '
        'than a distance; dashed lines mark the radii of the hit rates.',
    )


def _against_range(errors: Errors) -> Iterator[str]:
    near, far = float(errors.reach.min()), float(errors.reach.max())
    yield drawing(
        figures.error_against_range(errors),
        f'Error of each object against its distance from the LiDAR, {near:.1f} to {far:.1f} m.',
        'Dots: single centres. Thick line: the median of ten bins with equally many centres; thin '
        'lines: their 10 % and 90 % quantiles.',
    )


def _honesty(report: Report, errors: Errors) -> Iterator[str]:
    if errors.inside is None:
        yield '<p>This model estimates no covariance.</p>'
        return
    header = [
        'seen by',
        'scenes',
        'mean\N{NO-BREAK SPACE}[m]',
        *_WITHIN,
        'inside the 95 % ellipsoid',
        'd²/3',
    ]
    yield table(header, [row for row in _by_mode(report) if len(row) == len(header)])
    calibration = cast('dict[str, float]', report['calibration'])
    yield drawing(
        figures.reliability(errors, errors.inside),
        'Observed against expected share of true centres inside the ellipsoid of the covariance; '
        f'{100 * calibration["coverage95"]:.1f} % lie inside the 95 % ellipsoid.',
        'An honest covariance follows the diagonal: the ellipsoid that promises to hold a centre '
        'with 80 % holds 80 % of them. Below the diagonal the model promises too much. d² is the '
        'squared Mahalanobis distance; d²/3 is 1 when errors are as large as promised.',
    )


def _by_mode(report: Report) -> Iterator[list[str]]:
    for mode, scores in cast('dict[Mode, Report]', report['by_mode']).items():
        error = cast('dict[str, float]', scores['error_m'])
        row = [MODE_NAMES[mode], f'{scores["scenes"]:,}', f'{error["mean"]:.3f}', *_hits(scores)]
        calibration = cast('dict[str, float] | None', scores.get('calibration'))
        if calibration is not None:
            inside = f'{100 * calibration["coverage95"]:.1f} %'
            row += [inside, f'{calibration["mahalanobis"]:.2f}']
        yield row


def _modes(report: Report, evidence: Evidence, axis: Axis) -> Iterator[str]:
    modes = cast('dict[Mode, int]', report['modes'])
    counted = listed({f'{MODE_NAMES[mode]}:': f'{n:,}' for mode, n in modes.items()})
    yield f'<p>Predictions from {text(counted)}.</p>'
    if report['by_mode']:
        header = ['seen by', 'scenes', 'mean\N{NO-BREAK SPACE}[m]', *_WITHIN]
        yield table(header, [row[: len(header)] for row in _by_mode(report)])
    if evidence.runs:
        yield drawing(
            modes_over_time(evidence.runs, axis),
            f'Predictions a second by the sensors they were made from. {counted}.',
            'Where one sensor falls silent, the other serves alone.',
        )
    elif len(cast('dict[str, object]', report['by_mode'])) > 1:
        yield '<p>Every scene was also predicted with one of the sensors taken away.</p>'


def _messages(report: Report, evidence: Evidence, axis: Axis) -> Iterator[str]:
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
    yield f'<p>{evidence.pairs:,} pairs were made of them.</p>'
    if evidence.runs:
        lost = {row[0]: f'lost {row[4]}' for row in rows}
        yield drawing(
            drops_over_time(evidence.runs, axis),
            f'Messages received and dropped over time, by cause: {listed(lost)}.',
            'Line: messages that came; areas: those that were lost, where the loss was noticed.',
        )


def _latency(report: Report, evidence: Evidence) -> Iterator[str]:
    latency = cast('dict[str, float]', report['latency_ms'])
    time = cast('dict[str, float]', report['time'])
    yield (
        f'<p>From decoded arrays to centres, {len(evidence.latency_ms):,} frames one by one on '
        f'{text(report["device"])}; the others were predicted in batches: '
        f'{time["pairs_per_s"]:.0f} pairs a second, reading included.</p>'
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


def _worst(evidence: Evidence, bundle: Bundle) -> Iterator[str]:
    classes = evidence.prediction.classes
    yield f'<p>The {len(evidence.worst)} with the largest mean error over their objects.</p>'
    yield key_to_marks(classes)
    for number, frame in enumerate(evidence.worst, start=1):
        yield frame_views(number, frame, classes, bundle.lidar, bundle.rig.camera)


def _unread(report: Report) -> Iterable[str]:
    sentences = cast('Sequence[str]', report.get('unread', ()))
    failed = cast('Mapping[str, str]', report.get('failed', {}))
    if not (sentences or failed):
        return ['<p>Everything was read.</p>']
    items = ''.join(f'<li>{text(sentence)}</li>' for sentence in (*failed.values(), *sentences))
    return [f'<ul>{items}</ul>']


def _configuration(report: Report) -> Iterator[str]:
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
