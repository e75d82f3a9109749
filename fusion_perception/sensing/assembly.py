"""Assemble decoded images and ranges into observations: the one path of training and robot."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.observation import Camera, Lidar, Observation


class CameraMatrices(NamedTuple):
    """A camera as tensors on a device: intrinsics (3, 3) pixels, T_camera_lidar (4, 4) metres."""

    intrinsics: Tensor
    T_camera_lidar: Tensor

    @classmethod
    def of(cls, camera: Camera, device: torch.device) -> CameraMatrices:
        """Return the matrices of a camera; to make them anew for each frame costs time."""
        return cls(camera.intrinsics().to(device), camera.extrinsics().to(device))


def observe(
    images: Tensor | None,
    ranges: Tensor | None,
    camera: Camera,
    lidar: Lidar,
    matrices: CameraMatrices | None = None,
) -> Observation:
    """Return the observation of B images and B range images taken at the same time.

    `images` is (B, H, W, C) uint8 with C of 1 (mono), 3 (RGB) or 4 (RGBA); `ranges` is (B, R, C)
    float32 metres; None means that this sensor is silent. Images of another size than the
    camera's are resized to it: their field of view is taken to be the camera's.
    Both must be on one device, and the observation stays there. `matrices` are the camera's on
    that device, where they are at hand.
    Raises ValueError when neither is given, the counts differ or a shape or dtype does not fit.
    """
    if images is None and ranges is None:
        raise ValueError('Neither an image nor a range image was given. Give at least one.')
    if ranges is not None and (ranges.ndim != 3 or not ranges.is_floating_point()):
        raise ValueError(
            f'Range images of shape {tuple(ranges.shape)} and {ranges.dtype} came; (B, R, C) '
            'floating-point metres are needed.'
        )
    given = images if images is not None else ranges
    assert given is not None
    count, device = len(given), given.device
    if ranges is not None and len(ranges) != count:
        raise ValueError(
            f'{counted(count, "image")} came with {counted(len(ranges), "range image")}. Give '
            'as many of each.'
        )
    if not given.numel():
        raise ValueError(f'Nothing is in an input of shape {tuple(given.shape)}. Give a frame.')
    if images is None:
        rgba = torch.zeros(count, 4, camera.height, camera.width, device=device)
    else:
        rgba = to_rgba(images, camera.height, camera.width)
    if ranges is None:
        xyza = torch.zeros(count, 4, *lidar.shape, device=device)
    else:
        xyza = lidar.xyza(ranges)
    matrices = matrices or CameraMatrices.of(camera, device)
    return Observation(
        rgba=rgba,
        xyza=xyza,
        camera=torch.full((count,), images is not None, device=device),
        lidar=torch.full((count,), ranges is not None, device=device),
        intrinsics=matrices.intrinsics.expand(count, 3, 3),
        T_camera_lidar=matrices.T_camera_lidar.expand(count, 4, 4),
    )


def observe_flagged(
    images: Tensor,
    ranges: Tensor,
    camera: Tensor,
    lidar: Tensor,
    matrices: CameraMatrices,
    tables: Lidar,
) -> Observation:
    """Return the observation of B images (B, H, W, 4) and B range images, each where it counts.

    Where the flag of a sensor, `camera` or `lidar` (B,), is 0, it is silent, whatever stands in
    its place. A graph that is recorded or exported once tells silent sensors by these alone.
    `matrices` are (B, 3, 3) and (B, 4, 4), `tables` the LiDAR's.
    """
    height, width = images.shape[1:3]
    return Observation(
        rgba=to_rgba(images, height, width) * camera.view(-1, 1, 1, 1),
        xyza=tables.xyza(ranges) * lidar.view(-1, 1, 1, 1),
        camera=camera > 0,
        lidar=lidar > 0,
        intrinsics=matrices.intrinsics,
        T_camera_lidar=matrices.T_camera_lidar,
    )


def to_rgba(images: Tensor, height: int, width: int) -> Tensor:
    """Turn (B, H, W, C) uint8 pixels into (B, 4, height, width) float32 in [0, 1].

    Mono is repeated, a missing alpha is 1. Another size is resized first; see `resize`.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f'Images of shape {tuple(images.shape)} and {images.dtype} came; '
            '(B, H, W, C) uint8 with 1, 3 or 4 channels is needed.'
        )
    pixels = resize(images, height, width).permute(0, 3, 1, 2).float().div_(255)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    if pixels.shape[1] == 4:
        return pixels
    return torch.cat((pixels, torch.ones_like(pixels[:, :1])), dim=1)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Return (B, H, W, C) uint8 pixels as (B, height, width, C) uint8, by an area-true filter.

    They stay whole numbers, as a camera of that resolution gives them: a CPU is several times
    quicker with bytes than with float32.
    """
    if images.shape[1:3] == (height, width):
        return images
    pixels = images.permute(0, 3, 1, 2)
    if images.is_cuda:  # There the filter takes floating-point numbers only.
        pixels = pixels.float()
    pixels = interpolate(
        pixels, size=(height, width), mode='bilinear', antialias=True, align_corners=False
    )
    if images.is_cuda:
        pixels = pixels.round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1)
