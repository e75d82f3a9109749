"""Where a diagnosis begins to name a fault, and how bad it calls it."""

import pytest
from small_facts import COMPRESSED, DRIVER, IMAGE, arrivals, node, nothing, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import InputFacts, Publisher, ScanFacts, Source
from fusion_perception.sensing.findings.topics import CLOUD
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


@pytest.mark.parametrize(('silent_s', 'killed'), [(24.9, True), (25.1, False)])
def test_who_was_killed_is_listed_for_a_while_and_not_said_to_be_there(silent_s, killed):
    found = only(node(stream('camera', silent_s=silent_s)))
    assert ('was killed' in found.cause) == killed
    assert ('is still there' in found.cause) != killed


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
    found = only(node(stream('camera', dropped={'inference_error': 2}, lost_fault=fault)))
    assert (found.level, found.symptom) == ('ERROR', '2 camera messages were lost in inference')
    assert (found.cause, found.remedy) == (cause, remedy)


def test_what_was_refused_is_not_said_of_what_was_lost_later_nor_the_other_way_round():
    dropped = {'bad_encoding': 3, 'inference_error': 2}
    why = {'fault': 'Encoding x. Publish rgb8.', 'lost_fault': 'Out of memory. Free some.'}
    told = {
        f.symptom: (f.cause, f.remedy)
        for f in diagnose(node(stream('camera', dropped=dropped, **why)))
    }
    assert told == {
        '3 of 20 camera messages are refused (bad_encoding)': ('encoding x', 'Publish rgb8.'),
        '2 camera messages were lost in inference': ('out of memory', 'Free some.'),
    }


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
        ('lidar', CLOUD, 'points'),
    ],
)
def test_a_topic_that_may_be_meant_comes_with_the_remapping_of_its_input(name, kind, input_name):
    source = Source('/here', kind, elsewhere={kind: ['/there']})
    silent = InputFacts(name, [source])
    found = only(node(**{name: silent}))
    assert f'{kind} comes on /there (remap with `-r {input_name}:=TOPIC`' in found.remedy


def remedy_for(name, kind, **elsewhere):
    topics = {'raw': IMAGE, 'compressed': COMPRESSED, 'clouds': CLOUD}
    found = {topics[each]: names for each, names in elsewhere.items()}
    source = Source('/image/compressed' if kind == COMPRESSED else '/here', kind, elsewhere=found)
    return only(node(**{name: InputFacts(name, [source])})).remedy


def test_images_that_come_compressed_are_offered_by_the_topic_that_they_are_compressed_of():
    there = ['/front/image_raw/compressed']
    remedy = remedy_for('camera', COMPRESSED, compressed=there)
    assert f'{COMPRESSED} comes on {there[0]} (remap with `-r image:=TOPIC`;' in remedy
    assert 'TOPIC is without /compressed)' in remedy
    remedy = remedy_for('camera', COMPRESSED, compressed=['/jpeg'])
    assert '/jpeg (remap with `-r /image/compressed:=TOPIC`)' in remedy
    remedy = remedy_for('camera', IMAGE, compressed=['/jpeg'])
    assert 'set image_type to compressed, remap with `-r /here/compressed:=TOPIC`' in remedy


def test_what_comes_as_another_type_is_offered_with_the_setting_that_reads_it():
    remedy = remedy_for('camera', IMAGE, compressed=['/front/compressed'], clouds=['/points'])
    assert f'{COMPRESSED} comes on /front/compressed (set image_type to compressed' in remedy
    assert '/points' not in remedy
    remedy = remedy_for('lidar', IMAGE, clouds=['/velodyne'], compressed=['/front/compressed'])
    assert f'{CLOUD} comes on /velodyne (set lidar_type to points, remap with `-r points' in remedy
    assert '/front' not in remedy
    remedy = remedy_for('camera', COMPRESSED, raw=['/front'])
    assert f'{IMAGE} comes on /front (set image_type to raw, remap with `-r image' in remedy
    # Any camera could be meant for a range image.
    assert '/front' not in remedy_for('lidar', CLOUD, raw=['/front'])


def test_images_are_offered_once_where_they_come_raw_and_compressed():
    both = {'raw': ['/front'], 'compressed': ['/front/compressed', '/front/compressedDepth']}
    remedy = remedy_for('camera', IMAGE, **both)
    assert f'{IMAGE} comes on /front (' in remedy
    assert 'compressed' not in remedy


def test_a_node_for_compressed_images_is_offered_them_where_they_come_raw_as_well():
    both = {'raw': ['/front', '/rear'], 'compressed': ['/front/compressed']}
    remedy = remedy_for('camera', COMPRESSED, **both)
    assert f'{COMPRESSED} comes on /front/compressed (remap with `-r image:=TOPIC`;' in remedy
    assert f'{IMAGE} comes on /rear (set image_type to raw' in remedy
    assert '/compressed_front/image' in remedy_for(
        'camera', COMPRESSED, compressed=['/compressed_front/image']
    )


@pytest.mark.parametrize(
    ('name', 'topic', 'needed', 'comes', 'said'),
    [
        ('camera', '/image', IMAGE, COMPRESSED, 'compressed, with `-r /image/compressed:=/image`'),
        ('camera', '/a/compressed', IMAGE, COMPRESSED, 'to compressed, with `-r image:=/a`'),
        ('camera', '/a/compressed', COMPRESSED, IMAGE, 'to raw, with `-r image:=/a/compressed`'),
        ('lidar', '/scan', IMAGE, CLOUD, 'lidar_type to points, with `-r points:=/scan`'),
        ('lidar', '/scan', IMAGE, 'sensor_msgs/msg/LaserScan', 'or convert the messages.'),
    ],
)
def test_another_type_on_the_topic_is_read_as_the_remedy_says(name, topic, needed, comes, said):
    source = Source(topic, needed, [Publisher('/driver', comes)])
    found = only(node(**{name: InputFacts(name, [source])}))
    assert said in found.remedy


def test_a_node_that_publishes_one_topic_twice_is_named_once():
    found = only(node(nothing('camera', DRIVER, DRIVER)))
    assert found.cause.startswith('/driver publishes there')


def test_of_several_publishers_the_one_of_another_type_is_named_alone():
    found = only(node(nothing('camera', DRIVER, Publisher('/encoder', COMPRESSED))))
    assert found.cause.startswith(f'/encoder publishes {COMPRESSED} on /image')


@pytest.mark.parametrize(('pairs', 'few'), [(9, True), (10, False)])
def test_pairs_of_half_the_messages_are_not_few(pairs, few):
    assert node(stream('camera', received=50), pairs=pairs).pairs_are_few == few


def test_one_return_is_no_empty_scene():
    assert diagnose(node(scan=ScanFacts(1 / 4096))) == []
