"""Find that camera and LiDAR, each by itself, see the objects in different places."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.finding import Finding

# Half of the squared distances of honest sensors lie below 0.8 of what they say they err by (the
# median of chi-squared with three degrees of freedom, over three), those of ten comparisons below
# 1.4. A camera that is turned by a degree makes it 2 to 10.
LARGEST_AGREEMENT = 2.5
# The median of fewer comparisons tells nothing.
FEWEST_COMPARISONS = 5


def of_disagreement(disagreement: float | None) -> Iterator[Finding]:
    """Yield that the sensors contradict each other; nothing where they were not compared."""
    if disagreement is None or disagreement <= LARGEST_AGREEMENT:
        return
    yield Finding(
        'WARN',
        'Camera and LiDAR disagree about where the objects are',
        f'each by itself they put them {disagreement**0.5:.1f} times as far apart as they say '
        'they err, so that the covariance cannot be trusted',
        'Look whether the camera is mounted as T_camera_lidar of the bundle says and its images '
        'are neither turned nor mirrored, at camera_info and camera_matrix, and, where things '
        'move, at the clocks and camera_offset_s.',
    )
