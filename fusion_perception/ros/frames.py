"""Find how frames lie to each other, through tf2 where it is installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from fusion_perception.sensing.mounting import FROM_TF
from fusion_perception.sensing.rep103 import transform_from_rep103
from fusion_perception.sensing.transforms import NoTransform, matrix_of

# Transforms often arrive a little after the measurement that they belong to.
PATIENCE_S = 0.1
_IN_TIME = (
    f'The node waited {PATIENCE_S:g} s for it. Publish it more often or with less delay, and look '
    'whether its stamps are of the same clock as those of the scans (use_sim_time)'
)
_WITHOUT_TARGET = "set target_frame to '' for output in the LiDAR's own frame"
_WITHOUT_POSE = 'give camera_pose in numbers'


class Frames:
    """What tf2 knows of frames. Listens to /tf and /tf_static until it is closed.

    `whose` setting needs it, and how to do without says `instead`. Raises ValueError when tf2_ros
    is not installed.
    """

    def __init__(self, node: Node, whose: str, instead: str) -> None:
        try:
            import tf2_ros
        except ImportError:
            raise ValueError(
                f'{whose} needs tf2_ros, which is not installed. Install it (sudo apt install '
                f'ros-$ROS_DISTRO-tf2-ros-py), or {instead}.'
            ) from None
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

    @classmethod
    def needed_by(cls, node: Node, target_frame: str, camera_pose: str) -> Frames | None:
        """Return what these two settings need, None where they need nothing of tf2."""
        if target_frame:
            return cls(node, f"target_frame '{target_frame}'", _WITHOUT_TARGET)
        if camera_pose == FROM_TF:
            return cls(node, f'camera_pose {FROM_TF}', _WITHOUT_POSE)
        return None

    def T_target_lidar(
        self, target_frame: str, lidar_frame: str, stamp_ns: int
    ) -> NDArray[np.float64]:
        """Return the (4, 4) transform from the LiDAR at a time, both in the package's axes.

        Waits for it a little, so call it from another thread than the executor's.
        Raises NoTransform.
        """
        what = f"target_frame '{target_frame}'"
        found = self._find(target_frame, lidar_frame, stamp_ns, what, 'correct target_frame')
        return transform_from_rep103(found)

    def T_camera_lidar(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int
    ) -> NDArray[np.float64]:
        """Return the (4, 4) transform from the LiDAR, in REP-103 axes, to the optical frame.

        Waits as `T_target_lidar` does. Raises NoTransform.
        """
        what = f"the images' frame '{camera_frame}'"
        return self._find(camera_frame, lidar_frame, stamp_ns, what, _WITHOUT_POSE)

    def _find(
        self, target: str, source: str, stamp_ns: int, what: str, instead: str
    ) -> NDArray[np.float64]:
        time, patience = Time(nanoseconds=stamp_ns), Duration(seconds=PATIENCE_S)
        try:
            found = self._buffer.lookup_transform(target, source, time, patience)
        except self._unknown as fault:
            why = ' '.join(str(fault).split()).rstrip(' .')
            publish = f'Publish it on /tf or /tf_static, or {instead}'
            raise NoTransform(
                f"No transform from '{source}' to {what}: {why}. "
                f'{self._remedies.get(type(fault), publish)}.'
            ) from None
        return matrix_of(found.transform)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
        self._node.destroy_service(self._buffer.srv)
        # The clock calls it when time jumps, also when it is gone: that would end the process.
        self._buffer.jump_handle.unregister()
