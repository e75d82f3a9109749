"""Draw how far off predictions were: over time, how often, by range, and against their promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fusion_perception.learning.metrics import HIT_RADII_M
from fusion_perception.learning.reports.errors import (
    MOST_POINTS,
    Axis,
    Errors,
    Floats,
    quantiles_by_bin,
)
from fusion_perception.sensing.observation import Mode

WIDTH = 10.75
# Below it an error is as good as none; a logarithmic axis needs some floor.
_FLOOR_M = 0.001
_RANGE_BINS = 10
# Fewer predictions have no quantiles by range, and are drawn as dots to be seen one by one.
_FEW = 3 * _RANGE_BINS
# More numbers than these would run into each other.
_MOST_NUMBERED = 25
MODE_NAMES: dict[Mode, str] = {
    'fusion': 'camera and LiDAR',
    'camera_only': 'camera alone',
    'lidar_only': 'LiDAR alone',
}


class Look(NamedTuple):
    """How an object is drawn: told apart without colour by its dashes and its marker."""

    colour: str
    dashes: str | tuple[float, tuple[float, ...]]
    marker: str


_LOOKS = (
    Look('#0b4a8f', 'solid', 'o'),
    Look('#d1622b', (0, (5, 2)), 's'),
    Look('#3f9a52', (0, (1.2, 1.4)), '^'),
    Look('#7d3f98', (0, (6, 2, 1.2, 2)), 'D'),
    Look('#b08900', (0, (9, 3)), 'v'),
    Look('#5b6470', (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)), 'P'),
)


def look_of(number: int) -> Look:
    """Return how the object of this number is drawn in every figure."""
    count = len(_LOOKS)
    # Where colours come again, dashes and markers are others.
    form = _LOOKS[(number + number // count) % count]
    return Look(_LOOKS[number % count].colour, form.dashes, form.marker)


def error_over_time(errors: Errors, axis: Axis) -> Figure:
    """Draw each object's error along the axis: every one, or median and largest of bins."""
    objects = len(errors.classes)
    figure = _figure(0.7 + 1.02 * objects)
    figure.subplots_adjust(0.062, 0.46 / (0.7 + 1.02 * objects), 0.98, 0.95, hspace=0.32)
    rows = figure.subplots(objects, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    away = np.maximum(errors.away, _FLOOR_M)
    single = len(errors) <= MOST_POINTS
    edges = axis.edges()
    bins = np.clip(np.digitize(errors.at, edges) - 1, 0, MOST_POINTS - 1)
    for number, (axes, name) in enumerate(zip(rows, errors.classes, strict=True)):
        colour, _, marker = look_of(number)
        if single:
            axes.plot(errors.at, away[:, number], color=colour, lw=0.5, alpha=0.5)
            # The first and the last lie on the edges, where they would be cut.
            size = 4.5 if len(errors) < _FEW else 2.6
            axes.plot(
                errors.at, away[:, number], marker, color=colour, ms=size, mew=0, clip_on=False
            )
        else:
            middle, most = quantiles_by_bin(bins, away[:, number], MOST_POINTS, (0.5, 1.0))
            there = ~np.isnan(middle)
            at = ((edges[:-1] + edges[1:]) / 2)[there]
            axes.vlines(at, middle[there], most[there], color=colour, lw=1.6, alpha=0.35)
            axes.plot(at, middle[there], color=colour, lw=1.5)
        _log_metres(axes, 'y')
        axes.set_title(name)
        axes.set_ylabel('error [m]')
        part_recordings(axes, axis)
    low, high = float(away.min()), float(away.max())
    rows[0].set_ylim(low / 1.6, high * 1.9)
    rows[-1].set(xlim=(axis.begins[0], axis.end), xlabel=axis.label)
    if 1 < len(axis.begins) <= _MOST_NUMBERED:
        for number, (begin, end) in enumerate(zip(axis.begins, axis.ends(), strict=True), start=1):
            rows[0].annotate(
                f'{number}.', ((begin + end) / 2, 1.03), xycoords=('data', 'axes fraction'),
                ha='center', color='#2a3038', fontsize=9,
            )  # fmt: skip
    return figure


def error_distribution(errors: Errors) -> Figure:
    """Draw how often each error occurs, and the share of centres nearer than a distance."""
    figure = _figure(3.3)
    figure.subplots_adjust(0.062, 0.16, 0.98, 0.91, wspace=0.16)
    histogram, nearer = figure.subplots(1, 2, sharex=True)
    away = np.maximum(errors.away, _FLOOR_M)
    low, high = 0.8 * float(away.min()), 1.25 * float(away.max())
    bins = np.geomspace(low, high, 31)
    for number, (name, mine) in enumerate(zip(errors.classes, away.T, strict=True)):
        colour, dashes, _ = look_of(number)
        if number == 0:
            histogram.stairs(_shares(away, bins), bins, fill=True, color='#e3e6ea', label='all')
        histogram.stairs(_shares(mine, bins), bins, color=colour, ls=dashes, lw=1.7, label=name)
        share = 100 * np.arange(len(mine) + 1) / len(mine)
        at, shown = _thinned(np.concatenate(([low], np.sort(mine))), share)
        at, shown = np.append(at, high), np.append(shown, 100)
        nearer.step(at, shown, where='post', color=colour, ls=dashes, lw=1.7, label=name)
    for radius, side in zip(HIT_RADII_M, ('right', 'center', 'left'), strict=True):
        if not low <= radius <= high:  # The axes would cut the line off, but not its label.
            continue
        nearer.axvline(radius, color='#2a3038', lw=0.8, ls=(0, (2, 2)))
        nearer.annotate(
            f'{radius:g} m', (radius, 1.01), xycoords=('data', 'axes fraction'), ha=side,
            fontsize=8.5, color='#2a3038',
        )  # fmt: skip
    histogram.set(ylabel='centres with this error [%]', title='How often')
    nearer.set(ylabel='centres nearer than this [%]', ylim=(0, 101))
    histogram.legend(loc='best')
    nearer.legend(loc='upper left')
    for axes in (histogram, nearer):
        _log_metres(axes, 'x')
        axes.set(xlabel='error [m]', xlim=(low, high))
    return figure


def error_against_range(errors: Errors) -> Figure:
    """Draw each object's error against its range, with the median of bins of equal count."""
    objects = len(errors.classes)
    columns = min(objects, 3)
    rows = -(-objects // columns)
    height = 0.65 + 2.2 * rows
    figure = _figure(height)
    figure.subplots_adjust(0.062, 0.5 / height, 0.98, 1 - 0.3 / height, wspace=0.08, hspace=0.35)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    away = np.maximum(errors.away, _FLOOR_M)
    some = np.linspace(0, len(errors) - 1, min(len(errors), 400)).astype(np.intp)
    size, alpha = (4.5, 0.9) if len(errors) < _FEW else (2.4, 0.35)
    for number, axes in enumerate(panels.ravel()):
        if number >= objects:
            axes.set_visible(False)
            continue
        colour, _, marker = look_of(number)
        reach, mine = errors.reach[:, number], away[:, number]
        axes.plot(reach[some], mine[some], marker, color=colour, ms=size, mew=0, alpha=alpha)
        edges = np.unique(np.quantile(reach, np.linspace(0, 1, _RANGE_BINS + 1)))
        if len(errors) >= _FEW and len(edges) > 2:
            bins = np.clip(np.digitize(reach, edges) - 1, 0, len(edges) - 2)
            low, middle, high = quantiles_by_bin(bins, mine, len(edges) - 1, (0.1, 0.5, 0.9))
            for value, thick in ((low, 0.8), (middle, 2.2), (high, 0.8)):
                axes.stairs(value, edges, baseline=None, color='#15181c', lw=thick)
        _log_metres(axes, 'y')
        axes.set_title(errors.classes[number])
        if number >= objects - columns:
            axes.set_xlabel('range of the true centre [m]')
            axes.xaxis.set_tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel('error [m]')
    return figure


def reliability(errors: Errors, inside: Floats) -> Figure:
    """Draw the share of true centres inside each ellipsoid against the share it promises.

    Left by the sensors that saw, right by object. inside (N, K) is that of `Errors`.
    """
    figure = _figure(4.3)
    figure.subplots_adjust(0.062, 0.13, 0.98, 0.93, wspace=0.1)
    left, right = figure.subplots(1, 2)
    lines = [
        (left, MODE_NAMES[mode], number, inside[errors.of_mode(mode)].ravel())
        for number, mode in enumerate(errors.modes_seen())
    ]
    lines += [
        (right, name, number, mine)
        for number, (name, mine) in enumerate(zip(errors.classes, inside.T, strict=True))
    ]
    promised = np.linspace(0, 1, 101)
    for axes, name, number, values in lines:
        colour, dashes, _ = look_of(number)
        observed = np.searchsorted(np.sort(values), promised, side='right') / len(values)
        axes.plot(
            100 * promised, 100 * observed, color=colour, ls=dashes, lw=1.9,
            label=f'{name} ({len(values):,})',
        )  # fmt: skip
    for axes, title in ((left, 'By the sensors that saw'), (right, 'By object')):
        axes.plot((0, 100), (0, 100), color='#15181c', lw=0.9)
        axes.fill_between((0, 100), (0, 100), color='#f4e3e0', lw=0, zorder=0)
        axes.text(97, 4, 'promises too much', ha='right', color='#5f2a20', fontsize=9.5)
        below = 95 - 8 * sum(drawn is axes for drawn, *_ in lines)
        axes.text(3, below, 'promises too little', ha='left', color='#2a3038', fontsize=9.5)
        axes.set(xlim=(0, 100), ylim=(0, 100), title=title, aspect='equal')
        axes.set(xlabel='expected inside the ellipsoid [%]', ylabel='observed inside [%]')
        axes.legend(loc='upper left')
    return figure


def latency_figure(latency_ms: Sequence[float]) -> Figure:
    """Draw how often single frames took how long, with the percentiles."""
    values = np.asarray(latency_ms)
    figure = _figure(2.5)
    figure.subplots_adjust(0.062, 0.2, 0.98, 0.86)
    axes = figure.add_subplot()
    axes.hist(values, bins=40, color='#9fb3c8')
    for rank, dashes in ((50, 'solid'), (95, (0, (5, 2))), (99, (0, (1.2, 1.4)))):
        value = float(np.quantile(values, rank / 100))
        axes.axvline(value, color='#15181c', lw=1.4, ls=dashes, label=f'{rank} %: {value:.1f} ms')
    axes.set(xlabel='time from decoded arrays to centres [ms]', ylabel='frames', xlim=(0, None))
    axes.legend(loc='upper center', ncols=3, bbox_to_anchor=(0.5, 1.2))
    return figure


def part_recordings(axes: Axes, axis: Axis) -> None:
    """Draw a line where one recording ends and the next begins."""
    for begin in axis.begins[1:]:
        axes.axvline(begin, color='#5b6470', lw=0.8, ls=(0, (2, 2)))


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height))


def _log_metres(axes: Axes, side: str) -> None:
    axes.set_xscale('log') if side == 'x' else axes.set_yscale('log')
    along = axes.xaxis if side == 'x' else axes.yaxis
    along.set_major_locator(LogLocator(10, numticks=9))
    along.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    along.set_minor_formatter(NullFormatter())


def _shares(values: Floats, bins: Floats) -> Floats:
    return 100 * np.histogram(values, bins)[0] / values.size


def _thinned(at: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return some of many points along a curve, ends included."""
    some = np.unique(np.linspace(0, len(at) - 1, min(len(at), 300)).astype(np.intp))
    return at[some], values[some]
