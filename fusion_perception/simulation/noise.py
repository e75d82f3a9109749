"""Make rendered frames as imperfect as sensors are."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.render import Frames
from fusion_perception.simulation.scene import Span


class NoiseSettings(Settings):
    """How imperfect the sensors are; each span is drawn from once per scene.

    The defaults change nothing.
    """

    range_noise_m: Span = Field(
        (0.0, 0.0), description='Smallest and largest standard deviation of a range, metres'
    )
    lost_rays: Span = Field(
        (0.0, 0.0), description='Smallest and largest fraction of beams without return'
    )
    exposure: Span = Field((1.0, 1.0), description='Smallest and largest factor on the image')
    camera_noise: Span = Field(
        (0.0, 0.0), description='Smallest and largest standard deviation of a channel, of 255'
    )

    @classmethod
    def robust(cls) -> NoiseSettings:
        """Return the spans to train with for real and foreign sensors."""
        return cls(
            range_noise_m=(0.0, 0.05),
            lost_rays=(0.0, 0.1),
            exposure=(0.7, 1.2),
            camera_noise=(0.0, 4.0),
        )


@torch.no_grad()
def add_noise(
    frames: Frames, settings: NoiseSettings, generator: torch.Generator, max_range: float = 50.0
) -> Frames:
    """Return frames with noisy ranges and images; distances and centres stay the truth.

    A lost ray reads `max_range`, as one that hit nothing. The generator must live on the
    frames' device.
    """
    return replace(
        frames,
        ranges=_noisy_ranges(frames.ranges, settings, generator, max_range),
        images=_noisy_images(frames.images, settings, generator),
    )


def _noisy_ranges(
    ranges: Tensor, settings: NoiseSettings, generator: torch.Generator, max_range: float
) -> Tensor:
    count, hit = len(ranges), ranges < max_range
    if settings.range_noise_m[1] > 0:
        deviation = _per_scene(settings.range_noise_m, count, generator)[:, None, None]
        error = torch.randn(ranges.shape, generator=generator, device=ranges.device)
        noisy = (ranges + deviation * error).clamp(1e-3, max_range)
        ranges = torch.where(hit, noisy, ranges)
    if settings.lost_rays[1] > 0:
        share = _per_scene(settings.lost_rays, count, generator)[:, None, None]
        chance = torch.rand(ranges.shape, generator=generator, device=ranges.device)
        ranges = torch.where(chance < share, max_range, ranges)
    return ranges


def _noisy_images(images: Tensor, settings: NoiseSettings, generator: torch.Generator) -> Tensor:
    if settings.exposure == (1.0, 1.0) and settings.camera_noise[1] == 0:
        return images
    count, colours = len(images), images[..., :3].float()
    colours = colours * _per_scene(settings.exposure, count, generator)[:, None, None, None]
    if settings.camera_noise[1] > 0:
        deviation = _per_scene(settings.camera_noise, count, generator)[:, None, None, None]
        error = torch.randn(colours.shape, generator=generator, device=colours.device)
        colours = colours + deviation * error
    noisy = colours.round().clamp(0, 255).to(torch.uint8)
    return torch.cat((noisy, images[..., 3:]), dim=-1)


def _per_scene(span: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    unit = torch.rand(count, generator=generator, device=generator.device)
    return span[0] + (span[1] - span[0]) * unit
