"""Where the camera is: as in the training, as tf has it, or as it was measured."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import link

from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.sensing.mounting import (
    Mounting,
    T_lidar_camera,
    as_camera_pose,
    camera_at,
)
from fusion_perception.sensing.observation import BESIDE_THE_LIDAR, Camera
from fusion_perception.sensing.rep103 import from_rep103
from fusion_perception.sensing.transforms import (
    NoTransform,
    Transforms,
    quaternion_of,
    rigid,
)

# Of an optical frame (x right, y down, z forward) that looks along the LiDAR's x.
AHEAD = (-0.5, 0.5, -0.5, 0.5)
TOLD = Camera(fx=50.0)


def nowhere(camera_frame, lidar_frame, stamp_ns):
    raise NoTransform(f'{camera_frame} {lidar_frame} {stamp_ns}')


def placed(camera_pose, told=TOLD, find=nowhere, mounted=None):
    mounting = Mounting(camera_pose, mounted or Camera(), find)
    return mounting.placed(told, 'camera', 'lidar', 7)


def seen(camera, *point):
    """Return where the camera's optical frame has a point of the LiDAR's REP-103 frame."""
    T = np.array(camera.T_camera_lidar)
    return T[:3, :3] @ from_rep103(np.array(point)) + T[:3, 3]


def words(*numbers):
    return ' '.join(f'{number:.6g}' for number in numbers)


def known(*links):
    transforms = Transforms()
    transforms.take(SimpleNamespace(transforms=links))
    return transforms


def test_a_camera_beside_the_lidar_that_looks_ahead_is_that_of_the_original_data():
    camera = placed(words(0, 0, 0, *AHEAD))
    assert np.allclose(camera.T_camera_lidar, BESIDE_THE_LIDAR)
    assert camera.model_copy(update={'T_camera_lidar': TOLD.T_camera_lidar}) == TOLD


def test_a_measured_camera_sees_what_is_ahead_of_it_ahead():
    camera = placed('1, 0.5, 0.2, -0.5, 0.5, -0.5, 0.5')
    assert seen(camera, 11.0, 0.5, 0.2) == pytest.approx([0, 0, 10])
    # To its left and above it.
    assert seen(camera, 11.0, 2.5, 1.2) == pytest.approx([-2, -1, 10])


def test_what_was_rounded_as_tf2_echo_prints_it_is_a_rotation():
    half = math.radians(20) / 2
    # Turned to the left by 20 degrees: by that about z, then onto the optical axes.
    c, s = math.cos(half), math.sin(half)
    x, y, z, w = AHEAD
    turn = (c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z)
    camera = placed(' '.join(f'{number:.3f}' for number in (0, 0, 0, *turn)))
    ahead = math.cos(2 * half), math.sin(2 * half)
    assert seen(camera, 10 * ahead[0], 10 * ahead[1], 0.0) == pytest.approx([0, 0, 10], abs=0.02)
    assert Camera.read(camera.model_dump()) == camera


@pytest.mark.parametrize(
    ('camera_pose', 'why'),
    [
        ('here', "'here' is no pose"),
        ('1 2 3', "'1 2 3' is no pose"),
        (words(0, 0, 0, 0, 0, 0, 0.5), 'the quaternion 0 0 0 0.5 has no length of 1'),
        (words(0, 0, 0, 0, 0, 0, 0), 'the quaternion 0 0 0 0 has no length of 1'),
        ('0 0 nan -0.5 0.5 -0.5 0.5', 'is no pose'),
        ('0 0 0 nan 0.5 -0.5 0.5', 'is no pose'),
        ('0 0 1e9 -0.5 0.5 -0.5 0.5', 'is no pose'),
    ],
)
def test_what_is_no_pose_is_refused_with_the_way_to_get_one(camera_pose, why):
    with pytest.raises(ValueError) as refused:
        BagSettings.read({'camera_pose': camera_pose}, 'the flags')
    assert why in str(refused.value)
    assert 'give bundle, tf, or seven numbers' in str(refused.value)
    assert 'tf2_echo LIDAR CAMERA' in str(refused.value)


def test_as_in_the_training_it_is_what_camera_info_told():
    assert placed('bundle') is TOLD
    assert placed('bundle', told=None) is None


def test_without_camera_info_the_mounted_one_is_moved():
    mounted = Camera(fx=70.0)
    camera = placed(words(0, 0, 1, *AHEAD), told=None, mounted=mounted)
    assert (camera.fx, camera.T_camera_lidar[1][3]) == (70.0, 1.0)


def test_a_camera_that_stays_is_the_same_object_for_which_engines_keep_their_matrices():
    mounting = Mounting('tf', Camera(), lambda *_: rigid((0.0, 0.0, 0.0), AHEAD))
    first, again = (mounting.placed(TOLD, 'camera', 'lidar', stamp) for stamp in (1, 2))
    assert first is again
    assert mounting.placed(Camera(fx=51.0), 'camera', 'lidar', 3).fx == 51.0


def test_tf_is_asked_at_every_time_and_a_camera_that_turns_is_followed():
    asked = []

    def find(*question):
        asked.append(question)
        return np.linalg.inv(rigid((0.0, 0.0, float(question[2])), AHEAD))

    mounting = Mounting('tf', Camera(), find)
    heights = [
        mounting.placed(TOLD, 'eye', 'velodyne', stamp).T_camera_lidar[1][3] for stamp in (1, 2)
    ]
    assert heights == [1.0, 2.0]
    assert asked == [('eye', 'velodyne', 1), ('eye', 'velodyne', 2)]


def test_what_tf_does_not_know_is_no_camera():
    with pytest.raises(NoTransform, match='camera lidar 7'):
        placed('tf')


numbers = st.floats(-10, 10)
shifts = st.tuples(numbers, numbers, numbers)
turns = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


def unit(turn):
    return tuple(float(q / np.linalg.norm(turn)) for q in turn)


@given(shifts, turns, shifts, turns, shifts)
def test_measured_and_told_by_tf_are_the_same(shift, turn, other_shift, other_turn, point):
    turn, other_turn = unit(turn), unit(other_turn)
    # base -> lidar, and lidar -> camera as a way through base.
    T_base_lidar = rigid(other_shift, other_turn)
    T_base_camera = T_base_lidar @ rigid(shift, turn)
    transforms = known(link('base', 'lidar', other_shift, other_turn))
    transforms.take(
        SimpleNamespace(
            transforms=[link('lidar', 'mast', shift), link('mast', 'camera', turn=turn)]
        )
    )
    told = placed('tf', find=lambda camera, lidar, _: transforms.between(camera, lidar))
    measured = placed(' '.join(f'{number:.17g}' for number in (*shift, *turn)))
    assert np.allclose(told.T_camera_lidar, measured.T_camera_lidar, atol=1e-9)
    # And back.
    T_back = T_lidar_camera(np.array(measured.T_camera_lidar))
    again = rigid(tuple(T_back[:3, 3]), quaternion_of(T_back[:3, :3]))
    assert np.allclose(again, rigid(shift, turn), atol=1e-9)
    # As the LiDAR's frame has a point, and as the camera's has it, it is one place of base.
    in_base = T_base_lidar @ (*point, 1.0)
    assert np.allclose(T_base_camera @ (*seen(measured, *point), 1.0), in_base, atol=1e-8)


def test_two_frames_are_joined_by_what_both_hang_on():
    transforms = known(
        link('base', 'mast', (0.0, 0.0, 2.0)),
        link('mast', 'lidar', (0.0, 0.0, 1.0)),
        link('/base', '/camera', (1.0, 0.0, 0.0)),
        link('odom', 'base', (100.0, 0.0, 0.0)),
    )
    assert transforms.between('camera', 'lidar')[:3, 3] == pytest.approx([-1, 0, 3])
    assert transforms.between('/lidar', 'camera')[:3, 3] == pytest.approx([1, 0, -3])
    assert transforms.between('mast', 'lidar')[:3, 3] == pytest.approx([0, 0, 1])
    assert np.array_equal(transforms.between('lidar', 'lidar'), np.eye(4))


def test_the_last_word_on_a_frame_counts():
    transforms = known(link('base', 'lidar', (1.0, 0.0, 0.0)), link('base', 'lidar'))
    assert np.array_equal(transforms.between('base', 'lidar'), np.eye(4))


@pytest.mark.parametrize(
    'links',
    [(), [link('a', 'camera'), link('b', 'lidar')], [link('lidar', 'x'), link('x', 'lidar')]],
)
def test_what_nothing_joins_is_said(links):
    with pytest.raises(NoTransform, match="neither /tf_static nor /tf joins 'lidar' and 'camera'"):
        known(*links).between('camera', 'lidar')


BROKEN = link('base', '/camera', turn=(0.0, 0.0, 0.0, 0.0))


def test_a_broken_link_costs_the_frames_below_it_alone():
    transforms = known(
        link('base', 'lidar', (1.0, 0.0, 0.0)), BROKEN, link('camera', 'lens'), link('base', 'imu')
    )
    assert transforms.between('imu', 'lidar')[0, 3] == 1.0
    assert np.array_equal(transforms.between('camera', 'lens'), np.eye(4))
    why = "on /tf_static, of 'camera', the quaternion 0 0 0 0 has no length of 1"
    for frames in (('lens', 'lidar'), ('lidar', 'lens')):
        with pytest.raises(NoTransform, match=f'^{why}$'):
            transforms.between(*frames)


def test_a_good_word_on_a_frame_counts_before_and_after_a_broken_one():
    good, lidar = link('base', 'camera', (2.0, 0.0, 0.0)), link('base', 'lidar')
    for links in ((good, BROKEN, lidar), (BROKEN, good, lidar)):
        assert known(*links).between('lidar', 'camera')[0, 3] == 2.0


def test_what_moves_may_tell_of_a_frame_of_which_tf_static_has_a_broken_word():
    transforms = known(BROKEN, link('base', 'lidar'))
    transforms.follow(SimpleNamespace(transforms=[link('base', 'camera', (3.0, 0.0, 0.0))]))
    assert transforms.between('lidar', 'camera')[0, 3] == 3.0


def test_a_pose_that_is_said_as_a_setting_is_read_back_to_the_millimetre():
    told = Camera().model_copy(update={'T_camera_lidar': BESIDE_THE_LIDAR})
    T = np.array(told.T_camera_lidar)
    T[:3, 3] = 0.123, -0.456, 0.789
    back = camera_at(as_camera_pose(T), told).T_camera_lidar
    assert np.allclose(back, T, atol=0.001)
    T[:3, 3] = 0.0, 1e-9, -1e-9
    assert as_camera_pose(T).startswith('0.000 0.000 0.000 ')


@pytest.mark.parametrize(('length', 'is_one'), [(0.989, False), (0.991, True), (1.012, False)])
def test_a_quaternion_may_be_rounded_but_not_be_another_length(length, is_one):
    turn = tuple(length * part for part in AHEAD)
    if is_one:
        assert np.allclose(rigid((0.0, 0.0, 0.0), turn), rigid((0.0, 0.0, 0.0), AHEAD))
        return
    with pytest.raises(ValueError, match='has no length of 1'):
        rigid((0.0, 0.0, 0.0), turn)
