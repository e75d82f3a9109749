"""Cast the rays of a camera and a LiDAR into scenes: images and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fusion_perception.sensing.geometry import direction_table, pixel_rays, transform_points
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.primitives import BOUNDING_RADIUS, first_hit, normals
from fusion_perception.simulation.scene import Kind, Scenes


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


@dataclass(frozen=True)
class _Visible:
    """The scenes as one sensor at the origin sees them: the fields of Scenes in its frame."""

    kinds: tuple[Kind, ...]
    centers: Tensor
    rotations: Tensor
    scales: Tensor


@torch.no_grad()
def render(scenes: Scenes, rig: Rig, lidar: Lidar, chunk: int = 256) -> Frames:
    """Return what the rig's camera and the LiDAR see, on the scenes' device.

    The physical beams leave along unit vectors, whichever projection the LiDAR's user assumes.
    `chunk` scenes are rendered at a time: it bounds the memory and changes no value.
    """
    device = scenes.centers.device
    count, camera = len(scenes), rig.camera
    beams = direction_table(lidar.azimuth.double(), lidar.zenith.double(), 'spherical')
    beams = beams.reshape(-1, 3).float().to(device)
    rays = pixel_rays(camera.intrinsics()[None], camera.height, camera.width)
    rays = rays.reshape(-1, 3).to(device)
    T_camera_lidar = scenes.camera_error @ camera.extrinsics().to(device)

    ranges = torch.full((count, len(beams)), lidar.max_range, device=device)
    distances = torch.full((count, len(rays)), lidar.max_range, device=device)
    images = torch.zeros((count, len(rays), 4), dtype=torch.uint8, device=device)
    images[..., 3] = 255
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        some = scenes[part]
        seen = _Visible(some.kinds, some.centers, some.rotations, some.scales)
        for _ in _cast(seen, beams, ranges[part]):
            pass
        pose = T_camera_lidar[part]
        turn = pose[:, None, :3, :3]
        seen = replace(
            seen,
            centers=transform_points(pose, some.centers),
            rotations=turn @ some.rotations,
        )
        to_light = (turn @ some.to_light[:, None, :, None]).squeeze(-1)
        to_light = (to_light[..., None, :] @ seen.rotations).squeeze(-2)  # (n, K, 3) object frame
        pixels = images[part].view(-1, 4)
        for hit in _cast(seen, rays, distances[part]):
            lit = to_light[:, hit.slot].T.index_select(1, hit.scenes)
            facing = (normals(hit.kind, hit.points) * lit).sum(dim=0).clamp(min=0)
            light = some.light_intensity[hit.scenes] * facing + some.ambient[hit.scenes]
            colour = some.colours[:, hit.slot][hit.scenes] * light[:, None]
            pixels[hit.pixels, :3] = (colour * 255).round().clamp(max=255).to(torch.uint8)
    return Frames(
        images.view(count, camera.height, camera.width, 4),
        ranges.view(count, *lidar.shape),
        distances.view(count, camera.height, camera.width),
        scenes.centers,
    )


@dataclass(frozen=True)
class _Hits:
    """Where rays meet one object and nothing that came before is nearer.

    scenes (M,), pixels (M,) into the flattened image, points (3, M) in the object's frame at
    its original size.
    """

    slot: int
    kind: Kind
    scenes: Tensor
    pixels: Tensor
    points: Tensor


def _cast(seen: _Visible, directions: Tensor, nearest: Tensor) -> Iterator[_Hits]:
    """Lower `nearest` (n, P) to the first surface along directions (P, 3), object by object."""
    flat, rays = nearest.view(-1), directions.T.contiguous()
    for slot, kind in enumerate(seen.kinds):
        centers, scales = seen.centers[:, slot], seen.scales[:, slot]
        scene, ray = _candidates(centers, BOUNDING_RADIUS[kind] * scales, directions)
        along = rays.index_select(1, ray)
        # The sensor's origin and the rays in the frame of the object at its original size.
        rotation = seen.rotations[:, slot]
        origins = -(centers[:, None, :] @ rotation).squeeze(1) / scales[:, None]
        origin = origins.T.contiguous().index_select(1, scene)
        turn = rotation.reshape(-1, 9).T.contiguous().index_select(1, scene)
        along = (along[:, None] * turn.view(3, 3, -1)).sum(dim=0)
        at = first_hit(kind, origin, along)
        distance = at * scales[scene]
        pixel = scene * len(directions) + ray
        nearer = (distance < flat[pixel]).nonzero().squeeze(1)
        flat[pixel[nearer]] = distance[nearer]
        yield _Hits(
            slot,
            kind,
            scene[nearer],
            pixel[nearer],
            origin[:, nearer] + at[nearer] * along[:, nearer],
        )


def _candidates(centers: Tensor, radii: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (scene, ray) pairs whose ray meets the ball around the object."""
    away = torch.linalg.vector_norm(centers, dim=-1)
    cosine = torch.sqrt((1 - (radii / away).square()).clamp(min=0))
    # One part in a million of slack: a grazing ray must not be lost to rounding.
    threshold = torch.where(away > radii, away * (cosine - 1e-6), -torch.inf)
    scene, ray = (centers @ directions.T >= threshold[:, None]).nonzero(as_tuple=True)
    return scene, ray
