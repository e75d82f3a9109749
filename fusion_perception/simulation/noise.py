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
    frames: Frames, settings: NoiseSettings, generator: torch.Generator, max_range: float
) -> Frames:
    """Return frames with noisy ranges and images; distances and centres stay the truth.

    A lost ray reads `max_range` (the LiDAR's), as one that hit nothing does. Numbers are drawn
    where the generator lives and then moved to the frames.
    """
    draw = Draw(generator)
    ranges, images = torch.empty_like(frames.ranges), torch.empty_like(frames.images)
    # On a CPU the working set should stay in the caches: four times faster than all at once.
    chunk = 16 if draw.device.type == 'cpu' else 8192
    for first in range(0, len(frames), chunk):
        part = slice(first, first + chunk)
        ranges[part] = _noisy_ranges(frames.ranges[part], settings, draw, max_range)
        images[part] = _noisy_images(frames.images[part], settings, draw)
    return replace(frames, ranges=ranges, images=images)


def _noisy_ranges(ranges: Tensor, settings: NoiseSettings, draw: Draw, max_range: float) -> Tensor:
    device, scene = ranges.device, (len(ranges), 1, 1)
    if settings.range_noise_m[1] > 0:
        deviation = draw.within(settings.range_noise_m, *scene)
        error = draw.normal(*ranges.shape).mul_(deviation).to(device)
        # A return stays a return: never behind the sensor.
        noisy = error.add_(ranges).clamp_(min=1e-3, max=max_range)
        ranges = torch.where(ranges < max_range, noisy, ranges)
    if settings.lost_rays[1] > 0:
        lost = draw.within((0.0, 1.0), *ranges.shape) < draw.within(settings.lost_rays, *scene)
        ranges = ranges.masked_fill(lost.to(device), max_range)
    return ranges


def _noisy_images(images: Tensor, settings: NoiseSettings, draw: Draw) -> Tensor:
    blurs, grains = settings.blur_px[1] > 0, settings.camera_noise[1] > 0
    if not blurs and not grains and settings.exposure == UNCHANGED:
        return images
    device, scene = images.device, (len(images), 1, 1, 1)
    channels = images.float()
    if blurs:
        channels = _blurred(channels, draw.within(settings.blur_px, *scene).to(device))
    if settings.exposure != UNCHANGED:
        channels = channels * draw.within(settings.exposure, *scene).to(device)
    if grains:
        deviation = draw.within(settings.camera_noise, *scene)
        channels = channels + draw.normal(*channels.shape).mul_(deviation).to(device)
    noisy = channels.round_().clamp_(0, 255).to(torch.uint8)
    noisy[..., 3] = images[..., 3]
    return noisy


def _blurred(colours: Tensor, deviation_px: Tensor) -> Tensor:
    """Blur (N, H, W, C) along both image axes, each scene by its own deviation (N, 1, 1, 1).

    The three taps w, 1 - 2 w, w have the variance 2 w.
    """
    weight = deviation_px.square() / 2
    for axis in (1, 2):
        last = colours.shape[axis] - 1
        # The border repeats itself, so that it keeps its brightness.
        edged = torch.cat(
            (colours.narrow(axis, 0, 1), colours, colours.narrow(axis, last, 1)), dim=axis
        )
        around = edged.narrow(axis, 0, last + 1) + edged.narrow(axis, 2, last + 1)
        colours = colours + weight * around.sub_(colours, alpha=2)
    return colours
