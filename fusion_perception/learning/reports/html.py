"""Build the parts of a page: text, tables, headline figures, drawings."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

from matplotlib.figure import Figure

# Figures look the same everywhere: letters are outlines, ids follow from the content.
DRAWING: dict[str, object] = {
    'font.family': 'DejaVu Sans',
    'font.size': 10,
    'axes.labelsize': 10,
    'axes.titlesize': 10.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#5b6470',
    'axes.labelcolor': '#2a3038',
    'xtick.color': '#5b6470',
    'ytick.color': '#5b6470',
    'xtick.labelcolor': '#2a3038',
    'ytick.labelcolor': '#2a3038',
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#d9dde2',
    'grid.linewidth': 0.7,
    'legend.frameon': False,
    'legend.fontsize': 9.5,
    'svg.fonttype': 'path',
    'svg.hashsalt': 'fusion_perception',
}
STYLE = """
:root { color-scheme: light; --ink: #1d2228; --soft: #5b6470; --line: #d9dde2; --paper: #fff;
  --tint: #f4f6f8; --accent: #2f6b00; --bad: #a11212 }
* { box-sizing: border-box }
body { font: 15.5px/1.5 system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif;
  color: var(--ink); background: var(--paper); max-width: 1080px; margin: 0 auto;
  padding: 1.6rem 1.5rem 3rem }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 }
h2 { font-size: 1.25rem; margin: 0 0 .5rem; padding-top: 1rem; border-top: 2px solid var(--ink) }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
section { margin-top: 2.2rem } p { margin: .5rem 0; max-width: 52rem }
.sub { color: var(--soft); overflow-wrap: anywhere }
nav { margin: 1.1rem 0 0; font-size: .9rem; line-height: 1.9 }
nav a { margin-right: 1rem; white-space: nowrap }
a { color: var(--accent) }
.headline { display: grid; gap: .8rem; margin: 1.3rem 0 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(9.3rem, 1fr)) }
.headline div { border: 1px solid var(--line); border-top: 4px solid var(--accent);
  padding: .55rem .8rem .6rem; background: var(--tint) }
.headline dt { color: var(--soft); font-size: .86rem }
.headline dd { margin: 0; font-size: 1.65rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; white-space: nowrap }
.headline small { font-size: .95rem; font-weight: 400; color: var(--soft) }
.verdict { border-left: 6px solid var(--accent); background: var(--tint); padding: .6rem .9rem;
  margin: 1.2rem 0 0; max-width: none; overflow-wrap: anywhere }
.verdict.bad { border-color: var(--bad) }
.scroll { overflow-x: auto; margin: .6rem 0 1rem }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: right; padding: .32rem .65rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; vertical-align: top }
thead th { border-bottom: 1.5px solid var(--soft); font-weight: 600; vertical-align: bottom }
tbody th { font-weight: 400 } tbody th, th.text, td.text { text-align: left;
  overflow-wrap: anywhere; min-width: 9.5rem }
tr.total th, tr.total td { font-weight: 650; border-top: 1.5px solid var(--soft) }
figure { margin: .8rem 0 1.2rem } figure img, figure svg { display: block; max-width: 100%;
  height: auto } figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem;
  max-width: 56rem }
.frame { border-top: 1px solid var(--line); padding-top: .3rem; margin-top: 1.2rem }
.views { display: grid; grid-template-columns: 1fr 1fr 1.25fr; gap: .9rem; align-items: start }
.views figure { margin: 0 } .views svg { width: 100% }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; padding: 0; margin: .6rem 0;
  list-style: none } .key svg { vertical-align: -.25em; margin-right: .35rem }
dl.facts { columns: 2; column-gap: 2.4rem; font-size: .9rem; margin: .5rem 0 }
dl.facts div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid;
  border-bottom: 1px solid var(--line); padding: .18rem 0 }
dl.facts dt { color: var(--soft) } dl.facts dd { margin: 0; text-align: right;
  overflow-wrap: anywhere }
li { overflow-wrap: anywhere } code { overflow-wrap: anywhere }
@media screen and (max-width: 760px) { .views { grid-template-columns: 1fr }
  dl.facts { columns: 1 } td { white-space: nowrap } td.text { white-space: normal }
  figure { overflow-x: auto } figure img { max-width: none } }
