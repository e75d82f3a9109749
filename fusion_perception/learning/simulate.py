"""Write data folders of simulated scenes in the original layout: `fusion simulate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shlex import quote
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from fusion_perception.learning.data.folder_writing import FolderWriter
from fusion_perception.learning.data.in_threads import in_threads
from fusion_perception.learning.sensor import SensorSettings, sensor_of
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.observation import LARGEST_RANGE, Lidar
from fusion_perception.sensing.rig import TASK_CLASSES, Rig, Task
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import Frames, render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

# Bounds the memory. Noise is drawn batch by batch, so another value gives other noise.
BATCH = 256
# All scenes are drawn before the first is rendered, or a seed would give other ones; so many take
# half a gigabyte.
MOST_SCENES = 1_000_000


class SimulateSettings(SensorSettings):
    """What `fusion simulate` writes."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='OUT')] = Field(
        description='Data folder to write; new or empty'
    )
    task: Task = Field('shapes', description='Cube, sphere and torus, or three coloured cubes')
    count: int = Field(
        1000,
        ge=1,
        le=MOST_SCENES,
        description='Scenes to write, up to a million; the original data has 9999',
    )
    seed: int = Field(0, ge=0, lt=2**63, description='The same seed writes the same bytes')
    range_noise: float = Field(
        0.0, ge=0, le=LARGEST_RANGE, description='Standard deviation of each range, metres'
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description='Share of the LiDAR rays that are lost and read max_range'
    )
    robust: bool = Field(
        False,
        description='Vary sizes, light, colours, exposure, noise and camera pose from scene to '
        'scene, to train for other sensors than this simulated one',
    )


def simulate(settings: SimulateSettings) -> str:
    """Write a data folder of simulated scenes and say so in one line.

    Raises FileNotFoundError or ValueError when the sensor cannot be read or sees nothing, or when
    the folder holds something already.
    """
    rig, lidar = sensor_of(settings)
    # What is rendered shows the task's objects.
    rig = rig.through_a_pinhole().model_copy(update={'classes': TASK_CLASSES[settings.task]})
    refuse_to_see_nothing(rig, SceneSettings(task=settings.task).reach_m)
    frames = simulated_frames(settings, rig, lidar)
    with tqdm(total=settings.count, unit=' scenes', desc='simulate', disable=None) as bar:
        write_folder(settings.out, frames, rig, lidar, bar.update)
    made = f'{settings.task} (seed {settings.seed})'
    return (
        f'{counted(settings.count, f"scene of {made} is", f"scenes of {made} are")} in '
        f'{settings.out}. Look at one: fusion view {quote(str(settings.out))} --index 0'
    )


def simulated_frames(settings: SimulateSettings, rig: Rig, lidar: Lidar) -> Iterator[Frames]:
    """Render the scenes batch by batch; all numbers come from one generator on the CPU."""
    generator = torch.Generator().manual_seed(settings.seed)
    looks = SceneSettings(task=settings.task)
    noise = NoiseSettings()
    if settings.robust:
        looks, noise = SceneSettings.robust(settings.task), NoiseSettings.robust()
    given = {
        'range_noise_m': (settings.range_noise, settings.range_noise),
        'lost_rays': (settings.dropout, settings.dropout),
    }
    noise = noise.model_copy(update={key: span for key, span in given.items() if span[1] > 0})
    scenes = sample_scenes(settings.count, looks, generator, rig=rig)
    for first in range(0, settings.count, BATCH):
        frames = render(scenes[first : first + BATCH], rig, lidar)
        yield add_noise(frames, noise, generator, lidar.max_range)


def refuse_to_see_nothing(rig: Rig, reach_m: float) -> None:
    """Raise ValueError when all centres lie beyond the LiDAR's maximum range.

    They lie within plus and minus `reach_m` on each label axis.
    """
    place = np.abs(np.array(rig.T_label_lidar)[:3, 3])
    nearest = float(np.linalg.norm(np.maximum(place - reach_m, 0)))
    farthest = float(np.linalg.norm(place + reach_m))
    if rig.max_range <= nearest:
        raise ValueError(
            f'A LiDAR with a max_range of {rig.max_range:g} m sees none of the objects: their '
            f'centres are {nearest:.3g} to {farthest:.3g} m away. Give a larger --max-range.'
        )


def write_folder(
    out: Path,
    batches: Iterable[Frames],
    rig: Rig,
    lidar: Lidar,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write scenes in the original layout, with `sensor.yaml`; images are encoded in threads.

    `positions.csv` comes last, so that a folder without it is an interrupted one. `progress` is
    called with the number of scenes just written.
    Raises ValueError when `out` is a file or holds something.
    """
    folder = FolderWriter(out, rig, lidar)
    centers: list[NDArray[np.float64]] = []
    written = 0
    for frames in batches:
        _write_scenes(folder, written, frames.to('cpu'))
        centers.append(frames.centers.cpu().double().numpy())
        written += len(frames)
        if progress is not None:
            progress(len(frames))
    folder.finish(np.concatenate(centers))


def _write_scenes(folder: FolderWriter, first: int, frames: Frames) -> None:
    images, ranges, distances = (
        tensor.numpy() for tensor in (frames.images, frames.ranges, frames.distances)
    )

    def write(index: int) -> None:
        folder.write(first + index, images[index], ranges[index], distances[index])

    in_threads(write, len(frames))
