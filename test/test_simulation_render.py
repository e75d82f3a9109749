"""Rendered frames agree with the scenes they show."""

from dataclasses import fields, replace

import pytest
import torch

from fusion_perception.sensing.geometry import (
    invert_transform,
    pixel_rays,
    project,
    range_to_xyza,
    transform_points,
)
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import Frames, render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

RIG, LIDAR = Rig(), UniformGrid().lidar()
BESIDE = [[1.0, 0, 0, -0.6], [0, 0, -1.0, 0.3], [0, 1.0, 0, 0.2], [0, 0, 0, 1.0]]
ASIDE = Rig.read({'camera': {'T_camera_lidar': BESIDE}})


def scenes_of(task='shapes', count=6, seed=0, **settings):
    settings = SceneSettings(task=task, **settings)
    return sample_scenes(count, settings, torch.Generator().manual_seed(seed))


def with_centers(scenes, *centers):
    return replace(scenes, centers=torch.tensor([centers]).expand(len(scenes), -1, 3))


def surface_gap(kind, local):
    """Return how far points (M, 3), object frame, original size, lie from the surface."""
    if kind == 'cube':
        return (local.abs().amax(dim=-1) - 1.5).abs()
    if kind == 'sphere':
        return (local.norm(dim=-1) - 1.5).abs()
    return (torch.hypot(local[:, :2].norm(dim=-1) - 1.0, local[:, 2]) - 0.5).abs()


def distance_to_surfaces(points, scenes, index):
    """Return how far points (M, 3), LiDAR frame, lie from the nearest surface of one scene."""
    gaps = []
    for slot, kind in enumerate(scenes.kinds):
        scale = scenes.scales[index, slot]
        local = (points - scenes.centers[index, slot]) @ scenes.rotations[index, slot] / scale
        gaps.append(surface_gap(kind, local) * scale)
    return torch.stack(gaps).amin(dim=0)


def points_of_camera(frames, index, rig):
    rays = pixel_rays(rig.camera.intrinsics()[None], rig.camera.height, rig.camera.width)[0]
    seen = frames.distances[index] < LIDAR.max_range
    points = rays[seen] * frames.distances[index][seen][:, None]
    return transform_points(invert_transform(rig.camera.extrinsics()), points)


def points_of_lidar(frames, index):
    xyza = range_to_xyza(frames.ranges[index], LIDAR.directions, LIDAR.max_range)
    return xyza[:3, xyza[3] > 0].T


@pytest.mark.parametrize('rig', [RIG, ASIDE], ids=['camera at the lidar', 'camera aside'])
@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_both_sensors_see_the_same_surfaces(task, rig):
    scenes = scenes_of(task, size_jitter=0.1)
    frames = render(scenes, rig, LIDAR)
    for index in range(len(scenes)):
        from_camera = points_of_camera(frames, index, rig)
        from_lidar = points_of_lidar(frames, index)
        assert len(from_camera) > 20
        assert len(from_lidar) > 20
        assert distance_to_surfaces(from_camera, scenes, index).max() < 1e-3
        assert distance_to_surfaces(from_lidar, scenes, index).max() < 1e-3


@pytest.mark.parametrize('kind', ['cube', 'sphere', 'torus'])
def test_every_hit_lies_on_the_surface_of_its_object(kind):
    scenes = scenes_of(kinds=(kind,))
    frames = render(scenes, RIG, LIDAR)
    for index in range(len(scenes)):
        points = points_of_lidar(frames, index) - scenes.centers[index, 0]
        assert surface_gap(kind, points @ scenes.rotations[index, 0]).max() < 1e-4


def test_a_lidar_point_has_the_camera_distance_of_the_pixel_it_falls_into():
    scenes = with_centers(scenes_of(kinds=('sphere',), count=1), [0.5, 24.0, -0.5])
    frames = render(scenes, ASIDE, LIDAR)
    in_camera = transform_points(ASIDE.camera.extrinsics(), points_of_lidar(frames, 0))
    pixels, _ = project(in_camera[None], ASIDE.camera.intrinsics()[None])
    column, row = pixels[0].round().long().unbind(-1)
    error = frames.distances[0, row, column] - in_camera.norm(dim=-1)
    assert error.abs().median() < 0.1


