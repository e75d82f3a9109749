"""Why camera and LiDAR seldom or never form a pair, and the setting that is advised for it."""

import re

import pytest
from small_facts import arrivals, node, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import Pairer, PairingSettings


def test_a_constant_offset_is_measured_and_the_setting_for_it_given():
    camera = stream('camera', arrivals=arrivals(0.05, shift_s=0.125, count=40))
    found = only(node(camera, pairs=0))
    assert '0.125 s behind' in found.cause
    assert '0.020' in found.cause
    assert 'pairing.camera_offset_s to 0.125' in found.remedy
    assert 'pairing.slop_s to 0.138' in found.remedy
    # As long as most scans do find a partner, nothing is advised.
    often = stream('camera', arrivals=camera.arrivals, received=40)
    assert diagnose(node(often, pairs=11)) == []


def test_the_offset_that_is_already_set_is_taken_into_account():
    camera = stream('camera', arrivals=arrivals(shift_s=0.34))
    settings = PairingSettings(camera_offset_s=0.1, lidar_offset_s=0.02)
    found = only(node(camera, pairs=0, pairing=settings))
    assert 'pairing.camera_offset_s to 0.360' in found.remedy
    fitting = PairingSettings(camera_offset_s=0.36, lidar_offset_s=0.02)
    assert diagnose(node(camera, pairs=0, pairing=fitting)) == []


def test_the_wider_slop_is_for_what_the_offsets_leave():
    settings = PairingSettings(camera_offset_s=0.1, lidar_offset_s=0.02)
    camera = stream('camera', arrivals=arrivals(shift_s=0.145))
    found = only(node(camera, pairs=0, pairing=settings))
    assert 'pairing.slop_s to 0.072' in found.remedy


@pytest.mark.parametrize('side', [1, -1])
@pytest.mark.parametrize(('apart_s', 'wider'), [(0.04, True), (0.34, False)])
def test_a_wider_slop_is_advised_for_short_offsets_of_either_sign(apart_s, wider, side):
    camera = stream('camera', arrivals=arrivals(shift_s=side * apart_s))
    found, *_ = (f for f in diagnose(node(camera, pairs=0)) if 'form a pair' in f.symptom)
    assert f'pairing.camera_offset_s to {side * apart_s:.3f}' in found.remedy
    assert ('slop_s' in found.remedy, 'clocks' in found.remedy) == (wider, not wider)


def test_an_irregular_offset_asks_for_a_wider_slop():
    jitter = [0.04 * (-1) ** i for i in range(20)]
    camera = stream('camera', arrivals=arrivals(jitter_s=jitter))
    found = only(node(camera, pairs=0))
    assert 'slop_s' in found.remedy
    assert 'offset_s' not in found.remedy


def test_a_few_stamps_that_fit_do_not_hide_that_most_do_not():
    camera = stream('camera', arrivals=arrivals(shift_s=0.04, jitter_s=[0.04] * 3))
    found = only(node(camera, pairs=3))
    assert 'Of 20 images and 20 scans only 3 form a pair' in found.symptom


@pytest.mark.parametrize('pauses', [slice(100, 240), slice(0, 140), slice(60, 200)])
def test_no_setting_is_advised_for_the_time_in_which_one_sensor_pauses(pauses):
    images = arrivals(0.05, count=240)
    del images[pauses]
    scans = arrivals(0.1, count=120)
    camera = stream('camera', arrivals=images, received=len(images))
    lidar = stream('lidar', arrivals=scans, received=len(scans))
    assert diagnose(node(camera, lidar, pairs=49)) == []
    late = stream('camera', arrivals=[Arrival(a.stamp_ns - 25_000_000, a[1]) for a in images])
    assert 'camera_offset_s to 0.025' in only(node(late, lidar, pairs=0)).remedy


def test_the_exact_policy_says_so_itself():
    camera = stream('camera', arrivals=arrivals(shift_s=0.001))
    found = only(node(camera, pairs=0, pairing=PairingSettings(policy='exact')))
    assert 'exact' in found.cause
    assert "'approximate'" in found.remedy


