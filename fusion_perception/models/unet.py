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
    """A 3x3 convolution beside a shortcut.

    One, not the usual two: what the second costs and gains stands in docs/results.md.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = conv_norm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape (B, width, H, W)."""
        return torch.relu(x + self.convolution(x))


class Lateral(nn.Conv2d):
    """A 1x1 convolution of a level, enlarged onto the finer one."""

    def __init__(self, deep: int, shallow: int) -> None:
        super().__init__(deep, shallow, 1, bias=False)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]
        """Return (B, shallow, H, W), the shape of `fine`."""
        return fine + interpolate(super().forward(x), size=fine.shape[-2:], mode='nearest')


class Levels(nn.Module):
    """The levels of a U-Net: down to the coarsest, and up again to level `finest`."""

    finest: int
    levels: nn.ModuleList
    down: nn.ModuleList
    lateral: nn.ModuleList
    merge: nn.ModuleList

    def through(self, x: Tensor) -> Tensor:
        """Return the features at the finest level of what enters the first."""
        x = self.levels[0](x)
        seen = [x]
        for down, level in zip(self.down, self.levels[1:], strict=True):
            x = level(down(x))
            seen.append(x)
        finer = seen[self.finest : -1]
        for fine, join, level in zip(
            reversed(finer), reversed(self.lateral), reversed(self.merge), strict=True
        ):
            x = level(join(x, fine))
        return x


class UNet(Levels):
    """Map (B, inputs, H, W) to features (B, widths[finest], h, w), h = ceil(H / 2**(finest + 1)).

    Level i works at 1 / 2**(i + 1) of the input's resolution with `widths[i]` channels. Another
    input (B, beside, ceil(H / 2), ceil(W / 2)) may join at the first level. What is finer than
    level `finest` is on the way down only.
    """

    def __init__(
        self, inputs: int, widths: tuple[int, ...], beside: int = 0, finest: int = 0
    ) -> None:
        super().__init__()
        self.finest = finest
        self.entry = conv_norm(inputs, widths[0], stride=2)
        self.beside = conv_norm(beside, widths[0]) if beside else None
        self.levels = nn.ModuleList(
            Residual(width) if level >= finest else nn.Identity()
            for level, width in enumerate(widths)
        )
        self.down = nn.ModuleList(
            nn.Sequential(*conv_norm(fine, coarse, stride=2), nn.ReLU())
            for fine, coarse in pairwise(widths)
        )
        self.lateral = nn.ModuleList(
            Lateral(deep, shallow) for shallow, deep in pairwise(widths[finest:])
        )
        self.merge = nn.ModuleList(Residual(shallow) for shallow in widths[finest:-1])

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Return the features at the finest level."""
        x = self.entry(x)
        if self.beside is not None:
            x = x + self.beside(beside)
        return self.through(torch.relu(x))
