"""Average votes on a GPU in one kernel: weights, averages, spread, and how sure they make."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from fusion_perception.engines.fused_unet import FusedConvolution
from fusion_perception.models.votes import Place, Votes

# Pixels looked at together, at most: each look costs the way to the memory and back.
_TILE = 512


@triton.jit
def _logits(ballots, valid, at, known, BALLOT: tl.constexpr, MASKED: tl.constexpr):
    logit = tl.load(ballots + at * BALLOT, mask=known, other=0.0)
    if MASKED:
        logit = tl.where(tl.load(valid + at, mask=known, other=0) != 0, logit, -1e4)
    return tl.where(known, logit, -float('inf'))


@triton.jit
def _vote(
    features,
    ballots,
    votes,
    valid,
    hidden_weight,
    hidden_bias,
    sure_weight,
    sure_bias,
    centers,
    sure,
    pixels,
    OBJECTS: tl.constexpr,
    FEATURES: tl.constexpr,
    HIDDEN: tl.constexpr,
    MASKED: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Write one object's centre and what its votes say of how sure it is, for one sample.

    features (B, pixels, FEATURES), ballots (B, pixels, 4 * OBJECTS), a weight per object first,
    votes (B, OBJECTS, 3, pixels), valid (B, pixels) bytes.
    """
    sample, number = tl.program_id(0), tl.program_id(1)
    BALLOT: tl.constexpr = 4 * OBJECTS
    features += sample * pixels * FEATURES
    ballots += sample * pixels * BALLOT + number
    valid += sample * pixels
    votes += (sample * OBJECTS + number) * 3 * pixels
    part = tl.arange(0, WIDTH)
    axis = tl.arange(0, 4)
    # Softmax in one pass: what was summed shrinks whenever a larger logit comes.
    highest = tl.full((), -float('inf'), tl.float32)
    total = tl.zeros((), tl.float32)
    center = tl.zeros((4,), tl.float32)
    mean = tl.zeros((WIDTH,), tl.float32)
    for first in range(0, pixels, TILE):
        at = first + tl.arange(0, TILE)
        known = at < pixels
        logit = _logits(ballots, valid, at, known, BALLOT, MASKED)
        seen = tl.load(
            features + at[:, None] * FEATURES + part[None, :],
            mask=known[:, None] & (part < FEATURES)[None, :],
            other=0.0,
        )
        vote = tl.load(
            votes + axis[:, None] * pixels + at[None, :],
            mask=(axis < 3)[:, None] & known[None, :],
            other=0.0,
        )
        higher = tl.maximum(highest, tl.max(logit, 0))
        shrunk = tl.exp(highest - higher)
        share = tl.exp(logit - higher)
        total = total * shrunk + tl.sum(share, 0)
        center = center * shrunk + tl.sum(vote * share[None, :], 1)
        mean = mean * shrunk + tl.sum(seen * share[:, None], 0)
        highest = higher
    center = center / total
    mean = mean / total
    spread = tl.zeros((4,), tl.float32)
    for first in range(0, pixels, TILE):
        at = first + tl.arange(0, TILE)
        known = at < pixels
        logit = _logits(ballots, valid, at, known, BALLOT, MASKED)
        vote = tl.load(
            votes + axis[:, None] * pixels + at[None, :],
            mask=(axis < 3)[:, None] & known[None, :],
            other=0.0,
        )
        apart = vote - center[:, None]
        spread += tl.sum(apart * apart * tl.exp(logit - highest)[None, :], 1)
    spread = tl.log(spread / total + 1e-6)
    # The two linear layers, over the mean of the features and the logarithms of the spread.
    row = tl.arange(0, HIDDEN)
    columns = FEATURES + 3
    of_mean = tl.load(
        hidden_weight + row[:, None] * columns + part[None, :],
        mask=(part < FEATURES)[None, :],
        other=0.0,
    )
    of_spread = tl.load(
        hidden_weight + row[:, None] * columns + FEATURES + axis[None, :],
        mask=(axis < 3)[None, :],
        other=0.0,
    )
    hidden = tl.sum(of_mean * mean[None, :], 1) + tl.sum(of_spread * spread[None, :], 1)
    hidden = tl.maximum(hidden + tl.load(hidden_bias + row), 0.0)
    free = tl.arange(0, 8)
    layer = tl.load(
        sure_weight + free[:, None] * HIDDEN + row[None, :], mask=(free < 6)[:, None], other=0.0
    )
    said = tl.sum(layer * hidden[None, :], 1)
    said += tl.load(sure_bias + free, mask=free < 6, other=0.0)
    place = sample * OBJECTS + number
    tl.store(centers + place * 3 + axis, center, mask=axis < 3)
    tl.store(sure + place * 6 + free, said, mask=free < 6)


class FusedVotes(nn.Module):
    """What Votes computes."""

    def __init__(self, votes: Votes) -> None:
        super().__init__()
        hidden, _, last = votes.sure
        assert isinstance(hidden, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.ballot = FusedConvolution(votes.ballot, None, relu=False)
        layers = hidden.weight, hidden.bias, last.weight, last.bias
        for number, parameter in enumerate(layers):
            self.register_buffer(f'constant_{number}', parameter.detach().contiguous())
        self.objects = votes.objects
        self.features = votes.ballot.in_channels
        self.hidden = hidden.out_features

    def forward(
        self, features: Tensor, place: Place, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return centres (B, K, 3) and free numbers of their precisions (B, K, 6)."""
        # A copy only where features do not lie with their channels last.
        features = features.permute(0, 2, 3, 1).contiguous()
        ballots = self.ballot(features)
        count, height, width, _ = ballots.shape
        objects, pixels = self.objects, height * width
        raw = ballots[..., objects:].permute(0, 3, 1, 2).unflatten(1, (objects, 3))
        votes = place(raw).contiguous()
        masked = valid is not None
        valid = features if valid is None else valid.to(torch.uint8).contiguous()
        tile = min(_TILE, triton.next_power_of_2(pixels))
        centers = features.new_empty((count, objects, 3))
        sure = features.new_empty((count, objects, 6))
        _vote[(count, objects)](
            features,
            ballots,
            votes,
            valid,
            *(getattr(self, f'constant_{number}') for number in range(4)),
            centers,
            sure,
            pixels,
            OBJECTS=objects,
            FEATURES=self.features,
            HIDDEN=self.hidden,
            MASKED=masked,
            TILE=tile,
            WIDTH=triton.next_power_of_2(self.features),
            num_warps=max(1, tile // 32),
        )
        return centers, sure
