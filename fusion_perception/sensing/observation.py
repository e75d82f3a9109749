"""Define what flows from sensors to models (Observation) and back (Prediction)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from fusion_perception.sensing.geometry import (
    LIDAR_TO_OPTICAL,
    Projection,
    direction_table,
    project,
    range_to_xyza,
    transform_points,
)
from fusion_perception.sensing.settings import Settings

Mode = Literal['fusion', 'camera_only', 'lidar_only']

# Beyond these it is no sensor but a slip, and memory runs out before anybody hears of it.
LARGEST_SIDE, LARGEST_RANGE = 65_536, 100_000.0
# No LiDAR sees so little; in float32 far less would be zero.
SHORTEST_RANGE = 1e-3
# Metres: those of a map (UTM) or from the middle of the Earth stay below.
LARGEST_COORDINATE = 1e7
Coordinate = Annotated[float, Field(ge=-LARGEST_COORDINATE, le=LARGEST_COORDINATE)]
Row = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
Pose = tuple[Row, Row, Row, Row]
MaxRange = Annotated[
    float,
    Field(
        ge=SHORTEST_RANGE,
        le=LARGEST_RANGE,
        description='Range of a ray without return, metres',
    ),
]
ORIGINAL_MAX_RANGE: MaxRange = 50.0
BESIDE_THE_LIDAR: Pose = (
    (*LIDAR_TO_OPTICAL[0], 0.0),
    (*LIDAR_TO_OPTICAL[1], 0.0),
    (*LIDAR_TO_OPTICAL[2], 0.0),
    (0.0, 0.0, 0.0, 1.0),
)


class Lens(Settings):
    """What a lens does to images, as camera_info has it; by default nothing."""

    model: str = Field('plumb_bob', description='distortion_model of camera_info')
    coefficients: tuple[float, ...] = Field((0.0,) * 5, description='d of camera_info')

    @property
    def bends(self) -> bool:
        """Say whether it does anything: all zeros do not, whatever the model."""
        return any(self.coefficients)


class Camera(Settings):
    """A pinhole camera: pixels, and its pose as T_camera_lidar (optical frame).

    The lens is kept to be compared with that of other images; no point is projected by it.
    """

    width: int = Field(64, gt=0, le=LARGEST_SIDE, description='Image width in pixels')
    height: int = Field(64, gt=0, le=LARGEST_SIDE, description='Image height in pixels')
    fx: float = Field(73.3, ge=1e-3, le=1e7, description='Horizontal focal length in pixels')
    fy: float = Field(73.3, ge=1e-3, le=1e7, description='Vertical focal length in pixels')
    cx: float = Field(
        31.5, ge=-1e6, le=1e6, description='Column of the optical axis; pixel centres are whole'
    )
    cy: float = Field(
        31.5, ge=-1e6, le=1e6, description='Row of the optical axis; pixel centres are whole'
    )
    T_camera_lidar: Pose = Field(
        BESIDE_THE_LIDAR, description='p_camera = T_camera_lidar @ p_lidar, metres'
    )
    lens: Lens = Field(Lens(), description='Distortion of its images; none of rectified ones')

    @field_validator('T_camera_lidar')
    @classmethod
    def _is_rigid(cls, pose: Pose) -> Pose:
        return check_rigid(pose)

    def intrinsics(self) -> Tensor:
        """Return the (3, 3) float32 camera matrix."""
        return torch.tensor([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def extrinsics(self) -> Tensor:
        """Return T_camera_lidar as a (4, 4) float32 tensor."""
        return torch.tensor(self.T_camera_lidar)

    def project(
        self, points: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the pixels (N, 2) of points (N, 3), LiDAR frame, and which lie in front of it."""
        placed = transform_points(
            self.extrinsics().double(), torch.from_numpy(np.asarray(points, np.float64))
        )
        pixels, in_front = project(placed[None], self.intrinsics().double()[None])
        return pixels[0].numpy(), in_front[0].numpy()

    def placed(self, T_camera_lidar: Tensor | NDArray[np.float64]) -> Camera:
        """Return this camera at another pose, (4, 4)."""
        pose = tuple(map(tuple, T_camera_lidar.tolist()))
        return self.model_copy(update={'T_camera_lidar': pose})

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera whose images are this one's, resized."""
        if (width, height) == (self.width, self.height):
            return self
        across, down = width / self.width, height / self.height
        return self.model_copy(
            update={
                'width': width,
                'height': height,
                'fx': self.fx * across,
                'fy': self.fy * down,
                'cx': (self.cx + 0.5) * across - 0.5,
                'cy': (self.cy + 0.5) * down - 0.5,
            }
        )


def check_rigid(pose: Pose) -> Pose:
    """Return the pose, or raise ValueError when it is not a rotation and a translation."""
    matrix = torch.tensor(pose, dtype=torch.float64)
    rotation = matrix[:3, :3]
    orthonormal = torch.allclose(
        rotation @ rotation.T, torch.eye(3, dtype=matrix.dtype), atol=1e-4
    )
    last_row = matrix[3].tolist() == [0.0, 0.0, 0.0, 1.0]
    if not (orthonormal and last_row and float(torch.linalg.det(rotation)) > 0):
        raise ValueError('is no rigid transform; give a rotation, a translation and 0 0 0 1')
    return pose


