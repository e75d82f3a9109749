"""A small encoder and decoder over images of any size: local detail with wide context."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def conv_norm(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_norm(width, width)
        self.second = conv_norm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape (B, width, H, W)."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class UNet(nn.Module):
    """Map (B, inputs, H, W) to features (B, widths[0], ceil(H / 2), ceil(W / 2)).

    Level i works at 1 / 2**(i + 1) of the input's resolution with `widths[i]` channels. Another
    input (B, beside, ceil(H / 2), ceil(W / 2)) may join at the first level.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], beside: int = 0) -> None:
        super().__init__()
        self.entry = conv_norm(inputs, widths[0], stride=2)
        self.beside = conv_norm(beside, widths[0]) if beside else None
        self.first = Residual(widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(conv_norm(a, b, stride=2), nn.ReLU(inplace=True), Residual(b))
            for a, b in pairwise(widths)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(deep, shallow, 1, bias=False) for shallow, deep in pairwise(widths)
        )
        self.merge = nn.ModuleList(Residual(shallow) for shallow in widths[:-1])

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Return the features at half resolution."""
        x = self.entry(x)
        if self.beside is not None:
            x = x + self.beside(beside)
        x = self.first(torch.relu(x))
        levels: list[Tensor] = []
        for down in self.down:
            levels.append(x)
            x = down(x)
        for level, lateral, merge in zip(
            reversed(levels), reversed(self.lateral), reversed(self.merge), strict=True
        ):
            x = merge(level + interpolate(lateral(x), size=level.shape[-2:], mode='nearest'))
        return x
