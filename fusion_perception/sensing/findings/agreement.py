"""Find that camera and LiDAR, each by itself, see the objects in different places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.settings import Settings

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
_FITS = 'All that they see fits a camera that is {away} from where it is taken to be'
_TOO_SURE = (
    'Where nothing is wrong, the bundle is too sure of these sensors: train it on data of theirs, '
    'or raise'
)
_ELSEWHERE = (
    f"{_FITS}: set camera_pose to '{{pose}}', and the disagreement is {{left:.1f}}. Where it "
    'cannot be there, look at camera_info and camera_matrix.'
)
_LOOK = (
    "Say with camera_pose where the camera's optical frame (z forward) is, unless that is as "
    'T_camera_lidar of the bundle has it; `fusion evaluate --bag` of a minute finds it out where '
    'that alone is wrong. Look whether the images are neither turned nor mirrored, at camera_info '
    'and camera_matrix, at range_scale where ranges come as counts, and, where things move, at '
    'the clocks, camera_offset_s, and whether a driver repeats an old image or scan with new '
    f'stamps. {_TOO_SURE} disagreement_max.'
)
# A data folder says itself where its camera is, and its pairs are what they are.
_ELSEWHERE_IN_FOLDER = (
    f"{_FITS}, and the disagreement is {{left:.1f}} with it at '{{pose}}' (x y z qx qy qz qw of "
    "its optical frame in the LiDAR's). Make the folder again with that as --camera-pose of "
    '`fusion from-bag`, or correct T_camera_lidar in its sensor.yaml. Where it cannot be there, '
    'look at fx, fy, cx and cy in that file.'
)
_LOOK_IN_FOLDER = (
    'Look whether T_camera_lidar, fx, fy, cx and cy in the sensor.yaml of the folder are those '
    'of its camera, whether its images are neither turned nor mirrored, whether its ranges are '
    'metres, and whether images and scans of one number belong together. '
    f'{_TOO_SURE} --disagreement-max.'
)
# The median of fewer comparisons tells nothing.
FEWEST_COMPARISONS = 5


def median_of(disagreements: Sequence[float]) -> float | None:
    """Return the median of what was compared, None of too few."""
    if len(disagreements) < FEWEST_COMPARISONS:
        return None
    return float(np.median(disagreements))


class Alignment(Settings):
    """Where the camera seems to be, by what both sensors see.

    `camera_pose` is the setting that says so, `turned_deg` and `moved_m` how far that is from
    where it was taken to be, and `disagreement` what of that would remain.
    """

    camera_pose: str
    turned_deg: float
    moved_m: float
    disagreement: float

    @property
    def away(self) -> str:
        """Say how far it is from where it was taken to be."""
        turned = f'turned by {self.turned_deg:.1f} degrees'
        return f'{turned} and moved by {self.moved_m:.2f} m' if self.moved_m > 0.005 else turned


def of_disagreement(
    disagreement: float | None,
    disagreement_max: float,
    alignment: Alignment | None = None,
    in_folder: bool = False,
) -> Iterator[Finding]:
    """Yield that the sensors contradict each other; nothing where they were not compared.

    With the place of the camera by which they would not, where that was found; what to do about
    it is another thing in a data folder.
    """
    if disagreement is None or disagreement <= disagreement_max:
        return
    look, elsewhere = _LOOK, _ELSEWHERE
    if in_folder:
        look, elsewhere = _LOOK_IN_FOLDER, _ELSEWHERE_IN_FOLDER
    yield Finding(
        'WARN',
        'Camera and LiDAR disagree about where the objects are',
        f'each by itself they put them {disagreement**0.5:.1f} times as far apart as they say '
        f'they err (a disagreement of {disagreement:.1f}, above {disagreement_max:g}), so that '
        'the covariance cannot be trusted',
        look
        if alignment is None or alignment.disagreement > disagreement_max
        else elsewhere.format(
            away=alignment.away, pose=alignment.camera_pose, left=alignment.disagreement
        ),
    )
