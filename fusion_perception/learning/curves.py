"""Draw loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

# Of each name, the training and the validation loss of every epoch.
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def losses_plot(curves: Curves, path: Path, ylabel: str = 'loss') -> None:
    """Write the training (dashed) and validation (solid) losses of each name as a PNG."""
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.add_subplot()
    for number, (name, (train, valid)) in enumerate(curves.items()):
        epochs = range(1, len(valid) + 1)
        axes.plot(epochs, train, '--', color=f'C{number}', alpha=0.6, label=f'{name}, training')
        axes.plot(epochs, valid, '-', color=f'C{number}', label=f'{name}, validation')
    axes.set(xlabel='epoch', ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
