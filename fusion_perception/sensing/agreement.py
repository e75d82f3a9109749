"""Find that camera and LiDAR, each by itself, see the objects in different places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from fusion_perception.sensing.finding import Finding

DisagreementMax = Annotated[
    float,
    Field(
        gt=0,
        le=1e6,
        description='Camera and LiDAR, each by itself, may put the objects so far apart, as the '
        'square of what they say they err by: about 1 is honest, and more than this a warning',
    ),
]
# Half of the squared distances of honest sensors lie below 0.8 of what they say they err by (the
# median of chi-squared with three degrees of freedom, over three), those of ten comparisons below
# 1.4. A camera that is turned by a degree makes it 2 to 10.
DISAGREEMENT_MAX: DisagreementMax = 2.5
# The median of fewer comparisons tells nothing.
FEWEST_COMPARISONS = 5


def median_of(disagreements: Sequence[float]) -> float | None:
    """Return the median of what was compared, None of too few."""
    if len(disagreements) < FEWEST_COMPARISONS:
        return None
    return float(np.median(disagreements))


def of_disagreement(disagreement: float | None, disagreement_max: float) -> Iterator[Finding]:
    """Yield that the sensors contradict each other; nothing where they were not compared."""
    if disagreement is None or disagreement <= disagreement_max:
        return
    yield Finding(
        'WARN',
        'Camera and LiDAR disagree about where the objects are',
        f'each by itself they put them {disagreement**0.5:.1f} times as far apart as they say '
        f'they err (a disagreement of {disagreement:.1f}, above {disagreement_max:g}), so that '
        'the covariance cannot be trusted',
        'Say with camera_pose where its optical frame (z forward) is, unless it is there where '
        'T_camera_lidar of the bundle has it. Look whether the images are neither turned nor '
        'mirrored, at camera_info and camera_matrix, and, where things move, at the clocks, '
        'camera_offset_s, and whether a driver repeats an old image or scan with new stamps. '
        'Where nothing is wrong, the bundle is too sure of these sensors: train it on data of '
        'theirs, or raise disagreement_max.',
    )
