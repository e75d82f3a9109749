"""A camera that lies on its side or hangs upside down sees what an upright one does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_bundles import GRID, small_bundle

from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.geometry import cross_matrices
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.upright import (
    quarters_upright,
    resized,
    turn_of,
    turned,
    turned_camera,
)

WIDE = Camera(width=48, height=32, fx=50.0, fy=60.0, cx=20.0, cy=17.5)
QUARTERS = [1, 2, 3]


def hung(pitch, yaw, roll):
    """Return WIDE at a heading, then an elevation, then turned about its own axis, degrees."""
    pose = WIDE.extrinsics().double()
    # Of the camera's axes: x right, y down, z forward.
    for axis, angle in ((1, yaw), (0, pitch), (2, roll)):
        turn = torch.eye(4).double()
        around = torch.eye(3).double()[axis] * math.radians(angle)
        turn[:3, :3] = torch.linalg.matrix_exp(cross_matrices(around))
        pose = turn @ pose
    return WIDE.placed(pose)


def sensed(count, camera, seed=0):
    """Return random images of a camera's size and random range images."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, camera.height, camera.width, 4), np.uint8)
    return images, generator.uniform(15, 35, (count, *GRID.shape)).astype(np.float32)


@pytest.mark.parametrize('quarters', QUARTERS)
def test_what_is_at_a_pixel_is_there_in_the_turned_image(quarters):
    points = np.random.default_rng(1).uniform((-3, 15, -3), (3, 30, 3), (50, 3))
    (before, _), (after, _) = (
        each.project(points) for each in (WIDE, turned_camera(WIDE, quarters))
    )
    rows, columns = np.mgrid[: WIDE.height, : WIDE.width].astype(float)
    rows, columns = np.rot90(rows, quarters), np.rot90(columns, quarters)
    # Where a pixel of the turned image was before is linear in its row and column.
    corner, down, right = (np.array([columns[at], rows[at]]) for at in ((0, 0), (1, 0), (0, 1)))
    back = corner + after[:, :1] * (right - corner) + after[:, 1:] * (down - corner)
    np.testing.assert_allclose(back, before, atol=1e-4)


@pytest.mark.parametrize(('height', 'width'), [(64, 24), (32, 48), (32, 24), (16, 48)])
def test_an_observation_is_resized_as_its_camera_is(height, width):
    images, ranges = map(torch.from_numpy, sensed(2, WIDE))
    expected = observe(images, ranges, WIDE.resized(width, height), GRID)
    found = resized(observe(images, ranges, WIDE, GRID), height, width)
    torch.testing.assert_close(found.rgba, expected.rgba, atol=1.01 / 255, rtol=0)
    torch.testing.assert_close(found.intrinsics, expected.intrinsics)


@pytest.mark.parametrize('quarters', [*QUARTERS, 0, 4, -1])
def test_an_observation_is_turned_as_its_images_and_its_camera_are(quarters):
    images, ranges = map(torch.from_numpy, sensed(2, WIDE))
    camera = turned_camera(WIDE, quarters)
    expected = observe(images.rot90(quarters, (1, 2)), ranges, camera, GRID)
    found = turned(observe(images, ranges, WIDE, GRID), quarters)
    assert found.rgba.shape == (2, 4, camera.height, camera.width)
    for name, value in vars(found).items():
        torch.testing.assert_close(value, getattr(expected, name))


def test_four_quarters_are_none():
    assert turned_camera(WIDE, 4) == turned_camera(turned_camera(WIDE, 1), 3) == WIDE
    assert torch.equal(turn_of(-1) @ turn_of(1), torch.eye(4).double())


@given(
    roll=st.floats(-180, 180),
    yaw=st.floats(-180, 180),
    pitch=st.floats(-55, 55),
    trained_pitch=st.floats(-55, 55),
    trained_roll=st.floats(-180, 180),
)
def test_images_come_to_stand_as_in_the_training_wherever_both_cameras_look(
    roll, yaw, pitch, trained_pitch, trained_roll
):
    trained = hung(trained_pitch, 30, trained_roll)
    needed = quarters_upright(hung(pitch, yaw, roll), trained)
    left = (roll - trained_roll - 90 * needed + 180) % 360 - 180
    assert abs(left) <= 45 + 1e-4


