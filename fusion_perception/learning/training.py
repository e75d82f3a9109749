"""Train a model: seed, data, model, optimiser, loop, validate, save."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from pydantic import Field
from torch import Tensor

from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.learning.metrics import score
from fusion_perception.learning.progress import epoch_bar
from fusion_perception.learning.run.batches import Share, TrainingData
from fusion_perception.learning.run.checkpoint import Checkpoint, Row, moments_of, restore_moments
from fusion_perception.learning.run.covariances import are_fitted
from fusion_perception.learning.run.folder import RunFolder, best_of, holds_run, way_on
from fusion_perception.learning.run.learner import Learner, learning_rate
from fusion_perception.learning.run.model_fit import misplaced, refuse_misfit
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.run.start import (
    contradiction,
    handed_on,
    load_start,
    take_weights,
)
from fusion_perception.models import MODELS, FusionModel, Stage, build
from fusion_perception.models.bundle import CHECKPOINT, Bundle, load_bundle, name_anywhere
from fusion_perception.runtime import choose_device
from fusion_perception.stopping import undisturbed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)


class TrainSettings(Recipe):
    """Settings of `fusion train`: the recipe, the model, and where the run is kept."""

    model: str = Field(description=f'One of: {", ".join(MODELS)}')
    out: Path = Field(description='Folder of the run')
    resume: bool = Field(
        False, description='Go on where the run in OUT stopped, with its settings'
    )


def train(settings: TrainSettings, is_told: bool = False) -> str:
    """Train a model and leave its bundle, metrics, curves and checkpoint in settings.out.

    The bundle holds the epoch with the lowest validation loss. Of several processes only the
    first writes and speaks; `is_told` says that somebody has told its `doubts`. Raises
    KeyboardInterrupt with the way to go on when Ctrl-C stops it, and ValueError or
    FileNotFoundError for what cannot be trained or resumed.
    """
    check_is_apart(settings.out, 'the run')
    if settings.start_from is not None:
        start_from = name_anywhere(settings.start_from)
        settings = settings.model_copy(update={'start_from': start_from})
    fabric = start_fabric(settings)
    run = RunFolder(settings.out, settings.resume, writes=fabric.is_global_zero)
    torch.manual_seed(settings.seed)
    if settings.resume:
        begun = Checkpoint.read(run.checkpoint, tensors=False)
        begun.refuse_another_model(run.path, settings.model)
    settings, model, start = new_model(settings)
    fabric.launch()
    data = TrainingData(settings, fabric.device, Share(fabric.global_rank, fabric.world_size))
    if fabric.is_global_zero and not is_told:
        for said in doubts(settings, model, start, data):
            log.warning('%s', said)
    model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    refuse_misfit(settings.model, model, data, settings)
    stages = tuple(
        Stage(settings.model, model, stage.parameters) if stage.model is model else stage
        for stage in model.stages()
    )

    with run.held():
        if settings.resume:
            checkpoint = Checkpoint.read(run.checkpoint)
            checkpoint.refuse_another(run.path, settings, data.describe(), len(stages))
            model.load_state_dict(checkpoint.model)
            checkpoint.settings['epochs'] = settings.epochs
        else:
            checkpoint = Checkpoint(
                settings.model_dump(mode='json'),
                data.describe(),
                None if start is None else start.as_start(),
            )
            checkpoint.model = model.state_dict()
        run.begin(settings)
        run.catch_up(checkpoint)

        try:
            for stage in stages:
                if len(checkpoint.epochs_of(stage.name)) < settings.epochs:
                    train_stage(fabric, settings, data, model, stage, checkpoint, run)
                if checkpoint.rows[-1]['stage'] == stage.name:
                    if checkpoint.best:
                        stage.model.load_state_dict(checkpoint.best)
                    if stage is not stages[-1]:
                        # Not a copy of the run's bundle: it may be the next stage's already.
                        path = run.path / f'{stage.name}.safetensors'
                        save_best(run, stage.model, stage.name, data, checkpoint, path)
            if model.config.fitted and fabric.is_global_zero:
                log.info('%s: its covariances are being calibrated.', settings.model)
            model.calibrate(data.unseen())
            save_best(run, model, settings.model, data, checkpoint)
        except KeyboardInterrupt:
            if not checkpoint.rows:
                save_best(run, model, settings.model, data, checkpoint)
            is_trained = all(
                len(checkpoint.epochs_of(stage.name)) >= settings.epochs for stage in stages
            )
            raise KeyboardInterrupt(farewell(run, checkpoint, is_trained)) from None
        finally:
            run.close(checkpoint)
    return report(run, checkpoint, stages[-1].name) if fabric.is_global_zero else ''


def doubts(
    settings: TrainSettings, model: FusionModel, start: Bundle | None, data: TrainingData
) -> list[str]:
    """Return what is to be said of a training before it begins, a sentence each."""
    elsewhere = misplaced(settings.model, model, data.name, data.middle())
    if settings.resume:
        elsewhere = ''  # It was said when the run began, and can no more be changed.
    differs = '' if start is None else contradiction(model, start)
    return list(filter(None, (data.short_of(), data.bent(), differs, elsewhere)))


def new_model(settings: TrainSettings) -> tuple[TrainSettings, FusionModel, Bundle | None]:
    """Return the model that a recipe trains, the recipe as it is, and the bundle it starts from.

    What the recipe does not say of the architecture is that of the bundle, or for a run that goes
    on that with which it began. Raises ValueError or FileNotFoundError when the model, its bundle
    and the recipe do not fit.
    """
    said, start, before = settings.architecture, None, {}
    if settings.start_from is not None:
        if settings.resume:
            before = Checkpoint.architecture_of(settings.out / CHECKPOINT)
        else:
            start = load_start(settings, settings.model)
            before = handed_on(start)
    settings = settings.model_copy(update={'architecture': {**before, **said}})
    model = build(settings.model, settings.architecture, str(settings.config or 'Recipe'))
    if start is not None:
        take_weights(model, start, said)
    refuse_to_hide_a_needed_sensor(settings, model)
    return settings, model, start


def train_stage(
    fabric: Fabric,
    settings: TrainSettings,
    data: TrainingData,
    model: FusionModel,
    stage: Stage,
    checkpoint: Checkpoint,
    run: RunFolder,
) -> None:
    """Train one stage of a model from its first epoch that the checkpoint does not have."""
    model.requires_grad_(False)
    for parameter in stage.parameters:
        parameter.requires_grad_(True)
    learner = Learner(fabric, settings, stage, data.observe)
    first = len(checkpoint.epochs_of(stage.name))
    if first:
        restore_moments(learner.optimiser, stage.parameters, checkpoint.moments)
        if learner.mean is not None:
            learner.mean.load_state_dict(checkpoint.mean)
    else:
        checkpoint.best = {}

    steps = settings.epochs * data.steps
    for epoch in range(first, settings.epochs):
        started = time.perf_counter()
        title = f'{stage.name} {epoch + 1}/{settings.epochs}'
        with epoch_bar(title, data.steps, settings.batch_size, fabric.is_global_zero) as advance:
            loss_sum = learner.learn(
                data.training(stage.name, epoch), epoch * data.steps, steps, advance
            )
        # The mean over scenes, as that of the validation.
        batches = data.taken / settings.batch_size
        train_loss = float(cast('Tensor', fabric.all_reduce(loss_sum))) / batches
        valid_loss, estimate, truth = learner.validate(data.validation())
        losses = train_loss, valid_loss
        refuse_divergence(settings, stage.name, epoch, losses, run.path)
        scores = score(estimate.centers, truth, data.rig.classes)
        row: Row = {
            'stage': stage.name,
            'epoch': epoch + 1,
            'train_loss': train_loss,
            'valid_loss': valid_loss,
            'mse': scores.mse,
            'error_mean_m': scores.error_m.mean,
            'error_median_m': scores.error_m.median,
            'error_p95_m': scores.error_m.p95,
            'learning_rate': learning_rate(settings, (epoch + 1) * data.steps - 1, steps),
            'seconds': time.perf_counter() - started,
        }
        # An epoch counts once its bundle and its checkpoint are written.
        with undisturbed():
            checkpoint.rows.append(row)
            checkpoint.model = model.state_dict()
            checkpoint.moments = moments_of(learner.optimiser, stage.parameters)
            checkpoint.mean = {} if learner.mean is None else learner.mean.state_dict()
            if best_of(checkpoint.epochs_of(stage.name)) is row:
                checkpoint.best = {k: v.clone() for k, v in learner.kept.state_dict().items()}
                save_best(run, learner.kept, stage.name, data, checkpoint)
            run.save_epoch(checkpoint)
        if fabric.is_global_zero:
            speed = data.taken / float(row['seconds'])
            log.info(
                '%s: train %.4f, valid %.4f, mean error %.3f m, %.1f s (%.0f scenes/s)',
                *(title, train_loss, valid_loss, scores.error_m.mean, row['seconds'], speed),
            )


def save_best(
    run: RunFolder,
    model: FusionModel,
    name: str,
    data: TrainingData,
    checkpoint: Checkpoint,
    path: Path | None = None,
) -> None:
    """Write the bundle of a model with the weights of its best epoch, if it has finished any."""
    best = best_of(checkpoint.epochs_of(name))
    run.save_bundle(model, name, data.rig, data.lidar, checkpoint, best, data.examples(), path)


def start_fabric(recipe: Recipe) -> Fabric:
    """Return a Fabric on the recipe's devices; raise ValueError when they are not there."""
    kind = choose_device(recipe.device).type
    if kind == 'cuda' and recipe.devices > torch.cuda.device_count():
        raise ValueError(
            f'devices = {recipe.devices}, but this machine has {torch.cuda.device_count()} CUDA '
            'devices. Lower --devices.'
        )
    if recipe.compile and kind != 'cuda':
        raise ValueError('compile = True needs a CUDA GPU. Leave out --compile.')
    from lightning_fabric import Fabric  # It brings the compiler: seconds, also for --help.

    return Fabric(
        accelerator=kind,
        devices=recipe.devices,
        strategy='ddp' if recipe.devices > 1 else 'auto',
    )


