"""The notebook's camera-only network."""

from __future__ import annotations

from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.models.convnet import ConvNet, ConvNetConfig
from fusion_perception.sensing.observation import Observation


class RgbConfig(ConvNetConfig):
    """Settings of the camera-only network."""


class Rgb(FusionModel):
    """Predict from the camera image alone, alpha included, as the notebook does."""

    modes = frozenset({'camera_only'})

    def __init__(self, config: RgbConfig) -> None:
        super().__init__()
        self.config = config
        self.net = ConvNet(4, config)

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch."""
        return Estimate(self.net(observation.rgba))
