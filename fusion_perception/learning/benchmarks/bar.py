"""Measure how long it takes until the error is small: dense fusion, and late fusion's recipe."""

from __future__ import annotations

import json
from functools import partial
from itertools import count
from pathlib import Path

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks.settings import Bench
from fusion_perception.learning.benchmarks.timing import (
    Measured,
    alternate,
    epoch_seconds,
    seconds_of,
)
from fusion_perception.learning.dataset import split_indices
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.training import TrainSettings, train
from fusion_perception.models.bundle import BUNDLE, CHECKPOINT
from fusion_perception.sensing.counted import counted

# The recipe of the bundles that ship, laid out for as few epochs.
FAST: dict[str, object] = {
    'optimiser': 'adamw',
    'learning_rate': 3e-3,
    'weight_decay': 0.01,
    'schedule': 'one_cycle',
    'clip_norm': 5.0,
    'precision': 'bfloat16',
}
ATTEMPTS = (1, 2, 4, 8)
PHASES = ('rgb', 'lidar', 'late_fusion')


def time_to_mse(bench: Bench) -> list[Measured]:
    """Measure the time until the validation MSE is `mse`.

    Ours is trained whole, with all that `fusion train` does, in each round. The notebook's three
    trainings would take hours: of each some steps and a validation are timed in each round, and
    multiplied by the number of epochs that a recorded run needed.
    """
    epochs, reached, whence = epochs_needed(bench)
    needed = enough_epochs(bench)
    ways = LateFusionRecipe(bench)
    figures = alternate(
        bench.settings.rounds,
        {
            'ours': partial(train_dense_fusion, bench, needed),
            'notebook': lambda: ways.epoch_seconds(epochs),
        },
    )
    bar = f'validation MSE {bench.settings.mse:g}'
    told = ', '.join(f'{epochs[phase]} of {phase}' for phase in PHASES)
    return [
        Measured(
            'time_to_mse',
            's',
            figures['ours'],
            figures['notebook'],
            f'ours: `fusion train` of dense_fusion to its end ({counted(needed, "epoch")}), '
            f'until {bar}; notebook: EXTRAPOLATED from {ways.taken} steps and a validation of '
            f'each training to {told} epochs ({whence})',
            {'notebook_epochs': epochs, 'notebook_reached_the_bar': reached},
        )
    ]


def enough_epochs(bench: Bench) -> int:
    """Return how many epochs dense fusion needs, by trying; raise ValueError when none do."""
    for epochs in ATTEMPTS[:1] if bench.settings.quick else ATTEMPTS:
        train_dense_fusion(bench, epochs)
        rows = json.loads((_run(bench) / 'metrics.json').read_text())['epochs']
        if min(row['mse'] for row in rows) <= bench.settings.mse or bench.settings.quick:
            return epochs
    raise ValueError(
        f'dense_fusion did not reach an MSE of {bench.settings.mse:g} on {bench.scenes:,} scenes '
        f'in {counted(ATTEMPTS[-1], "epoch")}. Give --data with more scenes, or a higher --mse.'
    )


def train_dense_fusion(bench: Bench, epochs: int) -> float:
    """Train dense fusion and return the seconds it took, reading and writing files included."""
    out = _run(bench)
    for file in (out / BUNDLE, out / CHECKPOINT):
        file.unlink(missing_ok=True)
    settings = TrainSettings.read(
        {
            **FAST,
            'model': 'dense_fusion',
            'data': bench.folder,
            'out': out,
            'epochs': epochs,
            'device': bench.settings.device,
        }
    )
    return seconds_of(partial(train, settings), bench.device)


class LateFusionRecipe:
    """The notebook's three trainings, of which some steps are timed."""

    def __init__(self, bench: Bench) -> None:
        held_out = len(split_indices(bench.scenes)[1])
        self._bench = bench
        self.train, self.valid = notebook.loaders(
            bench.folder, bench.device, bench.scenes, held_out
        )
        self.taken = min(len(self.train), bench.size(bench.settings.steps, 2))
        self._batches = (batch for _ in count() for batch in self.train)
        rgb, xyz = notebook.Net(4).to(bench.device), notebook.Net(4).to(bench.device)
        late = notebook.LateNet(notebook.Net(4), notebook.Net(4)).to(bench.device)
        self._ways = {
            phase: (net, notebook.adam(net), notebook.INPUTS[phase])
            for phase, net in zip(PHASES, (rgb, xyz, late), strict=True)
        }

    def epoch_seconds(self, epochs: dict[str, int]) -> float:
        """Return the time that so many epochs of each training take, from a few steps of each."""
        return sum(
            epochs[phase]
            * epoch_seconds(
                partial(notebook.train_epoch, net, optimiser, inputs, self._batches),
                self.taken,
                len(self.train),
                partial(notebook.validate, net, inputs, self.valid),
                self._bench.device,
            )
            for phase, (net, optimiser, inputs) in self._ways.items()
        )


def epochs_needed(bench: Bench) -> tuple[dict[str, int], bool, str]:
    """Return the epochs of each of the three trainings, if the bar is reached, and by what.

    Both networks are trained to their end; the head until its first epoch at the bar.
    """
    run, bar = bench.settings.baseline_run, bench.settings.mse
    if run is None:
        epochs = dict.fromkeys(PHASES, Recipe().epochs)
        return epochs, False, 'the whole recipe, whatever it reaches: no --baseline-run was given'
    rows = _rows(run)
    epochs = {phase: sum(row['stage'] == phase for row in rows) for phase in PHASES}
    if not all(epochs.values()):
        raise ValueError(
            f'{run} does not hold the three trainings of late_fusion. Make such a run with '
            '`fusion train --model late_fusion`.'
        )
    head = [row for row in rows if row['stage'] == PHASES[-1]]
    at_bar = [int(row['epoch']) for row in head if float(row['mse']) <= bar]
    if at_bar:
        return {**epochs, PHASES[-1]: at_bar[0]}, True, f'recorded run, MSE {bar:g} reached'
    best = min(float(row['mse']) for row in head)
    return epochs, False, f'recorded run, at best at MSE {best:.3f} without reaching {bar:g}'


def _rows(run: Path) -> list[dict[str, float | str]]:
    try:
        rows: list[dict[str, float | str]] = json.loads((run / 'metrics.json').read_text())[
            'epochs'
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f'{run} holds no metrics.json of a training. Give the folder of a run of '
            '`fusion train --model late_fusion`.'
        ) from None
    return rows


def _run(bench: Bench) -> Path:
    return bench.scratch / 'dense_fusion'
