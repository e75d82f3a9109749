"""Let sensors of rendered frames fail: blinded, half dead, dazzled."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fusion_perception.simulation.render import Frames
from fusion_perception.simulation.spans import Draw

# Of a blinded LiDAR's beams and of the stray returns, at least so many are drawn.
_FEWEST = 1.0
# Stray returns come from dust and rain in at most this part of all beams.
_MOST_STRAY = 1 / 32
# Metres; no LiDAR measures closer.
_CLOSEST = 0.5
# Logarithms of the factors on an image that is too dark or too bright.
_DARKEST, _BRIGHTEST = math.log(0.02), math.log(20.0)


@torch.no_grad()
def fail_sensors(
    frames: Frames, share: float, generator: torch.Generator, max_range: float
) -> Frames:
    """Return frames of which each sensor fails in a share of the scenes, independently.

    A LiDAR that fails loses nearly all its beams, or is dead in a block of rows or columns, or
    has stray returns, or several of these; one half of the time each. How many beams are left
    and how many are stray is drawn evenly in orders of magnitude, from one on. A camera that
    fails is far too dark or too bright. Distances and centres stay the truth.
    """
    if not share:
        return frames
    draw = Draw(generator)
    ranges, images = frames.ranges.clone(), frames.images.clone()
    blind = _some(draw, len(frames), share)
    ranges[blind] = _failed_ranges(ranges[blind], draw, max_range)
    dazzled = _some(draw, len(frames), share)
    images[dazzled] = _failed_images(images[dazzled], draw)
    return replace(frames, ranges=ranges, images=images)


def _some(draw: Draw, count: int, share: float) -> Tensor:
    return (draw.within((0.0, 1.0), count) < share).cpu().nonzero().squeeze(1)


def _failed_ranges(ranges: Tensor, draw: Draw, max_range: float) -> Tensor:
    count, rows, columns = ranges.shape
    beams, device = rows * columns, ranges.device

    def happens() -> Tensor:
        return draw.within((0.0, 1.0), count, 1, 1) < 0.5

    def part(largest: float) -> Tensor:
        """Return shares (N, 1, 1) of the beams, from a single one to the largest."""
        lowest = math.log(_FEWEST / beams)
        return draw.within((lowest, math.log(largest)), count, 1, 1).exp()

    lost = (draw.within((0.0, 1.0), *ranges.shape) > part(1.0)) & happens()
    dead = _block(draw, count, rows).unsqueeze(2)
    dead = torch.where(happens(), dead, _block(draw, count, columns).unsqueeze(1)) & happens()
    ranges = ranges.masked_fill((lost | dead).to(device), max_range)
    stray = (draw.within((0.0, 1.0), *ranges.shape) < part(_MOST_STRAY)) & happens()
    # What is in the air hides what lies behind it.
    dust = draw.within((_CLOSEST, max_range), *ranges.shape).to(device)
    return torch.where(stray.to(device), ranges.minimum(dust), ranges)


def _block(draw: Draw, count: int, size: int) -> Tensor:
    """Return which of `size` lines lie between two random ones, (N, size) bool."""
    ends = draw.within((0.0, float(size)), count, 2)
    line = torch.arange(size, device=draw.device) + 0.5
    return (line > ends.amin(1, keepdim=True)) & (line < ends.amax(1, keepdim=True))


def _failed_images(images: Tensor, draw: Draw) -> Tensor:
    factor = draw.within((_DARKEST, _BRIGHTEST), len(images), 1, 1, 1).exp().to(images.device)
    failed = (images.float() * factor).round_().clamp_(0, 255).to(torch.uint8)
    failed[..., 3] = images[..., 3]
    return failed
