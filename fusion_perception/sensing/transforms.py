"""Find how two frames lie at a time, from recorded messages of /tf_static and /tf."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.sensing.decode import StampedMessage, stamp_ns
from fusion_perception.sensing.geometry import invert_transform, rotations_of

TF_STATIC, TF = '/tf_static', '/tf'


class NoTransform(ValueError):  # noqa: N818  (a cause of loss, by its name)
    """It is not known (yet) how two frames lie at a time."""


class VectorMessage(Protocol):
    """A message shaped like geometry_msgs/Vector3."""

    x: float
    y: float
    z: float


class QuaternionMessage(VectorMessage, Protocol):
    """A message shaped like geometry_msgs/Quaternion."""

    w: float


class TransformMessage(Protocol):
    """A message shaped like geometry_msgs/Transform."""

    @property
    def translation(self) -> VectorMessage:
        """Return the way to the child's origin, metres."""

    @property
    def rotation(self) -> QuaternionMessage:
        """Return how the child is turned."""


class LinkMessage(StampedMessage, Protocol):
    """A message shaped like geometry_msgs/TransformStamped: its header names the parent."""

    child_frame_id: str

    @property
    def transform(self) -> TransformMessage:
        """Return where the child is in it."""


class TransformsMessage(Protocol):
    """A message shaped like tf2_msgs/TFMessage."""

    @property
    def transforms(self) -> Sequence[LinkMessage]:
        """Return where frames are, each in its parent."""


def matrix_of(message: TransformMessage) -> NDArray[np.float64]:
    """Return a transform as (4, 4), p_parent = T @ p_child, metres, in the axes that it came in.

    Raises ValueError where its rotation is no quaternion.
    """
    shift, turn = message.translation, message.rotation
    return rigid((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))


def rigid(
    shift: tuple[float, float, float], turn: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """Return the (4, 4) transform of a translation, metres, and a quaternion (x, y, z, w).

    What was rounded to a few digits is made whole again. Raises ValueError where the quaternion's
    length is far from 1, or the translation not finite.
    """
    if not np.isfinite(shift).all():
        raise ValueError(f'the translation {" ".join(f"{way:g}" for way in shift)} is not finite')
    T = np.eye(4)
    T[:3, :3] = rotations_of(torch.from_numpy(_whole(turn))).numpy()
    T[:3, 3] = shift
    return T


def _whole(turn: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a quaternion at a length of 1; raises ValueError where that is far off."""
    length = float(np.linalg.norm(turn))
    if not abs(length - 1) < 0.01:
        raise ValueError(f'the quaternion {" ".join(f"{q:g}" for q in turn)} has no length of 1')
    return np.array(turn, np.float64) / length


def quaternion_of(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the quaternion (x, y, z, w) of a rotation matrix (3, 3).

    The eigenvector form (Bar-Itzhack, 2000) has no special cases near half a turn.
    """
    m = rotation
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0.0, 0.0, 0.0],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0.0, 0.0],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0.0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ]
    )
    x, y, z, w = np.linalg.eigh(k / 3.0)[1][:, -1].tolist()
    return x, y, z, w


