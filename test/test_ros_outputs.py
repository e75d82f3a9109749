"""What the node publishes beside the centres: in time and place of the LiDAR's message."""

import importlib.util
from contextlib import ExitStack
from itertools import groupby

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import RANGES, Probe, RosProcess, ended, probed, probing, ros, spinning, wait_until
from sensor_msgs.msg import Image, PointCloud2
from small_bundles import small_bundle
from std_msgs.msg import String
from std_srvs.srv import SetBool
from visualization_msgs.msg import Marker, MarkerArray

from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros.outputs import marker_lifetime_s
from fusion_perception.sensing.cloud import decode_points, to_lidar_axes
from fusion_perception.sensing.decode import decode_image, stamp_ns
from fusion_perception.sensing.rep103 import to_rep103

pytestmark = pytest.mark.ros
HAS_TF2 = importlib.util.find_spec('tf2_ros') is not None


@pytest.fixture
def graph(tmp_path):
    """Start a fusion node in this process, and a probe that feeds it; return the probe."""
    with ExitStack() as opened:
        yield lambda *arguments: opened.enter_context(probed(small_bundle(tmp_path), *arguments))


def feed_until(probe, heard, period_s=0.02, **message):
    """Publish pairs until something was heard; return the stamps."""
    stamps = []

    def heard_now():
        if not stamps or probe.get_clock().now().nanoseconds - stamps[-1] > 1e9 * period_s:
            stamps.append(probe.get_clock().now().nanoseconds)
            probe.publish(stamps[-1], **message)
        return heard()

    wait_until(heard_now, 'output')
    return stamps


def listen(probe, kind, topic, qos=10):
    heard = []
    probe.create_subscription(kind, f'{probe.node}/{topic}', heard.append, qos)
    return heard


def test_the_cloud_holds_the_points_of_the_range_image(graph, tmp_path):
    probe = graph()
    probe.wait_for_node()
    clouds = listen(probe, PointCloud2, 'points')
    stamps = feed_until(probe, lambda: clouds, frame_id='velodyne')
    assert clouds[0].header.frame_id == 'velodyne'
    assert stamp_ns(clouds[0]) in stamps
    points = to_lidar_axes(decode_points(clouds[0])).reshape(3, 64, 64)
    distance = np.linalg.norm(points, axis=0)
    assert np.allclose(distance[20:40, 20:40], 24.0, atol=1e-4)
    assert np.isnan(distance[RANGES == 50.0]).all()
    assert (points[1, 20:40, 20:40] > 20).all()


def test_the_annotated_image_is_the_camera_s_at_the_pair_s_time(graph):
    probe = graph()
    probe.wait_for_node()
    images = listen(probe, Image, 'image_annotated')
    stamps = feed_until(probe, lambda: images)
    assert images[0].header.frame_id == 'camera'
    stamp = stamp_ns(images[0])
    assert stamp in stamps
    sent = np.random.default_rng(stamp).integers(0, 256, (64, 64, 3), np.uint8)
    drawn = decode_image(images[0])[::8, ::8]
    # Centres and caption cover a part; the rest is the image itself.
    assert (drawn == sent).all(axis=2).mean() > 0.5


def test_markers_end_when_prediction_does(graph):
    probe = graph('-p', 'marker_lifetime_s:=0')
    probe.wait_for_node()
    messages = listen(probe, MarkerArray, 'markers')
    feed_until(probe, lambda: messages)
    shown = {(m.ns, m.id) for m in messages[0].markers}
    assert {ns for ns, _ in shown} == {'centers', 'names', 'covariance', 'mode'}
    assert probe.call(SetBool, 'enable', SetBool.Request(data=False)).success

    def gone():
        last = messages[-1].markers
        return {(m.ns, m.id) for m in last if m.action == Marker.DELETE} == shown

    wait_until(gone, 'the markers to be deleted')
    assert {m.header.frame_id for m in messages[-1].markers} == {'lidar'}


def test_markers_of_slow_sensors_outlast_the_time_to_the_next_output(graph):
    probe = graph('-p', 'marker_lifetime_s:=0.1')
    probe.wait_for_node()
    messages = listen(probe, MarkerArray, 'markers')
    feed_until(probe, lambda: len(messages) > 3, period_s=0.3)
    assert all(m.lifetime.sec + 1e-9 * m.lifetime.nanosec > 0.5 for m in messages[-1].markers)