@pytest.mark.parametrize('roll', [0, 90, 180])
def test_a_camera_that_looks_almost_straight_down_is_left_as_it_is(roll):
    assert quarters_upright(hung(-80, 0, roll), WIDE) == 0


@pytest.mark.parametrize('roll', [0, 90, 180, -90])
def test_of_cameras_that_look_straight_down_the_one_is_turned_as_the_other(roll):
    assert quarters_upright(hung(-90, 0, roll), hung(-90, 0, 0)) == roll // 90 % 4


@pytest.mark.parametrize('quarters', QUARTERS)
@pytest.mark.parametrize('engine', ['torch', pytest.param('onnxruntime', marks=pytest.mark.slow)])
def test_a_rolled_camera_gives_the_centres_of_an_upright_one(bundles, engine, quarters):
    runtime = Runtime(bundles(WIDE), 'cpu', engine=engine)
    images, ranges = sensed(2, WIDE)
    rolled = turned_camera(WIDE, quarters)
    lying = np.rot90(images, quarters, (1, 2))
    expected = runtime.predict_frames(images, ranges, WIDE)
    found = runtime.predict_frames(lying, ranges, rolled)
    one = runtime.predict_frame(lying[0], ranges[0], rolled)
    torch.testing.assert_close(found.centers, expected.centers, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.centers, expected.centers[:1], atol=1e-4, rtol=0)
    assert runtime.observe(lying[0], ranges[0], rolled).rgba.shape == (1, 4, 32, 48)
    told = runtime.disagreement(images[0], ranges[0], WIDE)
    assert runtime.disagreement(lying[0], ranges[0], rolled) == pytest.approx(told, rel=1e-3)


@pytest.mark.parametrize('quarters', QUARTERS)
def test_images_of_another_size_are_turned_as_well(bundles, quarters):
    runtime = Runtime(bundles(WIDE), 'cpu')
    large = WIDE.resized(3 * WIDE.width, 2 * WIDE.height)
    images, ranges = sensed(1, large)
    # BGR that is read backwards, as a driver's images are.
    image = np.ascontiguousarray(images[0, ..., 2::-1])[..., ::-1]
    lying = np.ascontiguousarray(np.rot90(image, quarters)[..., ::-1])[..., ::-1]
    seen = runtime.observe(image, ranges[0], large)
    whole = runtime.observe(np.ascontiguousarray(image), ranges[0], large)
    assert torch.equal(seen.rgba, whole.rgba)
    found = runtime.observe(lying, ranges[0], turned_camera(large, quarters))
    # They are resized before they are turned, which rounds the one or other pixel elsewhere.
    torch.testing.assert_close(found.rgba, seen.rgba, atol=1.01 / 255, rtol=0)
    for name in ('intrinsics', 'T_camera_lidar', 'xyza'):
        torch.testing.assert_close(getattr(found, name), getattr(seen, name))


def test_a_bundle_of_a_camera_on_its_side_takes_its_images_as_they_are(bundles):
    rolled = turned_camera(WIDE, 1)
    runtime = Runtime(bundles(rolled), 'cpu')
    images, ranges = sensed(1, rolled)
    seen = runtime.observe(images[0], ranges[0], rolled.model_copy())
    assert torch.equal(seen.rgba, runtime.observe(images[0], ranges[0]).rgba)
    torch.testing.assert_close(
        seen.rgba[0, :3, 0, 0] * 255, torch.from_numpy(images[0, 0, 0, :3]).float()
    )


@pytest.fixture
def bundles(tmp_path):
    def make(camera):
        rig = Rig().model_copy(update={'camera': camera})
        return load_bundle(small_bundle(tmp_path, rig=rig))

    return make