@page { size: A4; margin: 13mm 12mm 14mm }
@media print { * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  body { font-size: 9pt; line-height: 1.4; max-width: none; padding: 0 } nav { display: none }
  h1 { font-size: 16pt } h2 { font-size: 12pt; padding-top: .5rem } h3 { font-size: 9.5pt;
  margin: .7rem 0 .2rem } h2, h3 { break-after: avoid } section { margin-top: 1rem }
  section.whole { break-inside: avoid }
  figure, .frame, .headline, .verdict, tr { break-inside: avoid }
  figure { margin: .4rem 0 .5rem } figcaption { font-size: 8pt; margin-top: .1rem }
  .scroll { overflow: visible; margin: .3rem 0 .5rem } thead { display: table-header-group }
  table { font-size: 8pt } th, td { padding: .13rem .35rem }
  .headline { grid-template-columns: repeat(6, 1fr); gap: .4rem; margin-top: .6rem }
  .headline div { padding: .3rem .45rem } .headline dd { font-size: 1.15rem }
  .headline dt, .headline small { font-size: .74rem } dl.facts { font-size: 7.8pt }
  .frame { margin-top: .4rem; padding-top: 0 } .frame h3 { font-size: 8.4pt; margin-top: .3rem }
  .views { width: 128mm } .headline { padding-right: 1px }
  #worst > p, .key { break-after: avoid } dl.facts { break-inside: avoid }
  tbody th, th.text, td.text { min-width: 0 } }
"""
_NEEDLESS = re.compile(r'<\?xml[^>]*\?>|<!DOCTYPE[^>]*>', re.DOTALL)


def text(value: object) -> str:
    """Return a value as text that stands in HTML."""
    return html.escape(str(value))


def section(name: str, title: str, parts: Iterable[str], whole: bool = False) -> str:
    """Return a section under its heading; one that is `whole` stays on one page."""
    body = '\n'.join(parts)
    print_as = ' class="whole"' if whole else ''
    return f'<section id="{name}"{print_as}><h2>{text(title)}</h2>\n{body}\n</section>'


def headline(figures: Iterable[tuple[str, str, str]]) -> str:
    """Return the figures to see first: (name, value, unit)."""
    cards = ''.join(
        f'<div><dt>{text(name)}</dt><dd>{text(value)}{_unit(unit)}</dd></div>'
        for name, value, unit in figures
    )
    return f'<dl class="headline">{cards}</dl>'


def _unit(unit: str) -> str:
    return f' <small>{text(unit)}</small>' if unit else ''


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    words: Sequence[int] = (),
    total: bool = False,
) -> str:
    """Return a table: first column and those in `words` to the left, the others to the right.

    With `total` the last row stands apart.
    """

    def cell(tag: str, column: int, value: object, scope: str = '') -> str:
        left = ' class="text"' if column in (0, *words) else ''
        return f'<{tag}{scope}{left}>{text(value)}</{tag}>'

    head = ''.join(cell('th', n, name, ' scope="col"') for n, name in enumerate(header))
    body = [
        cell('th', 0, first, ' scope="row"')
        + ''.join(cell('td', n, value) for n, value in enumerate(rest, start=1))
        for first, *rest in rows
    ]
    lines = [f'<tr>{row}</tr>' for row in body]
    if total and lines:
        lines[-1] = lines[-1].replace('<tr>', '<tr class="total">', 1)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def facts(values: Mapping[str, object]) -> str:
    """Return names beside their values, in two columns."""
    lines = (
        f'<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>' for name, value in values.items()
    )
    return f'<dl class="facts">{"".join(lines)}</dl>'


def listed(values: Mapping[str, object]) -> str:
    """Return names and values as words."""
    return ', '.join(f'{name} {value}' for name, value in values.items())


def drawing(figure: Figure, seen: str, caption: str = '') -> str:
    """Return a figure as a picture of lines, with what is seen in words, and its caption.

    The same figure always gives the same text.
    """
    svg = StringIO()
    nameless = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(svg, format='svg', metadata=nameless, transparent=True)
    lines = _NEEDLESS.sub('', svg.getvalue()).strip()
    source = base64.b64encode(lines.encode()).decode()
    width, height = (round(96 * inches) for inches in figure.get_size_inches().tolist())
    words = f'<figcaption>{text(caption)}</figcaption>' if caption else ''
    return (
        f'<figure><img alt="{text(seen)}" width="{width}" height="{height}" '
        f'src="data:image/svg+xml;base64,{source}">{words}</figure>'
    )
