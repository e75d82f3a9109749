"""A few scenes that a bundle carries, and what its model said of them when it was saved.

They are what an engine is held against before it may predict, wherever the bundle has gone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.observation import Camera, Lidar, Mode, Observation

COUNT = 4
# Of scenes with large images fewer are kept: a bundle is to stay small.
MOST_BYTES = 2**19
PREFIX = 'examples.'
HIDDEN: dict[Mode, Literal['camera', 'lidar']] = {
    'camera_only': 'lidar',
    'lidar_only': 'camera',
}


def left_by(
    mode: Mode, images: NDArray[np.uint8], ranges: NDArray[np.float32]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """Return images and range images, in place of what a mode hides None."""
    hidden = HIDDEN.get(mode)
    return None if hidden == 'camera' else images, None if hidden == 'lidar' else ranges


@dataclass(frozen=True)
class Examples:
    """N scenes: images (N, H, W, 4) uint8 RGBA and ranges (N, R, C) float32 metres.

    centers (M, N, K, 3), metres in the LiDAR frame, are what the model said on a CPU in float32,
    for each of its modes in alphabetical order; None where nobody asked it.
    """

    images: Tensor
    ranges: Tensor
    centers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def few(self) -> Examples:
        """Return the first of these scenes, as many as a bundle takes."""
        each = self.images[0].numel() + 4 * self.ranges[0].numel()
        some = slice(max(1, min(COUNT, MOST_BYTES // each)))
        return replace(self, images=self.images[some].cpu(), ranges=self.ranges[some].cpu())

    def fit(self, modes: int, objects: int, scan: tuple[int, int]) -> bool:
        """Say whether they are of the shapes that a model and its LiDAR need."""
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or not len(self):
            return False
        of_sensors = self.images.shape[3] == 4 and self.ranges.shape == (len(self), *scan)
        said = (modes, len(self), objects, 3)
        return of_sensors and (self.centers is None or self.centers.shape == said)

    def seen_by(self, mode: Mode, camera: Camera, lidar: Lidar) -> Observation:
        """Return the observation of all scenes as if only the sensors of a mode were there."""
        observation = observe(self.images, self.ranges, camera, lidar)
        return observation.without(HIDDEN[mode]) if mode in HIDDEN else observation

    def judged_by(self, model: FusionModel, camera: Camera, lidar: Lidar) -> Examples:
        """Return these scenes with what a model says of them on the CPU in float32."""
        here = copy.deepcopy(model).cpu().float().eval()
        on_cpu = lidar.to('cpu')
        found = []
        with torch.no_grad():
            for mode in sorted(model.modes):
                estimate: Estimate = here(self.seen_by(mode, camera, on_cpu))
                found.append(estimate.centers)
        return replace(self, centers=torch.stack(found))

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the tensors under the names by which a bundle keeps them."""
        return {
            PREFIX + key: value.cpu().contiguous()
            for key, value in vars(self).items()
            if value is not None
        }


def take_examples(tensors: Mapping[str, Tensor]) -> tuple[Examples | None, dict[str, Tensor]]:
    """Part a bundle's tensors into its examples, None where it has none, and the others."""
    kept = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
    others = {key: value for key, value in tensors.items() if not key.startswith(PREFIX)}
    if not kept:
        return None, others
    return Examples(kept['images'], kept['ranges'], kept.get('centers')), others


def made_up_examples(camera: Camera, lidar: Lidar) -> Examples:
    """Return scenes for a bundle that has none: a round body in the open, always the same."""
    generator = torch.Generator().manual_seed(0)
    v, u = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in lidar.shape), indexing='ij')
    middle = torch.rand(2, COUNT, 1, 1, generator=generator) - 0.5
    # From the middle of the body, in units of its radius.
    away = ((v - middle[0]).square() + (u - middle[1]).square()).sqrt() / 0.3
    surface = 0.5 * lidar.max_range - (1 - away.square()).clamp_min(0).sqrt()
    ranges = torch.where(away < 1, surface, lidar.max_range)
    colours = torch.rand(COUNT, 4, 4, 4, generator=generator)
    images = interpolate(
        colours, (camera.height, camera.width), mode='bilinear', align_corners=False
    )
    return Examples((255 * images).permute(0, 2, 3, 1).to(torch.uint8), ranges)