def test_a_ray_that_meets_nothing_reads_the_maximum_range():
    far_left = with_centers(scenes_of(kinds=('sphere',), count=1), [-400.0, 24.0, 0.0])
    frames = render(far_left, RIG, LIDAR)
    assert (frames.ranges == LIDAR.max_range).all()
    assert (frames.distances == LIDAR.max_range).all()
    assert (frames.images[..., :3] == 0).all()
    assert (frames.images[..., 3] == 255).all()


def test_what_lies_behind_a_sensor_is_not_seen():
    behind = with_centers(scenes_of(kinds=('cube',), count=2), [0.0, -20.0, 0.0])
    assert (render(behind, RIG, LIDAR).ranges == LIDAR.max_range).all()


def test_beyond_its_range_the_lidar_sees_nothing_but_the_camera_does():
    short = UniformGrid(max_range=10).lidar()
    frames = render(scenes_of(count=3, ambient=(0.2, 0.2)), RIG, short)
    assert (frames.ranges == 10).all()
    assert (frames.distances == 10).all()
    assert (frames.images[..., :3] > 0).any()


def test_the_nearer_object_hides_the_farther_one_in_either_order():
    scenes = scenes_of(kinds=('sphere', 'sphere'), count=1, ambient=(1.0, 1.0))
    red_and_green = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])
    near, far = [0.0, 20.0, 0.0], [0.0, 28.0, 0.0]
    for order, seen in (((near, far), 0), ((far, near), 1)):
        frames = render(replace(with_centers(scenes, *order), colours=red_and_green), RIG, LIDAR)
        assert frames.ranges[0, 32, 32] == pytest.approx(18.5, abs=1e-4)
        assert frames.images[0, 32, 32, seen] == 255
        assert frames.images[0, 32, 32, 1 - seen] == 0


def test_a_camera_aside_sees_the_object_shifted_by_its_parallax():
    scenes = with_centers(scenes_of(kinds=('sphere',), count=1), [0.0, 25.0, 0.0])
    for rig, column in ((RIG, 31.5), (ASIDE, 31.5 - 73.3 * 0.6 / 25.2)):
        seen = render(scenes, rig, LIDAR).distances[0] < LIDAR.max_range
        columns = seen.nonzero()[:, 1].float()
        assert columns.mean() == pytest.approx(column, abs=0.25)


def test_a_camera_error_moves_the_image_and_leaves_the_ranges():
    exact = scenes_of(count=3)
    shaken = scenes_of(count=3, camera_shift_m=1.0, camera_turn_deg=5.0)
    exact, shaken = render(exact, RIG, LIDAR), render(shaken, RIG, LIDAR)
    assert torch.equal(exact.ranges, shaken.ranges)
    assert not torch.equal(exact.images, shaken.images)


def test_a_camera_error_is_as_good_as_another_pose_of_the_camera():
    shaken = scenes_of(count=1, camera_shift_m=1.0, camera_turn_deg=5.0)
    true_pose = (shaken.camera_error[0] @ torch.tensor(BESIDE)).tolist()
    exact = replace(shaken, camera_error=torch.eye(4)[None])
    moved = ASIDE.model_copy(
        update={'camera': ASIDE.camera.model_copy(update={'T_camera_lidar': true_pose})}
    )
    assert torch.equal(render(shaken, ASIDE, LIDAR).images, render(exact, moved, LIDAR).images)


def test_a_lidar_in_the_hole_of_a_torus_sees_its_wall_wherever_the_middle_is():
    scenes = replace(scenes_of(count=1, kinds=('torus',)), rotations=torch.eye(3).view(1, 1, 3, 3))
    for y, wall in ((-0.3, 0.2), (0.3, 0.8)):
        ranges = render(with_centers(scenes, [0.0, y, 0.0]), RIG, LIDAR).ranges
        assert ranges[0, 32, 32] == pytest.approx(wall, abs=0.01)
        assert ranges.max() < 1.0


def test_the_notebook_projection_changes_no_physical_beam():
    notebook = UniformGrid(projection='notebook').lidar()
    scenes = scenes_of()
    assert torch.equal(render(scenes, RIG, LIDAR).ranges, render(scenes, RIG, notebook).ranges)


