"""A camera that is mounted elsewhere than in the training, in recordings and evaluations."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from recordings import at

from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.to_bag import (
    CAMERA_INFO,
    IMAGE,
    RANGES,
    TRUTH,
    ToBagSettings,
    to_bag,
)
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

COUNT = 12
# Half a metre to the right of the LiDAR and as much above it, turned to the left by 4 degrees.
TURN = math.radians(4)
HALF = TURN / 2
SHIFT = (0.0, -0.5, 0.5)
# About z by that, then onto the optical axes: the products of the two quaternions.
QUATERNION = tuple(
    0.5 * q
    for q in (
        -math.cos(HALF) - math.sin(HALF),
        math.cos(HALF) - math.sin(HALF),
        -math.cos(HALF) + math.sin(HALF),
        math.cos(HALF) + math.sin(HALF),
    )
)
UPRIGHT, NO_TURN = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0)
MEASURED = ' '.join(f'{number:.6f}' for number in (*SHIFT, *QUATERNION))
# The same by hand, from the package's axes (x right, y forward, z up) to optical ones.
C, S = math.cos(TURN), math.sin(TURN)
T_CAMERA_LIDAR = (
    (C, S, 0.0, -0.5 * C),
    (0.0, 0.0, -1.0, 0.5),
    (-S, C, 0.0, 0.5 * S),
    (0.0, 0.0, 0.0, 1.0),
)
RIG = Rig(camera=Camera(T_camera_lidar=T_CAMERA_LIDAR))


def recorded(path, *transforms, without=()):
    """Write what the moved camera and the LiDAR see of a dozen scenes, after some frames."""
    scenes = sample_scenes(COUNT, SceneSettings(), torch.Generator().manual_seed(5), rig=RIG)
    seen = render(scenes, RIG, UniformGrid().lidar())
    with BagWriter(path) as bag:
        for link in transforms:
            bag.transform(at(0), *link)
        for index in range(COUNT):
            write(bag, index, RIG.camera, seen, index, without)
    return path


def write(bag, index, camera, seen, frame, without=()):
    """Write what both sensors see at a time: a frame of those that were rendered."""
    stamp_ns = at(index)
    if IMAGE not in without:
        bag.image(IMAGE, stamp_ns, seen.images[frame].numpy())
    if CAMERA_INFO not in without:
        bag.camera_info(CAMERA_INFO, stamp_ns, camera)
    if RANGES not in without:
        bag.ranges(RANGES, stamp_ns, seen.ranges[frame].numpy())
    bag.centers(TRUTH, stamp_ns, seen.centers[frame].double().numpy())


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Write a recording with what a robot latches, which no test changes."""
    return recorded(
        tmp_path_factory.mktemp('moved') / 'drive',
        ('base_link', 'mast', (0.0, 0.0, 2.0), UPRIGHT),
        ('mast', 'lidar', (0.0, 0.0, 0.0), UPRIGHT),
        ('mast', 'camera', SHIFT, QUATERNION),
    )


@pytest.fixture
def told(tmp_path):
    def evaluated(bag, **settings):
        given = {'bundle': 'shapes', 'out': tmp_path / 'out', 'device': 'cpu', **settings}
        said, _ = evaluate(EvaluateSettings.read({**given, 'bag': (str(bag),)}))
        report = json.loads((tmp_path / 'out' / 'report.json').read_text())
        return said, report | {'out': tmp_path / 'out'}

    return evaluated


def mean_m(report):
    return report['error_m']['mean']


def test_of_a_moved_camera_nobody_need_tell_for_the_warning_says_where_it_is(told, drive):
    said, report = told(drive)
    assert report['disagreement'] > DISAGREEMENT_MAX
    found = report['alignment']
    assert f"set camera_pose to '{found['camera_pose']}'" in said
    assert found == report['bags'][0]['alignment']
    page = (report['out'] / 'report.html').read_text()
    assert found['camera_pose'] in page
    said, there = told(drive, camera_pose=found['camera_pose'])
    assert there['disagreement'] == pytest.approx(found['disagreement'], abs=0.05)
    assert there['alignment'] is None and 'disagree' not in said
    assert 2 * mean_m(there) < mean_m(report)


