"""Draw the losses and errors of trainings over their epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Of each name, the training and the validation loss of every epoch.
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
# A first loss so many times the largest later one hides how those differ.
_WILD = 4


def losses_plot(curves: Curves, path: Path) -> None:
    """Write the training (dashed) and validation (solid) losses of each name as a PNG."""
    figure = Figure(figsize=(8, 4.2), layout='constrained')
    _draw_losses(figure.add_subplot(), curves)
    figure.savefig(path, dpi=120)


def comparison_plot(curves: Curves, errors_m: Mapping[str, Sequence[float]], path: Path) -> None:
    """Write the losses of several models beside their mean validation errors as a PNG.

    Models may learn by different losses; the error in metres is what compares them.
    """
    figure = Figure(figsize=(14, 4.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    _draw_losses(left, curves)
    for number, (name, errors) in enumerate(errors_m.items()):
        epochs = range(1, len(errors) + 1)
        right.plot(epochs, errors, 'o-', ms=3, color=f'C{number}', label=name)
    right.set_ylim(0, 1.05 * max(max(errors) for errors in errors_m.values()))
    right.set_ylabel('mean error on validation scenes [m]')
    _finish(right)
    figure.savefig(path, dpi=120)


def _draw_losses(axes: Axes, curves: Curves) -> None:
    for number, (name, (train, valid)) in enumerate(curves.items()):
        epochs, colour = range(1, len(valid) + 1), f'C{number}'
        axes.plot(epochs, train, 'o--', ms=3, color=colour, alpha=0.5, label=f'{name}, training')
        axes.plot(epochs, valid, 'o-', ms=3, color=colour, label=f'{name}, validation')
    axes.set_ylabel('loss')
    _cut_off_a_wild_start(axes, [losses for both in curves.values() for losses in both])
    _finish(axes)


def _cut_off_a_wild_start(axes: Axes, series: Sequence[Sequence[float]]) -> None:
    """Leave a first epoch that would flatten all others above the picture, and say so."""
    first = max(losses[0] for losses in series)
    later = [loss for losses in series for loss in losses[1:]]
    if later and first > _WILD * max(later) > 0:
        top, bottom = 1.5 * max(later), min(later)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top)
        axes.set_ylabel(f'loss (first epoch up to {first:.4g}, cut off)')


def _finish(axes: Axes) -> None:
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False)
