"""Ranges of values from which something is drawn once per scene."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError('the first is the smallest and the second the largest; swap them')
    return span


# More is a slip, and in float32 it would overflow: infinity times zero is NaN.
_NotNegative = Annotated[float, Field(ge=0, le=1e6)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[_NotNegative, _NotNegative], AfterValidator(_ordered)]
FractionSpan = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_ordered)]


class Draw:
    """Random float32 tensors from one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def within(self, span: tuple[float, float], *shape: int) -> Tensor:
        """Return numbers uniform between the two."""
        unit = torch.rand(shape, generator=self.generator, device=self.device)
        return span[0] + (span[1] - span[0]) * unit

    def signed(self, *shape: int) -> Tensor:
        """Return numbers uniform between -1 and 1."""
        return self.within((-1.0, 1.0), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)
