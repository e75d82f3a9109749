"""The notebook's late fusion: a small head on two trained, frozen networks."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fusion_perception.models.base import Estimate, FusionModel, Stage, Width
from fusion_perception.models.convnet import ConvNetConfig, refuse_two_sizes
from fusion_perception.models.lidar import LidarConfig, LidarOnly
from fusion_perception.models.rgb import Rgb, RgbConfig
from fusion_perception.sensing.observation import Observation


class LateFusionConfig(ConvNetConfig):
    """Settings of both networks and of the head."""

    head: Width | None = Field(
        None, description='Width of the head; empty: ten per coordinate, as the notebook'
    )


class LateFusion(FusionModel):
    """Combine what the camera network and the LiDAR network predict.

    The two networks are trained first; then their weights stay as they are and only the head's
    two linear layers learn.
    """

    modes = frozenset({'fusion'})

    def __init__(self, config: LateFusionConfig) -> None:
        super().__init__()
        self.config = config
        shared = config.model_dump(exclude={'head'})
        self.rgb = Rgb(RgbConfig(**shared))
        self.lidar = LidarOnly(LidarConfig(**shared))
        coordinates = 3 * config.objects
        width = config.head or 10 * coordinates
        self.head = nn.Sequential(
            nn.Linear(2 * coordinates, width), nn.ReLU(), nn.Linear(width, coordinates)
        )
        self.register_buffer('origin', torch.tensor(config.origin), persistent=False)
        self.origin: Tensor

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch."""
        refuse_two_sizes('Late fusion', observation)
        by_camera = self.rgb(observation).centers - self.origin
        by_lidar = self.lidar(observation).centers - self.origin
        both = torch.cat((by_camera.flatten(1), by_lidar.flatten(1)), dim=1)
        return Estimate(self.head(both).reshape(len(both), -1, 3) + self.origin)

    def stages(self) -> tuple[Stage, ...]:
        """Train the camera network, the LiDAR network, then the head alone."""
        return (
            Stage('rgb', self.rgb, list(self.rgb.parameters())),
            Stage('lidar', self.lidar, list(self.lidar.parameters())),
            Stage('late_fusion', self, list(self.head.parameters())),
        )
