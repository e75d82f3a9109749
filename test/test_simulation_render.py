"""Rendered frames agree with the scenes they show."""


import pytest
import torch

from fusion_perception.sensing.geometry import (
    invert_transform,
    pixel_rays,
    range_to_xyza,
    transform_points,
)
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

RIG, LIDAR = Rig(), UniformGrid().lidar()
ASIDE = Rig.read(
    {
        'camera': {
            'T_camera_lidar': [[1, 0, 0, -0.6], [0, 0, -1, 0.3], [0, 1, 0, 0.2], [0, 0, 0, 1]]
        }
    }
)


def scenes_of(task='shapes', count=8, seed=0, **settings):
    settings = SceneSettings(task=task, **settings)
    return sample_scenes(count, settings, torch.Generator().manual_seed(seed))


def distance_to_surfaces(points, scenes, index):
    """Distance (M,) of points (M, 3), LiDAR frame, to the nearest surface of one scene."""
    gaps = []
    for slot, kind in enumerate(scenes.kinds):
        scale = scenes.scales[index, slot]
        local = (points - scenes.centers[index, slot]) @ scenes.rotations[index, slot] / scale
        if kind == 'cube':
            gap = local.abs().amax(dim=-1) - 1.5
        elif kind == 'sphere':
            gap = local.norm(dim=-1) - 1.5
        else:
            gap = torch.hypot(local[:, :2].norm(dim=-1) - 1.0, local[:, 2]) - 0.5
        gaps.append(gap.abs() * scale)
    return torch.stack(gaps).amin(dim=0)


@pytest.mark.parametrize('rig', [RIG, ASIDE], ids=['camera at the lidar', 'camera aside'])
@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_both_sensors_see_the_same_surfaces(task, rig):
    scenes = scenes_of(task, size_jitter=0.1)
    frames = render(scenes, rig, LIDAR)
    rays = pixel_rays(rig.camera.intrinsics()[None], 64, 64)[0]
    T_lidar_camera = invert_transform(rig.camera.extrinsics())
    for index in range(len(scenes)):
        seen = frames.distances[index] < LIDAR.max_range
        from_camera = rays[seen] * frames.distances[index][seen][:, None]
        from_camera = transform_points(T_lidar_camera, from_camera)
        xyza = range_to_xyza(frames.ranges[index], LIDAR.directions, LIDAR.max_range)
        from_lidar = xyza[:3, xyza[3] > 0].T
        assert len(from_camera) and len(from_lidar)
        assert distance_to_surfaces(from_camera, scenes, index).max() < 1e-3
        assert distance_to_surfaces(from_lidar, scenes, index).max() < 1e-3