@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_a_batch_shows_what_its_scenes_show_one_by_one(task):
    scenes = scenes_of(task, count=7, size_jitter=0.1, camera_shift_m=0.1)
    together = render(scenes, ASIDE, LIDAR)
    for chunk in (1, 3):
        apart = render(scenes, ASIDE, LIDAR, chunk=chunk)
        for field in fields(Frames):
            one, other = getattr(together, field.name), getattr(apart, field.name)
            # Matrix products of other sizes round otherwise: a grazing ray may tip over.
            same = (one.float() - other.float()).abs() < 1e-3
            assert same.float().mean() > 0.9999


def test_images_and_tables_of_any_size_are_rendered():
    camera = RIG.camera.resized(97, 51)
    lidar = UniformGrid(rows=40, columns=16, azimuth_step_deg=0.8, zenith_step_deg=2).lidar()
    scenes = scenes_of(kinds=('torus', 'cube', 'torus', 'sphere', 'cube'), count=2)
    frames = render(scenes, RIG.model_copy(update={'camera': camera}), lidar)
    assert frames.images.shape == (2, 51, 97, 4)
    assert frames.distances.shape == (2, 51, 97)
    assert frames.ranges.shape == (2, 40, 16)
    assert frames.centers.shape == (2, 5, 3)
    assert frames.images.dtype == torch.uint8
    assert (frames.ranges < 50).any(dim=-1).any(dim=-1).all()


def test_no_scenes_give_no_frames():
    frames = render(scenes_of(count=0), RIG, LIDAR)
    assert frames.images.shape == (0, 64, 64, 4)
    assert frames.ranges.shape == (0, 64, 64)


def test_objects_cover_as_much_of_both_images_as_their_size_and_distance_say():
    frames = render(scenes_of('cubes', count=200), RIG, LIDAR)
    # A cube of side 3 at 25 m covers 13.5 m2 on average; three of them, some hidden.
    assert 0.07 < (frames.distances < 50).float().mean() < 0.095
    assert 0.17 < (frames.ranges < 50).float().mean() < 0.21


def test_the_original_cubes_are_purely_red_green_and_blue():
    images = render(scenes_of('cubes', count=20), RIG, LIDAR).images[..., :3]
    assert ((images > 0).sum(dim=-1) <= 1).all()
    assert (images.amax(dim=(0, 1, 2)) > 200).all()


def test_brightness_follows_lamberts_law_from_the_upper_left():
    scenes = with_centers(scenes_of(kinds=('sphere',), count=1), [0.0, 25.0, 0.0])
    frames = render(replace(scenes, colours=torch.ones(1, 1, 3)), RIG, LIDAR)
    seen = frames.distances[0] < LIDAR.max_range
    normal = (points_of_camera(frames, 0, RIG) - scenes.centers[0, 0]) / 1.5
    facing = (normal @ torch.tensor([-5.0, -6.0, 6.0])) / 97**0.5
    expected = 255 * facing.clamp(min=0)
    assert (frames.images[0, ..., 0][seen] - expected).abs().max() < 0.51
    half = replace(scenes, colours=torch.ones(1, 1, 3), light_intensity=torch.tensor([0.5]))
    dimmed = render(half, RIG, LIDAR).images[0, ..., 0][seen]
    assert (dimmed - expected / 2).abs().max() < 0.51
    row, column = divmod(int(frames.images[0, ..., 0].argmax()), 64)
    assert row < 31
    assert column < 31


@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_points_of_beams_that_begin_beside_the_origin_lie_on_the_surfaces(task):
    generator = torch.Generator().manual_seed(5)
    lidar = replace(LIDAR, offsets=0.4 * torch.rand(64, 64, 3, generator=generator) - 0.2)
    scenes = scenes_of(task, size_jitter=0.1)
    frames = render(scenes, RIG, lidar)
    for index in range(len(scenes)):
        xyza = lidar.xyza(frames.ranges[index])
        points = xyza[:3, xyza[3] > 0].T
        assert len(points) > 20
        assert distance_to_surfaces(points, scenes, index).max() < 1e-3


def test_beams_that_all_begin_elsewhere_see_what_a_moved_sensor_sees():
    scenes, aside = scenes_of(), torch.tensor([0.3, -0.2, 0.4])
    lidar = replace(LIDAR, offsets=aside.expand(64, 64, 3))
    moved = replace(scenes, centers=scenes.centers - aside)
    torch.testing.assert_close(
        render(scenes, RIG, lidar).ranges, render(moved, RIG, LIDAR).ranges, rtol=0, atol=1e-3
    )
