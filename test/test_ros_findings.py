"""The node itself says on /diagnostics why nothing comes out."""

import contextlib
from itertools import count

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from recordings import frames
from ros_graph import ended, impatient, said, text_of, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage
from small_bundles import small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.ros import monitor
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.messages import (
    camera_info_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.node_status import values_of
from fusion_perception.ros.observed import clash
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.ros
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_a_clash_names_each_policy_and_what_fits_has_none():
    assert 'RELIABILITY' in clash(BEST_EFFORT, RELIABLE)
    assert 'DURABILITY' in clash(RELIABLE, LATCHED)
    both = clash(BEST_EFFORT, LATCHED)
    assert 'RELIABILITY' in both
    assert 'DURABILITY' in both
    assert clash(LATCHED, BEST_EFFORT) == clash(RELIABLE, RELIABLE) == ''


@pytest.fixture
def probe(tmp_path):
    with impatient(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        yield probe


@contextlib.contextmanager
def driver_of_compressed_images():
    elsewhere = Context()  # One process takes one type per topic only.
    rclpy.init(context=elsewhere)
    driver = Node('driver', context=elsewhere)
    driver.create_publisher(CompressedImage, 'image', 1)
    try:
        yield
    finally:
        driver.destroy_node()
        rclpy.shutdown(context=elsewhere)


def test_a_topic_without_publisher_and_one_of_another_type_are_named(probe):
    probe.withdraw(probe.images)
    probe.withdraw(probe.ranges)
    with driver_of_compressed_images():
        wait_until(
            lambda: said(probe, 'nobody publishes', '/range_image', '/driver', 'CompressedImage'),
            'both reasons',
        )


def test_a_driver_that_comes_back_with_another_type_is_named(probe):
    def heard():
        probe.publish(probe.get_clock().now().nanoseconds)
        return probe.streams().get('camera', {}).get('received')

    wait_until(heard, 'the first images')
    probe.withdraw(probe.images)
    with driver_of_compressed_images():
        words = ('/image has been silent', '/driver', 'CompressedImage')
        wait_until(lambda: said(probe, *words), 'the reason')


def test_zero_stamps_are_named(probe):
    def unstamped():
        probe.publish(0)
        return said(probe, 'stamp is zero')

    assert wait_until(unstamped, 'the reason')


def test_a_frame_that_tf2_refuses_is_named_by_node_and_doctor(probe):
    def publish():
        probe.publish(probe.get_clock().now().nanoseconds, frame_id='/velodyne')

    probe.create_timer(0.05, publish)
    wait_until(lambda: said(probe, "/range_image have the frame_id '/velodyne'"), 'the reason')
    text, _ = doctor(DoctorSettings(live=True, seconds=1.0))
    assert "Let /probe name it 'velodyne'." in text


def test_images_unlike_those_of_the_training_are_named_with_both_sizes(tmp_path):
    rig = Rig(camera=Camera().resized(96, 32))
    with impatient(small_bundle(tmp_path, rig=rig)) as probe:
        probe.wait_for_node()
        image = np.random.default_rng(0).integers(0, 256, (48, 128, 3), np.uint8)

        def told():
            header = header_message(probe.get_clock().now().nanoseconds, 'camera')
            probe.images.publish(image_message(header, image))
            return 'have 128x48 pixels' in text_of(probe) and text_of(probe)

        assert 'intrinsics, of 96x32, are assumed' in wait_until(told, 'the sizes')


def test_where_the_model_sees_by_the_lidar_alone_nothing_is_said_of_its_camera(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 128, 3), np.uint8)
    with impatient(small_bundle(tmp_path, 'lidar')) as probe:
        probe.wait_for_node()

        def predicts():
            stamp = probe.get_clock().now().nanoseconds
            probe.images.publish(image_message(header_message(stamp, 'camera'), image))
            probe.publish(stamp, camera=False)
            return len(probe.centers) >= 5

        wait_until(predicts, 'predictions')
        probe.diagnostics.clear()
        wait_until(lambda: predicts() and probe.diagnostics, 'news')
        assert 'intrinsics' not in text_of(probe)


def test_a_camera_that_shows_nothing_is_named_by_node_and_doctor(probe):
    def publish():
        stamp = probe.get_clock().now().nanoseconds
        dark = np.zeros((48, 64, 3), np.uint8)
        probe.images.publish(image_message(header_message(stamp, 'camera'), dark))
        probe.publish(stamp, camera=False)

    probe.create_timer(0.05, publish)
    wait_until(lambda: said(probe, 'The camera shows nothing', 'lens is covered'), 'the reason')
    text, _ = doctor(DoctorSettings(live=True, seconds=1.0))
    assert 'The camera shows nothing' in text


@pytest.mark.parametrize('mirrored', [False, True])
def test_a_camera_that_contradicts_the_lidar_is_named_by_node_and_doctor(monkeypatch, mirrored):
    monkeypatch.setattr(monitor, 'COMPARE_S', 0.1)
    seen = frames(10, 1)
    images = seen.images.numpy()[:, :, :: -1 if mirrored else 1]
    with impatient('shapes') as probe:
        probe.wait_for_node()
        ticks = count()

        def publish():
            index = next(ticks) % len(images)
            stamp = probe.get_clock().now().nanoseconds
            header = header_message(stamp, 'camera')
            probe.images.publish(image_message(header, np.ascontiguousarray(images[index])))
            header = header_message(stamp, 'lidar')
            probe.ranges.publish(range_message(header, seen.ranges[index].numpy()))

        probe.create_timer(0.1, publish)
        wait_until(
            lambda: 'disagreement' in values_of(next(iter(probe.diagnostics[-1:]), None)),
            'the comparison',
        )
        words = 'Camera and LiDAR disagree'
        assert (words in probe.diagnostics[-1].message) == mirrored
        text, code = doctor(DoctorSettings(live=True, seconds=1.0))
        assert (words in text) == (code == 1) == mirrored, text
        assert probe.set('disagreement_max', 1e6).successful
        wait_until(lambda: words not in probe.diagnostics[-1].message, 'the limit to count')
        text, code = doctor(DoctorSettings(live=True, seconds=1.0))
    assert code == 0, text


def test_what_is_older_than_it_may_be_is_told_of_with_the_limit(tmp_path):
    with impatient(small_bundle(tmp_path), '-p', 'max_age_s:=0.5') as probe:
        probe.wait_for_node()

        def told():
            probe.publish(probe.get_clock().now().nanoseconds - 10**9)
            return 'max_age_s drops what is older than 0.5 s' in text_of(probe)

        wait_until(told, 'the limit')


def test_stamps_too_far_apart_are_measured(probe):
    stamp = probe.get_clock().now().nanoseconds

    def apart():
        nonlocal stamp
        stamp += 230_000_000
        probe.publish(stamp, lidar=False)
        probe.publish(stamp + 300_000_000, camera=False)
        return said(probe, 'never form a pair', 'camera_offset_s to 0.300')

    # Stamps run ahead of the clock here, which is nobody's concern but is told as well.
    assert wait_until(apart, 'the offset')


def test_sensors_slower_than_a_second_are_not_called_silent(probe):
    probe.create_timer(1.6, lambda: probe.publish(probe.get_clock().now().nanoseconds))
    wait_until(lambda: len(probe.centers) >= 3, 'their pace')
    before = len(probe.diagnostics)
    wait_until(lambda: len(probe.diagnostics) >= before + 5, 'what is said of them')
    assert not [s.message for s in probe.diagnostics[before:] if 'silent' in s.message]


@pytest.mark.parametrize(('image_type', 'known'), [('raw', True), ('compressed', False)])
def test_only_a_raw_image_is_known_to_be_too_large_by_its_camera_info(tmp_path, image_type, known):
    camera = Camera(width=1920, height=1080, fx=900.0, fy=900.0, cx=960.0, cy=540.0)
    info = camera_info_message(header_message(1, 'camera'), camera)
    with impatient(small_bundle(tmp_path), '-p', f'image_type:={image_type}') as probe:
        probe.create_publisher(CompressedImage, 'image/compressed', 1)
        infos = probe.create_publisher(CameraInfo, 'camera_info', 1)
        probe.create_timer(0.05, lambda: infos.publish(info))
        wait_until(lambda: said(probe, 'Nothing arrives on /image'), 'the fault')
        text, _ = doctor(DoctorSettings(live=True, seconds=1.0))  # It brings news of the node too.
        told = said(probe, 'Nothing arrives on /image')
    assert ('one message takes 6.2 MB' in told) == ('one message takes 6.2 MB' in text) == known


def test_scans_of_many_beams_are_known_to_be_large_before_the_first_came(tmp_path, monkeypatch):
    monkeypatch.setattr('small_bundles.GRID', UniformGrid(rows=360, columns=360).lidar())
    with impatient(small_bundle(tmp_path)) as probe:
        words = 'Nothing arrives on /range_image', 'one message takes 0.5 MB'
        wait_until(lambda: said(probe, *words), 'what a message takes')


def test_where_nobody_publishes_what_comes_elsewhere_is_offered(tmp_path):
    offered = 'sensor_msgs/msg/Image comes on /image (remap with `-r image:=TOPIC`'
    # Of the node alone.
    with impatient(small_bundle(tmp_path), '-r', 'fusion_node:image:=camera') as probe:
        probe.create_publisher(CompressedImage, 'front/compressed', 1)
        compressed = '/front/compressed (set image_type to compressed'
        words = 'Nothing arrives on /camera: nobody publishes there', offered, compressed
        wait_until(lambda: said(probe, *words), 'the topic of the images')
        text, code = doctor(DoctorSettings(live=True, seconds=1.0))
        assert code == 1
        # The scans have a subscriber already.
        assert offered in text
        # And what another one draws is no camera's.
        other = FusionNode(namespace='/right')
        other.start()
        with ended(other):
            drawn = other.resolve_topic_name('~/image_annotated')
            wait_until(lambda: probe.count_publishers(drawn), 'the other node')
            probe.diagnostics.clear()
            wait_until(lambda: probe.diagnostics, 'news')
            text, _ = doctor(DoctorSettings(live=True, seconds=1.0, node='/fusion_node'))
            assert said(probe, *words)
            assert offered in text


def test_a_sensor_that_was_late_for_a_while_is_named_until_that_is_forgotten(probe):
    def feed(seconds_old, until):
        def done():
            probe.publish(probe.get_clock().now().nanoseconds - int(seconds_old * 1e9))
            return until()

        return wait_until(done, 'what is fed to come out')

    feed(1.0, lambda: len(probe.centers) >= 20)
    # So many that of the arrivals that are kept none is an old one any more.
    feed(0.0, lambda: len(probe.centers) >= 90)
    probe.diagnostics.clear()
    sentence = feed(0.0, lambda: said(probe, 'p95 latency'))
    assert 's old when they arrive' in sentence
    assert 'in the node' not in sentence


def test_images_alone_are_not_late_by_the_node_where_an_offset_makes_their_stamps_old(probe):
    assert probe.set('pairing.lidar_offset_s', 1.0).successful

    def told():
        probe.publish(probe.get_clock().now().nanoseconds, lidar=False)
        return said(probe, 'p95 latency')

    sentence = wait_until(told, 'a word of the latency')
    assert 'pairing.camera_offset_s and pairing.lidar_offset_s move by -1.000 s' in sentence