def refuse_to_hide_a_needed_sensor(recipe: Recipe, model: FusionModel) -> None:
    """Raise ValueError when a sensor is to be hidden that the model cannot do without."""
    for chance, left, hidden in (
        (recipe.drop_camera, 'lidar_only', 'camera'),
        (recipe.drop_lidar, 'camera_only', 'lidar'),
    ):
        if chance and not {'fusion', left} <= model.modes:
            raise ValueError(
                f'drop_{hidden} = {chance}, but {type(model).__name__} predicts only in mode '
                f'{", ".join(sorted(model.modes))}. Leave drop_{hidden} out, or use dense_fusion.'
            )


def refuse_divergence(
    recipe: Recipe, stage: str, epoch: int, losses: tuple[float, float], run: Path
) -> None:
    """Raise ValueError when a loss of an epoch, of training or validation, is not finite.

    `run` is the folder that the run is kept in.
    """
    if not all(map(math.isfinite, losses)):
        raise ValueError(
            f'In epoch {epoch + 1} the loss of {stage} became {losses[0]} in training and '
            f'{losses[1]} in validation. Lower --learning-rate (it was '
            f'{recipe.learning_rate:g}) or set clip_norm'
            + (
                f', and give another --out: {run} keeps what came before.'
                if holds_run(run)
                else '.'
            )
        )