def inverse(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a rigid (4, 4) transform."""
    back: NDArray[np.float64] = invert_transform(torch.from_numpy(T)).numpy()
    return back


class Transforms:
    """The frames that a recording tells of, once and for all or as they move.

    Of a frame that is told of twice on /tf_static the last word counts, whatever /tf says of it;
    of one that changes its parent on /tf, where it is in the last one. What is no transform is
    passed over, as in tf2, and costs no other frame anything.
    """

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._faults: dict[str, str] = {}  # Of words on /tf_static, by frame.
        self._fixed: dict[str, NDArray[np.float64]] = {}
        self._moving: dict[str, Track] = {}

    def take(self, message: TransformsMessage) -> None:
        """Take in what holds always, of /tf_static."""
        for told in message.transforms:
            child, parent = _names(told)
            try:
                self._fixed[child] = matrix_of(told.transform)
            except ValueError as fault:
                self._faults[child] = f"on {TF_STATIC}, of '{child}', {fault}"
            else:
                self._parents[child] = parent

    def follow(self, message: TransformsMessage) -> None:
        """Take in what holds at its time, of /tf, after all of /tf_static."""
        for told in message.transforms:
            child, parent = _names(told)
            if child in self._fixed:
                continue
            if self._parents.get(child) != parent:
                self._parents[child], self._moving[child] = parent, Track()
            self._moving[child].add(stamp_ns(told), told.transform)

    def between(self, target: str, source: str, time_ns: int = 0) -> NDArray[np.float64]:
        """Return the (4, 4) transform p_target = T @ p_source, metres, each in its own axes.

        Raises NoTransform where nothing joins the two, or not at that time.
        """
        of_target, of_source = self._ancestors(_plain(target)), self._ancestors(_plain(source))
        common = next((name for name in of_source if name in of_target), None)
        if common is None:
            ends = (self._faults.get(frames[-1]) for frames in (of_target, of_source))
            lacking = f"neither {TF_STATIC} nor {TF} joins '{source}' and '{target}'"
            raise NoTransform(next(filter(None, ends), lacking))
        T_common_target = self._up(of_target, common, time_ns)
        return inverse(T_common_target) @ self._up(of_source, common, time_ns)

    def _ancestors(self, frame: str) -> list[str]:
        """Return the frame and those above it, nearest first."""
        found = [frame]
        # Where they go round in a ring it is no tree, but no reason to hang.
        while (frame := self._parents.get(frame, found[0])) not in found:
            found.append(frame)
        return found

    def _up(self, frames: list[str], common: str, time_ns: int) -> NDArray[np.float64]:
        """Return where the first of these frames is in one of its ancestors."""
        T = np.eye(4)
        for frame in takewhile(lambda name: name != common, frames):
            step = self._fixed.get(frame)
            if step is None:
                step = self._moving[frame].at(time_ns, frame)
            T = step @ T
        return T


class Track:
    """Where a frame was in its parent, at some times; between them it moves evenly, as in tf2."""

    def __init__(self) -> None:
        self._times, self._numbers = array('q'), array('d')
        self._in_order: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def add(self, time_ns: int, there: TransformMessage) -> None:
        """Say where it was at a time. Of two words on the same time the last one counts."""
        shift, turn = there.translation, there.rotation
        self._in_order = None
        self._times.append(time_ns)
        self._numbers.extend((shift.x, shift.y, shift.z, turn.x, turn.y, turn.z, turn.w))

    def at(self, time_ns: int, frame: str) -> NDArray[np.float64]:
        """Return the (4, 4) transform from the frame to its parent at a time.

        The way is interpolated evenly, the rotation about one axis (Shoemake, 1985). Raises
        NoTransform for a time before the first or after the last, or where a rotation is none.
        """
        times, rows = self._in_order = self._in_order or self._sorted()
        after = int(np.searchsorted(times, time_ns))
        if after == len(times) or (after == 0 and times[0] != time_ns):
            first, last = times[0] / 1e9, times[-1] / 1e9
            raise NoTransform(
                f"{TF} tells of '{frame}' from {first:.3f} to {last:.3f} s, not of "
                f'{time_ns / 1e9:.3f} s'
            )
        before = after if times[after] == time_ns else after - 1
        # Where it is not between two times, both are one, and any share is right.
        share = (time_ns - int(times[before])) / max(int(times[after] - times[before]), 1)
        try:
            return _on_the_way(rows[before], rows[after], share)
        except ValueError as fault:
            raise NoTransform(f"on {TF}, of '{frame}', {fault}") from None

    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        times, rows = np.array(self._times), np.array(self._numbers).reshape(-1, 7)
        # The last of each time, and several nodes may publish on /tf.
        times, latest = np.unique(times[::-1], return_index=True)
        return times, rows[::-1][latest]


def _on_the_way(
    start: NDArray[np.float64], end: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Return the (4, 4) transform a share of the way between two of x y z qx qy qz qw."""
    a, b = _whole(start[3:]), _whole(end[3:])
    b = b if a @ b >= 0 else -b
    # Exactly zero where nothing turns, so that who compares to the bit sees nothing move.
    angle = 2 * np.arctan2(np.linalg.norm(b - a), np.linalg.norm(b + a))
    if angle > 0:
        a = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    x, y, z = (start + share * (end - start))[:3].tolist()
    qx, qy, qz, qw = a.tolist()
    return rigid((x, y, z), (qx, qy, qz, qw))


def _names(told: LinkMessage) -> tuple[str, str]:
    """Return child and parent."""
    return _plain(told.child_frame_id), _plain(told.header.frame_id)


def _plain(frame: str) -> str:
    # As tf2 has them; ROS 1 wrote a slash in front.
    return frame.lstrip('/')
