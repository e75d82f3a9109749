"""Frames that move against each other, as recordings have them on /tf."""

import math
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st
from links import link

from fusion_perception.sensing.transforms import NoTransform, Transforms, rigid

at = partial(recordings.at, rate=1)  # Of seconds.


def about_z(angle):
    return (0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2))


def moved(*links, fixed=()):
    """Return what is known after these transforms, one message each."""
    transforms = Transforms()
    transforms.take(SimpleNamespace(transforms=fixed))
    for each in links:
        transforms.follow(SimpleNamespace(transforms=[each]))
    return transforms


def seen(time_s, parent='base', child='camera', shift=(0.0, 0.0, 0.0), angle=0.0):
    return link(parent, child, shift, about_z(angle), at(time_s))


@given(
    st.floats(-3, 3),
    st.floats(-3, 3).filter(lambda angle: abs(angle) > 1e-3),
    st.floats(0, 1),
    st.booleans(),
)
def test_between_two_times_a_frame_moves_and_turns_evenly(begin, turn, share, other_sign):
    ends = [seen(0, angle=begin), seen(2, shift=(4.0, -2.0, 1.0), angle=begin + turn)]
    if other_sign:  # Of a quaternion and its negative, which are one rotation.
        q = ends[1].transform.rotation
        q.x, q.y, q.z, q.w = -q.x, -q.y, -q.z, -q.w
    T = moved(*ends).between('base', 'camera', at(2 * share))
    expected = rigid((4.0 * share, -2.0 * share, share), about_z(begin + turn * share))
    assert np.allclose(T, expected, atol=1e-6)


def test_at_the_times_themselves_it_is_where_it_was_told_to_be():
    # From several publishers they come in any order, and of one time the last word counts.
    told = [seen(3, shift=(3.0, 0.0, 0.0)), seen(1, shift=(9.0, 0.0, 0.0)), seen(2), seen(1)]
    transforms = moved(*told, seen(1, shift=(1.0, 0.0, 0.0)))
    where = [transforms.between('base', 'camera', at(time))[0, 3] for time in (1, 1.5, 2, 3)]
    assert where == pytest.approx([1.0, 0.5, 0.0, 3.0])


@pytest.mark.parametrize('time_s', [0.999, 3.001])
def test_before_the_first_time_and_after_the_last_nothing_is_known(time_s):
    with pytest.raises(NoTransform) as lacking:
        moved(seen(1), seen(3)).between('base', 'camera', at(time_s))
    assert str(lacking.value) == (
        f"/tf tells of 'camera' from 1700000001.000 to 1700000003.000 s, not of "
        f'{1_700_000_000 + time_s:.3f} s'
    )


def test_what_is_told_again_and_again_stays_to_the_bit():
    transforms = moved(*(seen(tick / 3, shift=(0.1, 0.2, 0.3), angle=0.7) for tick in range(5)))
    first, *others = (
        transforms.between('base', 'camera', at(time)) for time in (0, 0.2, 0.5, 1.1)
    )
    assert all(np.array_equal(first, each) for each in others)


def test_what_moves_above_both_frames_does_not_matter():
    transforms = moved(
        seen(1, 'odom', 'base', (100.0, 0.0, 0.0)),  # Long over.
        seen(5, 'base', 'camera', (0.0, 2.0, 0.0)),
        fixed=[link('base', 'lidar', (0.0, 0.0, 1.0))],
    )
    assert transforms.between('camera', 'lidar', at(5))[:3, 3] == pytest.approx([0, -2, 1])


def test_static_transforms_beat_moving_ones_and_a_last_parent_those_before():
    transforms = moved(
        seen(1, 'base', 'lidar', (7.0, 0.0, 0.0)),
        seen(1, 'mast', 'camera', (5.0, 0.0, 0.0)),
        seen(2, 'base', 'camera', (3.0, 0.0, 0.0)),
        fixed=[link('base', 'lidar', (1.0, 0.0, 0.0))],
    )
    assert transforms.between('lidar', 'camera', at(2))[0, 3] == 2.0


