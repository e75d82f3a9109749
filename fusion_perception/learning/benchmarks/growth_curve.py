"""Say how time and memory grow with a size: points, the exponent that fits them, table, chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from pydantic import Field

from fusion_perception.sensing.settings import Settings

# An exponent up to this counts as linear: noise, and caches that a larger size leaves.
LINEAR = 1.15
# Memory below this is the allocator's rounding, not growth (bytes).
LEAST_MEMORY = 2**20


class Point(Settings):
    """What one size costs."""

    size: int = Field(description='The size')
    seconds: float = Field(description='Median time of one call')
    memory_bytes: int | None = Field(description='Most memory held meanwhile, None if unknown')


class Curve(Settings):
    """How the cost of some work grows with one size."""

    name: str = Field(description='The work')
    variable: str = Field(description='What grows')
    points: tuple[Point, ...] = Field(description='From the smallest size on')

    @property
    def time_exponent(self) -> float | None:
        """Return b of seconds = a * size**b over the larger sizes."""
        return exponent([(point.size, point.seconds) for point in self.points])

    @property
    def memory_exponent(self) -> float | None:
        """Return b of bytes = a * size**b over the larger sizes, None for memory too small."""
        known = [
            (point.size, float(point.memory_bytes))
            for point in self.points
            if point.memory_bytes is not None and point.memory_bytes >= LEAST_MEMORY
        ]
        return exponent(known)

    def worse_than_linear(self) -> list[str]:
        """Return which of time and memory grow faster than the size."""
        exponents = {'time': self.time_exponent, 'memory': self.memory_exponent}
        return [what for what, b in exponents.items() if b is not None and b > LINEAR]


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Fit cost = a * size**b by least squares of the logarithms and return b.

    Only the larger half of the sizes counts, at least three: a fixed cost hides the growth of
    small ones. None for fewer than three points.
    """
    if len(points) < 3:
        return None
    last = points[-max(3, math.ceil(len(points) / 2)) :]
    size, cost = np.log(np.array(last)).T
    return float(np.polyfit(size, cost, 1)[0])


def as_markdown(curves: Sequence[Curve]) -> str:
    """Return the exponents and the end points of all curves as a Markdown table."""
    lines = [
        '| work | against | from | to | time | grows with | memory | grows with |',
        '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for curve in curves:
        first, last = curve.points[0], curve.points[-1]
        lines.append(
            f'| {curve.name} | {curve.variable} | {first.size:,} | {last.size:,} '
            f'| {1000 * first.seconds:.3g} to {1000 * last.seconds:.3g} ms '
            f'| {_power(curve.time_exponent)} | {_mib(first)} to {_mib(last)} MiB '
            f'| {_power(curve.memory_exponent)} |'
        )
    worse = [
        f'{curve.name} against {curve.variable} ({", ".join(curve.worse_than_linear())})'
        for curve in curves
        if curve.worse_than_linear()
    ]
    lines += [
        '',
        f'Worse than linear: {"; ".join(worse)}.' if worse else 'Nothing grows worse than linear.',
        f'Exponents are fitted to the larger half of the sizes, and up to {LINEAR:g} is linear; '
        'memory is what was taken beyond what was held before, mapped files left out.',
    ]
    return '\n'.join(lines)


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the chart as PNG."""
    chart(curves).savefig(path, dpi=120)


def chart(curves: Sequence[Curve]) -> Figure:
    """Return a chart: time above, memory below, a column for each size that grows."""
    variables = list(dict.fromkeys(curve.variable for curve in curves))
    figure = Figure(figsize=(3.6 * len(variables), 6.4), layout='constrained')
    panels = figure.subplots(2, len(variables), squeeze=False)
    for column, variable in enumerate(variables):
        for number, curve in enumerate(c for c in curves if c.variable == variable):
            sizes = [point.size for point in curve.points]
            times = [1000 * point.seconds for point in curve.points]
            label = f'{curve.name}: {_power(curve.time_exponent)}'
            panels[0, column].plot(sizes, times, 'o-', ms=3, color=f'C{number}', label=label)
            known = [p for p in curve.points if p.memory_bytes]
            memory = [p.memory_bytes / 2**20 for p in known if p.memory_bytes]
            label = f'{curve.name}: {_power(curve.memory_exponent)}'
            sizes = [point.size for point in known]
            panels[1, column].plot(sizes, memory, 'o-', ms=3, color=f'C{number}', label=label)
        for row, unit in enumerate(('time [ms]', 'memory [MiB]')):
            _finish(panels[row, column], variable, unit)
    return figure


def _finish(axes: Axes, variable: str, unit: str) -> None:
    axes.set(xscale='log', yscale='log', xlabel=variable, ylabel=unit)
    if axes.get_legend_handles_labels()[0]:
        # What rises more steeply than this line grows worse than linearly.
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        axes.plot([left, right], [low, low * right / left], ':', color='0.6', label='linear')
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.legend(fontsize=7, framealpha=0.7, edgecolor='none')
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        # Labels of 1, 2 and 5 find room within little more than a decade.
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,g}'))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def _power(b: float | None) -> str:
    return 'not fitted' if b is None else f'n^{b:.2f}'


def _mib(point: Point) -> str:
    return '?' if point.memory_bytes is None else f'{point.memory_bytes / 2**20:.1f}'
