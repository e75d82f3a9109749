"""Turn features of an image or a scan into centres by a vote of its pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Place = Callable[[Tensor], Tensor]


class Votes(nn.Module):
    """Let pixels vote, average the votes with learned weights, and say how sure the average is.

    From features (B, F, h, w) of the pixels where `valid` (B, 1, h, w), or of all, to centres
    (B, K, 3) and what `precision_from` turns into precisions, (B, K, 6). `place` turns three
    learned numbers a pixel and object, (B, K, 3, h, w), into votes: positions of that shape.
    """

    def __init__(self, features: int, objects: int) -> None:
        super().__init__()
        self.objects = objects
        # For each object a weight, then for each object three numbers.
        self.ballot = nn.Conv2d(features, 4 * objects, 1)
        self.sure = nn.Sequential(nn.Linear(features + 3, 64), nn.ReLU(), nn.Linear(64, 6))
        # Sure to a metre, whatever is seen, until more is learned: a random start may be sure to
        # millimetres of what is metres off, in ways that float32 cannot invert.
        for parameter in self.sure[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, features: Tensor, place: Place, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return centres (B, K, 3) and free numbers of their precisions (B, K, 6)."""
        ballot = self.ballot(features)
        logits = ballot[:, : self.objects]
        if valid is not None:
            # A finite floor, not -inf: with no valid pixel at all softmax must not become NaN.
            logits = torch.where(valid, logits, -1e4)
        weight = logits.flatten(2).softmax(-1)
        votes = place(ballot[:, self.objects :].unflatten(1, (-1, 3))).flatten(3)
        each = weight.unsqueeze(-1)
        center = votes @ each
        apart = votes - center
        spread = (apart * apart @ each).squeeze(-1)
        seen = weight @ features.flatten(2).transpose(1, 2)
        told = torch.cat((seen, (spread + 1e-6).log()), -1)
        # As a table: a linear layer over more dimensions is three nodes of a graph.
        raw: Tensor = self.sure(told.flatten(0, 1)).view(*told.shape[:2], -1)
        return center.squeeze(-1), raw
