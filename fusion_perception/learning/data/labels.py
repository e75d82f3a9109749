"""Read and write `positions.csv`, and check that its centres fit the scans."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion_perception.learning.data.drafts import write_whole
from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.observation import Lidar

log = logging.getLogger(__name__)

# A centre has a return this near where its object is seen (metres): a cube of 3 m shows a face
# 1.5 m from its centre.
NEAR_M = 1.8
# A return this much closer than the centre belongs to an object that hides it (metres).
HIDDEN_M = 2.7
# Beams of a single row or column meet an object if they pass its centre this near (metres).
BESIDE_M = 1.0
# Right labels reach 0.9 and more, wrong ones up to 0.6, because objects stand close together.
FITS, DOES_NOT_FIT, CLEARLY_BETTER = 0.75, 0.5, 0.15
# Of fewer centres than this, too many can be hidden by chance: they are warned about only.
ENOUGH_CENTERS = 12


def read_positions(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Read the object names and the centres (N, K, 3), metres in label axes.

    Raises FileNotFoundError for a missing file, and ValueError for a header that is not
    `<object>_x,<object>_y,<object>_z` per object, or a row that is not finite numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'No {path.name} in {path.parent}. Add it; or, if an interrupted `fusion simulate` '
            'left this folder, delete it and simulate again.'
        )
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise ValueError(f'{path} is no text file. Export it as CSV in UTF-8.') from None
    classes = _classes(path, lines[0] if lines else '')
    columns = 3 * len(classes)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split(',')
        if len(cells) != columns:
            raise ValueError(
                f'{path}, line {number}: {len(cells)} values under a header of {columns}. '
                'Give one row of all columns per scene.'
            )
        try:
            row = [float(cell) for cell in cells]
        except ValueError:
            row = [math.nan]
        if not all(map(math.isfinite, row)):
            wrong = next(cell for cell in cells if not _is_finite_number(cell))
            raise ValueError(
                f"{path}, line {number}: '{wrong.strip()}' is no finite number. "
                'Every scene needs the centre of every object, in metres.'
            )
        rows.append(row)
    return classes, np.asarray(rows, dtype=np.float64).reshape(-1, len(classes), 3)


def write_positions(path: Path, classes: Sequence[str], positions: NDArray[np.float64]) -> None:
    """Write centres (N, K, 3), metres in label axes; the file appears whole or not at all."""
    header = ','.join(f'{name}_{axis}' for name in classes for axis in 'xyz')
    rows = (','.join(map(repr, row)) for row in positions.reshape(len(positions), -1).tolist())
    write_whole(path, '\n'.join((header, *rows, '')))


def check_labels(
    path: Path, positions: Tensor, ranges: Tensor, lidar: Lidar, T_lidar_label: Tensor
) -> None:
    """Check, on a sample of scenes, that visible centres have LiDAR returns near them.

    `positions` (N, K, 3) metres in label axes, `ranges` (N, R, C) metres. When they have none,
    every order and sign of the axes is tried, in label axes and in the LiDAR's own.
    Raises ValueError naming the axes that would fit, or saying that none do.
    """
    rows, columns = lidar.shape
    count = min(len(positions), 64, max(8, 64 * 64 * 64 // (rows * columns)))
    sample = torch.linspace(0, len(positions) - 1, count).long()
    positions = positions[sample].float()
    scans = _Scans.of(ranges[sample], lidar)
    if not scans.anything:
        raise ValueError(
            f'{path.parent}/lidar: none of {len(sample)} scans has a return below max_range = '
            f'{lidar.max_range:g} m. Write ranges in metres, or correct sensor.yaml.'
        )
    share, visible = scans.fit(transform_points(T_lidar_label, positions))
    if share >= FITS:
        return
    fault = (
        f'{path} does not fit the scans: {share:.0%} of {visible} visible centres have a return '
        f'within {NEAR_M} m'
    )
    if positions[..., 0].numel() < ENOUGH_CENTERS:
        log.warning('%s; too few scenes to tell whether that is wrong.', fault)
        return
    best = max(_candidates(T_lidar_label), key=lambda c: scans.fit(c.moved(positions))[0])
    best_share = scans.fit(best.moved(positions))[0]
    if best_share >= FITS and best_share > share + CLEARLY_BETTER:
        raise ValueError(f'{fault}, {best_share:.0%} would with {best.words}. {best.remedy()}')
    if share < DOES_NOT_FIT:
        raise ValueError(
            f'{fault}, and no flip of axes fits. Check that row i belongs to scan i, and '
            'T_label_lidar in sensor.yaml.'
        )
    log.warning('%s; no flip of axes fits better.', fault)


class _Candidate(NamedTuple):
    """One reading of the label columns: p_lidar = T_lidar_label @ axes @ p_label."""

    words: str
    axes: Tensor
    T_lidar_label: Tensor

    def moved(self, positions: Tensor) -> Tensor:
        return transform_points(self.T_lidar_label, positions @ self.axes.T)

    def remedy(self) -> str:
        pose = self.T_lidar_label.clone()
        pose[:3, :3] = pose[:3, :3] @ self.axes
        if torch.linalg.det(pose[:3, :3]) < 0:
            # No rigid T_label_lidar mirrors: such labels are left-handed.
            return 'These labels are mirrored: rewrite the columns of positions.csv so.'
        inverse = torch.linalg.inv(pose)
        rows = [[round(value, 6) + 0.0 for value in row] for row in inverse.tolist()]
        return f'Set T_label_lidar in sensor.yaml to {rows}.'


def _candidates(T_lidar_label: Tensor) -> Iterator[_Candidate]:
    own = torch.eye(4)
    for base, where in ((T_lidar_label, ''), (own, ' in the axes of the LiDAR itself')):
        for order in itertools.permutations(range(3)):
            for signs in itertools.product((1.0, -1.0), repeat=3):
                names = (
                    f'{"-" if s < 0 else ""}{"xyz"[i]}' for i, s in zip(order, signs, strict=True)
                )
                axes = torch.eye(3)[list(order)] * torch.tensor(signs)[:, None]
                yield _Candidate(f'({", ".join(names)}) for (x, y, z){where}', axes, base)


class _Scans(NamedTuple):
    """Points (S, P, 3) with misses far away, ranges (S, P), unit beams (P, 3)."""

    points: Tensor
    ranges: Tensor
    beams: Tensor
    beam_gap_cos: float
    beside_m: float
    anything: bool

    @classmethod
    def of(cls, ranges: Tensor, lidar: Lidar) -> _Scans:
        xyza = lidar.xyza(ranges).flatten(2)
        hit = xyza[:, 3] > 0
        points = torch.where(hit[..., None], xyza[:, :3].transpose(1, 2), 1e6)
        beams = torch.nn.functional.normalize(lidar.directions.reshape(-1, 3), dim=-1)
        grid = beams.reshape(*lidar.shape, 3)
        steps = [(grid.diff(dim=d).norm(dim=-1)).max() for d in (0, 1) if grid.shape[d] > 1]
        gap = max((float(step) for step in steps), default=0.01)
        metres = torch.where(hit, ranges.flatten(1), lidar.max_range)
        # How far the rows of a single one lie apart says nothing.
        beside = BESIDE_M if 1 in lidar.shape else 0.0
        return cls(points, metres, beams, math.cos(min(gap, 1.0)), beside, bool(hit.any()))

    def fit(self, centers: Tensor) -> tuple[float, int]:
        """Return the share of visible centres (S, K, 3) with a return near, and their count.

        A centre counts as visible where a beam passes it and nothing stands in front. A reading
        that leaves less than a tenth visible has not explained the scans: its share is 0.
        """
        distance = centers.norm(dim=-1)
        cosine, beam = (centers @ self.beams.T / distance.clamp(min=1e-6)[..., None]).max(dim=-1)
        in_front = self.ranges.gather(1, beam) < distance - HIDDEN_M
        beside = distance * (1 - cosine.clamp(max=1).square()).sqrt()
        passed = (cosine >= self.beam_gap_cos) | (beside < self.beside_m)
        visible = passed & ~in_front
        count = int(visible.sum())
        if count < visible.numel() / 10:
            return 0.0, count
        near = torch.cdist(centers, self.points).amin(dim=-1) < NEAR_M
        return float((near & visible).sum()) / count, count


def _classes(path: Path, header: str) -> tuple[str, ...]:
    names = [name.strip().strip('"') for name in header.split(',')]
    classes = tuple(name.removesuffix('_x') for name in names[::3])
    wanted = [f'{name}_{axis}' for name in classes for axis in 'xyz']
    if names != wanted or '' in classes or len(set(classes)) != len(classes):
        raise ValueError(
            f"{path} begins with '{header[:80]}'. Give a header of "
            '<object>_x,<object>_y,<object>_z for each object, each name once.'
        )
    return classes


def _is_finite_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
