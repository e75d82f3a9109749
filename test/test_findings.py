"""From what was observed to symptom, cause and remedy."""

from dataclasses import replace

import pytest

from fusion_perception.sensing.facts import CameraFacts, Facts, InputFacts, Publisher, Source
from fusion_perception.sensing.finding import worst
from fusion_perception.sensing.findings import diagnose
from fusion_perception.sensing.offsets import Arrival, age_s, apart, rate_hz
from fusion_perception.sensing.pairing import PairingSettings

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
TOPICS = {'camera': '/image', 'lidar': '/range_image'}
SECOND = 1_000_000_000
DRIVER = Publisher('/driver', IMAGE)


def arrivals(period_s=0.1, begin_s=100.0, delay_s=0.004, shift_s=0.0, count=20, jitter_s=()):
    """Measure every period; stamps are `shift_s` before the time of measurement."""
    jitter = [*jitter_s, *[0.0] * count]
    times = [begin_s + period_s * i for i in range(count)]
    return [
        Arrival(round((t - shift_s + jitter[i]) * SECOND), round((t + delay_s) * SECOND))
        for i, t in enumerate(times)
    ]


def stream(name, publishers=(DRIVER,), **facts):
    """Describe a stream that is fine but for what is said."""
    facts = {'received': 20, 'silent_s': 0.01, 'arrivals': arrivals(), **facts}
    return InputFacts(name, [Source(TOPICS[name], IMAGE, publishers)], **facts)


def nothing(name, *publishers, **facts):
    return stream(name, publishers, received=0, silent_s=None, arrivals=(), **facts)


def only(facts):
    findings = diagnose(facts)
    assert len(findings) == 1, [str(finding) for finding in findings]
    assert findings[0].remedy
    return findings[0]


def node(camera=None, lidar=None, **facts):
    inputs = [camera or stream('camera'), lidar or stream('lidar')]
    return Facts(inputs, **{'lifecycle': 'active', 'pairs': 20, 'returns': 0.4, **facts})


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


@pytest.mark.parametrize(('silent_s', 'is_named'), [(2.9, False), (3.1, True)])
def test_a_slow_sensor_is_silent_after_two_of_its_periods(silent_s, is_named):
    slow = stream('lidar', received=3, silent_s=silent_s, period_s=1.5)
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
    assert 'zero' in found.cause
    assert '/range_image' in found.symptom


def test_a_constant_offset_is_measured_and_the_setting_for_it_given():
    camera = stream('camera', arrivals=arrivals(0.05, shift_s=0.125, count=40))
    found = only(node(camera, pairs=0))
    assert '0.125 s behind' in found.cause
    assert '0.020' in found.cause
    assert 'pairing.camera_offset_s to 0.125' in found.remedy
    assert 'pairing.slop_s to 0.138' in found.remedy


@pytest.mark.parametrize('shift_s', [-7.03, -0.4, 0.03, 1.5, 3600.02])
def test_an_offset_of_whole_periods_is_told_from_none(shift_s):
    measured = apart(arrivals(0.05, shift_s=shift_s, count=40), arrivals())
    assert measured.median_s == pytest.approx(shift_s, abs=1e-6)
    assert measured.spread_s < 1e-6


def test_the_offset_that_is_already_set_is_taken_into_account():
    camera = stream('camera', arrivals=arrivals(shift_s=0.34))
    settings = PairingSettings(camera_offset_s=0.1, lidar_offset_s=0.02)
    found = only(node(camera, pairs=0, pairing=settings))
    assert 'pairing.camera_offset_s to 0.360' in found.remedy
    fitting = PairingSettings(camera_offset_s=0.36, lidar_offset_s=0.02)
    assert diagnose(node(camera, pairs=0, pairing=fitting)) == []


def test_an_irregular_offset_asks_for_a_wider_slop():
    jitter = [0.04 * (-1) ** i for i in range(20)]
    camera = stream('camera', arrivals=arrivals(jitter_s=jitter))
    found = only(node(camera, pairs=0))
    assert 'slop_s' in found.remedy
    assert 'offset_s' not in found.remedy


def test_the_exact_policy_says_so_itself():
    camera = stream('camera', arrivals=arrivals(shift_s=0.001))
    found = only(node(camera, pairs=0, pairing=PairingSettings(policy='exact')))
    assert 'exact' in found.cause
    assert "'approximate'" in found.remedy


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


def test_stamps_of_another_clock_are_a_warning():
    ahead = arrivals(shift_s=-3600.0)
    facts = node(stream('camera', arrivals=ahead), stream('lidar', arrivals=ahead))
    assert [finding.level for finding in diagnose(facts)] == ['WARN', 'WARN']
    assert 'ahead of the clock' in diagnose(facts)[0].symptom


def test_an_empty_scene_is_named():
    found = only(node(returns=0.0))
    assert found.level == 'WARN'
    assert 'empty' in found.symptom


@pytest.mark.parametrize(
    ('facts', 'word'),
    [
        ({'lifecycle': 'inactive'}, 'activate'),
        ({'lifecycle': 'unconfigured'}, 'configure'),
        ({'lifecycle': 'unconfigured', 'fault': 'No bundle at x.'}, 'No bundle at x'),
        ({'enabled': False}, 'enable'),
    ],
)
def test_a_node_that_rests_is_told_how_to_wake(facts, word):
    assert word in str(only(node(**facts)))


def test_everything_wrong_is_found_at_once():
    facts = node(nothing('camera'), nothing('lidar'), waits_for_clock=True, returns=0.0)
    assert len(diagnose(facts)) == 4
    assert worst(diagnose(facts)) == 'ERROR'


def test_too_few_messages_measure_nothing():
    assert apart(arrivals(count=2), arrivals()) is None
    assert age_s([]) is None
    assert rate_hz(arrivals(count=1)) == 0.0
    assert rate_hz(arrivals(0.05)) == pytest.approx(20.0)


def test_a_node_that_was_shut_down_is_to_be_started_again():
    found = only(node(lifecycle='finalized'))
    assert 'Start it again' in found.remedy
    assert 'ros2 lifecycle set' not in found.remedy


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


@pytest.mark.parametrize(
    ('camera', 'word'),
    [
        ({'images': (640, 480)}, 'Nothing arrives on /camera_info'),
        ({'images': (64, 48), 'told': (1280, 720)}, '1280x720'),
        ({'images': (64, 64), 'fault': 'K is zero. Calibrate the camera.'}, 'Calibrate'),
    ],
)
def test_a_camera_that_is_not_what_it_is_taken_for_is_named(camera, word):
    found = only(looking(camera))
    assert found.level == 'WARN'
    assert word in str(found)


@pytest.mark.parametrize(
    'camera',
    [
        {},
        {'images': (64, 64)},
        {'images': (320, 240), 'told': (640, 480)},
        {'images': (1280, 718), 'told': (1280, 720)},
    ],
)
def test_a_camera_of_the_size_or_shape_it_is_taken_for_is_fine(camera):
    assert diagnose(looking(camera)) == []


def looking(camera):
    facts = node()
    return replace(facts, camera=CameraFacts('/camera_info', (64, 64), **camera))
