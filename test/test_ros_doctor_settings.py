"""`fusion doctor --live` measures by what the node is set to, not by the defaults."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from live_sensors import PERIOD_S, Sensors, examined, examined_beside
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_graph import probed, wait_until
from sensor_msgs.msg import CameraInfo, PointCloud2
from small_bundles import small_bundle
from std_msgs.msg import Header

from fusion_perception.ros.clouds import cloud_message
from fusion_perception.ros.examination import _watch_of, examiner
from fusion_perception.ros.messages import (
    camera_info_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.sensing.findings.facts import Source
from fusion_perception.sensing.observation import Camera

pytestmark = pytest.mark.ros
SECOND = 1_000_000_000
SOURCE = Source('/range_image', 'sensor_msgs/msg/Image')


def test_stamps_are_too_old_by_the_age_that_the_node_allows(tmp_path):
    text, code = examined_beside(small_bundle(tmp_path), '-p', 'max_age_s:=0.2', shift_s=0.4)
    assert code == 1, text
    assert 'max_age_s drops what is older than 0.2 s' in text
    assert 'or raise max_age_s' in text


def test_stamps_that_differ_form_no_pair_where_the_node_takes_equal_ones_alone(tmp_path):
    text, code = examined_beside(
        small_bundle(tmp_path), '-p', 'pairing.policy:=exact', shift_s=0.01
    )
    assert code == 1, text
    assert 'ERROR  Camera and LiDAR never form a pair' in text, text
    assert 'the policy is exact' in text


@pytest.mark.parametrize(('most', 'names'), [(0.01, True), (1.0, False)])
def test_points_beside_the_beams_are_too_many_by_the_share_that_the_node_allows(
    tmp_path, most, names
):
    kinds = ('-p', 'lidar_type:=points', '-p', f'points_outside_max:={most}')
    # In all directions, of which the LiDAR sees but a part.
    around = np.random.default_rng(0).normal(size=(4, 64, 64))
    around *= 10 / np.linalg.norm(around[:3], axis=0)
    with probed(small_bundle(tmp_path), *kinds) as probe:
        scans = probe.create_publisher(PointCloud2, 'points', qos_profile_sensor_data)
        cloud = cloud_message(Header(frame_id='lidar'), around.astype(np.float32))

        def tick():
            cloud.header.stamp = probe.get_clock().now().to_msg()
            scans.publish(cloud)

        ticking = probe.create_timer(PERIOD_S, tick)
        with Sensors(probe, camera=True):
            wait_until(lambda: probe.centers, 'a prediction')
            text, _ = examined()
        ticking.cancel()
    assert ('points lie beside every beam' in text) == names, text


@pytest.mark.parametrize(('range_m', 'returns'), [(39.0, 1.0), (41.0, 0.0)])
def test_scans_are_read_by_the_rows_columns_and_reach_of_the_lidar_that_the_node_tells_of(
    range_m, returns
):
    told = {'lidar_shape': '32x64', 'max_range': '40.0'}
    watch = _watch_of(NodeSettings(), told)
    header = header_message(100 * SECOND, 'lidar')
    watch.take(
        'lidar', range_message(header, np.full((32, 64), range_m, np.float32)), 100 * SECOND
    )
    assert watch.scan.returns == returns


def test_scans_of_another_shape_than_that_of_the_lidar_are_refused():
    watch = _watch_of(NodeSettings(), {'lidar_shape': '32x64', 'max_range': '40.0'})
    header = header_message(100 * SECOND, 'lidar')
    watch.take('lidar', range_message(header, np.ones((64, 32), np.float32)), 100 * SECOND)
    (lidar,) = watch.inputs({'lidar': [SOURCE]}, {}, {}, {}, {})
    assert lidar.dropped['bad_shape'] == 1
    assert '(64, 32) came and the bundle needs (32, 64)' in lidar.fault


def test_scans_of_any_shape_are_read_before_the_node_tells_of_its_lidar():
    watch = _watch_of(NodeSettings(), {})
    header = header_message(100 * SECOND, 'lidar')
    watch.take('lidar', range_message(header, np.full((7, 9), 900.0, np.float32)), 100 * SECOND)
    assert watch.scan.returns == 1.0


def test_large_images_that_came_less_often_than_their_camera_info_get_lost(tmp_path):
    with probed(small_bundle(tmp_path)) as graph:
        graph.wait_for_node()
        infos = graph.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        pixels = np.zeros((400, 500, 3), np.uint8)

        def tick():
            for _ in range(3):
                header = header_message(graph.get_clock().now().nanoseconds, 'camera')
                infos.publish(CameraInfo(header=header, width=500, height=400))
            graph.images.publish(image_message(header, pixels))

        ticking = graph.create_timer(PERIOD_S, tick)
        with Sensors(graph, lidar=True):
            text, code = examined()
        ticking.cancel()
    assert code == 1, text
    assert 'large_images:=true' in text
    assert ' images on /image only ' in text


def test_a_camera_info_that_is_latched_announces_each_image_once(tmp_path):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with probed(small_bundle(tmp_path)) as graph:
        graph.wait_for_node()
        infos = graph.create_publisher(CameraInfo, 'camera_info', latched)
        # One hears all that is sent, one what was sent before.
        wait_until(lambda: graph.count_subscribers('/camera_info') == 2, 'the node to listen')

        def tick():
            stamp_ns = graph.get_clock().now().nanoseconds
            header = header_message(stamp_ns, 'camera')
            infos.publish(camera_info_message(header, Camera()))
            graph.publish(stamp_ns)

        ticking = graph.create_timer(PERIOD_S, tick)
        with examiner() as looking:
            facts = looking.examine('/fusion_node', 2.0).facts
        ticking.cancel()
    camera = next(each for each in facts.inputs if each.stream == 'camera')
    # What did not come more often than the node heard of images announces none that is missed.
    assert camera.received and not camera.announced