def test_no_offset_is_advised_where_the_stamps_fit_and_one_sensor_only_comes_late():
    camera = stream('camera', arrivals=arrivals(0.0333, delay_s=0.005, count=60))
    lidar = stream('lidar', arrivals=arrivals(0.1, delay_s=0.08))
    assert diagnose(node(camera, lidar, pairs=0)) == []


def test_clocks_a_day_apart_are_to_be_synchronised_and_not_to_be_offset():
    camera = stream('camera', arrivals=arrivals(shift_s=-86_400.0))
    found, _ = diagnose(node(camera, pairs=0))
    assert 'never form a pair' in found.symptom
    assert found.remedy.startswith('Synchronise')
    assert 'camera_offset_s' not in found.remedy


def streams(camera_hz=10, lidar_hz=10, camera_s=0.0, lidar_s=0.0, shift_s=0.0, seconds=8):
    """Return both streams as they arrive, so late; images are stamped `shift_s` too early."""
    camera = arrivals(1 / camera_hz, delay_s=camera_s, shift_s=shift_s, count=camera_hz * seconds)
    lidar = arrivals(1 / lidar_hz, delay_s=lidar_s, count=lidar_hz * seconds)
    return {'camera': camera, 'lidar': lidar}


def as_seen(came, pairing):
    """Return the facts of a node that has these settings and gets those messages."""
    pairer = Pairer(pairing)
    order = sorted((a.arrived_ns, name, a.stamp_ns) for name, all_ in came.items() for a in all_)
    pairs = [pair for _, name, stamp_ns in order for pair in pairer.add(name, stamp_ns, None)]
    fused = sum(pair.mode == 'fusion' for pair in pairs)
    camera, lidar = (
        stream(name, arrivals=all_[-64:], received=len(all_)) for name, all_ in came.items()
    )
    return node(camera, lidar, pairs=fused, pairing=pairing)


def follow(advice, pairing):
    """Return the settings with those changed that a sentence names."""
    named = re.findall(r'pairing\.(\w+) to (-?[\d.]*\d)', advice)
    return PairingSettings.read({**pairing.model_dump(), **dict(named)})


ALONE, TOGETHER = PairingSettings(), PairingSettings(allow_single=False)


@pytest.mark.parametrize(
    ('came', 'given', 'words'),
    [
        (
            {'camera_hz': 60, 'lidar_s': 0.4},
            TOGETHER,
            ['0.400 s', '20 images', 'queue_size to 30'],
        ),
        ({'camera_hz': 60, 'lidar_s': 0.4}, ALONE, ['the scans arrive', 'queue_size to 30']),
        ({'camera_s': 0.8}, ALONE, ['the images arrive', 'gone after 0.5 s', 'dropout_after_s']),
        ({'camera_hz': 60, 'lidar_s': 0.8}, ALONE, ['queue_size to 59 and pairing.dropout']),
        # The next image comes sooner than the sensor would be gone, but the last one is older.
        ({'camera_hz': 5, 'camera_s': 0.45}, ALONE, ['0.450 s', 'gets 0.600 s old', 'to 0.72']),
        ({'camera_hz': 8, 'lidar_hz': 4, 'lidar_s': 0.4}, ALONE, ['0.400 s', 'gone after 0.5 s']),
        ({'camera_s': 0.205}, PairingSettings(dropout_after_s=0.2), ['0.300 s old', 'to 0.36']),
    ],
)
def test_where_one_sensor_comes_late_the_patience_is_advised_that_brings_pairs(came, given, words):
    found = only(as_seen(streams(**came), given))
    assert found.level == 'ERROR'
    for word in words:
        assert word in str(found)
    patience, _, clocks = found.remedy.partition(' Where')
    assert 'camera_offset_s' in clocks
    assert diagnose(as_seen(streams(**came), follow(patience, given))) == []


