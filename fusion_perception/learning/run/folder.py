"""Keep a training's folder: bundle, checkpoint, metrics, curves, recipe."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import torch
import yaml

import fusion_perception
from fusion_perception.flags import KEPT
from fusion_perception.learning.run.checkpoint import Checkpoint, Row
from fusion_perception.learning.run.curves import Curves, losses_plot
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models import FusionModel
from fusion_perception.models.bundle import BUNDLE, CHECKPOINT, save_bundle
from fusion_perception.models.examples import Examples
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig
from fusion_perception.whole_files import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


def way_on(run: Path) -> str:
    """Return the command that goes on with the run in a folder, in backquotes."""
    return f'`fusion train --out {quote(str(run))} --resume`'


class RunFolder:
    """The files of one run. `writes` is False in all but the first of several processes."""

    def __init__(self, path: Path, resume: bool, writes: bool) -> None:
        self.path, self.resume, self.writes = path, resume, writes
        self.bundle = path / BUNDLE
        self.checkpoint = path / CHECKPOINT
        self.metrics = path / 'metrics.json'
        self._events: SummaryWriter | None = None
        self._commit = git_commit() if writes else None
        if path.exists() and not path.is_dir():
            raise ValueError(f'{path} is a file. Choose a folder for the run.')
        if writes and path.is_dir():
            with self._locked():
                self._refuse_another_run()
        if resume and not self.checkpoint.is_file():
            raise FileNotFoundError(
                f'No run to resume: there is no {self.checkpoint}. Start it without --resume.'
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other trainings out of it meanwhile, where there are locks.

        Raises ValueError when one is at work in it, or was since this one was asked for. An
        OSError meanwhile, as of a full disk, is raised with the way to go on, where there is one.
        """
        if not self.writes:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._refuse_another_run()
            try:
                yield
            except OSError as fault:
                if not self.checkpoint.is_file():
                    raise
                said = str(fault)
                if fault.strerror:
                    said = f'{fault.filename or self.path}: {fault.strerror}. Correct that.'
                raise OSError(
                    f'{said} Then go on from the last checkpoint: {way_on(self.path)}.'
                ) from fault

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self.path, os.O_RDONLY)
        try:
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'Another training is at work in {self.path}. Wait for its end, or choose '
                'another --out.'
            ) from None
        except OSError as fault:  # NFS locks no folders.
            log.debug('%s is not locked: %s.', self.path, fault)

    def _refuse_another_run(self) -> None:
        if not self.resume and holds_run(self.path):
            raise ValueError(
                f'{self.path} already holds a run. Add --resume to go on with it, or choose '
                'another --out.'
            )

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe, so that the run can go on, or be repeated, from its own folder."""
        if not self.writes:
            return
        values = recipe.model_dump(mode='json', exclude={'config', 'out', 'resume'})
        if recipe.data is not None:
            values['data'] = str(recipe.data.resolve())
        write_whole(self.path / KEPT, yaml.safe_dump(values, sort_keys=False))

    def save_epoch(self, checkpoint: Checkpoint) -> None:
        """Write what a finished epoch leaves, the checkpoint first: it is what counts."""
        if not self.writes:
            return
        checkpoint.write(self.checkpoint)
        if not checkpoint.rows:
            return
        row, step = checkpoint.rows[-1], len(checkpoint.rows)
        write_whole(self.metrics, _told(checkpoint))
        if self._events is None:
            # Only a run that writes events waits for this import.
            from torch.utils.tensorboard import SummaryWriter

            # A run that goes on hides what an interrupted epoch may have left.
            self._events = SummaryWriter(str(self.path / 'tensorboard'), purge_step=step)
        for key, value in row.items():
            if key not in ('stage', 'epoch'):
                self._events.add_scalar(f'{row["stage"]}/{key}', value, step)
        self._events.flush()

    def catch_up(self, checkpoint: Checkpoint) -> None:
        """Write what the last epoch leaves, unless it is there: a run may stop before that."""
        there = self.metrics.is_file() and bool(checkpoint.rows)
        if not there or self.metrics.read_text() != _told(checkpoint):
            self.save_epoch(checkpoint)

    def save_bundle(
        self,
        model: FusionModel,
        name: str,
        rig: Rig,
        lidar: Lidar,
        checkpoint: Checkpoint,
        row: Row | None,
        examples: Examples | None = None,
        path: Path | None = None,
    ) -> None:
        """Write the bundle with how it came about; `row` is the epoch whose weights it has.

        Unless `path` says another place it is the run's own, which each stage overwrites.
        """
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        settings = checkpoint.settings
        private = {'data', 'out', 'config', 'resume'}  # Paths mean nothing on another machine.
        if Path(str(settings.get('start_from'))).is_absolute():
            private.add('start_from')
        save_bundle(
            path or self.bundle,
            model,
            name,
            rig,
            lidar,
            {
                'metrics': row,
                'seconds': sum(float(row['seconds']) for row in checkpoint.rows),
                'seed': settings['seed'],
                'data': checkpoint.data,
                'settings': {k: v for k, v in settings.items() if k not in private},
                'git_commit': self._commit,
                'versions': versions(),
                **_start(checkpoint),
            },
            examples,
        )

    def close(self, checkpoint: Checkpoint) -> None:
        """Draw the losses and close the TensorBoard events."""
        if self._events is not None:
            self._events.close()
        if self.writes and checkpoint.rows:
            losses_plot(curves_of(checkpoint), self.path / 'losses.png')


def holds_run(folder: Path) -> bool:
    """Say whether a folder has a run that may not be begun anew: a bundle, or finished epochs.

    An error in the first epoch leaves a checkpoint without either: nothing is lost with it.
    """
    bundle, checkpoint = folder / BUNDLE, folder / CHECKPOINT
    try:
        return bundle.exists() or (checkpoint.exists() and bool(Checkpoint.read(checkpoint).rows))
    except (ValueError, FileNotFoundError):  # Torn, or no file: not ours to overwrite.
        return True


def curves_of(checkpoint: Checkpoint) -> Curves:
    """Return the training and validation losses of each stage."""
    stages = dict.fromkeys(str(row['stage']) for row in checkpoint.rows)
    return {
        stage: (
            [float(row['train_loss']) for row in checkpoint.epochs_of(stage)],
            [float(row['valid_loss']) for row in checkpoint.epochs_of(stage)],
        )
        for stage in stages
    }


def best_of(rows: list[Row]) -> Row | None:
    """Return the epoch with the lowest validation loss, the first of equals."""
    return min(rows, key=lambda row: float(row['valid_loss']), default=None)


def summary(checkpoint: Checkpoint) -> dict[str, object]:
    """Return the content of metrics.json: all epochs, and the best one of each stage."""
    stages = dict.fromkeys(str(row['stage']) for row in checkpoint.rows)
    return {
        'model': checkpoint.settings['model'],
        'best': {stage: best_of(checkpoint.epochs_of(stage)) for stage in stages},
        'seconds': sum(float(row['seconds']) for row in checkpoint.rows),
        'epochs': checkpoint.rows,
        'data': checkpoint.data,
        'settings': checkpoint.settings,
        'versions': versions(),
        **_start(checkpoint),
    }


def _start(checkpoint: Checkpoint) -> dict[str, object]:
    before = checkpoint.started_from
    return {} if before is None else {'started_from': before}


def versions() -> Mapping[str, str]:
    """Return the versions that a result depends on."""
    return {
        'fusion_perception': fusion_perception.__version__,
        'torch': torch.__version__,
        'python': platform.python_version(),
    }


def _told(checkpoint: Checkpoint) -> str:
    return json.dumps(summary(checkpoint), indent=2) + '\n'


def git_commit() -> str | None:
    """Return the commit of this package's source, '-dirty' when changed, or None outside git."""
    here = Path(__file__)

    def git(*args: str) -> str:
        command = ('git', '-C', str(here.parent), *args)
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # A package installed into a folder that happens to lie in someone's repository has none.
        git('ls-files', '--error-unmatch', here.name)
        return git('describe', '--always', '--dirty', '--abbrev=12', '--exclude=*')
    except (OSError, subprocess.SubprocessError):
        return None