@pytest.mark.parametrize(
    ('broken', 'why'),
    [
        ({'turn': (0.0, 0.0, 0.0, 0.0)}, 'the quaternion 0 0 0 0 has no length of 1'),
        ({'shift': (math.nan, 0.0, 0.0)}, 'the translation nan 0 0 is not finite'),
    ],
    ids=['rotation', 'translation'],
)
def test_a_broken_transform_costs_its_own_time_alone(broken, why):
    transforms = moved(seen(1), link('base', 'camera', time_ns=at(2), **broken), seen(3), seen(4))
    with pytest.raises(NoTransform, match=f"on /tf, of 'camera', {why}"):
        transforms.between('base', 'camera', at(2.5))
    assert np.array_equal(transforms.between('base', 'camera', at(3.5)), np.eye(4))


def test_what_came_after_a_question_counts_in_the_next():
    transforms = moved(seen(1))
    assert np.array_equal(transforms.between('base', 'camera', at(1)), np.eye(4))
    transforms.follow(SimpleNamespace(transforms=[seen(2, shift=(2.0, 0.0, 0.0))]))
    assert transforms.between('base', 'camera', at(1.5))[0, 3] == 1.0


angles = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
shifts = st.tuples(*[st.floats(-10, 10)] * 3)


def no_half_turns(poses):
    """Say whether each turn to the next one has a shorter way: of half a turn both are right."""
    units = [np.array(turn) / np.linalg.norm(turn) for _, turn in poses]
    return all(abs(a @ b) > 1e-3 for a, b in pairwise(units))


poses = st.lists(st.tuples(shifts, angles), min_size=2, max_size=5).filter(no_half_turns)


@pytest.fixture(scope='module')
def tf2():
    """Import what takes longer than an example may."""
    core = pytest.importorskip('tf2_py', reason='needs tf2_py, of a ROS installation')
    from geometry_msgs import msg
    from rclpy.duration import Duration
    from rclpy.time import Time

    return SimpleNamespace(
        msg=msg,
        buffer=lambda: core.BufferCore(Duration(seconds=60)),
        time=lambda time_ns: Time(nanoseconds=time_ns),
    )


@pytest.mark.ros
@given(poses, poses, st.floats(0, 1))
def test_it_is_what_tf2_says(tf2, lidar_poses, camera_poses, share):
    buffer, transforms = tf2.buffer(), Transforms()
    for child, poses in (('lidar', lidar_poses), ('camera', camera_poses)):
        for number, (shift, turn) in enumerate(poses):
            q = tuple(float(part / np.linalg.norm(turn)) for part in turn)
            each = link('base', child, shift, q, at(number))
            transforms.follow(SimpleNamespace(transforms=[each]))
            told = tf2.msg.TransformStamped(child_frame_id=child)
            told.header.frame_id = 'base'
            told.header.stamp.sec = each.header.stamp.sec
            told.transform.translation = tf2.msg.Vector3(**vars(each.transform.translation))
            told.transform.rotation = tf2.msg.Quaternion(**vars(each.transform.rotation))
            buffer.set_transform(told, 'test')
    time_ns = at(share * (min(len(lidar_poses), len(camera_poses)) - 1))
    ours = transforms.between('camera', 'lidar', time_ns)
    theirs = buffer.lookup_transform_core('camera', 'lidar', tf2.time(time_ns)).transform
    shift = (theirs.translation.x, theirs.translation.y, theirs.translation.z)
    turn = (theirs.rotation.x, theirs.rotation.y, theirs.rotation.z, theirs.rotation.w)
    assert np.allclose(ours, rigid(shift, turn), atol=1e-5)


def test_where_a_frame_was_in_a_former_parent_says_nothing_of_the_one_it_has_now():
    transforms = moved(seen(1, 'mast', shift=(5.0, 0.0, 0.0)), seen(3, 'base'), seen(4, 'base'))
    assert np.array_equal(transforms.between('base', 'camera', at(3.5)), np.eye(4))
    with pytest.raises(NoTransform, match=r'from 1700000003\.000 to 1700000004\.000 s'):
        transforms.between('base', 'camera', at(2))
