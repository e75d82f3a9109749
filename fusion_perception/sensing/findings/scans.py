"""Find where scans hold nothing, or clouds lie where the LiDAR has no beams."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.findings.facts import ScanFacts
from fusion_perception.sensing.findings.finding import Finding, is_often


def of_scan(scan: ScanFacts | None, points_outside_max: float) -> Iterator[Finding]:
    """Yield what makes the last scan, or many together, doubtful; nothing before the first."""
    if scan is None:
        return
    if scan.points is not None and scan.outside > points_outside_max * scan.points:
        yield Finding(
            'WARN',
            f'{scan.outside:,} of {scan.points:,} points lie beside every beam of the LiDAR',
            'the axes of the cloud are not x forward, y left, z up; or it is in another frame '
            "than the LiDAR's own, or of another LiDAR",
            'Publish the cloud of the LiDAR itself in REP-103 axes, or use a bundle or tables of '
            'this LiDAR. Where it is to see more than those, raise points_outside_max.',
        )
    elif scan.returns == 0:
        yield Finding('WARN', 'The scene is empty', *_of_empty(scan))


def _of_empty(scan: ScanFacts) -> tuple[str, str]:
    """Return why no ray met anything, as half a sentence, and the next step."""
    if scan.points is None:
        return (
            'no ray of the range image met anything closer than the maximum range',
            'Look whether the LiDAR is covered, and at the units: 32FC1 is in metres, 16-bit '
            'counts are as range_scale says.',
        )
    if not scan.points:
        return 'the cloud holds no point that was measured', 'Look whether the LiDAR is covered.'
    if not (within := scan.points - scan.outside):
        return (
            f'none of the {scan.points:,} points of the cloud lies where the LiDAR of the bundle '
            'looks',
            'Look at the axes and the frame of the cloud, and whether it is that LiDAR.',
        )
    return (
        f'all {within:,} points before its beams lie at the maximum range or beyond',
        'Publish x, y and z in metres. Where they are, the scene is farther than the maximum '
        'range of the bundle.',
    )


class ScanTally:
    """What many scans held together."""

    def __init__(self) -> None:
        self._scans = self._empty = 0
        self._points: int | None = None  # As long as no cloud came.
        self._outside = 0

    def add(self, scan: ScanFacts) -> None:
        """Take in the facts of a scan."""
        self._scans += 1
        self._empty += scan.returns == 0
        if scan.points is not None:
            self._points = (self._points or 0) + scan.points
            self._outside += scan.outside

    def findings(self, points_outside_max: float) -> Iterator[Finding]:
        """Yield what makes the scans doubtful."""
        if not self._scans:
            return
        full = 1 - self._empty / self._scans
        together = ScanFacts(full, self._points, self._outside)
        found = list(of_scan(together, points_outside_max))
        yield from found
        # Now and then it is a revolution that just began, or open space.
        if is_often(self._empty, self._scans) and not found:
            yield Finding(
                'WARN',
                f'{self._empty:,} of {self._scans:,} scans are empty',
                'no ray of them met anything closer than the maximum range',
                'Look whether the LiDAR was covered then, or sees nothing so close.',
            )
