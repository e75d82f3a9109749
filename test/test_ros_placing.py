"""Outputs in the frame that is asked for, of a camera where it is said to be."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import torch
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from ros_graph import RANGES, Probe, ended, probed, ros, spinning, wait_until
from sensor_msgs.msg import Image, PointCloud2
from small_bundles import small_bundle
from visualization_msgs.msg import MarkerArray

from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros.annotation import annotated
from fusion_perception.ros.frames import Frames
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.outputs import Result
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.cloud import decode_points, to_lidar_axes
from fusion_perception.sensing.decode import decode_image, stamp_ns
from fusion_perception.sensing.observation import Camera, Prediction
from fusion_perception.sensing.rep103 import (
    centers_of,
    covariance_to_rep103,
    from_rep103,
    to_rep103,
)
from fusion_perception.sensing.transforms import NoTransform, rigid

STAMP_NS = 12_000_000_034
TOPICS = {
    'centers': PoseArray,
    'markers': MarkerArray,
    'points': PointCloud2,
    'image_annotated': Image,
}
CENTERS = np.array([[1.0, 25.0, 2.0], [-3.0, 22.0, 0.5], [0.0, 27.0, -4.0]])
ROOTS = np.random.default_rng(0).normal(size=(3, 3, 3))
COVARIANCE = ROOTS @ ROOTS.swapaxes(1, 2)
PIXELS = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
CAMERA = Camera(width=640, height=480, fx=600.0, fy=600.0, cx=319.5, cy=239.5)


HAS_TF2 = importlib.util.find_spec('tf2_ros') is not None
# An optical frame that looks along the LiDAR's x, a metre above it.
AHEAD, ABOVE = (-0.5, 0.5, -0.5, 0.5), '0 0 1 -0.5 0.5 -0.5 0.5'
T_ABOVE = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def _rotation(w, x, y, z):
    return rigid((0.0, 0.0, 0.0), (x, y, z, w))[:3, :3]


class Turned:
    """A frame in which the LiDAR is turned and shifted: what tf2 tells where it is installed."""

    T = np.eye(4)

    def T_target_lidar(self, target_frame, lidar_frame, stamp_ns):
        assert (target_frame, lidar_frame, stamp_ns) == ('map', 'velodyne', STAMP_NS)
        return self.T

    def close(self):
        """Listen no more."""


# Unlike its inverse, and about no axis alone.
Turned.T[:3, :3] = _rotation(
    *np.array([0.5, 0.1, -0.3, 0.6]) / np.linalg.norm([0.5, 0.1, 0.3, 0.6])
)
Turned.T[:3, 3] = 5.0, -7.0, 1.0


def published(tmp_path, frame_id='velodyne', frames=None, topics=TOPICS, **settings):
    """Return what an active node publishes of a result, by topic."""
    heard = {}
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'engine:=torch'):
        node, probe = FusionNode(), Probe()
        node.start()
        lidar = node._pipeline.runtime.bundle.lidar
        node._outputs._frames = frames
        for topic, kind in topics.items():
            take = lambda message, topic=topic: heard.setdefault(topic, message)  # noqa: E731
            probe.create_subscription(kind, f'/fusion_node/{topic}', take, 10)
        prediction = Prediction(
            torch.tensor(CENTERS)[None],
            torch.tensor(COVARIANCE)[None],
            ('cube', 'sphere', 'torus'),
            ('fusion',),
        )
        seen = (prediction, RANGES, lidar, PIXELS, CAMERA, 'camera')
        with ended(node, probe), spinning(probe):
            wait_until(lambda: all(map(node._outputs._heard, topics)), 'the listeners')
            wait_until(lambda: probe.count_publishers('/fusion_node/centers'), 'the node')
            result = Result(STAMP_NS, frame_id, *seen)

            def all_heard():
                node._outputs.publish(result, NodeSettings(**settings), 0.0)
                return set(heard) == set(topics)

            wait_until(all_heard, 'the outputs')
    return heard, lidar


@pytest.mark.ros
def test_output_in_another_frame_is_moved_there_but_for_the_picture(tmp_path):
    heard, lidar = published(tmp_path, frames=Turned(), target_frame='map')
    rotation, shift = Turned.T[:3, :3], Turned.T[:3, 3]
    assert stamp_ns(heard['centers']) == STAMP_NS
    np.testing.assert_allclose(centers_of(heard['centers']), CENTERS @ rotation.T + shift)
    xyza = lidar.xyza(torch.from_numpy(RANGES)).numpy()
    there = xyza[3] == 1
    points = to_lidar_axes(decode_points(heard['points'])).reshape(3, 64, 64)
    moved = rotation @ xyza[:3, there] + shift[:, None]
    np.testing.assert_allclose(points[:, there], moved, atol=1e-3)
    markers = heard['markers'].markers
    (mode,) = (m for m in markers if m.ns == 'mode')
    assert (mode.pose.position.x, mode.pose.position.y) == (-7.0, -5.0)
    ellipsoids = [m for m in markers if m.ns == 'covariance']
    for m, expected in zip(ellipsoids, rotation @ COVARIANCE @ rotation.T, strict=True):
        q, scale = m.pose.orientation, m.scale
        axes = _rotation(q.w, q.x, q.y, q.z)
        deviations = np.array([scale.x, scale.y, scale.z]) / 2 / 2.5003
        found = axes @ np.diag(deviations**2) @ axes.T
        np.testing.assert_allclose(found, covariance_to_rep103(expected), atol=1e-4)
    assert {m.header.frame_id for m in markers} == {heard['points'].header.frame_id} == {'map'}
    picture = heard['image_annotated']
    classes = ('cube', 'sphere', 'torus')
    drawn = annotated(PIXELS, CAMERA, CENTERS, classes, COVARIANCE, 'fusion')
    assert np.array_equal(decode_image(picture), drawn)
    assert picture.header.frame_id == 'camera'


@pytest.mark.ros
def test_detections_in_another_frame_are_moved_there_with_their_covariance(tmp_path):
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='needs vision_msgs')
    topics = {'detections': vision_msgs.Detection3DArray}
    heard, _ = published(tmp_path, frames=Turned(), topics=topics, target_frame='map')
    rotation, shift = Turned.T[:3, :3], Turned.T[:3, 3]
    message = heard['detections']
    assert (message.header.frame_id, stamp_ns(message)) == ('map', STAMP_NS)
    poses = [detection.results[0].pose for detection in message.detections]
    at = [[part.pose.position.x, part.pose.position.y, part.pose.position.z] for part in poses]
    np.testing.assert_allclose(at, to_rep103(CENTERS @ rotation.T + shift), atol=1e-6)
    spread = [part.covariance.reshape(6, 6)[:3, :3] for part in poses]
    expected = covariance_to_rep103(rotation @ COVARIANCE @ rotation.T)
    np.testing.assert_allclose(spread, expected, atol=1e-4)


@pytest.mark.ros
def test_output_before_the_first_scan_is_in_the_frame_that_was_set(tmp_path):
    heard, _ = published(tmp_path, frame_id='', lidar_frame='roof')
    frames = {heard[topic].header.frame_id for topic in ('centers', 'points')}
    assert frames == {'roof'}
    assert {m.header.frame_id for m in heard['markers'].markers} == {'roof'}


def predicted(probe, tmp_path):
    """Feed a node until it answers, and return its centres and those of a camera up there."""
    probe.wait_for_node()
    stamps = []

    def heard():
        stamps.append(probe.get_clock().now().nanoseconds)
        probe.publish(stamps[-1])
        return probe.centers

    wait_until(heard, 'centres')
    message = probe.centers[0]
    runtime = Runtime(load_bundle(small_bundle(tmp_path)), 'cpu')
    pixels = np.random.default_rng(stamp_ns(message)).integers(0, 256, (64, 64, 3), np.uint8)
    camera = Camera(T_camera_lidar=T_ABOVE)
    beside = runtime.predict_frame(pixels, RANGES)
    above = runtime.predict_frame(pixels, RANGES, camera)
    assert not np.allclose(beside.centers, above.centers, atol=1e-3)
    return centers_of(message), above.centers[0].double().numpy()


@pytest.mark.ros
def test_a_camera_is_where_camera_pose_says_in_numbers(tmp_path):
    with probed(small_bundle(tmp_path), '-p', f'camera_pose:="{ABOVE}"') as probe:
        found, expected = predicted(probe, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.ros
def test_a_place_that_is_none_is_refused_and_says_how_to_get_one(tmp_path):
    with probed(small_bundle(tmp_path), '-p', 'autostart:=false') as probe:
        refused = probe.set('camera_pose', 'on the roof')
        assert not refused.successful
        assert "'on the roof' is no pose; give bundle, tf, or seven numbers" in refused.reason
        assert probe.set('camera_pose', ABOVE).successful
        assert probe.change_state('configure')
        assert not probe.set('camera_pose', 'bundle').successful


@pytest.mark.ros
@pytest.mark.skipif(HAS_TF2, reason='tf2_ros is installed')
def test_a_camera_of_tf_without_tf2_fails_to_configure_and_heals(tmp_path):
    arguments = ('-p', 'camera_pose:=tf', '-p', 'autostart:=false')
    with probed(small_bundle(tmp_path), *arguments) as probe:
        assert not probe.change_state('configure')
        words = 'camera_pose tf needs tf2_ros, which is not', 'or give camera_pose in numbers.'
        wait_until(
            lambda: any(all(w in s.message for w in words) for s in probe.diagnostics),
            'the reason',
        )
        assert probe.set('camera_pose', ABOVE).successful
        assert probe.change_state('configure')


@pytest.mark.ros
def test_with_tf2_a_camera_is_where_tf_has_it_once_it_does(tmp_path):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import StaticTransformBroadcaster

    with probed(small_bundle(tmp_path), '-p', 'camera_pose:=tf') as probe:
        probe.wait_for_node()

        def told():
            probe.publish(probe.get_clock().now().nanoseconds)
            return any("to the images' frame 'camera'" in s.message for s in probe.diagnostics)

        wait_until(told, 'what lacks')
        assert probe.streams()['camera']['dropped']['no_transform'] > 0
        assert not probe.centers
        mounted = TransformStamped()
        mounted.header.frame_id, mounted.child_frame_id = 'lidar', 'camera'
        mounted.transform.translation.z = 1.0
        for axis, part in zip('xyzw', AHEAD, strict=True):
            setattr(mounted.transform.rotation, axis, part)
        broadcaster = StaticTransformBroadcaster(probe)
        broadcaster.sendTransform(mounted)
        found, expected = predicted(probe, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture
def joined():
    """Give what tf2 knows, and a way to tell it that the LiDAR is in a frame and where."""
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import StaticTransformBroadcaster

    def tell(frame, x, y, z):
        link = TransformStamped(child_frame_id='lidar')
        link.header.frame_id, link.transform.rotation.w = frame, 1.0
        shift = link.transform.translation
        shift.x, shift.y, shift.z = x, y, z
        broadcaster.sendTransform(link)

    with ros():
        node = Node('node')
        known, broadcaster = Frames(node, 'a test', 'skip it'), StaticTransformBroadcaster(node)
        with spinning(node):
            yield known, tell
        known.close()
        node.destroy_node()


@pytest.mark.ros
def test_with_tf2_a_transform_that_comes_a_little_late_is_waited_for(joined, monkeypatch):
    known, tell = joined
    monkeypatch.setattr('fusion_perception.ros.frames.PATIENCE_S', 30.0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(known.T_target_lidar, 'map', 'lidar', STAMP_NS)
        wait_until(asked.running, 'the question')
        tell('map', 1.0, 2.0, 3.0)
        T = asked.result()
    np.testing.assert_allclose(T[:3, 3], from_rep103(np.array([1.0, 2.0, 3.0])))


@pytest.mark.ros
def test_with_tf2_a_frame_that_is_missing_is_named_with_both_ends_of_the_way(joined, monkeypatch):
    known, _ = joined
    monkeypatch.setattr('fusion_perception.ros.frames.PATIENCE_S', 0.0)
    with pytest.raises(NoTransform) as lacking:
        known.T_target_lidar('map', 'lidar', STAMP_NS)
    assert str(lacking.value).startswith("No transform from 'lidar' to target_frame 'map': ")
    with pytest.raises(NoTransform) as lacking:
        known.T_camera_lidar('eye', 'lidar', STAMP_NS)
    assert str(lacking.value).startswith("No transform from 'lidar' to the images' frame 'eye': ")
    assert str(lacking.value).endswith('or give camera_pose in numbers.')


@pytest.mark.ros
def test_with_tf2_a_node_that_is_cleaned_up_listens_to_no_transforms_any_more(tmp_path):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')

    def left():
        services = dict(probe.get_service_names_and_types())
        return probe.count_subscribers('/tf'), '/tf2_frames' in services

    with probed(small_bundle(tmp_path), '-p', 'target_frame:=map') as probe:
        wait_until(lambda: left() == (1, True), 'the node to listen')
        for transition in ('deactivate', 'cleanup'):
            assert probe.change_state(transition), transition
        wait_until(lambda: left() == (0, False), 'the node to listen no more')


@pytest.mark.parametrize(
    ('axis', 'turned', 'into'),
    [((1, 0, 0), 1, 2), ((0, 1, 0), 2, 0), ((0, 0, 1), 0, 1)],
    ids=['x', 'y', 'z'],
)
def test_a_quarter_turn_about_one_axis_leads_the_next_one_to_the_one_after(axis, turned, into):
    half = 0.5**0.5
    rotation = _rotation(half, *(half * part for part in axis))
    np.testing.assert_allclose(rotation @ np.eye(3)[turned], np.eye(3)[into], atol=1e-12)
