"""Write an evaluation as one HTML file that opens anywhere, without network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fusion_perception.learning.evidence import Evidence
from fusion_perception.learning.judging import JudgedFrame
from fusion_perception.learning.metrics import HIT_RADII_M, distances
from fusion_perception.learning.plots import scene_figure
from fusion_perception.sensing.observation import Lidar

_PICTURES = 3
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #4f7d00; }
@media (prefers-color-scheme: dark) { :root { --accent: #9bd13c; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.sub { margin-top: .2rem; opacity: .75 }
.figures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  margin: 1.4rem 0 } .figures div { background: var(--soft); border-radius: .5rem;
  padding: .7rem .9rem } .figures b { display: block; font-size: 1.5rem; color: var(--accent) }
.scroll { overflow-x: auto } table { border-collapse: collapse;
  width: 100%; font-size: .93rem }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
img { max-width: 100%; background: #fff; border-radius: .5rem } figure { margin: 1rem 0 }
figcaption { opacity: .75; font-size: .9rem } code { background: var(--soft); padding: 0 .25rem }
"""


def write_html(path: Path, report: Mapping[str, object], evidence: Evidence, lidar: Lidar) -> None:
    """Write the report with its error distribution and the frames it was furthest off in.

    Without a truth it holds what there is: what became of the messages, and the latency.
    """
    error = cast('dict[str, float] | None', report['error_m'])
    latency = cast('dict[str, float]', report['latency_ms'])
    bundle = cast('dict[str, str]', report['bundle'])
    classes = evidence.prediction.classes
    away = distances(evidence.prediction.centers, evidence.truth).numpy()
    figures = {'pairs': f'{evidence.pairs:,}'}
    if error is not None:
        figures = {
            'mean error': f'{error["mean"]:.3f} m',
            'median': f'{error["median"]:.3f} m',
            '95 % below': f'{error["p95"]:.3f} m',
            'MSE': f'{report["mse"]:.4f} m²',
        }
    figures |= {
        'latency, median': f'{latency["p50"]:.1f} ms',
        'latency, 99 %': f'{latency["p99"]:.1f} ms',
    }
    sections = [
        f'<h1>{_text(bundle["model"])} on {_text(report["scenes"])} scenes</h1>',
        f'<p class="sub">{_text(report["source"])} · bundle <code>{_text(bundle["path"])}</code> '
        f'({_text(bundle["weights_sha256"][:12])}) · {_text(report["device"])}</p>',
        '<div class="figures">'
        + ''.join(f'<div>{_text(name)}<b>{value}</b></div>' for name, value in figures.items())
        + '</div>',
        *(_scored(report, away, classes) if error is not None else ['<p>Nothing was scored.</p>']),
        '<h2>What became of the messages</h2>',
        _streams(report),
        *_unread(evidence),
        *_worst(evidence.worst[:_PICTURES], classes, lidar),
        f'<p class="sub">{_text(_listed(cast("dict[str, str]", report["versions"])))}</p>',
    ]  # fmt: skip
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_text(bundle["model"])}: {_text(report["source"])}</title>'
        f'<style>{_STYLE}</style>' + '\n'.join(sections) + '</html>\n',
        encoding='utf-8',
    )


def _by_mode(report: Mapping[str, object]) -> str:
    names = {'fusion': 'camera and LiDAR', 'camera_only': 'camera', 'lidar_only': 'LiDAR'}
    rows = []
    for mode, scores in cast('dict[str, dict[str, object]]', report['by_mode']).items():
        error = cast('dict[str, float]', scores['error_m'])
        calibration = cast('dict[str, float] | None', scores.get('calibration'))
        rows.append(
            [
                names[mode],
                *(f'{error[key]:.3f}' for key in ('mean', 'median', 'p95', 'max')),
                f'{scores["mse"]:.4f}',
                *_hits(cast('dict[str, float]', scores['hit_rate'])),
                '–' if calibration is None else f'{100 * calibration["coverage95"]:.1f} %',
            ]
        )
    within = [f'< {radius:g} m' for radius in HIT_RADII_M]
    header = ['seen by', 'mean m', 'median m', '95 % m', 'max m', 'MSE m²', *within]
    return _table([*header, 'in 95 % ellipsoid'], rows)