@pytest.mark.parametrize(
    ('least_s', 'period_s', 'lifetime_s'),
    [(0.5, 0.0, 0.5), (0.5, 0.1, 0.5), (0.5, 1.0, 2.0), (0.0, 1.0, 0.0)],
)
def test_markers_stay_for_two_periods_at_least_or_for_ever(least_s, period_s, lifetime_s):
    assert marker_lifetime_s(least_s, period_s) == lifetime_s


def test_markers_end_when_both_sensors_fall_silent(graph):
    probe = graph('-p', 'marker_lifetime_s:=0', '-p', 'pairing.dropout_after_s:=0.2')
    probe.wait_for_node()
    messages = listen(probe, MarkerArray, 'markers')
    feed_until(probe, lambda: messages)
    wait_until(
        lambda: all(m.action == Marker.DELETE for m in messages[-1].markers),
        'the markers to be deleted',
    )


def test_each_output_says_of_which_sensors_it_was_made(graph):
    probe = graph('-p', 'pairing.dropout_after_s:=0.2')
    probe.wait_for_node()
    said = listen(probe, String, 'mode', 100)
    markers = listen(probe, MarkerArray, 'markers', 100)
    shown = {}

    def words():
        return [message.data for message in said]

    feed_until(probe, lambda: 'fusion' in words())
    feed_until(probe, lambda: 'lidar_only' in words(), camera=False)
    feed_until(probe, lambda: words()[-1] == 'fusion')
    feed_until(probe, lambda: 'camera_only' in words(), lidar=False)
    wait_until(lambda: words()[-1] == 'none', 'the end of the output to be said')
    # A slow machine may have interrupted the output in between.
    modes = [mode for mode in words() if mode != 'none']
    assert [mode for mode, _ in groupby(modes)] == [
        'fusion',
        'lidar_only',
        'fusion',
        'camera_only',
    ]
    for message in markers:
        for marker in message.markers:
            if marker.ns == 'mode' and marker.action == Marker.ADD:
                shown[stamp_ns(marker)] = marker.text
    assert set(shown.values()) == {'fusion', 'lidar_only', 'camera_only'}
    # One word per output, in the order of the stamps; the first may have been missed.
    stamps = [stamp_ns(message) for message in probe.centers][-len(modes) :]
    told = dict(zip(stamps[::-1], modes[::-1], strict=False))
    assert {stamp: told[stamp] for stamp in shown if stamp in told} == shown


@pytest.mark.skipif(HAS_TF2, reason='tf2_ros is installed')
def test_a_target_frame_without_tf2_fails_to_configure_and_heals(graph):
    probe = graph('-p', 'target_frame:=base_link', '-p', 'autostart:=false')
    assert not probe.change_state('configure')
    assert probe.state() == 'unconfigured'
    words = "target_frame 'base_link' needs tf2_ros", "or set target_frame to ''"
    wait_until(
        lambda: any(all(w in s.message for w in words) for s in probe.diagnostics), 'the reason'
    )
    assert probe.set('target_frame', '').successful
    assert probe.change_state('configure')


def test_with_tf2_output_is_moved_into_the_target_frame(graph, tmp_path):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import StaticTransformBroadcaster

    probe = graph('-p', 'target_frame:=base_link')
    probe.wait_for_node()
    mounted = TransformStamped()
    mounted.header.frame_id, mounted.child_frame_id = 'base_link', 'lidar'
    # A quarter turn to the left, one metre forward and two up.
    mounted.transform.translation.x, mounted.transform.translation.z = 1.0, 2.0
    mounted.transform.rotation.z = mounted.transform.rotation.w = 0.5**0.5
    broadcaster = StaticTransformBroadcaster(probe)
    broadcaster.sendTransform(mounted)
    clouds = listen(probe, PointCloud2, 'points')
    feed_until(probe, lambda: clouds)
    assert clouds[0].header.frame_id == probe.centers[-1].header.frame_id == 'base_link'
    lidar = load_bundle(small_bundle(tmp_path)).lidar
    x, y, z = 24.0 * to_rep103(lidar.directions[30, 30].numpy())
    moved = decode_points(clouds[0])[30, 30]
    assert moved == pytest.approx([1.0 - y, x, z + 2.0], abs=1e-3)


