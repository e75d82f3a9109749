"""Write an evaluation as one HTML file that opens and prints anywhere, without network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from matplotlib import RcParams, rc_context

from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.metrics import HIT_RADII_M
from fusion_perception.learning.reports import sections as parts
from fusion_perception.learning.reports.errors import Axis, errors_of
from fusion_perception.learning.reports.html import DRAWING, STYLE, headline, section, text
from fusion_perception.learning.reports.sections import WITHIN, Report
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.counted import counted
from fusion_perception.whole_files import write_whole


def write_html(path: Path, report: Report, evidence: Evidence, bundle: Bundle) -> None:
    """Write the report as a page. Without a truth it holds what there is: messages and latency.

    Two runs write the same bytes but for the latency: its section, and the headline figure.
    """
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
    write_whole(
        path,
        head + '<header>\n' + '\n'.join(_opening(report, evidence)) + '\n</header>\n'
        f'<nav aria-label="Contents">{contents}</nav>\n<main>\n'
        + '\n'.join(sections) + '\n</main>\n</body>\n</html>\n',
        errors='backslashreplace',  # A path need not be UTF-8.
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
    for warning in cast('Sequence[str]', report.get('warnings', ())):
        yield f'<p class="verdict bad">{text(warning)}</p>'
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
    scenes, pairs = cast('int', report['scenes']), evidence.pairs
    yield (
        (
            f'{"scene" if scenes == 1 else "scenes"} scored'
            if scenes == pairs
            else f'scored, of {counted(pairs, "prediction")}'
        ),
        f'{scenes:,}',
        '',
    )
    if error is not None:
        hits = cast('dict[str, float]', report['hit_rate'])
        radius = str(HIT_RADII_M[1])
        yield 'mean error', f'{error["mean"]:.3f}', 'm'
        yield 'median error', f'{error["median"]:.3f}', 'm'
        yield '95 % below', f'{error["p95"]:.3f}', 'm'
        yield WITHIN[1], f'{100 * hits[radius]:.1f}', '%'
    yield 'median latency', f'{latency["p50"]:.1f}', 'ms'


def _sections(report: Report, evidence: Evidence, bundle: Bundle) -> Iterator[str]:
    axis = Axis.of(evidence)
    if len(evidence.runs) > 1:
        yield section('recordings', 'Recordings', parts.recordings(report))
    if report['error_m'] is None:
        nothing = '<p>There is no ground truth to score by.</p>'
        yield section('errors', 'Errors', [nothing])
    else:
        errors = errors_of(evidence, axis)
        yield section('errors', 'Errors', parts.errors(report, errors, axis))
        yield section('range', 'Error against range', parts.against_range(errors), whole=True)
        yield section('covariance', 'How honest the covariance is', parts.honesty(report, errors))
    yield section('modes', 'Which sensors served', parts.modes(report, evidence, axis), whole=True)
    yield section(
        'messages', 'What became of the messages', parts.messages(report, evidence, axis)
    )
    yield section('latency', 'Latency', parts.latency(report, evidence), whole=True)
    if evidence.worst:
        yield section('worst', 'Worst frames', parts.worst(evidence, bundle))
    unread = parts.unread(report)
    yield section('unread', 'What could not be read, or is in doubt', unread, whole=True)
    yield section('configuration', 'Configuration and versions', parts.configuration(report))
