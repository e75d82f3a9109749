"""Make the scenes of a data folder harder: noisy ranges and lost rays, the same each time."""

from __future__ import annotations

from dataclasses import replace

import torch

from fusion_perception.learning.dataset import SceneSet
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import Frames

_SEED = 0


def stressed(scenes: SceneSet, range_noise: float, dropout: float) -> SceneSet:
    """Return the scenes with normal noise on the ranges (sigma, metres) and a share of rays lost.

    The images and centres stay. The same scenes get the same noise, on every device.
    """
    if not (range_noise or dropout):
        return scenes
    frames = Frames(scenes.images, scenes.ranges, scenes.ranges, scenes.centers)
    noise = NoiseSettings(range_noise_m=(range_noise, range_noise), lost_rays=(dropout, dropout))
    generator = torch.Generator().manual_seed(_SEED)
    noisy = add_noise(frames, noise, generator, scenes.lidar.max_range)
    return replace(scenes, ranges=noisy.ranges)
