"""Find where the LiDAR is in another frame, through tf2 where it is installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from fusion_perception.sensing.rep103 import transform_from_rep103

# Transforms often arrive a little after the measurement that they belong to.
PATIENCE_S = 0.1
_PUBLISH = 'Publish it on /tf or /tf_static, or correct target_frame'
_IN_TIME = (
    f'The node waited {PATIENCE_S:g} s for it. Publish it more often or with less delay, and look '
    'whether its stamps are of the same clock as those of the scans (use_sim_time)'
)


class NoTransform(ValueError):  # noqa: N818  (a cause of loss, by its name)
    """tf2 does not know (yet) how two frames lie at a time."""


class TargetFrame:
    """The frame that output is wanted in. Listens to /tf and /tf_static until it is closed.

    Raises ValueError when tf2_ros is not installed.
    """

    def __init__(self, node: Node, name: str) -> None:
        try:
            import tf2_ros
        except ImportError:
            raise ValueError(
                f"target_frame '{name}' needs tf2_ros, which is not installed. Install it (sudo "
                "apt install ros-$ROS_DISTRO-tf2-ros-py), or set target_frame to '' for output "
                "in the LiDAR's own frame."
            ) from None
        self.name = name
        self._node = node
        # Through the node's clock it also forgets what lies ahead when a bag is looped.
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._unknown = tf2_ros.TransformException
        # By what tf2 lacks, where that is not the transform itself.
        self._remedies = {
            tf2_ros.ConnectivityException: 'Publish on /tf or /tf_static what joins the two',
            tf2_ros.ExtrapolationException: _IN_TIME,
        }

    def T_target_source(self, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """Return the (4, 4) transform from a frame at a time, both in the package's axes.

        Waits for it a little, so call it from another thread than the executor's.
        Raises NoTransform.
        """
        time, patience = Time(nanoseconds=stamp_ns), Duration(seconds=PATIENCE_S)
        try:
            found = self._buffer.lookup_transform(self.name, source, time, patience).transform
        except self._unknown as fault:
            why = ' '.join(str(fault).split()).rstrip(' .')
            raise NoTransform(
                f"No transform from '{source}' to target_frame '{self.name}': {why}. "
                f'{self._remedies.get(type(fault), _PUBLISH)}.'
            ) from None
        turn, shift = found.rotation, found.translation
        T_ros = np.eye(4)
        T_ros[:3, :3] = _rotation(turn.w, turn.x, turn.y, turn.z)
        T_ros[:3, 3] = shift.x, shift.y, shift.z
        return transform_from_rep103(T_ros)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
        self._node.destroy_service(self._buffer.srv)
        # The clock calls it when time jumps, also when it is gone: that would end the process.
        self._buffer.jump_handle.unregister()


def _rotation(w: float, x: float, y: float, z: float) -> NDArray[np.float64]:
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
