"""What every model is: observation in, centres out, and how it wants to be trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from fusion_perception.models.gaussian import disagreement
from fusion_perception.sensing.observation import LARGEST_RANGE, LARGEST_SIDE, Mode, Observation
from fusion_perception.sensing.settings import Settings

# As of a sensor's sides: beyond, it is a slip, and memory runs out.
Width = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
# In metres, or in the units of what is weighed: float32 has room for them and their squares.
Positive = Annotated[float, Field(gt=0, le=LARGEST_RANGE)]


class ModelConfig(Settings):
    """What every model must know about its task. `fitted` are the fields that calibrating sets."""

    fitted: ClassVar[frozenset[str]] = frozenset()

    objects: int = Field(3, gt=0, le=10_000, description='Number of object centres to predict')


class Estimate(NamedTuple):
    """centers (B, K, 3) metres and covariance (B, K, 3, 3) square metres or None, LiDAR frame.

    `parts` are estimates that went into this one and that training also looks at.
    """

    centers: Tensor
    covariance: Tensor | None = None
    parts: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One training run within a model's training: which net learns, which weights move."""

    name: str
    model: FusionModel
    parameters: list[nn.Parameter]


class FusionModel(nn.Module):
    """The base of all models. `modes` are the sensor combinations that the model predicts from."""

    modes: ClassVar[frozenset[Mode]]
    config: ModelConfig

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch."""
        raise NotImplementedError

    def training_loss(self, estimate: Estimate, centers: Tensor) -> Tensor:
        """Return the loss to minimise; the notebook's: mean squared error over coordinates."""
        return nn.functional.mse_loss(estimate.centers, centers)

    def alone(self, observation: Observation) -> tuple[Estimate, Estimate] | None:
        """Say what LiDAR and camera, in this order and each by itself, see, with covariances.

        Centres are NaN where a sensor sees nothing. None of a model that does not tell them apart.
        """
        return None

    def disagreement(self, observation: Observation) -> Tensor | None:
        """Say how far the sensors, each by itself, put the objects apart: d^2 / 3, (B, K).

        It is 1 on average where they are as far off as they say, and NaN where one of them sees
        nothing. None of a model that does not tell them apart.
        """
        if (alone := self.alone(observation)) is None:
            return None
        (one, its_covariance, _), (other, others_covariance, _) = alone
        assert its_covariance is not None
        assert others_covariance is not None
        return disagreement(one, its_covariance, other, others_covariance)

    def stages(self) -> tuple[Stage, ...]:
        """Return the training runs this model needs, in order."""
        return (Stage('model', self, list(self.parameters())),)

    def calibrate(self, batches: Iterable[tuple[Observation, Tensor]]) -> None:
        """Fit, after training, how sure the model says it is to how wrong it was.

        `batches` are observations with both sensors and their centres (B, K, 3), none of which
        it learned from. A model without covariance has nothing to fit.
        """

    @classmethod
    def mode_for(cls, seen: Mode) -> Mode:
        """Return the mode in which this model uses what was seen.

        A model for one sensor ignores the other. Raises ValueError when a sensor it cannot do
        without is missing.
        """
        if seen in cls.modes:
            return seen
        if seen == 'fusion':
            return next(iter(cls.modes))
        missing = 'LiDAR' if seen == 'camera_only' else 'camera'
        raise ValueError(
            f'{cls.__name__} cannot predict without the {missing}. '
            'Use a model that survives a lost sensor: dense_fusion.'
        )