@pytest.mark.parametrize('camera_pose', [MEASURED, 'tf'], ids=['measured', 'tf'])
def test_where_its_place_is_told_it_is_as_good_as_in_the_training(told, drive, camera_pose):
    _, unknown = told(drive)
    said, report = told(drive, camera_pose=camera_pose)
    assert report['disagreement'] < DISAGREEMENT_MAX / 2
    assert 'disagree' not in said
    assert 2 * mean_m(report) < mean_m(unknown)
    assert report['settings']['camera_pose'] == camera_pose


def test_without_camera_info_the_place_counts_all_the_same(told, tmp_path):
    bag = recorded(tmp_path / 'drive', without=(CAMERA_INFO,))
    said, report = told(bag, camera_pose=MEASURED)
    assert report['disagreement'] < DISAGREEMENT_MAX / 2
    assert '12 pairs have no camera_info' in said


def test_the_camera_alone_is_placed_in_the_lidar_s_frame(told, tmp_path):
    silent = recorded(tmp_path / 'drive', without=(RANGES,))
    _, unknown = told(silent)
    _, report = told(silent, camera_pose=MEASURED)
    assert mean_m(report) < 0.8 * mean_m(unknown)


def test_frames_that_nothing_joins_lose_the_pairs_and_say_what_to_do(told, tmp_path):
    bag = recorded(tmp_path / 'drive', ('base_link', 'lidar', (0.0, 0.0, 0.0), UPRIGHT))
    with pytest.raises(ValueError) as refused:
        told(bag, camera_pose='tf')
    assert (
        f'{COUNT} camera messages were dropped (no_transform): neither /tf_static nor /tf joins '
        "'lidar' and 'camera'; give camera_pose in numbers."
    ) in str(refused.value)
    assert f'{COUNT} of {COUNT} lidar messages no_transform' in str(refused.value)
    assert 'fusion doctor' not in str(refused.value)  # It asks for no transforms.


def test_the_lidar_alone_needs_no_place_of_the_camera(told, tmp_path):
    blind = recorded(tmp_path / 'drive', without=(IMAGE, CAMERA_INFO))
    _, report = told(blind, camera_pose='tf')
    assert report['pairs'] == COUNT


def test_a_rotation_that_is_none_is_told_with_its_topic_and_frame(told, tmp_path):
    bag = recorded(tmp_path / 'drive', ('lidar', 'camera', SHIFT, NO_TURN))
    with pytest.raises(ValueError) as refused:
        told(bag, camera_pose='tf')
    assert (
        f"{COUNT} camera messages were dropped (no_transform): on /tf_static, of 'camera', the "
        'quaternion 0 0 0 0 has no length of 1; give camera_pose in numbers.'
    ) in str(refused.value)


def test_a_rotation_that_is_none_of_another_frame_costs_nothing(told, tmp_path):
    wheel, camera = ('lidar', 'wheel', SHIFT, NO_TURN), ('lidar', 'camera', SHIFT, QUATERNION)
    _, report = told(recorded(tmp_path / 'drive', wheel, camera), camera_pose='tf')
    assert report['pairs'] == COUNT


def test_a_camera_that_swings_is_where_tf_has_it_at_each_time(told, tmp_path):
    bag = swinging(tmp_path / 'drive')
    _, unknown = told(bag)
    said, report = told(bag, camera_pose='tf')
    assert report['disagreement'] < DISAGREEMENT_MAX / 2
    assert 2 * mean_m(report) < mean_m(unknown)
    # Of the last image /tf tells no more.
    assert report['pairs'] == COUNT - 1
    assert "(no_transform): /tf tells of 'mast' from 1699999999.997 to" in said