@dataclass(frozen=True)
class Lidar:
    """A LiDAR as its angle tables: azimuth (R,) or (R, C), zenith (C,) or (R, C), radians.

    `offsets` (R, C, 3) float32, metres in the LiDAR frame, says where the beam of each pixel
    begins; None means that all begin at the origin.
    """

    azimuth: Tensor
    zenith: Tensor
    projection: Projection
    max_range: float
    offsets: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_range < math.inf:
            raise ValueError(f'max_range = {self.max_range} m. Give a positive, finite distance.')
        if not self.directions.numel():
            raise ValueError('The angle tables are empty. Give an angle for every row and column.')
        expected = (*self.shape, 3)  # A wrong table fails here, not at the first scan.
        if self.offsets is not None and self.offsets.shape != expected:
            raise ValueError(
                f'The offsets are {tuple(self.offsets.shape)}; these angle tables need {expected}.'
            )
        if self.offsets is not None and not self.offsets.isfinite().all():
            raise ValueError('The offsets hold NaN or infinite values. Give metres.')

    @cached_property
    def directions(self) -> Tensor:
        """The (R, C, 3) float32 table that ranges are multiplied with."""
        return direction_table(
            self.azimuth.double(), self.zenith.double(), self.projection
        ).float()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the range image."""
        return int(self.directions.shape[0]), int(self.directions.shape[1])

    def to(self, device: torch.device | str) -> Lidar:
        """Return this LiDAR with its tables on another device."""
        offsets = None if self.offsets is None else self.offsets.to(device)
        azimuth, zenith = self.azimuth.to(device), self.zenith.to(device)
        return replace(self, azimuth=azimuth, zenith=zenith, offsets=offsets)

    def xyza(self, range_image: Tensor) -> Tensor:
        """Turn ranges (..., R, C) in metres into points and a mask (..., 4, R, C): x, y, z, a.

        As `range_to_xyza`, with this LiDAR's tables, on the device of the ranges.
        """
        device = range_image.device
        offsets = None if self.offsets is None else self.offsets.to(device)
        return range_to_xyza(range_image, self.directions.to(device), self.max_range, offsets)

    def fingerprint(self) -> str:
        """Return the sha256 of the tables, the projection and the maximum range."""
        digest = hashlib.sha256(f'{self.projection} {self.max_range!r}'.encode())
        tables = (self.azimuth, self.zenith, self.offsets)
        for table in (table for table in tables if table is not None):
            digest.update(str(tuple(table.shape)).encode())
            digest.update(table.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Observation:
    """A batch of what the sensors saw at one time each.

    rgba (B, 4, H, W) float32 in [0, 1]; xyza (B, 4, R, C) float32, metres in the LiDAR frame and
    a in {0, 1}; camera, lidar (B,) bool: which sensor is present (an absent one is all zeros);
    intrinsics (B, 3, 3) pixels; T_camera_lidar (B, 4, 4) metres.
    """

    rgba: Tensor
    xyza: Tensor
    camera: Tensor
    lidar: Tensor
    intrinsics: Tensor
    T_camera_lidar: Tensor

    def __len__(self) -> int:
        return int(self.rgba.shape[0])

    def __getitem__(self, index: slice | Tensor) -> Observation:
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def of(cls, parts: Sequence[Observation]) -> Observation:
        """Return the observations one after the other as one batch."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def to(self, device: torch.device | str) -> Observation:
        """Return this observation on another device."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)},
        )

    def without(self, sensor: Literal['camera', 'lidar']) -> Observation:
        """Return this observation as it looks when one sensor is silent: zeros and absent."""
        image = 'rgba' if sensor == 'camera' else 'xyza'
        return replace(
            self,
            **{
                image: torch.zeros_like(getattr(self, image)),
                sensor: torch.zeros_like(getattr(self, sensor)),
            },
        )

    def modes(self) -> tuple[Mode, ...]:
        """Return the mode of each sample; raise ValueError for one with neither sensor."""
        named: list[Mode] = []
        for index, (camera, lidar) in enumerate(
            zip(self.camera.tolist(), self.lidar.tolist(), strict=True)
        ):
            if not (camera or lidar):
                raise ValueError(
                    f'Sample {index} has neither camera nor LiDAR: nothing can be predicted. '
                    'Leave it out.'
                )
            named.append(
                'fusion' if camera and lidar else 'camera_only' if camera else 'lidar_only'
            )
        return tuple(named)


@dataclass(frozen=True)
class Prediction:
    """Where the objects are: centers (B, K, 3) metres in the LiDAR frame, in class order.

    covariance is (B, K, 3, 3) square metres, or None when the model does not estimate it;
    mode names, per sample, the sensors that took part.
    """

    centers: Tensor
    covariance: Tensor | None
    classes: tuple[str, ...]
    mode: tuple[Mode, ...]

    def __len__(self) -> int:
        return int(self.centers.shape[0])