@pytest.mark.parametrize(('hz', 'late_s'), [(1, 0.6), (1, 0.95), (2, 0.45), (4, 0.24)])
def test_a_slow_sensor_may_be_as_late_as_it_costs_no_pair(hz, late_s):
    came = streams(camera_hz=hz, lidar_hz=hz, camera_s=late_s, seconds=40)
    facts = as_seen(came, ALONE)
    assert facts.pairs >= 40 * hz - 2
    assert diagnose(facts) == []


def test_where_none_passes_alone_the_last_message_may_be_older_than_a_sensor_that_is_gone():
    came = streams(camera_hz=5, camera_s=0.45)
    facts = as_seen(came, TOGETHER)
    assert facts.pairs >= 36
    assert diagnose(facts) == []


def test_a_sensor_that_was_off_for_a_while_is_not_late():
    came = streams(seconds=20)
    del came['camera'][30:100]
    facts = as_seen(came, ALONE)
    assert facts.pairs == 130
    assert [found for found in diagnose(facts) if 'late' in found.symptom] == []


@pytest.mark.parametrize('late_s', [0.0, 0.007])
def test_no_clock_is_held_against_a_sensor_that_comes_at_uneven_intervals(late_s):
    came = streams(lidar_s=late_s, seconds=20)
    came['lidar'] = [scan for i, scan in enumerate(came['lidar']) if i % 12 in (0, 2, 4)]
    found = only(as_seen(came, ALONE))
    assert found.level == 'WARN' and 'scans come at uneven intervals' in found.symptom
    assert 'offset' not in str(found) and 'clock' not in str(found)
    assert diagnose(as_seen(came, follow(found.remedy, ALONE))) == []


def test_the_slop_that_is_advised_can_be_set_with_what_it_takes():
    # 0.9 images and 0.8 scans a second.
    camera, lidar = (stream(s, arrivals=arrivals(p)) for s, p in (('camera', 1.1), ('lidar', 1.2)))
    found = only(node(camera, lidar, pairs=0))
    widened = follow(found.remedy, ALONE)
    assert widened.slop_s > ALONE.dropout_after_s
    step_by_step = re.findall(r'pairing\.(\w+) to', found.remedy)
    assert step_by_step == ['dropout_after_s', 'slop_s']
    assert diagnose(node(camera, lidar, pairs=0, pairing=widened)) == []


@pytest.mark.parametrize('given', [TOGETHER, ALONE])
@pytest.mark.parametrize('hz', [10, 20])
@pytest.mark.parametrize('shift_s', [-5.0, -3.0, 2.31, 3.0, 5.0])
def test_a_clock_that_is_off_by_whole_periods_is_found_where_nothing_pairs(shift_s, hz, given):
    came = streams(camera_hz=hz, shift_s=shift_s)
    found = next(f for f in diagnose(as_seen(came, given)) if 'pair' in f.symptom)
    assert found.level == 'ERROR'
    advice = found.remedy.partition(' Where')[0]
    assert f'camera_offset_s to {shift_s:.3f}' in advice
    assert diagnose(as_seen(came, follow(advice, given))) == []


def test_the_rarer_sensor_says_how_far_stamps_lie_apart():
    # Two of three scans have no image near them, which is nobody's jitter.
    camera = stream('camera', arrivals=arrivals(0.3, count=20, shift_s=0.033), received=20)
    lidar = stream('lidar', arrivals=arrivals(0.1, count=60), received=60)
    found = only(node(camera, lidar, pairs=0))
    assert "the camera's stamps lie 0.033 s" in found.cause and 'give or take' not in found.cause
    assert 'camera_offset_s to 0.033' in found.remedy


def test_a_clock_that_was_corrected_is_not_held_against_the_sensor_that_tells_longer():
    # Of 64 messages each the slower LiDAR's begin before the correction.
    camera = arrivals(0.05, begin_s=104.0, count=64)
    lidar = [*arrivals(0.1, count=40, shift_s=2.0), *arrivals(0.1, begin_s=104.0, count=24)]
    facts = node(
        stream('camera', arrivals=camera, received=64),
        stream('lidar', arrivals=lidar, received=64),
    )
    assert [f for f in diagnose(facts) if 'late' in f.symptom or 'pair' in f.symptom] == []


