"""The notebook's early fusion: one network over the stacked images."""

from __future__ import annotations

import torch

from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.models.convnet import ConvNet, ConvNetConfig
from fusion_perception.sensing.observation import Observation


class EarlyFusionConfig(ConvNetConfig):
    """Settings of early fusion."""


class EarlyFusion(FusionModel):
    """Predict from RGBA and XYZA stacked to eight channels; both must have one size."""

    modes = frozenset({'fusion'})

    def __init__(self, config: EarlyFusionConfig) -> None:
        super().__init__()
        self.config = config
        self.net = ConvNet(8, config)

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch."""
        image, points = observation.rgba, observation.xyza
        if image.shape[-2:] != points.shape[-2:]:
            raise ValueError(
                f'Early fusion stacks images of one size, but the camera has '
                f'{tuple(image.shape[-2:])} and the LiDAR {tuple(points.shape[-2:])} pixels. '
                'Resize the camera in the rig, or use dense_fusion.'
            )
        return Estimate(self.net(torch.cat((image, points), dim=1)))
