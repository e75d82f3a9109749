"""Where the camera seems to be, by what it and the LiDAR see."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_bundles import small_bundle

from fusion_perception.learning.agreement import Comparison
from fusion_perception.learning.alignment import _step, align, between
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.findings.agreement import (
    DISAGREEMENT_MAX,
    FEWEST_COMPARISONS,
    of_disagreement,
)
from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.mounting import camera_at
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.upright import turned_camera
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]
COUNT = 20


@pytest.fixture(scope='module', params=['shapes', 'cubes'])
def runtime(request):
    return Runtime(load_bundle(request.param), 'cpu')


def moved(camera, turned_deg, metres):
    """Return a camera that is turned about an axis of its own, then moved along them."""
    angles = torch.tensor(turned_deg, dtype=torch.float64) * math.pi / 180
    x, y, z = angles.tolist()
    step = torch.eye(4, dtype=torch.float64)
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    step[:3, :3] = torch.linalg.matrix_exp(cross)
    step[:3, 3] = torch.tensor(metres)
    return camera.placed(step @ torch.tensor(camera.T_camera_lidar, dtype=torch.float64))


def frames(runtime, camera, count=COUNT, seed=3):
    """Return what both sensors see of random scenes with the camera there, and the truth."""
    rig, lidar = runtime.bundle.rig, runtime.bundle.lidar
    task = 'shapes' if 'torus' in rig.classes else 'cubes'
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(count, SceneSettings(task=task), generator, rig=rig)
    return render(scenes, rig.model_copy(update={'camera': camera}), lidar)


def seen(runtime, made, camera=None):
    """Return it as an observation of a camera that is there, or where the bundle has it."""
    rig = runtime.bundle.rig
    return observe(made.images, made.ranges, camera or rig.camera, runtime.bundle.lidar)


def apart_deg(one, other):
    """Return by how much two cameras are turned against each other."""
    rotations = (np.array(each.T_camera_lidar)[:3, :3] for each in (one, other))
    first, second = rotations
    return math.degrees(np.linalg.norm(first @ second.T - np.eye(3)) / math.sqrt(2))


@pytest.mark.parametrize('turned_deg', [(0, 1, 0), (-2, 0, 0), (1, -2, 3), (0, 8, 0)])
def test_a_turn_of_the_camera_is_found_to_a_fraction_of_a_degree(runtime, turned_deg):
    camera = moved(runtime.bundle.rig.camera, turned_deg, (0, 0, 0))
    found = align(runtime, seen(runtime, frames(runtime, camera)))
    there = camera_at(found.camera_pose, runtime.bundle.rig.camera)
    assert apart_deg(there, camera) < 0.8
    assert found.turned_deg == pytest.approx(apart_deg(camera, runtime.bundle.rig.camera), abs=0.8)
    assert found.disagreement < DISAGREEMENT_MAX


@pytest.mark.parametrize(
    ('turned_deg', 'metres'),
    [((0, 0, 0), (1, 0.5, 0.5)), ((0, 5, 0), (-1, 0, 0)), ((0, 0, 0), (0.4, 0, 0))],
)
def test_of_a_camera_that_is_elsewhere_the_centres_are_as_close_as_ever(
    runtime, turned_deg, metres
):
    mounted = runtime.bundle.rig.camera
    camera = moved(mounted, turned_deg, metres)
    found = align(runtime, seen(runtime, frames(runtime, camera)))
    there = camera_at(found.camera_pose, mounted)
    others = frames(runtime, camera, count=64, seed=33)

    def mean_m(taken_for):
        off = runtime.predict(seen(runtime, others, taken_for)).centers - others.centers
        return float(off.norm(dim=-1).mean())

    assert mean_m(there) < 1.1 * mean_m(camera)
    assert found.disagreement < DISAGREEMENT_MAX / 2


def compared(runtime, camera, told, count=COUNT):
    """Return what frames of a camera say of where it is, told where it is not."""
    made = frames(runtime, camera, count)
    comparison = Comparison(runtime)
    for image, ranges in zip(made.images.numpy(), made.ranges.numpy(), strict=True):
        comparison.add(image, ranges, told)
    return comparison.alignment()


@pytest.mark.parametrize('roll_deg', [90, 180, -90])
def test_a_camera_that_does_not_hang_upright_is_found_whether_that_was_told_or_not(
    runtime, roll_deg
):
    mounted = runtime.bundle.rig.camera
    rolled = moved(mounted, (0, 0, roll_deg), (0, 0, 0))
    camera = moved(rolled, (0, 3, 0), (0, 0, 0))
    for told, turned_deg in ((None, abs(roll_deg)), (rolled, 3)):
        found = compared(runtime, camera, told)
        assert apart_deg(camera_at(found.camera_pose, mounted), camera) < 0.8
        assert found.turned_deg == pytest.approx(turned_deg, abs=1)
        assert found.disagreement < DISAGREEMENT_MAX / 2


def test_a_camera_on_its_side_is_found_where_the_images_of_the_training_were_no_squares(runtime):
    bundle = runtime.bundle
    mounted = bundle.rig.camera.model_copy(update={'height': 48, 'cy': 23.5})
    rig = bundle.rig.model_copy(update={'camera': mounted})
    manifest = bundle.manifest.model_copy(update={'rig': rig})
    wide = Runtime(replace(bundle, manifest=manifest), 'cpu')
    camera = turned_camera(mounted, 1)
    told = camera.model_copy(update={'T_camera_lidar': mounted.T_camera_lidar})
    found = compared(wide, camera, told)
    # It never learned from such images.
    assert apart_deg(camera_at(found.camera_pose, mounted), camera) < 1.5
    assert found.turned_deg == pytest.approx(90, abs=1)


def test_of_a_camera_whose_body_was_told_for_its_optical_frame_that_frame_is_found(runtime):
    mounted = runtime.bundle.rig.camera
    # Of its body: x forward, y left, z up.
    body = np.eye(4)
    body[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    told = mounted.placed(body @ np.array(mounted.T_camera_lidar))
    found = compared(runtime, mounted, told)
    assert apart_deg(camera_at(found.camera_pose, mounted), mounted) < 0.8
    assert found.turned_deg == pytest.approx(120, abs=1)


def test_a_camera_that_is_where_it_is_taken_to_be_stays(runtime):
    assert align(runtime, seen(runtime, frames(runtime, runtime.bundle.rig.camera))) is None


@pytest.mark.parametrize('wrong', ['of other scenes', 'mirrored'])
def test_no_place_of_the_camera_is_named_for_images_that_are_wrong(runtime, wrong):
    made = frames(runtime, runtime.bundle.rig.camera)
    images = made.images.flip(2) if wrong == 'mirrored' else made.images.roll(1, 0)
    others = seen(runtime, replace(made, images=images))
    apart = float(np.median(runtime.disagreements(others)))
    (finding,) = of_disagreement(apart, DISAGREEMENT_MAX, align(runtime, others))
    assert 'All that they see fits' not in finding.remedy
    assert 'whether a driver repeats an old image' in finding.remedy


def test_too_few_frames_tell_nothing(runtime):
    camera = moved(runtime.bundle.rig.camera, (0, 3, 0), (0, 0, 0))
    few = frames(runtime, camera, FEWEST_COMPARISONS - 1)
    assert align(runtime, seen(runtime, few)) is None
    # Nor do frames in which one of them sees nothing, however many.
    made = frames(runtime, camera)
    dark = replace(made, images=torch.zeros_like(made.images))
    assert align(runtime, seen(runtime, dark)) is None


def missed_deg(off_m, sigmas_m, axis=0):
    """Return by how much one step misses a camera's turn of 2 degrees.

    Of each of N places: how far to the right (axis 0) or down (1) the camera puts it, and how
    sure LiDAR and camera are of that.
    """
    places = 10 * torch.rand(len(off_m), 3, generator=torch.Generator().manual_seed(0)).double()
    places += torch.tensor([-5, 20, -5])
    turned_deg = (0, 2, 0) if axis == 0 else (2, 0, 0)
    cameras = Camera(), moved(Camera(), turned_deg, (0, 0, 0))
    given, there = (camera.extrinsics().double() for camera in cameras)
    by_camera = transform_points(there, places)
    by_camera[:, axis] += torch.tensor(off_m)
    by_camera = transform_points(given.inverse(), by_camera)
    estimates = []
    for centers, sigma_m in zip((places, by_camera), sigmas_m, strict=True):
        variances = torch.full((1, len(places), 3), 0.1**2)
        # What is right in the image is x to the LiDAR, what is down -z.
        variances[..., 2 * axis] = torch.tensor(sigma_m) ** 2
        estimates.append(Estimate(centers[None], torch.diag_embed(variances)))
    step = _step(*estimates, given, torch.eye(4).double(), 3)
    return between(step @ given, there)[0]


SURE = [0.1] * 60


@pytest.mark.parametrize('axis', [0, 1], ids=['right', 'down'])
def test_a_few_places_that_one_sensor_mistakes_hardly_turn_a_camera(axis):
    assert missed_deg([0.0] * 60, (SURE, SURE), axis) < 0.1
    assert missed_deg([10.0] * 3 + [0.0] * 57, (SURE, SURE), axis) < 0.2


@pytest.mark.parametrize('axis', [0, 1], ids=['right', 'down'])
@pytest.mark.parametrize('unsure', [0, 1], ids=['LiDAR', 'camera'])
def test_what_either_sensor_is_unsure_of_hardly_turns_a_camera(unsure, axis):
    sigmas_m = [SURE, SURE]
    sigmas_m[unsure] = [10.0] * 30 + [0.1] * 30
    assert missed_deg([2.0] * 30 + [0.0] * 30, sigmas_m, axis) < 0.2


def test_what_either_sensor_does_not_know_turns_no_camera():
    half, rest = [1.0] * 30, [0.0] * 30
    unknown = [math.inf] * 30 + [0.1] * 30
    assert missed_deg([math.nan] * 30 + rest, (SURE, SURE)) < 0.1
    assert missed_deg(half + rest, (unknown, SURE)) < 0.1
    assert missed_deg(half + rest, (SURE, unknown)) < 0.1


def test_two_poses_differ_by_a_turn_and_by_where_the_camera_is():
    one = moved(Camera(), (0, 0, 0), (1, 2, 3))
    for metres, away_m in (((0, 0, 0), 0), ((0.3, 0, 0.4), 0.5)):
        other = moved(one, (0, 90, 0), metres)
        told = between(one.extrinsics().double(), other.extrinsics().double())
        assert told == pytest.approx((90, away_m), abs=1e-4)


@pytest.mark.parametrize('free', [3, 6], ids=['turned', 'moved too'])
def test_estimates_that_know_nothing_bring_a_camera_back_to_where_it_was_taken_to_be(free):
    given = Camera().extrinsics().double()
    so_far = torch.tensor(moved(Camera(), (1, -2, 3), (0.1, 0.2, -0.1)).T_camera_lidar).double()
    so_far = so_far @ given.inverse()
    centers = torch.rand(COUNT, 3, 3, generator=torch.Generator().manual_seed(0)) + 20
    unsure = Estimate(centers, 1e12 * torch.eye(3).expand(COUNT, 3, 3, 3))
    back = _step(unsure, unsure, so_far @ given, so_far, free) @ so_far
    torch.testing.assert_close(back[:3, :3], torch.eye(3).double(), atol=2e-3, rtol=0)
    assert free == 3 or back[:3, 3].abs().max() < 0.02


def test_a_camera_that_is_taken_to_move_is_left_alone(runtime):
    mounted = runtime.bundle.rig.camera
    made = frames(runtime, moved(mounted, (0, 3, 0), (0, 0, 0)))
    still, moving = Comparison(runtime), Comparison(runtime)
    for index in range(COUNT):
        pair = made.images[index].numpy(), made.ranges[index].numpy()
        still.add(*pair, mounted)
        moving.add(*pair, moved(mounted, (0, 0.01 * index, 0), (0, 0, 0)))
    assert still.alignment() is not None
    assert moving.alignment() is None


def test_models_that_do_not_tell_sensors_apart_find_nothing(tmp_path):
    runtime = Runtime(load_bundle(small_bundle(tmp_path, 'early_fusion')), 'cpu')
    made = frames(runtime, moved(Camera(), (0, 3, 0), (0, 0, 0)))
    assert align(runtime, seen(runtime, made)) is None


def test_the_remedy_is_the_setting_where_it_helps_and_says_what_remains(runtime):
    camera = moved(runtime.bundle.rig.camera, (0, 3, 0), (0, 0, 0))
    found = align(runtime, seen(runtime, frames(runtime, camera)))
    (finding,) = of_disagreement(30.0, DISAGREEMENT_MAX, found)
    assert f"set camera_pose to '{found.camera_pose}'" in finding.remedy
    assert 'turned by 3.' in finding.remedy or 'turned by 2.' in finding.remedy
    (finding,) = of_disagreement(30.0, 0.01, found)
    assert found.camera_pose not in finding.remedy
