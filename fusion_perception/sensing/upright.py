"""Turn the images of a camera that hangs on its side or upside down as they were in the training.

A network that learned from upright images is unsure of others, and does not know it. By whole
quarter turns the images lose nothing, and geometry stays exact: the camera is turned with them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fusion_perception.sensing.observation import Camera, Observation

# What a quarter turn of images, counter-clockwise, does to x (right), y (down), z (forward).
_QUARTER = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
_DOWNWARDS = (0.0, 0.0, -1.0)
# Of a direction, length 1, less than this across the view does not tell how a camera is turned.
_LEAST_ACROSS = 0.5


def quarters_upright(camera: Camera, trained: Camera) -> int:
    """Return by how many quarter turns, counter-clockwise, images stand as in the training.

    What is down in the LiDAR's frame is to lie in the image as it did in the training, wherever
    the camera looks. Of a training camera that looked up or down, what was down in its images
    takes that place. 0 where the camera looks along that direction, to within 30 degrees.
    """
    downwards = _DOWNWARDS
    right_then, down_then = _across(trained, downwards)
    if math.hypot(right_then, down_then) < _LEAST_ACROSS:
        x, y, z, _ = trained.T_camera_lidar[1]
        downwards, right_then, down_then = (x, y, z), 0.0, 1.0
    right, down = _across(camera, downwards)
    if math.hypot(right, down) < _LEAST_ACROSS:
        return 0
    along, across = right * right_then + down * down_then, down * right_then - right * down_then
    alike = (along, across, -along, -across)
    return max(range(4), key=alike.__getitem__)


def _across(camera: Camera, direction: tuple[float, float, float]) -> tuple[float, float]:
    """Return how far a direction in the LiDAR's frame leads right and down in the image."""
    right, down = (
        sum(a * b for a, b in zip(row, direction, strict=False))
        for row in camera.T_camera_lidar[:2]
    )
    return right, down


def turn_of(quarters: int) -> Tensor:
    """Return what turning images counter-clockwise does to the camera's frame, (4, 4) float64."""
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.linalg.matrix_power(torch.tensor(_QUARTER).double(), quarters % 4)
    return turn


def turned_camera(camera: Camera, quarters: int) -> Camera:
    """Return the camera whose images are those of another one, turned counter-clockwise."""
    for _ in range(quarters % 4):
        camera = camera.model_copy(
            update={
                'width': camera.height,
                'height': camera.width,
                'fx': camera.fy,
                'fy': camera.fx,
                'cx': camera.cy,
                'cy': camera.width - 1 - camera.cx,
            }
        )
    return camera.placed(turn_of(quarters) @ torch.tensor(camera.T_camera_lidar).double())


def turned(seen: Observation, quarters: int) -> Observation:
    """Return a batch with its images, intrinsics and poses turned counter-clockwise."""
    intrinsics, quarter = seen.intrinsics, torch.tensor(_QUARTER).to(seen.intrinsics)
    for done in range(quarters % 4):
        pixels = quarter.clone()
        pixels[1, 2] = seen.rgba.shape[3 - done % 2] - 1
        intrinsics = pixels @ intrinsics @ quarter.T
    turn = turn_of(quarters).to(seen.T_camera_lidar)
    return replace(
        seen,
        rgba=seen.rgba.rot90(quarters, (2, 3)),
        intrinsics=intrinsics,
        T_camera_lidar=turn @ seen.T_camera_lidar,
    )


def resized(seen: Observation, height: int, width: int) -> Observation:
    """Return a batch with its images and intrinsics at another size, as `Camera.resized`."""
    before = seen.rgba.shape[2:]
    if before == (height, width):
        return seen
    scale = torch.tensor([width / before[1], height / before[0], 1.0]).to(seen.intrinsics)
    half = torch.zeros(3, 3).to(seen.intrinsics)
    half[:2, 2] = 0.5  # Whole numbers are the centres of pixels.
    return replace(
        seen,
        rgba=interpolate(
            seen.rgba, (height, width), mode='bilinear', antialias=True, align_corners=False
        ),
        intrinsics=(seen.intrinsics + half) * scale[:, None] - half,
    )
