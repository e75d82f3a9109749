"""Compute dense fusion on a GPU with few kernels, each sensor's part on a stream of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from fusion_perception.engines.fused_unet import FusedUNet
from fusion_perception.engines.fused_votes import FusedVotes
from fusion_perception.models.base import Estimate
from fusion_perception.models.dense_fusion import BySensor, DenseFusion
from fusion_perception.sensing.observation import Observation

Assemble = Callable[[Tensor, Tensor, Tensor], Observation]


class FusedDenseFusion:
    """What a DenseFusion in evaluation mode computes; called with its observation."""

    def __init__(self, model: DenseFusion, device: torch.device) -> None:
        model = copy.deepcopy(model).to(device).eval()
        for sensor in ('lidar', 'camera'):
            for part, fused in (('net', FusedUNet), ('votes', FusedVotes)):
                name = f'{sensor}_{part}'
                setattr(model, name, fused(getattr(model, name)).to(device))
        self._model, self._device = model, device
        self._beside = torch.cuda.Stream(device)

    def __call__(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch."""
        return self._model.combine(
            *self._both(
                lambda: self._model.by_lidar(observation),
                lambda: self._model.by_camera(observation),
            )
        )

    def compiled(self, assemble: Assemble) -> Callable[[Tensor, Tensor, Tensor], Estimate]:
        """Return a function of what `assemble` takes; what is left around the kernels is merged.

        Each part assembles what it needs of the observation itself.
        """
        model = self._model

        def lidar(*sent: Tensor) -> BySensor:
            return model.by_lidar(assemble(*sent))

        def camera(*sent: Tensor) -> BySensor:
            return model.by_camera(assemble(*sent))

        def both(by_lidar: BySensor, by_camera: BySensor) -> tuple[Tensor, ...]:
            estimate = model.combine(by_lidar, by_camera)
            assert estimate.covariance is not None
            return estimate.centers, estimate.covariance

        by_lidar = torch.compile(lidar, fullgraph=True, dynamic=False)
        by_camera = torch.compile(camera, fullgraph=True, dynamic=False)
        combine = torch.compile(both, fullgraph=True, dynamic=False)

        def estimate(*sent: Tensor) -> Estimate:
            found = self._both(lambda: by_lidar(*sent), lambda: by_camera(*sent))
            centers, covariance = combine(*found)
            return Estimate(centers, covariance)

        return estimate

    def _both(
        self, by_lidar: Callable[[], BySensor], by_camera: Callable[[], BySensor]
    ) -> tuple[BySensor, BySensor]:
        now = torch.cuda.current_stream(self._device)
        self._beside.wait_stream(now)
        with torch.cuda.stream(self._beside):
            seen_by_camera = by_camera()
        seen_by_lidar = by_lidar()
        now.wait_stream(self._beside)
        return seen_by_lidar, seen_by_camera
