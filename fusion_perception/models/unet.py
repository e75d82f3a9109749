"""A small encoder and decoder over images of any size: local detail with wide context."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_block(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape (B, width, H, W)."""
        return torch.relu(x + self.second(self.first(x)))


class UNet(nn.Module):
    """Map (B, inputs, H, W) to features (B, widths[0], ceil(H / 2), ceil(W / 2)).

    Level i works at 1 / 2**(i + 1) of the input's resolution with `widths[i]` channels.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        before = (inputs, *widths)
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(a, b, stride=2), Residual(b)) for a, b in pairwise(before)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(deep, shallow, 1, bias=False) for shallow, deep in pairwise(widths)
        )
        self.merge = nn.ModuleList(Residual(shallow) for shallow in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the features at half resolution."""
        levels: list[Tensor] = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        x = levels.pop()
        for level, lateral, merge in zip(
            reversed(levels), reversed(self.lateral), reversed(self.merge), strict=True
        ):
            x = merge(level + interpolate(lateral(x), size=level.shape[-2:], mode='nearest'))
        return x
