"""Keep a training so that it can go on: one .safetensors file, never a pickle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models.tensor_file import write_tensors
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.quoting import reason

Row = dict[str, float | int | str]
Weights = dict[str, Tensor]


@dataclass
class Checkpoint:
    """Where a training stands after its last finished epoch.

    `rows` are its epochs so far, `settings` and `data` what it was begun with, `started_from` how
    the bundle was made whose weights it took, if it took any. `model` are the weights of the whole
    model; of the current stage, `moments` are the optimiser's state, `best` its best weights and
    `mean` the running mean of its weights, where one is kept.
    """

    settings: dict[str, object]
    data: dict[str, object]
    started_from: dict[str, object] | None = None
    rows: list[Row] = field(default_factory=list)
    model: Weights = field(default_factory=dict)
    moments: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    mean: Weights = field(default_factory=dict)

    def epochs_of(self, stage: str) -> list[Row]:
        """Return the finished epochs of one stage."""
        return [row for row in self.rows if row['stage'] == stage]

    def write(self, path: Path) -> None:
        """Write in one step: whoever is interrupted keeps the file of the epoch before.

        Raises OSError where it cannot be written, as on a full disk.
        """
        tensors = {
            f'{group}/{key}': value.detach().cpu().contiguous()
            for group in ('model', 'moments', 'best', 'mean')
            for key, value in getattr(self, group).items()
        }
        kept = ('settings', 'data', 'started_from', 'rows')
        state = {name: getattr(self, name) for name in kept}
        write_tensors(path, tensors, {'training': json.dumps(state)})

    @classmethod
    def read(cls, path: Path, tensors: bool = True) -> Checkpoint:
        """Read a checkpoint, or without its tensors what else it holds, which takes no time.

        Raises FileNotFoundError or ValueError when that is impossible.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f'No run to resume: there is no {path}. Start it without --resume.'
            )
        groups: dict[str, Weights] = {'model': {}, 'moments': {}, 'best': {}, 'mean': {}}
        try:
            with safe_open(path, framework='pt') as file:
                state = json.loads((file.metadata() or {})['training'])
                for name in file.keys() if tensors else ():
                    group, _, key = name.partition('/')
                    groups[group][key] = file.get_tensor(name)
            return cls(
                state['settings'],
                state['data'],
                state.get('started_from'),
                state['rows'],
                **groups,
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path} is torn or no checkpoint ({reason(error)}). Start the run anew in '
                'another folder.'
            ) from None

    @classmethod
    def architecture_of(cls, path: Path) -> dict[str, object]:
        """Return the architecture that a run was begun with; raise as `read` does."""
        kept = cls.read(path, tensors=False).settings.get('architecture')
        return kept if isinstance(kept, dict) else {}

    def refuse_another_model(self, run: Path, model: str) -> None:
        """Raise ValueError when the run in a folder was begun with another model."""
        before = self.settings.get('model')
        if model != before:
            raise ValueError(
                f'The run in {run} trains {before}, not {model}. Leave out --model to go on with '
                'it, or choose another --out.'
            )

    def refuse_another(
        self, run: Path, recipe: Recipe, data: Mapping[str, object], stages: int
    ) -> None:
        """Raise ValueError when a recipe or data would not continue the run but alter it.

        `run` is the run's folder, `stages` how many the model has.
        """
        changes = recipe.differences(self.settings)
        before = self.settings.get('epochs')
        finished = max(Counter(row['stage'] for row in self.rows).values(), default=0)
        if recipe.epochs != before and (stages > 1 or recipe.schedule != 'constant'):
            # Later stages and the schedule were laid out for the number of epochs.
            changes.append(f'epochs was {before} and is now {recipe.epochs}')
        elif finished > recipe.epochs:
            changes.append(
                f'{counted(finished, "epoch is", "epochs are")} finished, more than the '
                f'{recipe.epochs} asked for'
            )
        changes += [
            f'data {key} was {self.data[key]!r} and is now {value!r}'
            for key, value in data.items()
            if key in self.data and self.data[key] != value
        ]
        if changes:
            raise ValueError(
                f'The run in {run} cannot be resumed: {"; ".join(changes)}. '
                'Use what it was begun with, as --resume does by itself, or start a new run in '
                'another folder.'
            )


def moments_of(optimiser: Optimizer, parameters: list[nn.Parameter]) -> Weights:
    """Return the optimiser's state as tensors named by the parameter's number and the moment."""
    return {
        f'{number}/{moment}': value
        for number, parameter in enumerate(parameters)
        for moment, value in optimiser.state[parameter].items()
    }


def restore_moments(optimiser: Optimizer, parameters: list[nn.Parameter], kept: Weights) -> None:
    """Give the optimiser back the state that `moments_of` took from it."""
    state: dict[int, Weights] = {}
    for name, value in kept.items():
        number, _, moment = name.partition('/')
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            # A fused step walks raw memory: moments must lie in it as their parameter does.
            value = torch.empty_like(parameter).copy_(value).detach()
        state.setdefault(int(number), {})[moment] = value
    groups = optimiser.state_dict()['param_groups']
    # load_state_dict also moves each moment to its parameter's device.
    optimiser.load_state_dict({'state': state, 'param_groups': groups})
