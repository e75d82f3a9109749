"""What a node says of its inputs is read back as it was meant."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.duration import Duration
from rclpy.qos import LivelinessPolicy, QoSProfile

from fusion_perception.ros.node_status import (
    as_the_node_hears,
    camera_facts,
    camera_values,
    scan_facts,
    scan_values,
)
from fusion_perception.ros.observed import PROFILES, clash, has_profile, image_bytes, stream_of
from fusion_perception.sensing.findings.facts import CameraFacts, InputFacts, ScanFacts, Source
from fusion_perception.sensing.lens import Distortion

INFO = Source('/camera_info', 'sensor_msgs/msg/CameraInfo')
IMAGE, COMPRESSED, CLOUD = (
    f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage', 'PointCloud2')
)


@pytest.mark.parametrize(
    'camera',
    [
        CameraFacts(INFO, (64, 48)),
        CameraFacts(INFO, (64, 48), images=(640, 480), told=(1280, 720), returns=3),
        CameraFacts(INFO, (64, 48), fault='camera_info holds no calibration'),
        CameraFacts(INFO, (64, 48), images=(640, 480), blank=True),
        CameraFacts(INFO, (64, 48), images=(640, 480), blank=False),
        CameraFacts(INFO, (64, 48), distortion=Distortion('plumb_bob', '', 12.25)),
        CameraFacts(INFO, (64, 48), distortion=Distortion('', 'equidistant', None)),
    ],
    ids=['bundle', 'sizes', 'fault', 'blank', 'not blank', 'bent', 'unknown'],
)
def test_what_a_node_knows_of_its_camera_is_read_back(camera):
    assert camera_facts(camera_values(camera), INFO) == camera


@pytest.mark.parametrize('scan', [None, ScanFacts(0.25), ScanFacts(0.25, 100, 7, 30)])
def test_what_a_node_knows_of_its_last_scan_is_read_back(scan):
    assert scan_facts(scan_values(scan)) == scan


def received(before, after):
    return {'lidar.received': str(before)}, {'lidar.received': str(after)}


def test_what_the_node_alone_hears_arrives_all_the_same():
    nothing = InputFacts('lidar', [Source('/range_image', IMAGE)])
    heard = as_the_node_hears(nothing, *received(30, 42))
    assert (heard.received, heard.silent_s) == (12, 0.0)
    assert as_the_node_hears(nothing, *received(30, 30)) == nothing


def test_what_the_node_lost_of_its_pairs_is_known_from_it_alone():
    heard = InputFacts('lidar', [], received=12, dropped={'no_partner': 2}, silent_s=0.1)
    before = {'lidar.dropped.no_transform': '3', 'lidar.dropped.inference_error': '5'}
    after = {**before, 'lidar.dropped.no_transform': '10', 'last_fault': 'no way to map. Publish.'}
    found = as_the_node_hears(heard, before, after)
    assert found.dropped == {'no_partner': 2, 'no_transform': 7}
    assert (found.fault, found.lost_fault) == ('', 'no way to map. Publish.')
    assert as_the_node_hears(heard, after, after) == heard
    # A node that began anew meanwhile counts from zero.
    assert as_the_node_hears(heard, after, before) == heard


@pytest.mark.parametrize(
    'told',
    [
        'camera: Encoding x. Publish rgb8.',
        'lidar: Encoding x. Publish 32FC1.',
        'The sensors cannot be compared: no memory',
        '~/markers is left out: LinAlgError',
    ],
)
def test_what_cost_no_pair_is_not_why_one_was_lost(told):
    heard = InputFacts('lidar', [], received=12, silent_s=0.1)
    after = {'lidar.dropped.inference_error': '2', 'last_fault': told}
    found = as_the_node_hears(heard, {}, after)
    assert (found.dropped, found.lost_fault) == ({'inference_error': 2}, '')


def test_the_node_alone_knows_who_sends_by_turns():
    heard = InputFacts('lidar', [], received=12, silent_s=0.1)
    assert as_the_node_hears(heard, {}, {'lidar.turns': '30', 'camera.turns': '3'}).turns == 30


def test_messages_that_were_announced_are_missed_unless_the_node_heard_most_of_them():
    few = InputFacts('lidar', [], received=4, silent_s=0.1, announced=100)
    assert as_the_node_hears(few, *received(0, 99)).announced == 0
    assert as_the_node_hears(few, *received(0, 4)).announced == 100


def test_a_deadline_that_is_not_kept_is_named():
    offered, asked = (QoSProfile(depth=1, deadline=Duration(seconds=s)) for s in (2, 1))
    assert clash(offered, asked).startswith('DEADLINE: ')
    assert clash(asked, offered) == ''


def test_how_long_a_publisher_counts_as_alive_is_not_taken_for_how_it_shows_it():
    slow, fast = (
        QoSProfile(depth=1, liveliness_lease_duration=Duration(seconds=s)) for s in (2, 1)
    )
    assert clash(slow, fast).startswith('LIVELINESS LEASE DURATION: ')
    by_itself, by_topic = (
        QoSProfile(depth=1, liveliness=getattr(LivelinessPolicy, kind))
        for kind in ('AUTOMATIC', 'MANUAL_BY_TOPIC')
    )
    assert clash(by_itself, by_topic).startswith('LIVELINESS: ')


@pytest.mark.parametrize(
    ('topic', 'kind', 'stream'),
    [
        ('/image', IMAGE, 'camera'),
        ('/image/compressed', COMPRESSED, 'camera'),
        ('/range_image', IMAGE, 'lidar'),
        ('/points', CLOUD, 'lidar'),
        ('/camera_info', 'sensor_msgs/msg/CameraInfo', None),
    ],
)
def test_a_topic_belongs_to_the_stream_that_it_brings(topic, kind, stream):
    assert stream_of(topic, kind, '/range_image') == stream


def test_only_of_raw_images_the_bytes_are_known_beforehand():
    raw, compressed = Source('/image', IMAGE), Source('/image/compressed', COMPRESSED)
    assert image_bytes([raw], 1920, 1080) == 3 * 1920 * 1080
    assert image_bytes([raw, compressed], 1920, 1080) == 0


@pytest.mark.parametrize('given', PROFILES)
def test_a_profile_of_fast_dds_may_be_given_by_the_name_of_either_release(monkeypatch, given):
    for name in PROFILES:
        monkeypatch.delenv(name, raising=False)
    assert not has_profile()
    monkeypatch.setenv(given, '')
    assert not has_profile()
    monkeypatch.setenv(given, 'profiles.xml')
    assert has_profile()