@pytest.mark.parametrize(
    ('degrees', 'kept', 'scenes'), [(0.01, COUNT - 1, 'scenes'), (10, 1, 'scene')]
)
def test_a_data_folder_has_one_camera_that_may_tremble_but_not_move(
    tmp_path, degrees, kept, scenes
):
    bag = swinging(tmp_path / 'drive', degrees)
    said = from_bag(FromBagSettings(bag=bag, out=tmp_path / 'data', camera_pose='tf'))
    assert f'{kept} {scenes} of' in said
    moved = f'{COUNT - 1 - kept} pairs have another camera than the first, or one that has moved'
    assert (moved in said) == (kept < COUNT - 1)


def swinging(path, degrees=10):
    """Write what a camera sees that swings by so much to both sides, and /tf beside it."""
    scenes = sample_scenes(COUNT, SceneSettings(), torch.Generator().manual_seed(5))

    def angle(time_s):
        return math.radians(degrees) * math.sin(8 * time_s)

    with BagWriter(path) as bag:
        bag.transform(at(0), 'mast', 'camera', (0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5))
        bag.transform(at(0), 'base', 'lidar', (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
        for tick in range(-1, 20 * COUNT - 20):  # At none of the times of the images.
            half = angle((tick + 0.5) / 200) / 2
            turn = (0.0, 0.0, math.sin(half), math.cos(half))
            bag.transform(
                at((tick + 0.5) / 20), 'base', 'mast', (0.0, 0.0, 0.0), turn, moving=True
            )
        for index in range(COUNT):
            # To the left by the REP-103 axes of the mast.
            c, s = math.cos(angle(index / 10)), math.sin(angle(index / 10))
            T = ((c, s, 0, 0), (0, 0, -1, 0), (-s, c, 0, 0), (0, 0, 0, 1))
            rig = Rig(camera=Camera(T_camera_lidar=T))
            seen = render(scenes[index : index + 1], rig, UniformGrid().lidar())
            write(bag, index, rig.camera, seen, 0)
    return path


@pytest.mark.parametrize('camera_pose', [MEASURED, 'tf'], ids=['measured', 'tf'])
def test_a_data_folder_of_a_recording_holds_where_its_camera_was(drive, tmp_path, camera_pose):
    out = tmp_path / 'scenes'
    from_bag(FromBagSettings(bag=drive, out=out, camera_pose=camera_pose))
    rig = yaml.safe_load((out / 'sensor.yaml').read_text())
    assert np.allclose(rig['camera']['T_camera_lidar'], T_CAMERA_LIDAR, atol=1e-5)


def test_where_it_was_travels_from_a_data_folder_into_a_recording(drive, tmp_path, simulated):
    scenes, again, back = (tmp_path / name for name in ('scenes', 'again', 'back'))
    from_bag(FromBagSettings(bag=drive, out=scenes, camera_pose=MEASURED))
    to_bag(ToBagSettings(data=scenes, out=again))
    from_bag(FromBagSettings(bag=again, out=back, camera_pose='tf'))
    rig = yaml.safe_load((back / 'sensor.yaml').read_text())
    assert np.allclose(rig['camera']['T_camera_lidar'], T_CAMERA_LIDAR, atol=1e-5)
    with Recording(again) as recording:
        # Who comes later hears it, too, when it is played.
        assert recording.topics['/tf_static'].latched == 1
    # Beside the LiDAR there is nothing to tell.
    to_bag(ToBagSettings(data=simulated, out=tmp_path / 'beside'))
    with Recording(tmp_path / 'beside') as recording:
        assert '/tf_static' not in recording.topics


def test_a_data_folder_says_itself_where_its_camera_is(tmp_path):
    with pytest.raises(ValueError, match='--camera-pose tf is for --bag'):
        EvaluateSettings.read(
            {'bundle': 'shapes', 'out': tmp_path, 'data': tmp_path, 'camera_pose': 'tf'}
        )
