"""From what was observed to symptom, cause and remedy."""

import numpy as np
import pytest
from small_facts import (
    COMPRESSED,
    DRIVER,
    IMAGE,
    SECOND,
    arrivals,
    node,
    nothing,
    only,
    stream,
)

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import Publisher, ScanFacts, heeded
from fusion_perception.sensing.findings.finding import worst
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import PairingSettings


def test_where_nothing_is_wrong_nothing_is_found():
    assert diagnose(node()) == []
    assert worst([]) == 'OK'


def test_a_topic_without_publisher_is_named():
    found = only(node(nothing('camera')))
    assert found.level == 'ERROR'
    assert '/image' in found.symptom
    assert 'nobody publishes' in found.cause


def test_a_qos_that_does_not_match_is_named_with_its_policy():
    clash = 'RELIABILITY: best effort publisher and reliable subscription'
    found = only(node(lidar=nothing('lidar', Publisher('/velodyne', IMAGE, clash))))
    assert clash in found.cause
    assert '/velodyne' in found.cause
    assert '/range_image' in found.symptom


def test_another_message_type_is_named_beside_the_one_that_is_needed():
    found = only(node(nothing('camera', Publisher('/driver', COMPRESSED))))
    assert COMPRESSED in found.cause
    assert IMAGE in found.cause


def test_of_another_type_and_another_qos_the_type_is_named_alone():
    found = only(node(nothing('camera', Publisher('/driver', COMPRESSED, 'RELIABILITY'))))
    assert COMPRESSED in found.cause


def test_predictions_without_a_transform_are_told_of_once():
    lost = {'dropped': {'no_transform': 5}}
    found = only(node(stream('camera', **lost), stream('lidar', **lost)))
    assert found.symptom == '5 predictions were lost'
    assert 'tf2' in found.cause and 'target_frame' in found.remedy


def test_of_a_camera_alone_they_are_told_of_as_well():
    lost = stream('camera', dropped={'no_transform': 5}, lost_fault='No way to it. Give another.')
    found = only(node(lost, stream('lidar')))
    assert (found.symptom, found.cause) == ('5 predictions were lost', 'no way to it')


def test_a_large_image_that_gets_lost_leads_to_the_profile():
    found = only(node(nothing('camera', DRIVER, message_bytes=921_600)))
    assert '0.9 MB' in found.cause
    assert 'fastdds_large_images.xml' in found.remedy
    assert 'large_images:=true' in found.remedy


def test_large_images_of_which_some_get_lost_lead_there_as_well():
    large = {'message_bytes': 921_600, 'received': 70}
    found = only(node(stream('camera', announced=100, **large)))
    assert found.level == 'WARN'
    assert 'Of 100 images on /image only 70 arrive' in found.symptom
    assert 'large_images:=true' in found.remedy
    assert diagnose(node(stream('camera', announced=72, **large))) == []


def test_a_small_image_that_gets_lost_does_not_blame_its_size():
    found = only(node(nothing('camera', DRIVER, message_bytes=12_288)))
    assert 'fastdds' not in found.remedy


@pytest.mark.parametrize('publishers', [(), (DRIVER,)])
def test_a_sensor_that_fell_silent_is_named_with_the_time_since(publishers):
    found = only(node(stream('camera', publishers, received=0, silent_s=4.2)))
    assert '4.2 s' in found.symptom
    assert ('gone' in found.cause) == (not publishers)


def test_a_driver_that_comes_back_with_another_type_is_not_said_to_send_nothing():
    other = Publisher('/driver', COMPRESSED)
    found = only(node(stream('camera', [other], received=0, silent_s=4.2)))
    assert '4.2 s' in found.symptom
    assert COMPRESSED in found.cause
    beside = only(node(stream('camera', [other, DRIVER], received=0, silent_s=4.2)))
    assert 'sends nothing' in beside.cause


def test_a_driver_that_comes_back_with_another_qos_is_not_said_to_send_nothing():
    other = Publisher('/driver', IMAGE, 'RELIABILITY: best effort')
    assert 'RELIABILITY' in only(node(stream('camera', [other], silent_s=4.2))).cause


@pytest.mark.parametrize(
    ('period_s', 'silent_s', 'is_named'),
    [(1.5, 2.9, False), (1.5, 3.1, True), (0.1, 0.9, False), (0.1, 1.1, True)],
)
def test_a_sensor_is_silent_after_a_second_and_two_of_its_periods(period_s, silent_s, is_named):
    slow = stream('lidar', received=3, silent_s=silent_s, period_s=period_s)
    assert bool(diagnose(node(lidar=slow))) == is_named


