"""Find where the camera is from what both sensors see, without a target to calibrate by.

Camera and LiDAR, each by itself, say where the objects are and how sure they are. The pose that
brings the two together is found by Gauss-Newton steps, in which far apart ones count less (Huber).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fusion_perception.models.base import Estimate
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import Alignment, median_of
from fusion_perception.sensing.geometry import (
    cross_matrices,
    invert_transform,
    transform_points,
)
from fusion_perception.sensing.mounting import as_camera_pose
from fusion_perception.sensing.observation import Observation

# The median of honest sensors, of `DISAGREEMENT_MAX`.
HONEST = 0.8
# Before anything is seen a camera may be turned, radians, and moved, metres, so far (one sigma).
_TURNED, _MOVED = 0.3, 1.0
# The colours at the LiDAR's points, and so what it says, depend a little on the pose.
_ROUNDS, _REWEIGHTINGS = 8, 10
# Of an error in standard deviations per axis, from where on it counts by its size alone.
_FAR = 2.0
_STILL = 1e-4


def align(runtime: Runtime, seen: Observation) -> Alignment | None:
    """Return where the camera seems to be, which is one place in all of these frames.

    It is taken to be turned alone as long as that explains what is seen, else to be moved as well.
    None where the model does not tell the sensors apart, too little is seen by both, or no place
    makes them disagree by less than half of what they do.
    """
    before = median_of(runtime.disagreements(seen))
    if before is None:
        return None
    found = None
    for free in (3, 6):
        moved = _fitted(runtime, seen, free)
        apart = median_of(runtime.disagreements(moved))
        if apart is not None and apart < (before / 2 if found is None else found.disagreement):
            found = _alignment(seen, moved, apart)
        if apart is not None and apart <= HONEST:
            break
    return found


def _fitted(runtime: Runtime, seen: Observation, free: int) -> Observation:
    """Return the frames with the camera where it seems to be; `free` 3: turned, 6: moved too."""
    given = seen.T_camera_lidar[0].double()
    T = given
    for _ in range(_ROUNDS):
        alone = runtime.alone(_placed(seen, T))
        assert alone is not None
        step = _step(*alone, T, T @ invert_transform(given), free)
        T = step @ T
        if float((step - torch.eye(4)).abs().max()) < _STILL:
            break
    return _placed(seen, T)


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


def _alignment(given: Observation, moved: Observation, apart: float) -> Alignment:
    before, after = (each.T_camera_lidar[0].double() for each in (given, moved))
    turned_deg, moved_m = between(before, after)
    pose = as_camera_pose(after.numpy())
    return Alignment(camera_pose=pose, turned_deg=turned_deg, moved_m=moved_m, disagreement=apart)


def between(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return by how much two poses T_camera_lidar, (4, 4), differ: a turn, degrees, and metres."""
    turn = (other[:3, :3] @ one[:3, :3].T - torch.eye(3)).norm() / math.sqrt(8)
    at_one, at_other = (invert_transform(T)[:3, 3] for T in (one, other))
    return math.degrees(2 * math.asin(min(1.0, float(turn)))), float((at_other - at_one).norm())
