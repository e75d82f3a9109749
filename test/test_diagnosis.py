"""Where a diagnosis begins to name a fault, and how bad it calls it."""

import pytest
from small_facts import DRIVER, IMAGE, arrivals, node, nothing, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import InputFacts, ScanFacts, Source
from fusion_perception.sensing.pairing import PairingSettings


def test_a_node_without_time_still_says_what_it_cannot_read():
    refused = stream('camera', dropped={'bad_encoding': 20}, fault='Encoding x. Publish rgb8.')
    symptoms = [found.symptom for found in diagnose(node(refused, waits_for_clock=True))]
    assert symptoms == [
        'The node has no time',
        '20 of 20 camera messages are refused (bad_encoding)',
    ]


def test_a_large_stream_whose_driver_is_gone_is_not_blamed_on_its_size():
    found = only(node(stream('camera', (), silent_s=3.0, message_bytes=900_000)))
    assert found.cause == 'its publisher is gone'
    assert 'fastdds' not in found.remedy


@pytest.mark.parametrize(
    ('repeated', 'levels'), [(2, []), (3, ['WARN']), (17, ['WARN']), (18, ['ERROR'])]
)
def test_one_message_in_ten_may_come_twice_and_where_most_do_it_is_an_error(repeated, levels):
    lidar = stream('lidar', dropped={'duplicate': repeated})
    assert [found.level for found in diagnose(node(lidar=lidar))] == levels


@pytest.mark.parametrize(
    ('fault', 'cause', 'remedy'),
    [
        ('', 'the model failed', 'See `fusion doctor --bundle`.'),
        ('Out of memory. Free some.', 'out of memory', 'Free some.'),
        ('CUDA is full. Free some.', 'CUDA is full', 'Free some.'),
        ('A device is full. Free some.', 'a device is full', 'Free some.'),
    ],
)
def test_what_was_lost_in_inference_is_an_error_with_its_fault(fault, cause, remedy):
    found = only(node(stream('camera', dropped={'inference_error': 2}, fault=fault)))
    assert (found.level, found.symptom) == ('ERROR', '2 camera messages were lost in inference')
    assert (found.cause, found.remedy) == (cause, remedy)


def test_an_offset_alone_makes_no_stamp_one_of_a_clock_that_is_ahead():
    offset = PairingSettings(camera_offset_s=0.3, lidar_offset_s=0.0)
    found = diagnose(node(pairing=offset))
    assert not any('ahead of the clock' in each.symptom for each in found)


def test_only_what_max_age_drops_is_answered_by_raising_it():
    old, ahead = arrivals(shift_s=3.0), arrivals(shift_s=-3600.0)
    for came, raised in ((old, True), (ahead, False)):
        facts = node(stream('camera', arrivals=came), max_age_s=0.5)
        found = next(each for each in diagnose(facts) if 'the clock' in each.symptom)
        assert found.remedy.endswith('; or raise max_age_s.') == raised


@pytest.mark.parametrize(
    ('name', 'kind', 'input_name'),
    [
        ('camera', IMAGE, 'image'),
        ('lidar', IMAGE, 'range_image'),
        ('lidar', 'sensor_msgs/msg/PointCloud2', 'points'),
    ],
)
def test_a_topic_that_may_be_meant_comes_with_the_remapping_of_its_input(name, kind, input_name):
    source = Source('/here', kind, elsewhere=['/there'])
    silent = InputFacts(name, [source])
    found = only(node(**{name: silent}))
    assert f'{kind} comes on /there (remap with `-r {input_name}:=TOPIC`' in found.remedy


def test_a_node_that_publishes_one_topic_twice_is_named_once():
    found = only(node(nothing('camera', DRIVER, DRIVER)))
    assert found.cause.startswith('/driver publishes there')


def test_one_return_is_no_empty_scene():
    assert diagnose(node(scan=ScanFacts(1 / 4096))) == []
