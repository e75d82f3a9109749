"""Train several models by one recipe and lay their losses and figures side by side."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated

from pydantic import Field
from tyro.conf import Suppress

from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evaluation import device_name
from fusion_perception.learning.evidence.evidence import spread
from fusion_perception.learning.evidence.of_folder import as_seen_by, time_frames
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.checkpoint import Checkpoint, Row
from fusion_perception.learning.run.curves import comparison_plot
from fusion_perception.learning.run.folder import holds_run, versions
from fusion_perception.learning.run.model_fit import refuse_misfit
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.training import TrainSettings, doubts, new_model, train
from fusion_perception.models import MODELS, build
from fusion_perception.models.bundle import CHECKPOINT, load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.settings import closest
from fusion_perception.whole_files import write_whole

log = logging.getLogger(__name__)

# What a model may not have of its own: the others would not be compared with it.
SHARED = frozenset({'model', 'data', 'out', 'config', 'resume', 'device', 'devices'})


class CompareSettings(Recipe):
    """Settings of `fusion compare`: one recipe for several models, or with exceptions."""

    models: tuple[str, ...] = Field(min_length=1, description=f'Any of: {", ".join(MODELS)}')
    out: Path = Field(description='Folder for the chart, the table and one run per model')
    own: Annotated[dict[str, dict[str, object]], Suppress] = Field(
        {}, description='What a model has of its own in the recipe, by its name'
    )


# What differs between models that learn from the same data.
_NOT_OF_DATA = {'model', 'out', 'resume', 'architecture', 'config', 'start_from'}


def compare(settings: CompareSettings) -> str:
    """Train each model in OUT/<model>, then write losses.png, table.md and table.json.

    A model that another of them trains on its way (late fusion: rgb and lidar) is not trained
    twice. One that is already trained there is not trained again, and one that was interrupted
    goes on. Raises ValueError, before any is trained, for an unknown model, for a recipe or data
    that do not fit one of them, and for a recipe or data other than before.
    """
    for name in (*settings.models, *settings.own):
        if name not in MODELS:
            raise ValueError(f"There is no model '{name}'. {closest(name, list(MODELS))}")
    check_is_apart(settings.out, 'the comparison')
    if settings.data is None or settings.devices > 1:
        raise ValueError('compare needs --data, and trains one model after another on one device.')
    runs = {name: recipe_of(name, settings) for name in settings.models}
    hosts = trained_within(runs, set(settings.own))
    trained = [run for name, run in runs.items() if hosts[name] == name]
    read: dict[str, TrainingData] = {}
    said: set[str] = set()
    for run in trained:
        # What the last of them cannot do is told now, not in some hours.
        recipe, model, start = new_model(run)
        # What is in doubt about a folder is said when it is read.
        asked = run.model_dump_json(exclude=_NOT_OF_DATA)
        data = read[asked] = read.get(asked) or TrainingData(run)
        refuse_misfit(run.model, model, data, run)
        # What several of them have in common is said once.
        for doubt in doubts(recipe, model, start, data):
            if doubt not in said:
                log.warning('%s', doubt)
            said.add(doubt)
        if run.resume:
            before = Checkpoint.read(run.out / CHECKPOINT)
            before.refuse_another(run.out, recipe, data.describe(), len(model.stages()))
    for run in trained:
        try:
            log.info('%s', train(run, is_told=True))
        except KeyboardInterrupt:
            raise KeyboardInterrupt('Stopped. The same command goes on from here.') from None
    return write_comparison(settings, settings.data, hosts)


def recipe_of(name: str, settings: CompareSettings) -> TrainSettings:
    """Return how a model is trained: the common recipe, with what it has of its own.

    Raises ValueError where its own is no part of a recipe, or may not differ between models.
    """
    own = settings.own.get(name, {})
    source = f'own.{name}' if settings.config is None else f'{settings.config}: own.{name}'
    if shared := sorted(own.keys() & SHARED):
        raise ValueError(f'{source} sets {", ".join(shared)}, which all models share.')
    out = settings.out / name
    values = {
        **settings.model_dump(exclude={'models', 'out', 'own'}),
        **own,
        'model': name,
        'out': out,
        'resume': (out / CHECKPOINT).exists() and holds_run(out),
    }
    return TrainSettings.read(values, source if own else None)


def trained_within(runs: Mapping[str, TrainSettings], apart: Set[str]) -> dict[str, str]:
    """Return, for each model, the one in whose run it is trained: mostly itself.

    A model with a recipe of its own, one of `apart`, is trained by itself.
    """
    hosts = {name: name for name in runs}
    for host, run in runs.items():
        for stage in build(host, run.architecture, str(run.config or 'Recipe')).stages():
            if hosts.get(stage.name) == stage.name and not {host, stage.name} & apart:
                hosts[stage.name] = host
    return hosts


def write_comparison(settings: CompareSettings, data: Path, hosts: dict[str, str]) -> str:
    """Write the chart and the tables of models that are trained, and return the table.

    `hosts` says in whose run each model was trained.
    """
    table, losses, errors = [], {}, {}
    scenes = read_folder(data)
    for name, host in hosts.items():
        folder = settings.out / host
        metrics = json.loads((folder / 'metrics.json').read_text())
        own_epochs = [row for row in metrics['epochs'] if row['stage'] == name]
        losses[name] = (_column(own_epochs, 'train_loss'), _column(own_epochs, 'valid_loss'))
        errors[name] = _column(own_epochs, 'error_mean_m')
        bundle = load_bundle(folder / f'{"bundle" if host == name else name}.safetensors')
        runtime = Runtime(bundle, settings.device, engine='auto')
        seen = as_seen_by(bundle, scenes, data)
        best = metrics['best'][name]
        # What has to be trained before a model is part of its cost.
        epochs = metrics['epochs'] if host == name else own_epochs
        table.append(
            {
                'model': name,
                'parameters': sum(p.numel() for p in bundle.model.parameters()),
                'best_epoch': best['epoch'],
                'seconds': sum(_column(epochs, 'seconds')),
                'mse': best['mse'],
                'error_mean_m': best['error_mean_m'],
                'error_median_m': best['error_median_m'],
                'error_p95_m': best['error_p95_m'],
                'latency_ms': spread(time_frames(runtime, seen)),
                'device': device_name(runtime.device),
                'engine': runtime.engine,
            }
        )
    comparison_plot(losses, errors, settings.out / 'losses.png')
    text = as_markdown(table)
    write_whole(settings.out / 'table.md', f'{text}\n')
    values = {
        'models': table,
        'settings': settings.model_dump(mode='json'),
        'versions': versions(),
    }
    write_whole(settings.out / 'table.json', json.dumps(values, indent=2) + '\n')
    return f'{text}\n\nThe losses are drawn in {settings.out / "losses.png"}.'


def as_markdown(table: Sequence[dict[str, object]]) -> str:
    """Return the table as Markdown, one model a row."""
    lines = [
        '| model | parameters | training | best epoch | MSE | mean error | median | 95 % below '
        '| latency, batch 1 |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for row in table:
        latency = row['latency_ms']
        assert isinstance(latency, dict)
        lines.append(
            f'| {row["model"]} | {row["parameters"]:,} | {row["seconds"]:.0f} s '
            f'| {row["best_epoch"]} | {row["mse"]:.3f} m² | {row["error_mean_m"]:.3f} m '
            f'| {row["error_median_m"]:.3f} m | {row["error_p95_m"]:.3f} m '
            f'| {latency["p50"]:.1f} ms |'
        )
    return '\n'.join(lines)


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [float(row[key]) for row in rows]
