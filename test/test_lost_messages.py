"""Whether messages get lost on the way, as far as stamps, sizes and camera_info tell."""

import numpy as np
import pytest
from small_facts import SECOND, arrivals, node, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.losses import loses_large, sent_by_stamps
from fusion_perception.sensing.offsets import Arrival

LARGE = {'message_bytes': 6_000_000}


def lost(facts):
    return [str(f) for f in diagnose(facts) if 'arrive' in f.symptom]


def at_steps(steps_s):
    """Return messages so far apart, each there 10 ms later."""
    times, now = [100 * SECOND], 100 * SECOND
    for step_s in steps_s:
        now += round(step_s * SECOND)
        times.append(now)
    return [Arrival(time, time + SECOND // 100) for time in times]


@pytest.mark.parametrize(
    ('kept', 'size', 'named'),
    [(0.5, 1_600_000, True), (0.5, 16_000, False), (1.0, 1_600_000, False)],
)
def test_large_messages_whose_stamps_have_gaps_get_lost(kept, size, named):
    came = [a for i, a in enumerate(arrivals(count=40)) if kept == 1.0 or i % 5 in (0, 1, 3)]
    lidar = stream('lidar', arrivals=came, received=len(came), message_bytes=size)
    # The pairs that are lost with them need no other advice.
    camera = stream('camera', arrivals=arrivals(count=40, shift_s=0.125), received=40)
    facts = node(camera, lidar, pairs=3)
    said = [str(f) for f in diagnose(facts)]
    assert any('Of some 39 messages on /range_image only 24 arrive' in s for s in said) == named
    if named:
        assert len(said) == 1 and 'large_images:=true' in said[0]


def test_with_a_profile_of_fast_dds_nobody_is_told_to_set_one_here():
    few = stream('camera', announced=100, has_profile=True, **LARGE)
    found = only(node(few))
    assert '6.0 MB' in found.cause and 'default transports' not in found.cause
    assert 'large_images:=true' not in found.remedy and 'the driver' in found.remedy
    silent = stream('camera', silent_s=3.0, has_profile=True, **LARGE)
    assert 'the cable' in only(node(silent)).remedy


def test_large_messages_in_disorder_are_not_taken_for_lost():
    came = arrivals(count=40)
    for at in range(0, 40, 5):
        came[at], came[at + 1] = came[at + 1], came[at]
    large = {'arrivals': came, 'received': 40, 'message_bytes': 1_600_000}
    assert diagnose(node(lidar=stream('lidar', **large))) == []


def test_large_messages_that_a_recording_lacks_were_lost_to_the_recorder():
    came = [a for i, a in enumerate(arrivals(count=40)) if i % 5 in (0, 1, 3)]
    size = {'received': len(came), 'message_bytes': 1_600_000}
    lidar = stream('lidar', (), arrivals=came, **size)
    found = only(node(stream('camera', ()), lidar, lifecycle='', pairs=3))
    assert found.cause.startswith('one message takes 1.6 MB')
    assert found.remedy.startswith('Record with FASTDDS_DEFAULT_PROFILES_FILE')


@pytest.mark.parametrize('kept', [0.1, 0.2, 0.5, 0.8])
def test_as_many_messages_were_sent_as_their_stamps_tell_of(kept):
    rng = np.random.default_rng(0)
    times = SECOND * (100 + 0.1 * np.arange(2000) + rng.normal(0, 0.003, 2000))
    came = [Arrival(round(t), round(t)) for t in times[rng.random(2000) < kept]]
    assert sent_by_stamps(came) == pytest.approx(2000, rel=0.02)


@pytest.mark.parametrize('pause_s', [5.0, 20.0, 600.0])
def test_what_was_paused_is_not_lost(pause_s):
    came = at_steps([0.1] * 50 + [pause_s] + [0.1] * 50)
    facts = node(*(stream(s, arrivals=came, received=101, **LARGE) for s in ('camera', 'lidar')))
    assert diagnose(facts) == []


def test_a_pause_does_not_hide_that_the_stamps_do_not_fit():
    came = at_steps([0.1] * 50 + [20.0] + [0.1] * 50)
    moved = [Arrival(a.stamp_ns - SECOND // 8, a.arrived_ns) for a in came]
    camera = stream('camera', arrivals=moved, received=101, **LARGE)
    found = only(node(camera, stream('lidar', arrivals=came, received=101), pairs=0))
    assert 'camera_offset_s to 0.125' in found.remedy


def test_a_camera_that_is_triggered_now_and_then_loses_nothing():
    steps = np.random.default_rng(0).uniform(0.1, 0.5, 300)
    came = at_steps(steps)
    facts = node(*(stream(s, arrivals=came, received=301, **LARGE) for s in ('camera', 'lidar')))
    assert diagnose(facts) == []


def test_camera_info_beside_each_image_knows_better_than_stamps():
    # Every third instant is left out by the camera itself.
    came = [a for i, a in enumerate(arrivals(count=60)) if i % 3]
    image = {'arrivals': came, 'received': 40, **LARGE}
    assert lost(node(stream('camera', announced=40, **image))) == []
    assert (
        'Of 60 images on /image only 40' in lost(node(stream('camera', announced=60, **image)))[0]
    )
    # It was latched once, and tells nothing.
    (said,) = lost(node(stream('camera', announced=1, **image)))
    assert 'only 40' in said


def test_a_handful_of_stamps_tells_of_no_period():
    assert sent_by_stamps(at_steps([0.1, 0.1, 0.2, 0.1, 0.2])) == 6
    assert sent_by_stamps(at_steps([0.1, 0.1, 0.2, 0.1, 0.2, 0.1])) == 9


@pytest.mark.parametrize(
    ('steps_s', 'sent'), [([0.1, 0.1, 0.1, 0.14, 0.2], 73), ([0.1, 0.14, 0.2], 37)]
)
def test_lost_messages_are_told_of_where_three_in_four_steps_are_whole_periods(steps_s, sent):
    assert sent_by_stamps(at_steps(steps_s * 12)) == sent


def test_stamps_that_tremble_by_a_quarter_of_a_period_still_tell_what_was_lost():
    steps = [0.1, 0.125, 0.075, 0.1, 0.2, 0.1, 0.225, 0.1] * 8
    assert sent_by_stamps(at_steps(steps)) > 75


def test_a_camera_info_less_than_there_are_images_tells_that_none_was_lost():
    # As above, but the doctor began to listen between the two.
    came = [a for i, a in enumerate(arrivals(count=60)) if i % 3]
    assert not loses_large(stream('camera', announced=38, arrivals=came, received=40, **LARGE))


def test_messages_that_came_twice_do_not_hide_those_that_did_not_come():
    once = [a for i, a in enumerate(arrivals(count=60)) if i % 3]
    twice = [a._replace(arrived_ns=a.arrived_ns + 1000) for a in once[::2]]
    came = sorted([*once, *twice])
    assert loses_large(stream('lidar', arrivals=came, received=len(came), **LARGE))


@pytest.mark.parametrize(('lacking', 'named'), [(4, False), (5, True)])
def test_up_to_a_tenth_may_be_lost_while_the_ends_find_each_other(lacking, named):
    came = [a for i, a in enumerate(arrivals(count=44)) if i % 5 != 1 or i > 5 * lacking]
    assert len(came) == 44 - lacking
    assert loses_large(stream('lidar', arrivals=came, received=len(came), **LARGE)) == named


def test_a_step_that_is_far_too_short_is_no_period():
    assert sent_by_stamps(at_steps([*[0.1, 0.2] * 15, 0.01])) == 47


def test_stamps_that_stand_still_or_go_back_tell_of_no_period():
    for odd_s in (0.0, -0.1):
        assert sent_by_stamps(at_steps([0.1, 0.2, odd_s] * 5)) == 16


def test_one_gap_in_twenty_is_a_pause_and_two_are_losses():
    assert sent_by_stamps(at_steps([0.1] * 19 + [0.2])) == 21
    assert sent_by_stamps(at_steps([0.1] * 18 + [0.2] * 2)) == 23
