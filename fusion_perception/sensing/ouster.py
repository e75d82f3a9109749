"""Read what an Ouster sensor says about itself: the metadata JSON of its beams.

The geometry is the sensor manual's. Seen from the sensor's axis, column v of W was measured at
the encoder angle e = 2 pi (1 - v / W). A beam begins at the distance `beam_to_lidar_transform`
says, in the direction of the encoder, and leaves at the beam's own azimuth and altitude; the
reported range r counts from the sensor's axis, N (the length of that distance) before the beam's
beginning:

    x = (r - N) cos(e - azimuth) cos(altitude) + tx cos(e)
    y = (r - N) sin(e - azimuth) cos(altitude) + tx sin(e)
    z = (r - N) sin(altitude) + tz

in the LiDAR's frame (os_lidar), which `lidar_to_sensor_transform` brings into the sensor's
(os_sensor): mostly half a turn around z, and upwards. So every pixel is a direction times the
range, plus an offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from fusion_perception.sensing.json_text import read_json
from fusion_perception.sensing.observation import LARGEST_SIDE, Lidar, Pose, check_rigid
from fusion_perception.sensing.rep103 import from_rep103, transform_from_rep103
from fusion_perception.sensing.settings import Settings, explain

# A staggered image has the measurements of one moment in a column, as the packets bring them; a
# destaggered one, as the driver publishes it, the measurements of one direction.
Layout = Literal['destaggered', 'staggered']
OusterFrame = Annotated[
    Literal['lidar', 'sensor'],
    Field(
        description="Frame of what comes out with an Ouster's metadata: that on the driver's "
        "messages is the lidar's (os_lidar) unless its point_cloud_frame is the sensor's"
    ),
]
OUSTER_FRAME: OusterFrame = 'lidar'
# Where newer firmware nests what older firmware lists flat.
GROUPS = ('beam_intrinsics', 'lidar_intrinsics', 'lidar_data_format', 'data_format', 'sensor_info')
# No sensor is so large: a longer shift is in another unit.
LARGEST_SHIFT_MM = 10_000
# In radians they are less.
Altitude = Annotated[float, Field(gt=-90, lt=90)]
Azimuth = Annotated[float, Field(ge=-360, le=360)]
Shift = Annotated[int, Field(ge=-LARGEST_SIDE, le=LARGEST_SIDE)]
IDENTITY = tuple(float(row == column) for row in range(4) for column in range(4))


class OusterMetadata(Settings):
    """The entries of the metadata that describe the beams; lengths in millimetres."""

    beam_altitude_angles: tuple[Altitude, ...] = Field(min_length=1, description='Upwards')
    beam_azimuth_angles: tuple[Azimuth, ...] = Field(description='Clockwise from the encoder')
    columns_per_frame: int = Field(gt=0, le=LARGEST_SIDE, description='Measurements of one turn')
    pixel_shift_by_row: tuple[Shift, ...] | None = Field(None, description='Destaggers a row')
    beam_to_lidar_transform: tuple[float, ...] = Field(
        IDENTITY, min_length=16, max_length=16, description='Where the beams begin, by rows'
    )
    lidar_to_sensor_transform: tuple[float, ...] = Field(
        IDENTITY, min_length=16, max_length=16, description='The pose of the optics, by rows'
    )

    @field_validator('beam_to_lidar_transform', 'lidar_to_sensor_transform', mode='before')
    @classmethod
    def _is_flat(cls, matrix: object) -> object:
        return np.ravel(matrix).tolist() if isinstance(matrix, Sequence) else matrix

    @field_validator('beam_to_lidar_transform', 'lidar_to_sensor_transform')
    @classmethod
    def _is_rigid(cls, matrix: tuple[float, ...]) -> tuple[float, ...]:
        check_rigid(cast('Pose', tuple(matrix[row : row + 4] for row in range(0, 16, 4))))
        if max(map(abs, matrix[3:12:4])) > LARGEST_SHIFT_MM:
            raise ValueError('shifts by more than 10 m; give millimetres')
        return matrix

    @model_validator(mode='after')
    def _has_as_many_of_each(self) -> OusterMetadata:
        counts = {
            name: len(values)
            for name in ('beam_altitude_angles', 'beam_azimuth_angles', 'pixel_shift_by_row')
            if (values := getattr(self, name)) is not None
        }
        if len(set(counts.values())) > 1:
            listed = ', '.join(f'{count} {name}' for name, count in counts.items())
            raise ValueError(f'it lists {listed}; give one per beam')
        return self

    @classmethod
    def read_json(cls, path: Path) -> OusterMetadata:
        """Read the metadata as the sensor gave it, of old firmware (flat) or new (nested).

        Raises FileNotFoundError or ValueError.
        """
        if not path.is_file():
            raise FileNotFoundError(f'No Ouster metadata at {path}. Check the path.')
        try:
            given = read_json(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(f'{path} is no JSON ({error}). Save it from the sensor.') from None
        if not isinstance(given, dict):
            raise ValueError(f'{path} holds no metadata of a sensor. Save it from the sensor.')
        entries = dict(given)
        for group in GROUPS:
            if isinstance(given.get(group), dict):
                entries.update(given[group])
        if 'beam_altitude_angles' not in entries:
            raise ValueError(
                f'{path} is no metadata of an Ouster: it lists no beam_altitude_angles. Save it '
                'from the sensor.'
            )
        if 'columns_per_frame' not in entries and 'lidar_mode' in entries:
            entries['columns_per_frame'] = str(entries['lidar_mode']).partition('x')[0]
        if entries.get('beam_to_lidar_transform') is None:
            along = [*IDENTITY[:3], entries.get('lidar_origin_to_beam_origin_mm', 0.0)]
            entries['beam_to_lidar_transform'] = [*along, *IDENTITY[4:]]
        try:
            return cls.model_validate({k: v for k, v in entries.items() if k in cls.model_fields})
        except ValidationError as error:
            raise ValueError(f'{path}: {explain(cls, error)}') from None

    def lidar(
        self,
        layout: Layout = 'destaggered',
        max_range: float = 120.0,
        frame: OusterFrame = 'sensor',
    ) -> Lidar:
        """Return the LiDAR, (beams, columns), of which x is right, y forward and z up.

        Forward is the x of `frame`; the manual's and the vendor's points are in the sensor's.
        `max_range` is in metres. Raises ValueError for a destaggered image of which the metadata
        holds no shifts.
        """
        columns = np.arange(self.columns_per_frame)[None, :]
        if layout == 'destaggered':
            if self.pixel_shift_by_row is None:
                raise ValueError(
                    'The Ouster metadata hold no pixel_shift_by_row, so that a destaggered image '
                    'cannot be placed. Save the metadata again, with newer firmware.'
                )
            shifts = np.array(self.pixel_shift_by_row)[:, None]
            columns = (columns - shifts) % self.columns_per_frame
        directions, offsets = self._geometry(columns, frame)
        x, y, z = np.moveaxis(from_rep103(directions), -1, 0)
        return Lidar(
            azimuth=torch.from_numpy(np.arctan2(-x, y)).float(),
            zenith=torch.from_numpy(np.arctan2(-z, np.hypot(x, y))).float(),
            projection='spherical',
            max_range=max_range,
            offsets=torch.from_numpy(from_rep103(offsets)).float(),
        )

    def T_sensor_lidar(self) -> NDArray[np.float64]:
        """Return the (4, 4) from the LiDAR's frame to the sensor's, metres, package axes."""
        pose = np.array(self.lidar_to_sensor_transform).reshape(4, 4)
        pose[:3, 3] /= 1000
        return transform_from_rep103(pose)

    def _geometry(
        self, columns: NDArray[np.int_], frame: OusterFrame
    ) -> tuple[NDArray[np.float64], ...]:
        """Return directions and offsets, (R, C, 3) metres in a frame."""
        encoder = 2 * math.pi * (1 - columns / self.columns_per_frame)
        altitude = _radians(self.beam_altitude_angles, self.beam_altitude_angles)[:, None]
        azimuth = _radians(self.beam_azimuth_angles, self.beam_altitude_angles)[:, None]
        encoder, altitude = np.broadcast_arrays(encoder, altitude)
        beam = np.stack(
            (
                np.cos(encoder - azimuth) * np.cos(altitude),
                np.sin(encoder - azimuth) * np.cos(altitude),
                np.sin(altitude),
            ),
            axis=-1,
        )
        along, up = self.beam_to_lidar_transform[3], self.beam_to_lidar_transform[11]
        begin = np.stack(
            (along * np.cos(encoder), along * np.sin(encoder), np.full(encoder.shape, up)), axis=-1
        )
        moved = IDENTITY if frame == 'lidar' else self.lidar_to_sensor_transform
        pose = np.array(moved).reshape(4, 4)
        turn, shift = pose[:3, :3].T, pose[:3, 3]
        return beam @ turn, ((begin - math.hypot(along, up) * beam) @ turn + shift) / 1000


def _radians(angles: Sequence[float], altitudes: Sequence[float]) -> NDArray[np.float64]:
    # The unit is not said. No altitude is beyond a right angle, and no sensor looks at just 1.6
    # degrees around the horizon.
    in_radians = max(map(abs, altitudes)) <= math.pi / 2
    return np.array(angles) if in_radians else np.deg2rad(angles)
