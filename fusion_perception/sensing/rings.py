"""Describe a spinning LiDAR by its rings: the elevation of each laser, and how high it sits.

The lasers of a Velodyne leave its head at different heights, so that a ring has no constant
elevation seen from the origin; z = height + rho tan(elevation), with rho the horizontal distance,
holds for all its points.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from fusion_perception.sensing.observation import LARGEST_SIDE, Coordinate, Lidar, MaxRange
from fusion_perception.sensing.settings import Settings


class Rings(Settings):
    """A full turn of every ring, as a YAML file describes it: row 0 is the first ring."""

    elevations_deg: tuple[float, ...] = Field(
        min_length=1, description='Elevation of each ring, degrees, upwards'
    )
    heights_m: tuple[Coordinate, ...] = Field(
        (0.0,), min_length=1, description='Height of each ring over the origin, metres; or of all'
    )
    columns: int = Field(
        2048, gt=0, le=LARGEST_SIDE, description='Pixels of one turn, clockwise from behind'
    )
    max_range: MaxRange = 120.0

    @model_validator(mode='after')
    def _fit(self) -> Rings:
        if len(self.heights_m) not in (1, len(self.elevations_deg)):
            raise ValueError(
                f'{len(self.elevations_deg)} elevations_deg and {len(self.heights_m)} heights_m '
                'are given; give one height for each ring, or one for all'
            )
        steepest = max(self.elevations_deg, key=abs)
        if abs(steepest) >= 90:
            raise ValueError(f'no ring lies at {steepest} degrees; give elevations within 90')
        return self

    def lidar(self) -> Lidar:
        """Return the LiDAR, (rings, columns); a ring's height is the offset of its pixels."""
        shape = (len(self.elevations_deg), self.columns)
        turned = (torch.arange(self.columns, dtype=torch.float64) + 0.5) / self.columns
        azimuth = torch.pi * (1 - 2 * turned)
        zenith = -torch.tensor(self.elevations_deg, dtype=torch.float64).deg2rad()
        heights = torch.tensor(self.heights_m).expand(shape[0])
        offsets = torch.zeros(*shape, 3)
        offsets[..., 2] = heights[:, None]
        return Lidar(
            azimuth.float().expand(shape),
            zenith.float()[:, None].expand(shape),
            'spherical',
            self.max_range,
            offsets if heights.any() else None,
        )
