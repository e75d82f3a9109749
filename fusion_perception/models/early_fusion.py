"""The notebook's early fusion: one network over the stacked images."""

from __future__ import annotations

import torch

from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.models.convnet import ConvNet, ConvNetConfig, refuse_two_sizes
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
        refuse_two_sizes('Early fusion', observation)
        return Estimate(self.net(torch.cat((observation.rgba, observation.xyza), dim=1)))
