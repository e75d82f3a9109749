"""Tell images that show nothing: the lens is covered, it is dark, or the camera looks away."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

# Pixels along the edge of a patch: a fifteenth of what the models that ship see.
_PATCH = 4
# Patches differ by more than so many times the noise of a pixel where there is anything to see:
# a mean of 16 pixels has a quarter of it, and of hundreds the extremes are some 6 of those apart.
_NOISES = 3.0
# The mean step from pixel to pixel, in standard deviations of their noise.
_STEP = 2 / np.pi**0.5
# What compression, or the corners of a lens, make of one colour: three of 255. And no camera has
# more noise than ten of 255: what differs by more is a rough surface.
_LEAST, _MOST = 0.012, 0.12
# Pixels looked at along each edge of a large image, about.
_PIXELS = 128


def shows_anything(images: Tensor) -> Tensor:
    """Say of each image (B, C, H, W), 0 to 1, whether it shows more than its noise: (B,) bool.

    An image of one colour, however noisy, does not; a dark one that is not noisy does.
    """
    height, width = images.shape[2:]
    patches = avg_pool2d(images, (min(_PATCH, height), min(_PATCH, width)))
    contrast = patches.amax((2, 3)) - patches.amin((2, 3))
    # Where things end steps are large as well, but few; and there the contrast is large.
    steps = (images[..., 1:] - images[..., :-1]).abs().sum((2, 3)) / (height * width)
    differ: Tensor = contrast > (steps * (_NOISES / _STEP)).clamp(_LEAST, _MOST)
    return differ.any(1)


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Say whether an image (H, W, C) shows nothing; a fourth channel, alpha, does not count."""
    height, width = image.shape[:2]
    seen = image[:: max(1, height // _PIXELS), :: max(1, width // _PIXELS), :3]
    channels = torch.from_numpy(seen.astype(np.float32)).permute(2, 0, 1) / 255
    return not bool(shows_anything(channels.unsqueeze(0)))
