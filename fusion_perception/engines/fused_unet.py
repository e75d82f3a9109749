"""Compute a U-Net on a GPU in one kernel per convolution, all that follows it included.

A library's kernels for convolutions are made for large batches: on one scene a float32
convolution takes cuDNN 14 microseconds on an H100, copies to its own layout not counted. Here
normalisation, bias, the sum with another input and ReLU are part of the convolution, and matrix
units compute it: each number is the sum of two that they take whole, so that next to nothing of
float32 is lost.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusion_perception.models.unet import Lateral, Levels, Residual, UNet

# Pixels and channels of a tile; from so many pixels on there are tiles enough for larger ones.
_FEW_PIXELS, _TILE, _LARGE_TILE, _CHANNELS = 8192, 16, 64, 32


@triton.jit
def _convolve(
    image,
    weight,
    bias,
    other,
    result,
    pixels,
    height,
    width,
    out_height,
    out_width,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    ENLARGED: tl.constexpr,
    ADDS: tl.constexpr,
    RELU: tl.constexpr,
    TILE: tl.constexpr,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Write a tile of pixels by channels of relu(convolution(image) + bias + other).

    All images are (B, height, width, channels); weight is (SIDE * SIDE * INPUTS, OUTPUTS).
    """
    pixel = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    depth = tl.arange(0, DEPTH)
    known, wanted = pixel < pixels, channel < OUTPUTS
    sample = pixel // (out_height * out_width)
    row = (pixel // out_width) % out_height
    column = pixel % out_width
    STEPS: tl.constexpr = (INPUTS + DEPTH - 1) // DEPTH
    # Three sums: each waits for its own last product only.
    total = tl.zeros((TILE, CHANNELS), dtype=tl.float32)
    of_rest_seen = tl.zeros((TILE, CHANNELS), dtype=tl.float32)
    of_rest_factor = tl.zeros((TILE, CHANNELS), dtype=tl.float32)
    for step in range(SIDE * SIDE * STEPS):
        tap = step // STEPS
        y = row * STRIDE // ENLARGED + tap // SIDE - SIDE // 2
        x = column * STRIDE // ENLARGED + tap % SIDE - SIDE // 2
        inside = known & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        source = step % STEPS * DEPTH + depth
        exists = source < INPUTS
        at = ((sample * height + y) * width + x) * INPUTS
        seen = tl.load(
            image + at[:, None] + source[None, :],
            mask=inside[:, None] & exists[None, :],
            other=0.0,
        )
        factor = tl.load(
            weight + (tap * INPUTS + source)[:, None] * OUTPUTS + channel[None, :],
            mask=exists[:, None] & wanted[None, :],
            other=0.0,
        )
        # The matrix units take 11 of 24 digits: the first ones, then what they leave.
        first_seen = (seen.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        first_factor = (factor.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        total = tl.dot(first_seen, first_factor, total, input_precision='tf32')
        of_rest_seen = tl.dot(
            seen - first_seen, first_factor, of_rest_seen, input_precision='tf32'
        )
        of_rest_factor = tl.dot(
            first_seen, factor - first_factor, of_rest_factor, input_precision='tf32'
        )
    total += of_rest_seen + of_rest_factor
    place = pixel[:, None] * OUTPUTS + channel[None, :]
    there = known[:, None] & wanted[None, :]
    total += tl.load(bias + channel, mask=wanted, other=0.0)[None, :]
    if ADDS:
        total += tl.load(other + place, mask=there, other=0.0)
    if RELU:
        total = tl.maximum(total, 0.0)
    tl.store(result + place, total, mask=there)


class FusedConvolution(nn.Module):
    """A convolution, its normalisation, a sum and ReLU over images (B, H, W, channels)."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, relu: bool, enlarged: int = 1
    ) -> None:
        super().__init__()
        plain = convolution if norm is None else fuse_conv_bn_eval(convolution, norm)
        outputs, inputs, side, _ = plain.weight.shape
        weight = plain.weight.detach().permute(2, 3, 1, 0).reshape(-1, outputs).contiguous()
        bias = torch.zeros_like(weight[0]) if plain.bias is None else plain.bias.detach()
        self.register_buffer('weight', weight)
        self.register_buffer('bias', bias)
        self.inputs, self.outputs, self.side = inputs, outputs, side
        self.stride, self.relu, self.enlarged = plain.stride[0], relu, enlarged
        self.channels = max(16, min(_CHANNELS, triton.next_power_of_2(outputs)))
        self.depth = max(16, min(64 if inputs == 64 else 32, triton.next_power_of_2(inputs)))

    def forward(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        """Return (B, H', W', outputs); `other` has that shape, and is added before ReLU."""
        count, height, width, _ = image.shape
        if other is not None:
            out_height, out_width = other.shape[1:3]
        else:
            out_height, out_width = -(-height // self.stride), -(-width // self.stride)
        result = image.new_empty((count, out_height, out_width, self.outputs))
        pixels = count * out_height * out_width
        few = pixels <= _FEW_PIXELS
        tile = _TILE if few else _LARGE_TILE
        _convolve[(-(-pixels // tile), -(-self.outputs // self.channels))](
            image,
            self.weight,
            self.bias,
            image if other is None else other,
            result,
            pixels,
            height,
            width,
            out_height,
            out_width,
            INPUTS=self.inputs,
            OUTPUTS=self.outputs,
            SIDE=self.side,
            STRIDE=self.stride,
            ENLARGED=self.enlarged,
            ADDS=other is not None,
            RELU=self.relu,
            TILE=tile,
            CHANNELS=self.channels,
            DEPTH=self.depth,
            num_warps=4 if few else 2,
            num_stages=3,
        )
        return result


class FusedUNet(Levels):
    """What a UNet in evaluation mode computes, by FusedConvolution."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.finest = net.finest
        self.entry = _fused(net.entry, relu=net.beside is None)
        self.beside = None if net.beside is None else _fused(net.beside, relu=True)
        self.levels = nn.ModuleList(map(_fused_level, net.levels))
        self.down = nn.ModuleList(_fused(down, relu=True) for down in net.down)
        self.lateral = nn.ModuleList(map(_fused_lateral, net.lateral))
        self.merge = nn.ModuleList(map(_fused_level, net.merge))

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Return the features (B, channels, h, w) of images (B, inputs, H, W)."""
        x = self.entry(x.permute(0, 2, 3, 1).contiguous())
        if self.beside is not None:
            assert beside is not None
            x = self.beside(beside.permute(0, 2, 3, 1).contiguous(), x)
        return self.through(x).permute(0, 3, 1, 2)


class _FusedResidual(nn.Module):
    def __init__(self, residual: Residual) -> None:
        super().__init__()
        self.convolution = _fused(residual.convolution, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.convolution(x, x)
        return result


def _fused_level(level: nn.Module) -> nn.Module:
    if isinstance(level, nn.Identity):
        return level
    assert isinstance(level, Residual)
    return _FusedResidual(level)


def _fused_lateral(lateral: nn.Module) -> FusedConvolution:
    assert isinstance(lateral, Lateral)
    return FusedConvolution(lateral, None, relu=False, enlarged=2)


def _fused(conv_norm: nn.Module, relu: bool) -> FusedConvolution:
    conv, norm, *_ = conv_norm.children()
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return FusedConvolution(conv, norm, relu)
