"""Settings of `fusion benchmark`, and the place where it works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch
from pydantic import Field

from fusion_perception.learning.data.folder import IMAGES, RANGES, DataFolder
from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.runtime import Device, EngineChoice, Precision
from fusion_perception.sensing.settings import Settings

StageName = Literal[
    'loading', 'xyza', 'training', 'inference', 'throughput', 'simulator', 'time_to_mse', 'growth'
]
# Hours on a CPU, so they are measured when they are asked for.
ON_REQUEST: tuple[StageName, ...] = ('time_to_mse', 'growth')
USUAL: tuple[StageName, ...] = tuple(
    name for name in get_args(StageName) if name not in ON_REQUEST
)


class BenchmarkSettings(Settings):
    """Settings of `fusion benchmark`."""

    out: Path = Field(description='Folder for benchmark.json, benchmark.md and the charts')
    data: Path | None = Field(
        None, description='Data folder of shapes; left out, 9,999 scenes are simulated for it'
    )
    stages: tuple[StageName, ...] = Field(
        USUAL, min_length=1, description='What to measure; time_to_mse and growth take longest'
    )
    rounds: int = Field(7, ge=1, description='Rounds of each way, in turn; their median counts')
    quick: bool = Field(
        False, description='Tiny sizes: shows that all of it runs, the figures mean nothing'
    )
    bundle: str = Field('shapes', description='Bundle to predict with: a path, or one that ships')
    device: Device = 'auto'
    precision: Precision = 'float32'
    engine: EngineChoice = 'auto'
    steps: int = Field(12, ge=1, description='Training steps in each round')
    full_epochs: bool = Field(
        False,
        description='Train whole epochs in each round instead of `steps` and a validation, as is '
        'always done on a GPU',
    )
    loss_steps: int = Field(
        60, ge=1, description='Steps after which the losses of all ways to train are compared'
    )
    mse: float = Field(1.31, gt=0, description='The bar of time_to_mse, square metres')
    baseline_run: Path | None = Field(
        None,
        description='A run of `fusion train --model late_fusion`, whose epochs tell how many the '
        "notebook's recipe needs until `mse`; left out, 20 of each training are assumed",
    )
    largest_batch: int = Field(256, ge=4, description='Where the growth with the batch ends')
    largest_image: int = Field(256, ge=64, description='... with height and width; try 512')
    largest_objects: int = Field(24, ge=6, description='... with the number of objects')
    largest_scenes: int = Field(4000, ge=8, description='... with scenes on disk; try 100000')
    records: Path | None = Field(
        None, description='Folder of recorded results, one per class of machines, to compare with'
    )
    record: bool = Field(False, description='Keep this result in `records`, for the next ones')


@dataclass(frozen=True)
class Bench:
    """What every stage works with.

    `folder` is a data folder of its own: links to the scenes, so that the packed file of the
    user's folder is neither used nor touched. `scratch` is an empty folder, gone afterwards.
    """

    settings: BenchmarkSettings
    folder: Path
    scenes: int
    device: torch.device
    scratch: Path

    def size(self, usual: int, quick: int) -> int:
        """Return a size, or the tiny one that stands for it in a quick run."""
        return min(usual, quick) if self.settings.quick else usual


@contextmanager
def prepared(settings: BenchmarkSettings, device: torch.device) -> Iterator[Bench]:
    """Yield the bench; its data is simulated where none was given, and gone afterwards."""
    if settings.record and settings.records is None:
        raise ValueError('--record needs to know where: add --records FOLDER.')
    if settings.record and settings.quick:
        raise ValueError('The figures of a quick run mean nothing: leave out --quick or --record.')
    check_is_apart(settings.out, 'the results')
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.record and settings.records is not None:
        settings.records.mkdir(parents=True, exist_ok=True)  # Or its fault comes hours later.
    # Beside the results, not in /tmp: that may be a small file system in memory.
    with TemporaryDirectory(prefix='.benchmark-', dir=settings.out) as scratch:
        place = Path(scratch)
        data = settings.data
        if data is None:
            data = place / 'simulated'
            simulate(SimulateSettings(out=data, count=80 if settings.quick else 9999))
        given = DataFolder.open(data)  # Faults are to be told of this one, not of the copy.
        folder = linked(given, place / 'data')
        (place / 'scratch').mkdir()
        yield Bench(settings, folder, len(given), device, place / 'scratch')


def linked(given: DataFolder, folder: Path) -> Path:
    """Make a data folder that shares the scenes of another one, but not its packed file.

    Its files are named as the notebook expects them: 0000 and so on.
    """
    folder.mkdir(parents=True)
    for (kind, suffix), files in ((IMAGES, given.images), (RANGES, given.ranges)):
        place, names = files.folder.resolve(), [f'{n:04d}{suffix}' for n in range(len(files))]
        if list(files.names) == names:
            (folder / kind).symlink_to(place, target_is_directory=True)
            continue
        (folder / kind).mkdir()
        for name, original in zip(names, files.names, strict=True):
            (folder / kind / name).symlink_to(place / original)
    for file in given.path.iterdir():
        if file.suffix in ('.csv', '.yaml', '.npy'):
            shutil.copy2(file, folder)
    return folder
