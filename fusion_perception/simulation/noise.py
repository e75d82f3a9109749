"""Make rendered frames as imperfect as sensors are."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.render import Frames
from fusion_perception.simulation.spans import Draw, FractionSpan, Span

UNCHANGED = (1.0, 1.0)


class NoiseSettings(Settings):
    """How imperfect the sensors are; each span is drawn from once per scene.

    The defaults change nothing.
    """

    range_noise_m: Span = Field(
        (0.0, 0.0), description='Smallest and largest standard deviation of a range, metres'
    )
    lost_rays: FractionSpan = Field(
        (0.0, 0.0), description='Smallest and largest fraction of beams without return'
    )
    blur_px: FractionSpan = Field(
        (0.0, 0.0), description='Smallest and largest standard deviation of the blur, pixels'
    )
    exposure: Span = Field(UNCHANGED, description='Smallest and largest factor on the image')
    camera_noise: Span = Field(
        (0.0, 0.0), description='Smallest and largest standard deviation of a channel, of 255'
    )

    @classmethod
    def robust(cls) -> NoiseSettings:
        """Return the spans to train with for real and foreign sensors."""
        return cls(
            range_noise_m=(0.0, 0.05),
            lost_rays=(0.0, 0.1),
            blur_px=(0.0, 0.6),
            exposure=(0.7, 1.2),
            camera_noise=(0.0, 4.0),
        )


@torch.no_grad()
def add_noise(
    frames: Frames, settings: NoiseSettings, generator: torch.Generator, max_range: float = 50.0
) -> Frames:
    """Return frames with noisy ranges and images; distances and centres stay the truth.

    A lost ray reads `max_range` (the LiDAR's), as one that hit nothing does. Numbers are drawn
    where the generator lives and then moved to the frames.
    """
    draw = Draw(generator)
    return replace(
        frames,
        ranges=_noisy_ranges(frames.ranges, settings, draw, max_range),
        images=_noisy_images(frames.images, settings, draw),
    )


def _noisy_ranges(ranges: Tensor, settings: NoiseSettings, draw: Draw, max_range: float) -> Tensor:
    device, scene = ranges.device, (len(ranges), 1, 1)
    if settings.range_noise_m[1] > 0:
        deviation = draw.within(settings.range_noise_m, *scene)
        error = (draw.normal(*ranges.shape) * deviation).to(device)
        # A return stays a return: never behind the sensor.
        noisy = (ranges + error).clamp(min=1e-3, max=max_range)
        ranges = torch.where(ranges < max_range, noisy, ranges)
    if settings.lost_rays[1] > 0:
        lost = draw.within((0.0, 1.0), *ranges.shape) < draw.within(settings.lost_rays, *scene)
        ranges = torch.where(lost.to(device), max_range, ranges)
    return ranges


def _noisy_images(images: Tensor, settings: NoiseSettings, draw: Draw) -> Tensor:
    blurs, grains = settings.blur_px[1] > 0, settings.camera_noise[1] > 0
    if not blurs and not grains and settings.exposure == UNCHANGED:
        return images
    device, scene = images.device, (len(images), 1, 1, 1)
    colours = images[..., :3].float()
    if blurs:
        colours = _blurred(colours, draw.within(settings.blur_px, *scene).to(device))
    if settings.exposure != UNCHANGED:
        colours = colours * draw.within(settings.exposure, *scene).to(device)
    if grains:
        deviation = draw.within(settings.camera_noise, *scene)
        colours = colours + (draw.normal(*colours.shape) * deviation).to(device)
    noisy = colours.round().clamp(0, 255).to(torch.uint8)
    return torch.cat((noisy, images[..., 3:]), dim=-1)


def _blurred(colours: Tensor, deviation_px: Tensor) -> Tensor:
    """Blur (N, H, W, C) along both image axes, each scene by its own deviation (N, 1, 1, 1).

    The three taps w, 1 - 2 w, w have the variance 2 w.
    """
    weight = deviation_px.square() / 2
    for axis in (1, 2):
        size = colours.shape[axis]
        index = torch.arange(size, device=colours.device)
        before = colours.index_select(axis, (index - 1).clamp(min=0))
        after = colours.index_select(axis, (index + 1).clamp(max=size - 1))
        colours = colours + weight * (before + after - 2 * colours)
    return colours