def farewell(run: RunFolder, checkpoint: Checkpoint, is_trained: bool) -> str:
    """Say where an interrupted run stands and how it goes on.

    `is_trained` says that all its epochs are done. Whether its covariances are calibrated is a
    matter of the bundle that is there: a run that goes on keeps it until there is a better one.
    """
    try:
        bundle = load_bundle(run.bundle)
    except (FileNotFoundError, ValueError):
        return f'Stopped: {run.bundle} is not there, or torn. {way_on(run.path)} writes it.'
    best = bundle.manifest.training.get('metrics')
    if isinstance(best, dict):
        holds = f'{run.bundle} holds {bundle.manifest.model} after epoch {best["epoch"]}'
    else:
        holds = (
            f'no epoch was finished, {run.bundle} holds the weights as they were when it stopped'
        )
    calibrated = are_fitted(bundle)
    if bundle.model.config.fitted:
        holds += f', its covariances {"calibrated" if calibrated else "not calibrated yet"}'
    if is_trained and (calibrated or not bundle.model.config.fitted):
        return f'Stopped, but the run was at its end: {holds}.'
    return f'Stopped: {holds}. Go on with {way_on(run.path)}.'


def report(run: RunFolder, checkpoint: Checkpoint, stage: str) -> str:
    """Say what the run reached."""
    best = best_of(checkpoint.epochs_of(stage))
    assert best is not None
    seconds = sum(float(row['seconds']) for row in checkpoint.rows)
    return (
        f'{stage}: epoch {best["epoch"]} is the best of {len(checkpoint.epochs_of(stage))}: '
        f'validation loss {best["valid_loss"]:.4f}, MSE {best["mse"]:.4f} m2, error mean '
        f'{best["error_mean_m"]:.3f} m, median {best["error_median_m"]:.3f} m, 95 % below '
        f'{best["error_p95_m"]:.3f} m; {seconds:.1f} s. It is in {run.bundle}.'
    )