def _by_class(away: NDArray[np.float64], classes: Sequence[str]) -> str:
    rows = [
        [
            name,
            *(f'{value:.3f}' for value in (mine.mean(), *np.quantile(mine, (0.5, 0.95, 1)))),
            *(f'{100 * (mine < radius).mean():.1f} %' for radius in HIT_RADII_M),
        ]
        for name, mine in zip(classes, away.T, strict=True)
    ]
    within = [f'< {radius:g} m' for radius in HIT_RADII_M]
    return _table(['object', 'mean m', 'median m', '95 % m', 'max m', *within], rows)


def _streams(report: Mapping[str, object]) -> str:
    rows = []
    for name, stream in cast('dict[str, dict[str, object]]', report['streams']).items():
        dropped = _listed(cast('dict[str, object]', stream['dropped'])) or 'none'
        rows.append([name, stream['received'], stream['used'], stream['pending'], dropped])
    modes = _listed(cast('dict[str, object]', report['modes']))
    table = _table(['stream', 'received', 'used', 'pending', 'dropped'], rows)
    return f'{table}<p>{report["pairs"]} pairs; {_text(modes)}.</p>'


def _scored(
    report: Mapping[str, object], away: NDArray[np.float64], classes: Sequence[str]
) -> Iterable[str]:
    yield _picture(
        _distribution(away, classes),
        'Distance from each predicted centre to the true one. Left: how often; right: the share '
        'of centres within it.',
    )
    yield '<h2>By the sensors that saw</h2>'
    yield _by_mode(report)
    yield '<h2>Objects</h2>'
    yield _by_class(away, classes)


def _unread(evidence: Evidence) -> Iterable[str]:
    sentences = cast('list[str]', evidence.about.get('unread', []))
    failed = cast('dict[str, str]', evidence.about.get('failed', {}))
    if sentences or failed:
        yield '<h2>What was not read</h2><ul>'
        yield from (f'<li>{_text(sentence)}</li>' for sentence in (*sentences, *failed.values()))
        yield '</ul>'


def _worst(frames: Iterable[JudgedFrame], classes: Sequence[str], lidar: Lidar) -> Iterable[str]:
    for number, frame in enumerate(frames):
        if not number:
            yield '<h2>Where it was furthest off</h2>'
        figure = scene_figure(
            frame.image,
            frame.ranges,
            lidar,
            classes,
            frame.predicted,
            frame.truth,
            frame.covariance,
        )
        away = np.linalg.norm(frame.predicted - frame.truth, axis=-1).tolist()
        each = _listed({n: f'{d:.2f} m' for n, d in zip(classes, away, strict=True)})
        yield _picture(figure, f'{frame.place}: {each}')


def _distribution(away: NDArray[np.float64], classes: Sequence[str]) -> Figure:
    figure = Figure(figsize=(10, 3.4), layout='constrained')
    histogram, cumulative = figure.subplots(1, 2)
    edge = max(float(np.quantile(away, 0.99)), 1e-6)
    bins = np.linspace(0, edge, 41).tolist()
    histogram.hist(
        [np.clip(mine, 0, edge) for mine in away.T], bins, stacked=True, label=list(classes)
    )
    histogram.set(xlabel='error [m], the last bar holds all beyond', ylabel='centres')
    histogram.legend(frameon=False)
    for name, mine in zip(classes, away.T, strict=True):
        cumulative.plot(np.sort(mine), 100 * np.arange(1, len(mine) + 1) / len(mine), label=name)
    cumulative.set(xlabel='error [m]', ylabel='centres within [%]', xlim=(0, edge), ylim=(0, 101))
    for axes in (histogram, cumulative):
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    return figure


def _picture(figure: Figure, caption: str) -> str:
    png = BytesIO()
    figure.savefig(png, format='png', dpi=90)
    source = base64.b64encode(png.getvalue()).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{source}">'
        f'<figcaption>{_text(caption)}</figcaption></figure>'
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = ''.join(f'<th>{_text(cell)}</th>' for cell in header)
    body = ''.join(
        '<tr>' + ''.join(f'<td>{_text(cell)}</td>' for cell in row) + '</tr>' for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _hits(hit_rate: Mapping[str, float]) -> list[str]:
    return [f'{100 * hit_rate[str(radius)]:.1f} %' for radius in HIT_RADII_M]


def _listed(values: Mapping[str, object]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())


def _text(value: object) -> str:
    return html.escape(str(value))
