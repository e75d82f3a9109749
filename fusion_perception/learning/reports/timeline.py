"""Draw what became of messages and which sensors served the predictions, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fusion_perception.learning.bag import BagRun
from fusion_perception.learning.bags.judging import MODES
from fusion_perception.learning.reports.errors import MOST_POINTS, Axis, Floats
from fusion_perception.learning.reports.figures import MODE_NAMES, WIDTH, part_recordings
from fusion_perception.sensing.ledger import CAUSES, STREAMS

# From dark to light and back, with hatches: neighbours differ in grey as well.
_FILLS = (
    ('#0b4a8f', ''),
    ('#f2b872', ''),
    ('#3f7d4a', '////'),
    ('#d9d2e9', ''),
    ('#8c2d19', ''),
    ('#bfe0ea', '....'),
    ('#7d3f98', ''),
    ('#efe48f', '\\\\\\\\'),
    ('#5b6470', ''),
    ('#f4cccc', 'xxxx'),
)
_MODE_FILLS = (('#0b4a8f', ''), ('#f2b872', '////'), ('#cfd6dd', '....'))


def rates(runs: Sequence[BagRun], axis: Axis) -> tuple[Floats, dict[str, Floats]]:
    """Return the edges (B + 1,) of equal bins along the axis and counts a second (B,) by name.

    Each recording has bins of its own width; their counts are spread over the common ones, never
    narrower than theirs.
    """
    widths = [cast('float', run.timeline['bin_s']) for run in runs]
    widest = max(widths)
    while axis.end > MOST_POINTS * widest:
        widest *= 2
    # A single recording keeps its own bins; what would be a sliver joins the bin before it, where
    # one message would look like many a second.
    edges = np.arange(max(1, round(axis.end / widest)) + 1, dtype=np.float64) * widest
    edges[-1] = axis.end
    per_bin = np.diff(edges)
    found: dict[str, Floats] = {}
    for run, begin, end, width in zip(runs, axis.begins, axis.ends(), widths, strict=True):
        counts = cast('Mapping[str, Sequence[int]]', run.timeline['counts'])
        for name, values in counts.items():
            # The last bin ends with the recording.
            borders = np.minimum(begin + width * np.arange(len(values) + 1), end)
            until = np.interp(edges, borders, np.concatenate(([0], np.cumsum(values))))
            found[name] = found.get(name, np.zeros(len(per_bin))) + np.diff(until) / per_bin
    return edges, found


def modes_over_time(runs: Sequence[BagRun], axis: Axis) -> Figure:
    """Draw how many predictions a second each set of sensors served."""
    edges, found = rates(runs, axis)
    figure = Figure(figsize=(WIDTH, 2.35))
    figure.subplots_adjust(0.062, 0.21, 0.98, 0.86)
    axes = figure.add_subplot()
    named = [(MODE_NAMES[mode], found.get(f'modes.{mode}')) for mode in MODES]
    _stack(axes, edges, named, _MODE_FILLS)
    axes.set(ylabel='predictions a second', xlabel=axis.label, xlim=(0, axis.end))
    _finish(axes, axis)
    return figure


def drops_over_time(runs: Sequence[BagRun], axis: Axis) -> Figure:
    """Draw for each stream what was lost, by cause, below the line of what came."""
    edges, found = rates(runs, axis)
    figure = Figure(figsize=(WIDTH, 4.3))
    figure.subplots_adjust(0.062, 0.115, 0.98, 0.88, hspace=0.55)
    panels = figure.subplots(len(STREAMS), 1, sharex=True, squeeze=False)[:, 0]
    for axes, stream in zip(panels, STREAMS, strict=True):
        named = [(cause, found.get(f'{stream}.dropped.{cause}')) for cause in CAUSES]
        _stack(axes, edges, named, _FILLS)
        received = found.get(f'{stream}.received', np.zeros(len(edges) - 1))
        axes.stairs(received, edges, baseline=None, color='#15181c', lw=1.5, label='received')
        axes.set_ylabel('messages a second')
        axes.set_title({'camera': 'camera', 'lidar': 'LiDAR'}[stream])
        _finish(axes, axis)
    panels[-1].set(xlabel=axis.label, xlim=(0, axis.end))
    return figure


def _stack(
    axes: Axes,
    edges: Floats,
    named: Sequence[tuple[str, Floats | None]],
    fills: Sequence[tuple[str, str]],
) -> None:
    below = np.zeros(len(edges) - 1)
    for (name, values), (colour, hatch) in zip(named, cycle(fills), strict=False):
        if values is None or not values.any():
            continue
        axes.stairs(
            below + values, edges, baseline=below, fill=True, facecolor=colour, hatch=hatch,
            edgecolor='#15181c' if hatch else colour, lw=0, label=name.replace('_', ' '),
        )  # fmt: skip
        below = below + values


def _finish(axes: Axes, axis: Axis) -> None:
    part_recordings(axes, axis)
    # Room for the line of what came, which may be flat.
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='lower right', ncols=6, bbox_to_anchor=(1.005, 0.97), borderaxespad=0.2)
