"""Show scenes to a camera and a LiDAR: images and ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fusion_perception.sensing.geometry import pixel_rays
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.casting import View, beams_of, cast, scenes_at_once
from fusion_perception.simulation.primitives import normals
from fusion_perception.simulation.scene import Scenes


@dataclass(frozen=True)
class Frames:
    """What the sensors of a rig see of N scenes.

    images (N, H, W, 4) uint8 RGBA; ranges (N, R, C) float32, metres along each beam from the
    LiDAR's origin; distances (N, H, W) float32, metres along each pixel's ray from the camera's
    origin; the maximum range stands where nothing is hit. centers (N, K, 3) float32, LiDAR frame.
    """

    images: Tensor
    ranges: Tensor
    distances: Tensor
    centers: Tensor

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, index: slice | Tensor) -> Frames:
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> Frames:
        """Return these frames on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@torch.no_grad()
def render(scenes: Scenes, rig: Rig, lidar: Lidar, chunk: int | None = None) -> Frames:
    """Return what the rig's camera and the LiDAR see, on the scenes' device.

    An object that encloses a sensor is invisible to it. `chunk` scenes are rendered at a time:
    it bounds the memory and changes no value beyond the last bits.
    """
    device, camera, count = scenes.centers.device, rig.camera, len(scenes)
    chunk = chunk or scenes_at_once(device)
    beams, begins = beams_of(lidar, device)
    rays = pixel_rays(camera.intrinsics()[None], camera.height, camera.width)
    rays = rays.reshape(-1, 3).to(device)
    T_camera_lidar = scenes.camera_error @ camera.extrinsics().to(device)

    ranges = torch.full((count, len(beams)), lidar.max_range, device=device)
    distances = torch.full((count, len(rays)), torch.inf, device=device)
    images = torch.zeros((count, len(rays), 4), dtype=torch.uint8, device=device)
    images[..., 3] = 255
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        _range(scenes[part], beams, begins, ranges[part])
        _picture(scenes[part], T_camera_lidar[part], rays, distances[part], images[part])
    return Frames(
        images.reshape(count, camera.height, camera.width, 4),
        ranges.reshape(count, *lidar.shape),
        distances.clamp_(max=lidar.max_range).reshape(count, camera.height, camera.width),
        scenes.centers,
    )


def _range(scenes: Scenes, beams: Tensor, begins: Tensor | None, ranges: Tensor) -> None:
    """Lower the LiDAR's ranges (n, P) to what its beams (P, 3) meet, wherever they begin."""
    view = View(scenes.kinds, scenes.centers, scenes.rotations, scenes.scales)
    for slot in range(len(scenes.kinds)):
        cast(view, slot, beams, ranges, begins)


def _picture(
    scenes: Scenes, T_camera_lidar: Tensor, rays: Tensor, distances: Tensor, images: Tensor
) -> None:
    """Lower the distances (n, P) and paint the pixels (n, P, 4): Lambert's law, no shadows."""
    view, pixels = View.of(scenes, T_camera_lidar), images.view(-1, 4)
    # Both rotations to the camera cancel: the light in each object's own frame, (n, K, 3).
    to_light = (scenes.to_light[:, None, None, :] @ scenes.rotations).squeeze(-2)
    for slot, kind in enumerate(scenes.kinds):
        hits = cast(view, slot, rays, distances)
        lit = to_light[:, slot].index_select(0, hits.scenes).T
        facing = (normals(kind, hits.points) * lit).sum(dim=0).clamp(min=0)
        light = scenes.light_intensity.index_select(
            0, hits.scenes
        ) * facing + scenes.ambient.index_select(0, hits.scenes)
        colours = scenes.colours[:, slot].index_select(0, hits.scenes) * light[:, None]
        pixels[hits.pixels, :3] = (colours * 255).round().clamp(max=255).to(torch.uint8)