def test_a_refused_message_is_explained_by_what_came_and_what_is_needed():
    fault = "Encoding 'yuv422' is not supported. Publish one of rgb8, bgr8."
    found = only(node(stream('camera', dropped={'bad_encoding': 20}, fault=fault)))
    assert found.level == 'ERROR'
    assert 'yuv422' in found.cause
    assert 'rgb8' in found.remedy


def test_now_and_then_a_refused_message_is_a_warning():
    found = only(node(stream('camera', dropped={'bad_shape': 1}, fault='It has 3 rows.')))
    assert found.level == 'WARN'
    assert '1 of 20' in found.symptom


def test_zero_stamps_are_named():
    zeros = [Arrival(0, arrival.arrived_ns) for arrival in arrivals()]
    lidar = stream('lidar', arrivals=zeros, dropped={'unstamped': 20})
    found = only(node(lidar=lidar, pairs=0))
    assert found.level == 'ERROR'
    assert 'zero' in found.cause
    assert '/range_image' in found.symptom
    assert only(node(stream('camera', dropped={'unstamped': 1}))).level == 'WARN'


def test_zero_stamps_between_others_are_not_said_to_jump_back():
    zeros = [Arrival(i % 2 * a.stamp_ns, a.arrived_ns) for i, a in enumerate(arrivals())]
    found = only(node(stream('camera', arrivals=zeros, dropped={'unstamped': 10})))
    assert 'zero' in found.cause and '10 of 20' in found.symptom


def test_a_sensor_that_froze_is_named_and_its_old_stamps_mislead_nobody():
    frozen = [Arrival(90 * SECOND, arrival.arrived_ns) for arrival in arrivals()]
    found = only(node(stream('camera', arrivals=frozen, dropped={'duplicate': 20}), pairs=0))
    assert found.level == 'ERROR'
    assert '20 of 20 camera messages on /image repeat a stamp' in found.symptom
    assert 'froze' in found.cause


def test_a_sensor_that_sends_everything_twice_is_a_warning_and_one_message_twice_is_nothing():
    twice = [arrival for arrival in arrivals() for _ in range(2)]
    facts = {'received': 40, 'arrivals': twice}
    assert only(node(stream('camera', dropped={'duplicate': 20}, **facts))).level == 'WARN'
    assert not diagnose(node(stream('camera', dropped={'duplicate': 1}, **facts)))