def test_with_tf2_a_frame_nobody_publishes_is_told_and_heals_when_it_comes(graph, tmp_path):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import TransformBroadcaster

    probe = graph('-p', 'target_frame:=map')
    probe.wait_for_node()

    def reported():
        return any('/tf' in status.message for status in probe.diagnostics)

    feed_until(probe, reported)
    said = next(s.message for s in probe.diagnostics if '/tf' in s.message)
    assert 'does not exist. Publish it on /tf or /tf_static, or correct' in said
    assert probe.streams()['lidar']['dropped']['no_transform'] > 0
    assert not probe.centers
    # Listening ends and begins again with the lifecycle, as often as one likes.
    for transition in ('deactivate', 'cleanup', 'configure', 'activate') * 2:
        assert probe.change_state(transition), transition
    probe.wait_for_node()
    moving = TransformStamped()
    moving.header.frame_id, moving.child_frame_id = 'map', 'lidar'
    moving.transform.rotation.w = 1.0
    broadcaster = TransformBroadcaster(probe)
    began_ns = probe.get_clock().now().nanoseconds

    def heard():
        # One metre per second along the axis ahead.
        now = probe.get_clock().now()
        moving.header.stamp = now.to_msg()
        moving.transform.translation.x = (now.nanoseconds - began_ns) / 1e9
        broadcaster.sendTransform(moving)
        return len(clouds) > 5

    clouds = listen(probe, PointCloud2, 'points')
    feed_until(probe, heard)
    directions = load_bundle(small_bundle(tmp_path)).lidar.directions
    for cloud in clouds:
        ahead = decode_points(cloud)[30, 30, 0] - (stamp_ns(cloud) - began_ns) / 1e9
        assert ahead == pytest.approx(24.0 * directions[30, 30, 1], abs=0.01)


@pytest.mark.parametrize(
    ('known', 'seconds_old', 'remedy'),
    [
        ([('map', 'lidar')], 5, 'Publish it more often or with less delay'),
        ([('map', 'odom'), ('base_link', 'lidar')], 0, 'what joins the two'),
    ],
)
def test_with_tf2_the_remedy_is_for_what_the_transforms_lack(graph, known, seconds_old, remedy):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import TransformBroadcaster

    probe = graph('-p', 'target_frame:=map')
    probe.wait_for_node()
    broadcaster = TransformBroadcaster(probe)

    def told():
        stamp = (probe.get_clock().now() - Duration(seconds=seconds_old)).to_msg()
        for frame, child in known:
            link = TransformStamped()
            link.header.frame_id, link.child_frame_id, link.header.stamp = frame, child, stamp
            link.transform.rotation.w = 1.0
            broadcaster.sendTransform(link)
        return any(remedy in status.message for status in probe.diagnostics)

    feed_until(probe, told)
    assert not probe.centers


def test_with_tf2_a_node_that_was_cleaned_up_survives_a_jump_of_the_clock(tmp_path, monkeypatch):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    monkeypatch.setenv('PYTHONMALLOC', 'debug')  # Who still uses what was freed will not get far.
    parameters = ('-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'target_frame:=map')
    with RosProcess('fusion_node', tmp_path / 'log', *parameters) as process, probing() as probe:
        probe.wait_for_node()
        # What the first one leaves behind is collected by the second.
        for transition in ('deactivate', 'cleanup', 'configure', 'cleanup'):
            assert probe.change_state(transition), transition
        assert probe.set('use_sim_time', True).successful
        assert probe.state() == 'unconfigured'
        assert process.end() == 0, process.output()


def test_a_late_listener_learns_the_names_of_the_classes(graph):
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='needs vision_msgs')
    probe = graph()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    labels = listen(probe, vision_msgs.LabelInfo, 'label_info', latched)
    found = listen(probe, vision_msgs.Detection3DArray, 'detections')
    wait_until(lambda: labels, 'the names')
    assert [c.class_name for c in labels[0].class_map] == ['cube', 'sphere', 'torus']
    probe.wait_for_node()
    feed_until(probe, lambda: found)
    assert [d.results[0].hypothesis.class_id for d in found[0].detections] == ['0', '1', '2']


def test_two_nodes_side_by_side_keep_to_their_namespaces(tmp_path):
    bundle = f'bundle:={small_bundle(tmp_path)}'
    with (
        RosProcess('fusion_node', tmp_path / 'left', '-r', '__ns:=/left', '-p', bundle) as left,
        RosProcess('fusion_node', tmp_path / 'right', '-r', '__ns:=/right', '-p', bundle) as right,
        ros(),
    ):
        probes = [Probe(f'/{side}/fusion_node', f'/{side}') for side in ('left', 'right')]
        with ended(*probes), spinning(*probes):
            stamps = []
            for probe in probes:
                probe.wait_for_node()
                stamps.append(feed_until(probe, lambda probe=probe: len(probe.centers) >= 3))
            for probe, own in zip(probes, stamps, strict=True):
                assert {stamp_ns(message) for message in probe.centers} <= set(own)
                wait_until(lambda probe=probe: probe.streams(), 'counters')
        assert (left.end(), right.end()) == (0, 0)
