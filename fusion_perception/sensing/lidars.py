"""Say where a LiDAR's tables come from: .npy files, a sensor's metadata or a uniform grid."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fusion_perception.sensing.geometry import Projection
from fusion_perception.sensing.npy import read_npy
from fusion_perception.sensing.observation import (
    LARGEST_SIDE,
    ORIGINAL_MAX_RANGE,
    Lidar,
    MaxRange,
)
from fusion_perception.sensing.ouster import OUSTER_FRAME, OusterFrame, OusterMetadata
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.rings import Rings
from fusion_perception.sensing.settings import Settings

# Files that describe a LiDAR, where a folder would hold its tables.
OUSTER = '.json'
DESCRIPTIONS = (OUSTER, '.yaml', '.yml')


def mounted(path: Path, ouster_frame: OusterFrame = OUSTER_FRAME) -> tuple[Rig, Lidar]:
    """Return the original rig with the LiDAR that a file describes in place of its own, and that.

    The file is an Ouster's metadata (.json) or rings (.yaml). The metadata give the destaggered
    image, in the frame that its driver names on its messages; what was before the LiDAR is before
    the sensor, where its x points, so that in the other frame the poses of camera and labels read
    otherwise. Raises FileNotFoundError or ValueError.
    """
    rig = Rig()
    described = (OusterMetadata.read_json if path.suffix == OUSTER else Rings.read_yaml)(path)
    try:
        if isinstance(described, OusterMetadata):
            lidar = described.lidar(frame=ouster_frame)
            if ouster_frame == 'lidar':
                rig = rig.told_from(described.T_sensor_lidar())
        else:
            lidar = described.lidar()
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    return reaching(rig, lidar, lidar.max_range)


def reaching(rig: Rig, lidar: Lidar, max_range: float) -> tuple[Rig, Lidar]:
    """Return a rig and its LiDAR with this maximum range, metres."""
    reaches = {'max_range': max_range}
    return rig.model_copy(update=reaches), replace(lidar, max_range=max_range)


def lidar_from_tables(folder: Path, rig: Rig) -> Lidar:
    """Read `azimuth.npy` and `zenith.npy` (radians) from a folder as the LiDAR of a rig.

    Where the beams begin beside the origin, `offsets.npy` (R, C, 3) says so in metres.

    Raises FileNotFoundError for a missing table and ValueError for one that is no angle table.
    """
    azimuth = read_angle_table(folder / 'azimuth.npy')
    zenith = read_angle_table(folder / 'zenith.npy')
    beside = folder / 'offsets.npy'
    offsets = _read_floats(beside, (3,), '(R, C, 3) metres') if beside.is_file() else None
    try:
        return Lidar(azimuth, zenith, rig.projection, rig.max_range, offsets)
    except ValueError as error:
        raise ValueError(f'{folder}: {error}') from None


def read_angle_table(path: Path) -> Tensor:
    """Read one table of angles in radians, (N,) or (R, C), as float32."""
    if not path.is_file():
        raise FileNotFoundError(f'No angle table at {path}. Copy it beside the range images.')
    table = _read_floats(path, (1, 2), 'radians of shape (N,) or (R, C)')
    if not table.isfinite().all() or float(table.abs().max()) > 2 * math.pi + 1e-6:
        raise ValueError(
            f'{path} holds angles beyond one turn or not finite. Give radians, not degrees.'
        )
    return table


def _read_floats(path: Path, dimensions: tuple[int, ...], expected: str) -> Tensor:
    """Read a .npy file of floating-point values as float32."""
    try:
        table = read_npy(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(f'{path} is no .npy file ({error}). Write it again.') from None
    known = np.issubdtype(table.dtype, np.floating) and table.ndim in dimensions
    if not known or table.size == 0:
        raise ValueError(
            f'{path} holds {table.dtype} values of shape {table.shape}; '
            f'floating-point {expected} are needed.'
        )
    return torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))


class UniformGrid(Settings):
    """A LiDAR whose beams are evenly spaced; the defaults are the original sensor's."""

    rows: int = Field(
        64, gt=0, le=LARGEST_SIDE, description='Rows of the range image, along azimuth'
    )
    columns: int = Field(
        64, gt=0, le=LARGEST_SIDE, description='Columns of the range image, along zenith'
    )
    azimuth_first_deg: float = Field(-16.0, description='Azimuth of row 0, degrees')
    azimuth_step_deg: float = Field(0.5, description='Azimuth from row to row, degrees')
    zenith_first_deg: float = Field(-16.0, description='Zenith of column 0, degrees, down')
    zenith_step_deg: float = Field(0.5, description='Zenith from column to column, degrees')
    projection: Projection = Field('spherical', description='How angles become directions')
    max_range: MaxRange = ORIGINAL_MAX_RANGE

    def lidar(self) -> Lidar:
        """Return the LiDAR with this grid."""
        azimuth = self.azimuth_first_deg + self.azimuth_step_deg * torch.arange(
            self.rows, dtype=torch.float64
        )
        zenith = self.zenith_first_deg + self.zenith_step_deg * torch.arange(
            self.columns, dtype=torch.float64
        )
        return Lidar(
            azimuth.deg2rad().float(), zenith.deg2rad().float(), self.projection, self.max_range
        )