def test_stamps_that_leap_are_a_warning_with_the_farthest():
    came = [
        Arrival(a.stamp_ns + (i % 5 == 4) * i * SECOND, a.arrived_ns)
        for i, a in enumerate(arrivals())
    ]
    found = diagnose(node(stream('camera', arrivals=came)))[0]
    assert '4 of the last 20 stamps on /image leap into the future' in found.symptom
    assert found.symptom.endswith('by up to 19.0 s')
    # What is late by turns is no leap.
    wavering = [
        Arrival(a.stamp_ns + i % 2 * 19 * SECOND // 10, a.arrived_ns)
        for i, a in enumerate(arrivals())
    ]
    assert not any(
        'leap' in f.symptom for f in diagnose(node(stream('camera', arrivals=wavering)))
    )


def test_of_a_message_that_came_twice_the_first_arrival_counts():
    first, again, after = Arrival(5, 10), Arrival(5, 20), Arrival(6, 30)
    assert stream('lidar', arrivals=[first, again, after]).usable == [first, after]


@pytest.mark.parametrize(
    ('modes', 'needed'),
    [
        (('fusion',), ('camera', 'lidar')),
        (('camera_only',), ('camera',)),
        (('lidar_only',), ('lidar',)),
    ],
)
def test_a_model_is_asked_for_the_sensors_that_it_needs(modes, needed):
    assert heeded(modes) == needed


def test_simulated_time_that_does_not_come_is_named():
    found = only(node(waits_for_clock=True))
    assert 'use_sim_time' in found.cause
    assert 'nobody publishes on /clock' in found.cause
    assert 'nobody' not in only(node(waits_for_clock=True, clock_publishers=1)).cause


def test_stamps_older_than_max_age_are_named_with_both():
    old = arrivals(shift_s=3.0)
    facts = node(stream('camera', arrivals=old), stream('lidar', arrivals=old), max_age_s=0.5)
    findings = diagnose(facts)
    assert [finding.level for finding in findings] == ['ERROR', 'ERROR']
    assert '3.004 s behind the clock' in findings[0].symptom
    assert '0.5 s' in findings[0].cause


def test_the_age_of_an_image_is_that_of_its_stamp_with_the_offset():
    camera = stream('camera', arrivals=arrivals(shift_s=3.0))
    corrected = PairingSettings(camera_offset_s=3.0)
    assert diagnose(node(camera, max_age_s=0.5, pairing=corrected)) == []


def test_stamps_of_another_clock_are_a_warning():
    ahead = arrivals(shift_s=-3600.0)
    facts = node(stream('camera', arrivals=ahead), stream('lidar', arrivals=ahead))
    assert [finding.level for finding in diagnose(facts)] == ['WARN', 'WARN']
    assert 'ahead of the clock' in diagnose(facts)[0].symptom


@pytest.mark.parametrize(
    ('ahead_s', 'simulated', 'count'),
    [
        (0.05, False, 0),
        (0.2, False, 1),
        (0.2, True, 0),
        (6.0, True, 1),
    ],
)
def test_what_is_stamped_after_it_came_is_of_another_clock(ahead_s, simulated, count):
    camera = stream('camera', arrivals=arrivals(shift_s=-ahead_s))
    findings = diagnose(node(camera, simulated=simulated, pairs=20))
    said = [f for f in findings if 'ahead of the clock' in f.symptom]
    assert [f.level for f in said] == ['WARN'] * count
    assert all('/image' in f.symptom and 'the clocks differ' in f.cause for f in said)


def test_a_large_stream_that_fell_silent_leads_to_the_profile():
    found = only(node(stream('camera', silent_s=3.0, message_bytes=900_000)))
    assert '3.0 s' in found.symptom and '0.9 MB' in found.cause
    assert 'large_images:=true' in found.remedy


def test_where_the_time_stands_still_nobody_is_blamed_for_silence_or_lateness():
    late = stream('lidar', arrivals=arrivals(shift_s=0.4, delay_s=2.0), silent_s=3.0)
    found = only(node(nothing('camera', DRIVER), late, waits_for_clock=True, pairs=0))
    assert found.symptom == 'The node has no time'
    for came in (arrivals(delay_s=20.0), arrivals(shift_s=0.125)):
        found = only(node(lidar=stream('lidar', arrivals=came), waits_for_clock=True, pairs=0))
        assert found.symptom == 'The node has no time'


def test_where_the_time_may_just_have_stopped_nobody_is_blamed_as_yet():
    silent = stream('camera', silent_s=1.6), stream('lidar', silent_s=1.6)
    frozen = stream('camera', dropped={'duplicate': 11}), stream('lidar', dropped={'duplicate': 9})
    ahead = stream('camera', arrivals=arrivals(shift_s=-7.0))
    leaping = stream('lidar', arrivals=arrivals(jitter_s=[0.0] * 9 + [2.5]))
    for blamed in (silent, frozen, (ahead,), (stream('camera'), leaping)):
        assert diagnose(node(*blamed, simulated=True, clock_publishers=1))
        falters = node(*blamed, simulated=True, clock_publishers=1, clock_falters=True)
        assert diagnose(falters) == []


def test_a_publisher_that_is_gone_is_told_of_whether_the_time_goes_on_or_not():
    gone = stream('camera', publishers=(), silent_s=1.6)
    assert 'publisher is gone' in only(node(gone, clock_falters=True)).cause


def test_returns_lie_between_nothing_and_the_maximum_range():
    ranges = np.array([[0.0, 5.0], [50.0, np.inf]], np.float32)
    assert ScanFacts.of(ranges, 50.0).returns == 0.25


def test_an_empty_scene_is_named():
    found = only(node(scan=ScanFacts(0.0)))
    assert found.level == 'WARN'
    assert 'empty' in found.symptom


@pytest.mark.parametrize(
    ('facts', 'word'),
    [
        ({'lifecycle': 'inactive'}, 'NODE activate`'),
        ({'lifecycle': 'unconfigured'}, 'NODE configure` and `... activate`'),
        ({'lifecycle': 'unconfigured', 'fault': 'No bundle at x.'}, 'No bundle at x'),
        ({'enabled': False}, 'enable'),
    ],
)
def test_a_node_that_rests_is_told_how_to_wake(facts, word):
    assert word in str(only(node(**facts)))


def test_everything_wrong_is_found_at_once():
    facts = node(nothing('camera'), nothing('lidar'), waits_for_clock=True, scan=ScanFacts(0.0))
    assert len(diagnose(facts)) == 4
    assert worst(diagnose(facts)) == 'ERROR'


def test_a_node_that_was_shut_down_is_to_be_started_again():
    found = only(node(lifecycle='finalized'))
    assert 'Start it again' in found.remedy
    assert 'ros2 lifecycle set' not in found.remedy


@pytest.mark.parametrize('name', ['camera', 'lidar'])
def test_a_frame_id_that_tf2_refuses_is_a_matter_of_the_driver(name):
    found = only(node(**{name: stream(name, frame_id='/sensor')}))
    assert found.level == 'WARN'
    assert "'/sensor'" in found.symptom
    assert found.remedy == "Let /driver name it 'sensor'."
    assert diagnose(node(**{name: stream(name, frame_id='sensor')})) == []
