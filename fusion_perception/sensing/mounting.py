"""Say where the camera is: as in the training, as tf has it, or as it was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from fusion_perception.sensing.observation import LARGEST_COORDINATE, Camera, Pose
from fusion_perception.sensing.quoting import quoted
from fusion_perception.sensing.rep103 import ROTATION
from fusion_perception.sensing.transforms import inverse, quaternion_of, rigid

AS_TRAINED, FROM_TF = 'bundle', 'tf'
_WANTED = (
    f"give {AS_TRAINED}, {FROM_TF}, or seven numbers, 'x y z qx qy qz qw', as "
    '`ros2 run tf2_ros tf2_echo LIDAR CAMERA` prints them'
)


def _known(camera_pose: str) -> str:
    if camera_pose not in (AS_TRAINED, FROM_TF):
        _measured(camera_pose)
    return camera_pose


CameraPose = Annotated[
    str,
    AfterValidator(_known),
    Field(
        description='Where the camera is: bundle, as in the training; tf, as tf2 (recordings: '
        '/tf_static and /tf) has the frames of images and scans; or its optical frame in the '
        "LiDAR's, 'x y z qx qy qz qw'"
    ),
]
CAMERA_POSE: CameraPose = AS_TRAINED
Find = Callable[[str, str, int], NDArray[np.float64]]


class Mounting:
    """Where the camera is, by the setting `camera_pose`.

    `find` is asked for it where tf is to tell, and else not needed: of the camera's frame, the
    LiDAR's and a time in nanoseconds it returns the transform (4, 4), metres, p_camera = T @
    p_lidar, each in its own axes, or raises NoTransform.
    """

    def __init__(self, camera_pose: str, mounted: Camera, find: Find | None) -> None:
        self._trained, self._from_tf = camera_pose == AS_TRAINED, camera_pose == FROM_TF
        self._pose = None if self._trained or self._from_tf else _measured(camera_pose)
        self._mounted, self._find = mounted, find
        # Engines keep the matrices of the camera that they were given last.
        self._last: tuple[Camera, Camera] | None = None

    def placed(
        self, told: Camera | None, camera_frame: str, lidar_frame: str, stamp_ns: int
    ) -> Camera | None:
        """Return the camera that camera_info told of, or the mounted one, where it is at a time.

        Where it is as in the training, what camera_info told. Raises NoTransform.
        """
        if self._trained:
            return told
        if self._from_tf:
            assert self._find is not None
            pose = _in_package_axes(self._find(camera_frame, lidar_frame, stamp_ns))
            if pose != self._pose:
                self._pose, self._last = pose, None
        camera = told or self._mounted
        if self._last is None or self._last[0] is not camera:
            self._last = camera, camera.model_copy(update={'T_camera_lidar': self._pose})
        return self._last[1]


def _measured(text: str) -> Pose:
    """Return T_camera_lidar of seven numbers; raises ValueError where they are not such."""
    try:
        numbers = [float(word) for word in text.replace(',', ' ').split()]
    except ValueError:
        numbers = []
    within = all(abs(number) <= LARGEST_COORDINATE for number in numbers)
    if len(numbers) != 7 or not within:
        raise ValueError(f'{quoted(text)} is no pose; {_WANTED}')
    x, y, z, *turn = numbers
    try:
        T_lidar_camera = rigid((x, y, z), (turn[0], turn[1], turn[2], turn[3]))
    except ValueError as fault:
        raise ValueError(f'{fault}; {_WANTED}') from None
    return _in_package_axes(inverse(T_lidar_camera))


def camera_at(camera_pose: str, camera: Camera) -> Camera:
    """Return a camera where seven numbers say; raises ValueError where they are no pose."""
    return camera.model_copy(update={'T_camera_lidar': _measured(camera_pose)})


def as_camera_pose(T_camera_lidar: NDArray[np.float64]) -> str:
    """Return the setting `camera_pose` that says T_camera_lidar, (4, 4), of the package's axes."""
    T = T_lidar_camera(T_camera_lidar)
    # Adding zero takes the sign off it.
    shift = ' '.join(f'{round(metres, 3) + 0.0:.3f}' for metres in T[:3, 3])
    return ' '.join((shift, *(f'{part:.5f}' for part in quaternion_of(T[:3, :3]))))


def T_lidar_camera(T_camera_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the optical frame is in the LiDAR's REP-103 axes, (4, 4), metres.

    T_camera_lidar is of the package's axes.
    """
    T = T_camera_lidar.copy()
    T[:3, :3] = T[:3, :3] @ ROTATION.T
    return inverse(T)


def _in_package_axes(T_camera_lidar: NDArray[np.float64]) -> Pose:
    """Turn p_camera = T @ p_lidar of a LiDAR in REP-103 axes into that of the package's axes."""
    T = T_camera_lidar.copy()
    T[:3, :3] = T[:3, :3] @ ROTATION
    return cast('Pose', tuple(map(tuple, T.tolist())))
