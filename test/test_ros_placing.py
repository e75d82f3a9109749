"""Outputs in the frame that is asked for: every one of them is moved there but the picture."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import torch
from geometry_msgs.msg import PoseArray
from ros_graph import RANGES, Probe, ros, spinning, wait_until
from sensor_msgs.msg import Image, PointCloud2
from small_bundles import small_bundle
from visualization_msgs.msg import MarkerArray

from fusion_perception.ros.annotation import annotated
from fusion_perception.ros.frames import _rotation
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.outputs import Result
from fusion_perception.sensing.cloud import decode_points, to_lidar_axes
from fusion_perception.sensing.decode import decode_image, stamp_ns
from fusion_perception.sensing.observation import Camera, Prediction
from fusion_perception.sensing.rep103 import centers_of, covariance_to_rep103

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


class Turned:
    """A frame in which the LiDAR is turned and shifted: what tf2 tells where it is installed."""

    name = 'map'
    T = np.eye(4)

    def T_target_source(self, source, stamp_ns):
        assert (source, stamp_ns) == ('velodyne', STAMP_NS)
        return self.T

    def close(self):
        """Listen no more."""


# Unlike its inverse, and about no axis alone.
Turned.T[:3, :3] = _rotation(
    *np.array([0.5, 0.1, -0.3, 0.6]) / np.linalg.norm([0.5, 0.1, 0.3, 0.6])
)
Turned.T[:3, 3] = 5.0, -7.0, 1.0


def published(tmp_path, frame_id='velodyne', target=None, **settings):
    """Return what an active node publishes of a result, by topic."""
    heard = {}
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'engine:=torch'):
        node, probe = FusionNode(), Probe()
        node.start()
        lidar = node._pipeline.runtime.bundle.lidar
        node._outputs._target = target
        for topic, kind in TOPICS.items():
            take = lambda message, topic=topic: heard.setdefault(topic, message)  # noqa: E731
            probe.create_subscription(kind, f'/fusion_node/{topic}', take, 10)
        prediction = Prediction(
            torch.tensor(CENTERS)[None],
            torch.tensor(COVARIANCE)[None],
            ('cube', 'sphere', 'torus'),
            ('fusion',),
        )
        seen = (prediction, RANGES, lidar, PIXELS, CAMERA, 'camera')
        with spinning(probe):
            wait_until(lambda: all(map(node._outputs._heard, TOPICS)), 'the listeners')
            wait_until(lambda: probe.count_publishers('/fusion_node/centers'), 'the node')
            result = Result(STAMP_NS, frame_id, *seen)

            def all_heard():
                node._outputs.publish(result, NodeSettings(**settings), 0.0)
                return set(heard) == set(TOPICS)

            wait_until(all_heard, 'the outputs')
        node.destroy_node()
        probe.destroy_node()
    return heard, lidar


@pytest.mark.ros
def test_output_in_another_frame_is_moved_there_but_for_the_picture(tmp_path):
    heard, lidar = published(tmp_path, target=Turned())
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
def test_output_before_the_first_scan_is_in_the_frame_that_was_set(tmp_path):
    heard, _ = published(tmp_path, frame_id='', lidar_frame='roof')
    frames = {heard[topic].header.frame_id for topic in ('centers', 'points')}
    assert frames == {'roof'}
    assert {m.header.frame_id for m in heard['markers'].markers} == {'roof'}


@pytest.mark.parametrize(
    ('axis', 'turned', 'into'),
    [((1, 0, 0), 1, 2), ((0, 1, 0), 2, 0), ((0, 0, 1), 0, 1)],
    ids=['x', 'y', 'z'],
)
def test_a_quarter_turn_about_one_axis_leads_the_next_one_to_the_one_after(axis, turned, into):
    half = 0.5**0.5
    rotation = _rotation(half, *(half * part for part in axis))
    np.testing.assert_allclose(rotation @ np.eye(3)[turned], np.eye(3)[into], atol=1e-12)
