"""Find where the camera is from what both sensors see, without a target to calibrate by.

Camera and LiDAR, each by itself, say where the objects are and how sure they are. The pose that
brings the two together is found by Gauss-Newton steps, in which far apart ones count less (Huber).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_perception.models.base import Estimate
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX, Alignment, median_of
from fusion_perception.sensing.geometry import (
    cross_matrices,
    invert_transform,
    transform_points,
)
from fusion_perception.sensing.mounting import as_camera_pose
from fusion_perception.sensing.observation import Camera, Observation
from fusion_perception.sensing.upright import quarters_upright, resized, turn_of, turned

# The median of honest sensors, of `DISAGREEMENT_MAX`.
HONEST = 0.8
# Before anything is seen a camera may be turned, radians, and moved, metres, so far (one sigma).
_TURNED, _MOVED = 0.3, 1.0
# The colours at the LiDAR's points, and so what it says, depend a little on the pose.
_ROUNDS, _REWEIGHTINGS = 8, 10
# Of an error in standard deviations per axis, from where on it counts by its size alone.
_FAR = 2.0
_STILL = 1e-4
# How else a camera may be mounted: from the optical frame (x right, y down, z forward) that it is
# taken to have to the one that it has. On its side, upside down, and where the pose was that of
# its body (x forward, y left, z up).
_MOUNTINGS = torch.tensor(
    (
        ((0, -1, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
        ((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
        ((0, 1, 0, 0), (-1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
        ((0, -1, 0, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0, 0, 0, 1)),
    )
)


def align(runtime: Runtime, seen: Observation, camera: Camera | None = None) -> Alignment | None:
    """Return where the camera seems to be, which is one place in all of these frames.

    `seen` is of `Runtime.observe`, `camera` what that was told, or it was the bundle's.
    The camera is taken to be turned alone as long as that explains what is seen, else to be moved
    as well. Where that does not, it may lie on its side or hang upside down, or its pose be that
    of its body, if the sensors then agree. None where the model does not tell the sensors apart,
    too little is seen by both, or no place makes them disagree by less than half of what they do.
    """
    before = median_of(runtime.disagreements(seen))
    if before is None:
        return None
    trained = runtime.bundle.rig.camera
    told = camera or trained
    quarters = quarters_upright(told, trained)
    T_told = told.extrinsics().double()
    found = _found(runtime, T_told, _Turned(seen, quarters), before / 2)
    if before <= DISAGREEMENT_MAX or (found and found.disagreement <= HONEST):
        return found
    as_taken = turned(seen, -quarters)
    for mounting in _MOUNTINGS.double():
        limit = min(found.disagreement if found else before / 2, DISAGREEMENT_MAX)
        other = _mounted(as_taken, told, mounting @ T_told, trained)
        found = _found(runtime, T_told, other, limit) or found
    return found


class _Turned(NamedTuple):
    """Frames whose images are turned upright, by so many quarters counter-clockwise."""

    seen: Observation
    quarters: int

    @property
    def T_camera_lidar(self) -> Tensor:
        """Return where the camera is that took them, (4, 4) float64."""
        return turn_of(-self.quarters) @ self.seen.T_camera_lidar[0].double()


def _mounted(as_taken: Observation, told: Camera, T_camera_lidar: Tensor, to: Camera) -> _Turned:
    quarters = quarters_upright(told.placed(T_camera_lidar), to)
    upright = turned(_placed(as_taken, T_camera_lidar), quarters)
    return _Turned(resized(upright, to.height, to.width), quarters)


def _found(runtime: Runtime, told: Tensor, start: _Turned, limit: float) -> Alignment | None:
    """Return where the camera seems to be near a start; None where they disagree by the limit."""
    found = None
    for free in (3, 6):
        moved = start._replace(seen=_fitted(runtime, start.seen, free))
        apart = median_of(runtime.disagreements(moved.seen))
        if apart is not None and apart < (limit if found is None else found.disagreement):
            found = _alignment(told, moved.T_camera_lidar, apart)
        if apart is not None and apart <= HONEST:
            break
    return found


def _fitted(runtime: Runtime, start: Observation, free: int) -> Observation:
    """Return the frames with the camera where it seems to be; `free` 3: turned, 6: moved too."""
    given = start.T_camera_lidar[0].double()
    T = given
    for _ in range(_ROUNDS):
        alone = runtime.alone(_placed(start, T))
        assert alone is not None
        step = _step(*alone, T, T @ invert_transform(given), free)
        T = step @ T
        if float((step - torch.eye(4)).abs().max()) < _STILL:
            break
    return _placed(start, T)


def _placed(seen: Observation, T: Tensor) -> Observation:
    return replace(seen, T_camera_lidar=T.float().expand(len(seen), 4, 4))


def _step(lidar: Estimate, camera: Estimate, T: Tensor, so_far: Tensor, free: int) -> Tensor:
    """Return the next move of the camera's frame, (4, 4), towards what it sees of the objects.

    `so_far` is the move until here, which the prior counts as well.
    """
    assert lidar.covariance is not None
    assert camera.covariance is not None
    said = lidar.covariance + camera.covariance
    both = (lidar.centers + camera.centers).isfinite().all(-1) & said.isfinite().all((-2, -1))
    p, q = (transform_points(T, each.centers[both].double()) for each in (lidar, camera))
    precision = (T[:3, :3] @ said[both].double() @ T[:3, :3].T).inverse()
    # q = p + w x p + v for a turn by w and a move by v.
    by_move = torch.eye(3).double().expand(len(p), 3, 3)
    jacobian = torch.cat((-cross_matrices(p), by_move), -1)[..., :free]
    weighted = jacobian.mT @ precision
    known = torch.tensor([_TURNED] * 3 + [_MOVED] * 3).double()[:free] ** -2
    turned = so_far[:3, :3] - so_far[:3, :3].T
    came = torch.stack((turned[2, 1], turned[0, 2], turned[1, 0])) / 2
    came = torch.cat((came, so_far[:3, 3]))[:free]
    move = torch.zeros(free).double()
    for _ in range(_REWEIGHTINGS):
        error = (q - p) - jacobian @ move
        squared = torch.einsum('ni,nij,nj->n', error, precision, error)
        size = (squared / 3).clamp_min(0).sqrt()
        weight = (_FAR / size).clamp_max(1.0)[:, None, None]
        normal = (weight * weighted @ jacobian).sum(0) + known.diag()
        wanted = (weight * weighted @ (q - p).unsqueeze(-1)).sum((0, 2)) - known * came
        move = torch.linalg.solve(normal, wanted)
    step = torch.eye(4).double()
    step[:3, :3] = torch.linalg.matrix_exp(cross_matrices(move[:3]))
    step[:3, 3] = torch.cat((move, torch.zeros(3).double()))[3:6]
    return step


def _alignment(before: Tensor, after: Tensor, apart: float) -> Alignment:
    turned_deg, moved_m = between(before, after)
    pose = as_camera_pose(after.numpy())
    return Alignment(camera_pose=pose, turned_deg=turned_deg, moved_m=moved_m, disagreement=apart)


def between(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return by how much two poses T_camera_lidar, (4, 4), differ: a turn, degrees, and metres."""
    turn = (other[:3, :3] @ one[:3, :3].T - torch.eye(3)).norm() / math.sqrt(8)
    at_one, at_other = (invert_transform(T)[:3, 3] for T in (one, other))
    return math.degrees(2 * math.asin(min(1.0, float(turn)))), float((at_other - at_one).norm())
