"""Hold what a bundle predicted, from a data folder or from recordings, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fusion_perception.learning.bag import BagRun
from fusion_perception.learning.bags.judging import JudgedFrame
from fusion_perception.learning.metrics import Scores, score
from fusion_perception.sensing.ledger import Stream, StreamCounts
from fusion_perception.sensing.observation import Mode, Prediction


@dataclass(frozen=True)
class Evidence:
    """What a bundle predicted from some source.

    `prediction` and `truth` (N, K, 3) are the N that can be scored; `by_mode` scores the modes one
    by one, `modes` counts all predictions. `streams` says what became of every message and
    `pairs` how many pairs they made; `latency_ms` holds single frames; `worst` are the furthest
    off, worst first. From recordings, `runs` has each one's own, and `about` is what else the
    report is to say. Of the scenes of a folder, `first_scene` is the number of the first.
    """

    source: str
    prediction: Prediction
    truth: Tensor
    by_mode: Mapping[Mode, Scores]
    modes: Mapping[Mode, int]
    streams: Mapping[Stream, StreamCounts]
    pairs: int
    latency_ms: Sequence[float]
    worst: Sequence[JudgedFrame] = ()
    runs: Sequence[BagRun] = ()
    about: Mapping[str, object] = field(default_factory=dict)
    first_scene: int = 0

    def scores(self) -> Scores | None:
        """Return the scores of the prediction, None where there is no truth."""
        if not len(self.prediction):
            return None
        return score_of(self.prediction, self.truth, self.first_scene)


def score_of(prediction: Prediction, truth: Tensor, first: int = 0) -> Scores:
    """Score a prediction against the true centres (N, K, 3) of scenes numbered from `first`."""
    return score(prediction.centers, truth, prediction.classes, prediction.covariance, first)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile and the largest of some values."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return {
        **{f'p{rank}': float(tensor.quantile(rank / 100)) for rank in (50, 95, 99)},
        'max': float(tensor.max()),
    }
