"""Camera and LiDAR, each by itself, see the objects in the same places, or it is said."""

import math

import numpy as np
import pytest
import torch
from recordings import frames
from small_bundles import small_bundle

from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.gaussian import disagreement
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import (
    DISAGREEMENT_MAX,
    Alignment,
    of_disagreement,
)
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.motion import MovingScene
from fusion_perception.simulation.render import render

pytestmark = pytest.mark.usefixtures('one_thread')
COUNT = 10
LIDAR = UniformGrid().lidar()


def covariances(*deviations):
    return torch.diag_embed(torch.tensor(deviations, dtype=torch.float64) ** 2)


def test_honest_estimates_disagree_by_one_on_average():
    generator = torch.Generator().manual_seed(0)
    apart = []
    for one, other in (((0.1, 0.2, 0.3), (1.0, 0.02, 0.3)), ((5.0, 0.01, 1.0), (0.01, 5.0, 1.0))):
        noise = torch.randn(2, 4000, 3, generator=generator, dtype=torch.float64)
        errors = noise * torch.tensor((one, other), dtype=torch.float64)[:, None]
        places = 25 + errors
        apart.append(disagreement(places[0], covariances(*one), places[1], covariances(*other)))
        swapped = disagreement(places[1], covariances(*other), places[0], covariances(*one))
        torch.testing.assert_close(swapped, apart[-1])
    assert [float(found.mean()) for found in apart] == pytest.approx([1, 1], abs=0.05)


@pytest.mark.parametrize(('value', 'told'), [(None, False), (0.5, False), (9.0, True)])
def test_a_disagreement_beyond_what_happens_is_a_warning(value, told):
    found = list(of_disagreement(value, DISAGREEMENT_MAX))
    assert [finding.level for finding in found] == ['WARN'] * told
    assert all('3.0 times as far apart' in finding.cause for finding in found)
    assert all('T_camera_lidar' in finding.remedy for finding in found)


@pytest.mark.parametrize(
    ('left', 'moved_m', 'place'),
    [
        (1.5, 0.2, 'turned by 2.0 degrees and moved by 0.20 m'),
        (1.5, 0.005, 'turned by 2.0 degrees from where'),
        (3.0, 0.2, None),
    ],
)
def test_where_the_camera_seems_to_be_is_told_if_that_explains_the_disagreement(
    left, moved_m, place
):
    there = Alignment(camera_pose='0 1 2', turned_deg=2.0, moved_m=moved_m, disagreement=left)
    (found,) = of_disagreement(9.0, 2.5, there)
    if place is None:
        assert 'T_camera_lidar' in found.remedy and '0 1 2' not in found.remedy
    else:
        assert place in found.remedy and "set camera_pose to '0 1 2'" in found.remedy
        assert 'the disagreement is 1.5' in found.remedy


def turned(axis, degrees):
    """Return a rotation (4, 4) about an axis of the camera."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.eye(4)
    first, second = [n for n in range(3) if n != axis]
    rotation[[first, first, second, second], [first, second, first, second]] = c, -s, s, c
    return rotation


def seen_by(task, camera_turned):
    """Return images and ranges of a moving scene, of a camera that is not where it should be."""
    rig = Rig()
    pose = camera_turned @ np.array(rig.camera.T_camera_lidar)
    camera = rig.camera.placed(pose)
    scene = MovingScene(task, 4)
    made = render(
        scene.at(3.0 * torch.arange(COUNT)), rig.model_copy(update={'camera': camera}), LIDAR
    )
    return made.images.numpy(), made.ranges.numpy()


def lately(runtime, images, ranges, camera=None):
    pairs = zip(images, ranges, strict=True)
    return float(np.median([runtime.disagreement(*pair, camera) for pair in pairs]))


@pytest.mark.parametrize('name', ['shapes', 'cubes'])
def test_sensors_that_are_mounted_as_the_bundle_says_agree(name):
    runtime = Runtime(load_bundle(name), 'cpu')
    assert lately(runtime, *seen_by(name, np.eye(4))) < DISAGREEMENT_MAX / 2


@pytest.mark.parametrize('name', ['shapes', 'cubes'])
@pytest.mark.parametrize(('axis', 'degrees'), [(0, 2), (1, -2), (1, 5), (2, 180)])
def test_a_camera_that_is_turned_disagrees_with_the_lidar(name, axis, degrees):
    runtime = Runtime(load_bundle(name), 'cpu')
    assert lately(runtime, *seen_by(name, turned(axis, degrees))) > DISAGREEMENT_MAX


def test_a_camera_that_is_turned_as_it_says_agrees_with_the_lidar():
    runtime, pose = Runtime(load_bundle('shapes'), 'cpu'), turned(1, 5)
    camera = Rig().camera.placed(pose @ np.array(Rig().camera.T_camera_lidar))
    assert lately(runtime, *seen_by('shapes', pose), camera) < DISAGREEMENT_MAX / 2


def test_what_is_told_of_a_frame_is_the_median_of_its_objects():
    runtime, frame = Runtime(load_bundle('shapes'), 'cpu'), frames(2, 10)[0:1]
    seen = runtime.observe(frame.images[0].numpy(), frame.ranges[0].numpy())
    of_each = runtime.bundle.model.disagreement(seen)[0].detach()
    assert of_each.isfinite().all() and of_each.min() < of_each.median() < of_each.max()
    assert runtime.disagreements(seen) == [float(of_each.median())]


def test_a_mirrored_image_disagrees_with_the_lidar_in_every_resolution():
    runtime = Runtime(load_bundle('shapes'), 'cpu')
    images, ranges = seen_by('shapes', np.eye(4))
    mirrored = images[:, :, ::-1]
    small = lately(runtime, mirrored, ranges)
    large = lately(runtime, mirrored.repeat(3, 1).repeat(3, 2), ranges)
    assert min(small, large) > DISAGREEMENT_MAX


@pytest.mark.parametrize('name', ['shapes', 'cubes'])
@pytest.mark.parametrize('scale', [0.25, 0.5])
def test_counts_of_a_wrong_scale_disagree_with_the_camera_and_lead_to_the_setting(name, scale):
    runtime = Runtime(load_bundle(name), 'cpu')
    images, ranges = seen_by(name, np.eye(4))
    scaled = np.where(ranges < LIDAR.max_range, scale * ranges, ranges)
    (found,) = of_disagreement(lately(runtime, images, scaled), DISAGREEMENT_MAX)
    assert 'range_scale' in found.remedy


def test_a_sensor_that_sees_nothing_neither_agrees_nor_disagrees():
    runtime = Runtime(load_bundle('shapes'), 'cpu')
    seen = frames(2, 10)
    image, ranges = seen.images[0].numpy(), seen.ranges[0].numpy()
    assert runtime.disagreement(image, ranges) is not None
    assert runtime.disagreement(np.zeros_like(image), ranges) is None
    assert runtime.disagreement(image, np.zeros_like(ranges)) is None


@pytest.mark.parametrize('name', ['early_fusion', 'late_fusion'])
def test_models_that_do_not_tell_sensors_apart_say_nothing(tmp_path, name):
    runtime = Runtime(load_bundle(small_bundle(tmp_path, name)), 'cpu')
    seen = frames(2, 10)
    assert runtime.disagreement(seen.images[0].numpy(), seen.ranges[0].numpy()) is None
