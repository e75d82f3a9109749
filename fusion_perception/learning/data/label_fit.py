"""Check that the centres of `positions.csv` fit the scans: all of them, and block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.observation import Lidar

# By the objects' longest edge: a centre has a return this near where its object is seen. A cube
# of 3 m shows a face 1.5 m from its centre.
NEAR = 0.6
# A return this much closer than the centre belongs to an object that hides it.
HIDDEN = 0.9
# A beam that passes the centre this near meets the object; no more than a metre, for objects are
# longer than they are high.
BESIDE, BESIDE_M = 1 / 3, 1.0
# Right labels reach 0.9 and more, wrong ones up to 0.6, because objects stand close together.
FITS, DOES_NOT_FIT, CLEARLY_BETTER = 0.75, 0.5, 0.15
# Of fewer centres than this, too many can be wrong by chance: they are warned about only.
ENOUGH_CENTERS = 12
# Scenes that are judged together: labels go wrong from some scene on.
BLOCK = 25
# Beams that are looked at to judge blocks, so that large folders do not wait for it.
_BEAMS = 1 << 21
_LEAST_BLOCKS = 4


class Labels(NamedTuple):
    """The labels of a data folder, and the scans that they are held against.

    `path` is that of positions.csv, `positions` (N, K, 3) metres in label axes, `ranges`
    (N, R, C) metres; `object_size_m` is the longest edge of the objects.
    """

    path: Path
    positions: Tensor
    ranges: Tensor
    lidar: Lidar
    T_lidar_label: Tensor
    object_size_m: float

    def scans(self, scenes: Tensor | slice) -> _Scans:
        """Return the scans of some scenes."""
        return _Scans.of(self.ranges[scenes], self.lidar, self.object_size_m)

    def fitting(self, fit: _Fit) -> str:
        """Say how many of the visible centres fit."""
        near_m = NEAR * self.object_size_m
        return (
            f'{fit.share:.0%} of {fit.judged} visible centres have a return within {near_m:.3g} m'
        )

    @property
    def if_larger(self) -> str:
        """Say what to do where the size of the objects is not the one assumed."""
        return (
            f'If the objects are larger than {self.object_size_m:g} m, say so: object_size_m in '
            'sensor.yaml.'
        )


def check_labels(labels: Labels) -> list[str]:
    """Check, on a sample of scenes, that visible centres have LiDAR returns near them.

    When they have none, every order and sign of the axes is tried, in label axes and in the
    LiDAR's own. Returns in sentences what is in doubt, as where too few centres can be judged.
    Raises ValueError naming the axes that would fit, the scenes that do not, or saying that
    nothing does.
    """
    path, lidar, T_lidar_label = labels.path, labels.lidar, labels.T_lidar_label
    scenes, beams = len(labels.positions), math.prod(lidar.shape)
    count = min(scenes, 64, max(8, 64 * 64 * 64 // beams))
    sample = torch.linspace(0, scenes - 1, count).long()
    few, scans = labels.positions[sample], labels.scans(sample)
    if not scans.anything:
        raise ValueError(
            f'{path.parent}/lidar: none of {len(sample)} scans has a return below max_range = '
            f'{lidar.max_range:g} m. Write ranges in metres, or correct sensor.yaml.'
        )
    given = scans.fit(transform_points(T_lidar_label, few).float())
    larger = labels.if_larger
    doubt = f'{path.name} does not fit the scans: {labels.fitting(given)}'
    fault = f'{path.parent}/{doubt}'
    fits = given.tells_of_a_tenth and given.share >= FITS
    if given.all < ENOUGH_CENTERS:
        if fits:
            return []
        return [f'{doubt}; too few scenes to tell whether that is wrong. {larger}']
    if not fits:
        fits_of = {c: scans.fit(c.moved(few)) for c in _candidates(T_lidar_label)}
        candidate, best = max(fits_of.items(), key=lambda each: each[1].share * each[1].tells)
        if best.is_clearly_better_than(given):
            raise ValueError(
                f'{fault}, {best.share:.0%} would with {candidate.words}. {candidate.remedy()}'
            )
        if not given.tells:
            unsaid = (
                f'{path.name} cannot be held against the scans: returns tell of only '
                f'{given.judged} of {given.all} centres whether they are right'
            )
            if given.outside > (given.all - given.judged) / 2:
                unsaid = (
                    f'{unsaid}, and {given.outside} of {given.all} lie beside every beam. Check '
                    'T_label_lidar in sensor.yaml: the place of the LiDAR, and how it is turned, '
                    'in the axes of the labels'
                )
                # How far beside a single row an object is met is a matter of its size.
                return [f'{unsaid}. {larger}' if 1 in lidar.shape else f'{unsaid}.']
            return [f'{unsaid}. {larger}']
    doubts = _check_blocks(labels)
    if fits:
        return doubts
    if given.share < DOES_NOT_FIT:
        raise ValueError(
            f'{fault}, and no flip of axes fits. Check that row i belongs to scan i, and '
            f'T_label_lidar in sensor.yaml. {larger}'
        )
    return [*doubts, f'{doubt}; no flip of axes fits better. {larger}']


def _check_blocks(labels: Labels) -> list[str]:
    """Hold blocks of scenes against each other, and say which is in doubt.

    Raises ValueError for one that is clearly wrong.
    """
    firsts: Sequence[int] = range(0, len(labels.positions), BLOCK)
    many = max(_LEAST_BLOCKS, _BEAMS // (BLOCK * math.prod(labels.lidar.shape)))
    if len(firsts) > many:
        chosen = torch.linspace(0, len(firsts) - 1, many).long().tolist()
        firsts = [firsts[index] for index in chosen]
    judged: list[tuple[range, _Fit]] = []
    for first in firsts:
        block = range(first, min(first + BLOCK, len(labels.positions)))
        scenes = slice(block.start, block.stop)
        centers = transform_points(labels.T_lidar_label, labels.positions[scenes]).float()
        fit = labels.scans(scenes).fit(centers)
        if fit.judged >= ENOUGH_CENTERS:
            judged.append((block, fit))
    best = max((fit.share for _, fit in judged), default=0.0)
    wrong = [number for number, (_, fit) in enumerate(judged) if fit.share < FITS <= best]
    if not wrong:
        return []
    worst = [number for number in wrong if judged[number][1].share < DOES_NOT_FIT]
    number = (worst or wrong)[0]
    block, fit = judged[number]
    look = block.start + int(fit.contradicted.int().argmax())
    if look == block.start and number and judged[number - 1][0].stop == block.start:
        # It may have begun in the block before.
        look -= int(judged[number - 1][1].contradicted.flip(0).int().cumprod(0).sum())
    folder = labels.path.parent
    doubt = (
        f'{labels.path.name} does not fit the scans everywhere: of scenes {block[0]} to '
        f'{block[-1]}, {labels.fitting(fit)}, and up to {best:.0%} of others; {len(wrong)} of '
        f'{len(judged)} such blocks are like that. Look at the first scene that is off: `fusion '
        f'view {quote(str(folder)) if worst else "DATA"} --index {look} --out pictures`, and '
        f'check that row i belongs to scan i from there on. {labels.if_larger}'
    )
    if worst:
        raise ValueError(f'{folder}/{doubt}')
    return [doubt]


class _Fit(NamedTuple):
    """How many of all centres are confirmed by returns, refuted, or outside the beams.

    `contradicted` (S,) says which scenes have a centre that a beam passes where nothing is.
    """

    confirmed: int
    refuted: int
    outside: int
    all: int
    contradicted: Tensor

    @property
    def judged(self) -> int:
        return self.confirmed + self.refuted

    @property
    def share(self) -> float:
        return self.confirmed / max(self.judged, 1)

    @property
    def tells_of_a_tenth(self) -> bool:
        return self.judged > 0 and self.judged >= self.all / 10

    @property
    def tells(self) -> bool:
        return self.judged >= ENOUGH_CENTERS and self.tells_of_a_tenth

    def is_clearly_better_than(self, given: _Fit) -> bool:
        if not self.tells or self.share < FITS:
            return False
        if given.tells:
            likely = self.judged >= given.judged / 2
            return likely and self.share > given.share + CLEARLY_BETTER
        # Hidden centres may be right; centres that lie beside the scan may be too, unless most do.
        return given.outside > given.all / 2 and self.judged >= self.all / 2


class _Candidate(NamedTuple):
    """One reading of the label columns: p_lidar = T_lidar_label @ axes @ p_label."""

    words: str
    axes: Tensor
    T_lidar_label: Tensor

    def moved(self, positions: Tensor) -> Tensor:
        return transform_points(self.T_lidar_label, positions @ self.axes.T).float()

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
    own = torch.eye(4, dtype=torch.float64)
    for base, where in ((T_lidar_label, ''), (own, ' in the axes of the LiDAR itself')):
        for order in itertools.permutations(range(3)):
            for signs in itertools.product((1.0, -1.0), repeat=3):
                names = (
                    f'{"-" if s < 0 else ""}{"xyz"[i]}' for i, s in zip(order, signs, strict=True)
                )
                axes = own[:3, :3][list(order)] * torch.tensor(signs)[:, None]
                yield _Candidate(f'({", ".join(names)}) for (x, y, z){where}', axes, base)


class _Scans(NamedTuple):
    """Points (S, P, 3) with misses far away, ranges (S, P), unit beams (P, 3); metres."""

    points: Tensor
    ranges: Tensor
    beams: Tensor
    beam_gap_cos: float
    of_one_row: bool
    object_size_m: float
    returned: Tensor

    @classmethod
    def of(cls, ranges: Tensor, lidar: Lidar, object_size_m: float) -> _Scans:
        xyza = lidar.xyza(ranges).flatten(2)
        hit = xyza[:, 3] > 0
        points = torch.where(hit[..., None], xyza[:, :3].transpose(1, 2), 1e6)
        beams = torch.nn.functional.normalize(lidar.directions.reshape(-1, 3), dim=-1)
        grid = beams.reshape(*lidar.shape, 3)
        steps = [(grid.diff(dim=d).norm(dim=-1)).max() for d in (0, 1) if grid.shape[d] > 1]
        gap = max((float(step) for step in steps), default=0.01)
        metres = torch.where(hit, ranges.flatten(1), lidar.max_range)
        return cls(
            points,
            metres,
            beams,
            math.cos(min(gap, 1.0)),
            1 in lidar.shape,
            object_size_m,
            hit.any(dim=1),
        )

    @property
    def anything(self) -> bool:
        return bool(self.returned.any())

    def fit(self, centers: Tensor) -> _Fit:
        """Count the centres (S, K, 3) that returns confirm or refute.

        A centre with a return near is confirmed, unless something hides it. One that a beam
        passes where nothing is, up to the centre, is refuted. Of others nothing is known: what
        stands before them may be another object, or a larger one than was told.
        """
        distance = centers.norm(dim=-1)
        cosine, beam = (centers @ self.beams.T / distance.clamp(min=1e-6)[..., None]).max(dim=-1)
        measured = self.ranges.gather(1, beam)
        beside = distance * (1 - cosine.clamp(max=1).square()).sqrt()
        meets = beside < min(BESIDE * self.object_size_m, BESIDE_M)
        # How far the rows of a single one lie apart says nothing.
        passed = (cosine >= self.beam_gap_cos) | (meets if self.of_one_row else False)
        visible = passed & (measured >= distance - HIDDEN * self.object_size_m)
        visible = visible & self.returned[:, None]
        near = torch.cdist(centers, self.points).amin(dim=-1) < NEAR * self.object_size_m
        refuted = visible & ~near & meets & (measured >= distance)
        return _Fit(
            confirmed=int((visible & near).sum()),
            refuted=int(refuted.sum()),
            outside=int((~passed).sum()),
            all=distance.numel(),
            contradicted=refuted.any(dim=1),
        )
