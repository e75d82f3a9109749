"""Say whose camera and LiDAR a data folder is for: `--tables`, `--ouster-frame`, `--max-range`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fusion_perception.learning.data.folder import LABELS, RIG
from fusion_perception.learning.data.labels import read_positions
from fusion_perception.models.bundle import load_bundle
from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.lidars import (
    DESCRIPTIONS,
    UniformGrid,
    lidar_from_tables,
    mounted,
    reaching,
)
from fusion_perception.sensing.observation import LARGEST_RANGE, SHORTEST_RANGE, Lidar
from fusion_perception.sensing.ouster import OUSTER_FRAME, OusterFrame
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.settings import Settings


class SensorSettings(Settings):
    """What the verbs that write a data folder are told of its sensors."""

    tables: Path | None = Field(
        None,
        description='Whose LiDAR it is: a folder with azimuth.npy and zenith.npy (a data folder: '
        'what its sensor.yaml says too), the metadata (.json) of an Ouster, rings (.yaml, see '
        'docs/sensors.md) or a bundle; left out, the original 64x64 sensor',
    )
    ouster_frame: OusterFrame = OUSTER_FRAME
    max_range: float | None = Field(
        None,
        ge=SHORTEST_RANGE,
        le=LARGEST_RANGE,
        description='Range of a ray without return, metres; left out, what --tables says of it, '
        'else 120 for an Ouster and rings and 50 for others',
    )


def sensor_of(settings: SensorSettings) -> tuple[Rig, Lidar]:
    """Return the rig and the LiDAR that the settings name, the original ones for none.

    Raises FileNotFoundError or ValueError.
    """
    rig, lidar = _described(settings)
    if settings.max_range is None:
        return rig, lidar
    return reaching(rig, lidar, settings.max_range)


def _described(settings: SensorSettings) -> tuple[Rig, Lidar]:
    if settings.tables is None:
        return Rig(), UniformGrid().lidar()
    path = from_home(settings.tables)
    if path.suffix in DESCRIPTIONS:
        return mounted(path, settings.ouster_frame)
    if not (path / 'azimuth.npy').is_file():
        try:
            bundle = load_bundle(settings.tables)
        except (FileNotFoundError, ValueError) as error:
            foreign = path.is_file() and path.suffix != '.safetensors'
            if isinstance(error, ValueError) and not foreign:
                raise
            raise FileNotFoundError(
                f'{settings.tables} is no LiDAR and no bundle. Give a folder with azimuth.npy and '
                'zenith.npy, the metadata of an Ouster (.json), rings (.yaml), or a bundle.'
            ) from None
        return bundle.rig, bundle.lidar
    rig = Rig()
    if (path / RIG).is_file():
        rig = Rig.read_yaml(path / RIG)
    elif (path / LABELS).is_file():
        rig = Rig.read({'classes': read_positions(path / LABELS)[0]}, path / LABELS)
    return rig, lidar_from_tables(path, rig)