@pytest.mark.parametrize('lidar_offset_s', [0.0, 0.2])
def test_pairs_of_clocks_a_second_apart_are_doubted(lidar_offset_s):
    given = TOGETHER.model_copy(update={'lidar_offset_s': lidar_offset_s})
    found = only(as_seen(streams(shift_s=1.0), given))
    assert found.level == 'WARN'
    assert f'the images arrive {1 + lidar_offset_s:.3f} s later' in found.cause
    advice = found.remedy.partition(' Where')[0]
    assert f'camera_offset_s to {1 + lidar_offset_s:.3f}' in found.remedy
    assert diagnose(as_seen(streams(shift_s=1.0), follow(advice, given))) == []


@pytest.mark.parametrize('given', [ALONE, TOGETHER])
@pytest.mark.parametrize('shift_s', [-0.5, -0.8])
def test_for_a_clock_that_is_ahead_no_patience_is_advised(shift_s, given):
    came = streams(shift_s=shift_s)
    found = next(f for f in diagnose(as_seen(came, given)) if 'the scans arrive' in f.cause)
    assert f'camera_offset_s to {shift_s:.3f}' in found.remedy
    assert 'dropout_after_s' not in found.remedy and 'long way' not in found.remedy
    assert diagnose(as_seen(came, follow(found.remedy, given))) == []


def test_a_clock_that_is_ahead_does_not_explain_what_is_late_all_the_same():
    came = streams(shift_s=-0.101, lidar_s=0.6)
    found = next(f for f in diagnose(as_seen(came, ALONE)) if 'the scans arrive' in f.cause)
    assert 'Set pairing.dropout_after_s to' in found.remedy and 'camera_offset_s' in found.remedy


def test_where_both_clocks_are_ahead_the_way_may_be_long_all_the_same():
    came = {
        name: [a._replace(stamp_ns=a.stamp_ns + 10**9) for a in all_]
        for name, all_ in streams(camera_s=0.6).items()
    }
    found = next(f for f in diagnose(as_seen(came, ALONE)) if 'the images arrive' in f.cause)
    assert 'Set pairing.dropout_after_s to' in found.remedy


def test_a_few_pairs_by_chance_do_not_hide_that_most_find_no_partner():
    camera = stream('camera', arrivals=arrivals(0.05, shift_s=0.125, count=40), received=40)
    found = only(node(camera, pairs=3))
    assert 'Of 40 images and 20 scans only 3 form a pair' in found.symptom
    assert 'camera_offset_s to 0.125' in found.remedy


def test_a_sensor_that_is_silent_is_all_that_is_said_of_the_pairs():
    lidar = stream('lidar', arrivals=arrivals(begin_s=120.0, count=64))
    found = only(node(stream('camera', silent_s=18.0), lidar, pairs=0))
    assert 'silent' in found.symptom
    apart_before = stream('camera', silent_s=18.0, arrivals=arrivals(shift_s=0.125))
    assert 'silent' in only(node(apart_before, pairs=0)).symptom


@pytest.mark.parametrize(('queue_size', 'enough'), [(5, True), (4, False)])
def test_a_queue_is_long_enough_for_those_that_have_to_wait(queue_size, enough):
    settings = PairingSettings(allow_single=False, queue_size=queue_size)
    found = diagnose(as_seen(streams(lidar_s=0.45), settings))
    assert [f'lets {queue_size} images wait' in each.cause for each in found] == (
        [] if enough else [True]
    )


def test_no_queue_is_advised_that_is_longer_than_any_can_be():
    came = streams(camera_hz=100, lidar_s=9.0, seconds=20)
    camera, lidar = (
        stream(name, arrivals=all_, received=len(all_)) for name, all_ in came.items()
    )
    found, *_ = (f for f in diagnose(node(camera, lidar, pairs=0)) if 'form a pair' in f.symptom)
    assert '901 have to' in found.cause
    assert 'queue_size' not in found.remedy and 'camera_offset_s to -9.000' in found.remedy
