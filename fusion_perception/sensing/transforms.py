"""Find how two frames lie that never move against each other, from messages of /tf_static."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.sensing.geometry import invert_transform, rotations_of

TF_STATIC = '/tf_static'


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


class HeaderMessage(Protocol):
    """A message shaped like std_msgs/Header."""

    frame_id: str


class StampedMessage(Protocol):
    """A message shaped like geometry_msgs/TransformStamped."""

    child_frame_id: str

    @property
    def header(self) -> HeaderMessage:
        """Return what names the parent."""

    @property
    def transform(self) -> TransformMessage:
        """Return where the child is in it."""


class TransformsMessage(Protocol):
    """A message shaped like tf2_msgs/TFMessage."""

    @property
    def transforms(self) -> Sequence[StampedMessage]:
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
    length is far from 1.
    """
    length = float(np.linalg.norm(turn))
    if not abs(length - 1) < 0.01:
        raise ValueError(f'the quaternion {" ".join(f"{q:g}" for q in turn)} has no length of 1')
    T = np.eye(4)
    T[:3, :3] = rotations_of(torch.tensor(turn, dtype=torch.float64) / length).numpy()
    T[:3, 3] = shift
    return T


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


class StaticTransforms:
    """The frames that /tf_static tells of; of one that is told of twice, the last word counts."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def take(self, message: TransformsMessage) -> None:
        """Take in a message; raises ValueError where one of its rotations is no quaternion."""
        for told in message.transforms:
            child, parent = _plain(told.child_frame_id), _plain(told.header.frame_id)
            self._parents[child] = parent, matrix_of(told.transform)

    def between(self, target: str, source: str) -> NDArray[np.float64]:
        """Return the (4, 4) transform p_target = T @ p_source, metres, each in its own axes.

        Raises NoTransform where nothing static joins the two.
        """
        of_target, of_source = self._ancestors(_plain(target)), self._ancestors(_plain(source))
        common = next((name for name in of_source if name in of_target), None)
        if common is None:
            raise NoTransform(f"{TF_STATIC} does not join '{source}' and '{target}'")
        return inverse(of_target[common]) @ of_source[common]

    def _ancestors(self, frame: str) -> dict[str, NDArray[np.float64]]:
        """Return the frame and those above it, nearest first, and where the frame is in each."""
        found, T = {frame: np.eye(4)}, np.eye(4)
        while frame in self._parents:
            frame, step = self._parents[frame]
            if frame in found:  # A ring: no tree, but no reason to hang.
                break
            T = step @ T
            found[frame] = T
        return found


def _plain(frame: str) -> str:
    # As tf2 has them; ROS 1 wrote a slash in front.
    return frame.lstrip('/')
