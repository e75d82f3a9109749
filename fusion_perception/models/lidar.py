"""The notebook's LiDAR-only network."""

from __future__ import annotations

from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.models.convnet import ConvNet, ConvNetConfig
from fusion_perception.sensing.observation import Observation


class LidarConfig(ConvNetConfig):
    """Settings of the LiDAR-only network."""


class LidarOnly(FusionModel):
    """Predict from the points and their mask (XYZA) alone."""

    modes = frozenset({'lidar_only'})

    def __init__(self, config: LidarConfig) -> None:
        super().__init__()
        self.config = config
        self.net = ConvNet(4, config)

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch."""
        return Estimate(self.net(observation.xyza))
