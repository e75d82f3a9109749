"""How long what was published counts, and what may take it back."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import rclpy
from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from ros_graph import ended, probed, ros, spinning, wait_until
from sensor_msgs.msg import Image, PointCloud2
from small_bundles import GRID, small_bundle
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from fusion_perception.ros.messages import header_message, image_message
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.outputs import TOPICS, Outputs, Result
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.observation import Camera, Prediction

pytestmark = pytest.mark.ros
BEGIN_NS = 1_700_000_000 * 10**9


def result(second):
    """Return a prediction of one cube at a second of the recording."""
    prediction = Prediction(torch.zeros(1, 1, 3), None, ('cube',), ('fusion',))
    return Result(
        stamp_ns=BEGIN_NS + round(second * 1e9),
        frame_id='lidar',
        prediction=prediction,
        ranges=np.zeros(GRID.shape, np.float32),
        lidar=GRID,
        image=None,
        camera=Camera(),
        camera_frame='',
    )


@pytest.fixture
def published():
    """Give the outputs of an active node, and what is heard of them."""
    with ros():
        node, listener = LifecycleNode('node'), Node('listener')
        outputs, modes, markers = Outputs(node, ('cube',)), [], []
        node.trigger_configure()
        node.trigger_activate()
        listener.create_subscription(String, '/node/mode', modes.append, 10)
        listener.create_subscription(MarkerArray, '/node/markers', markers.append, 10)
        with spinning(node, listener):
            # Until both ends know of each other.
            wait_until(lambda: listener.count_publishers('/node/mode'), 'the topics')
            yield SimpleNamespace(outputs=outputs, modes=modes, markers=markers)
        outputs.close()
        node.destroy_node()
        listener.destroy_node()


def publish(published, second, period_s=0.0):
    published.outputs.publish(result(second), NodeSettings(), period_s)


def said(published):
    return [message.data for message in published.modes]


def lifetime_s(published, seconds, period_s):
    """Publish predictions of those times; return how long the last one's markers stay, seconds."""
    for second in seconds:
        publish(published, second, period_s)

    def shown():
        marker = published.markers[-1].markers[-1]
        return marker if stamp_ns(marker) == result(seconds[-1]).stamp_ns else None

    lifetime = wait_until(shown, 'the last markers').lifetime
    return lifetime.sec + 1e-9 * lifetime.nanosec


def test_what_came_out_just_now_is_not_taken_back(published):
    wait_until(lambda: (publish(published, 0), published.modes)[1], 'a prediction')
    assert not published.outputs.clear(silent_s=60)
    publish(published, 1)
    assert published.outputs.clear(silent_s=1e-9)
    # Once is enough, and may be asked for again at any time.
    assert published.outputs.clear(silent_s=1e-9)
    wait_until(lambda: said(published)[-1] == 'none', 'the end')
    assert said(published).count('none') == 1


def test_markers_outlast_the_steps_of_simulated_time_and_those_of_the_wall_clock(published):
    wait_until(lambda: (publish(published, 0), published.markers)[1], 'markers')
    # A recording at ten times its pace, one at a tenth, and one that begins anew.
    assert lifetime_s(published, (1, 2, 3), period_s=0.1) == pytest.approx(2.0)
    assert lifetime_s(published, (3.5, 4.0, 4.5), period_s=5.0) == pytest.approx(10.0)
    assert lifetime_s(published, (0.1, 0.2, 0.3), period_s=0.1) == pytest.approx(0.5)


def test_an_ellipsoid_that_is_told_no_more_is_taken_back_alone(published):
    sure = Prediction(torch.zeros(1, 1, 3), torch.eye(3)[None, None], ('cube',), ('fusion',))

    def heard():
        published.outputs.publish(replace(result(0), prediction=sure), NodeSettings(), 0.0)
        return published.markers

    wait_until(heard, 'markers')
    publish(published, 1)

    def gone():
        last = published.markers[-1].markers
        return [(marker.ns, marker.id) for marker in last if marker.action == Marker.DELETE]

    assert wait_until(gone, 'the end of the ellipsoid') == [('covariance', 0)]


def test_a_message_that_cannot_be_made_costs_neither_the_centres_nor_the_others(published):
    unsure = torch.full((1, 1, 3, 3), torch.nan)
    prediction = Prediction(torch.zeros(1, 1, 3), unsure, ('cube',), ('fusion',))
    centers, clouds = [], []
    with ended(listener := Node('another')), spinning(listener):
        listener.create_subscription(PoseArray, '/node/centers', centers.append, 10)
        listener.create_subscription(PointCloud2, '/node/points', clouds.append, 10)

        def heard():
            odd = replace(result(0), prediction=prediction)
            faults.append(published.outputs.publish(odd, NodeSettings(), 0.0))
            return centers and clouds and faults[-1]

        faults = []
        (fault,) = wait_until(heard, 'the rest, and that the markers are left out')
    assert fault.startswith('~/markers is left out: LinAlgError: ')


def test_of_sensors_that_are_silent_nothing_is_shown_and_nothing_is_missed(published):
    clouds, pictures = [], []
    with ended(listener := Node('another')), spinning(listener):
        listener.create_subscription(PointCloud2, '/node/points', clouds.append, 10)
        listener.create_subscription(Image, '/node/image_annotated', pictures.append, 10)
        seen = replace(result(0), image=np.zeros((64, 64, 3), np.uint8))

        def heard():
            published.outputs.publish(seen, NodeSettings(), 0.0)
            return clouds and pictures

        wait_until(heard, 'points and picture')
        unseen = replace(result(1), ranges=None)
        faults = published.outputs.publish(unseen, NodeSettings(), 0.0)
        wait_until(lambda: stamp_ns(published.markers[-1].markers[-1]) == unseen.stamp_ns, 'it')
    assert faults == []
    assert {stamp_ns(message) for message in (*clouds, *pictures)} == {seen.stamp_ns}


def test_after_its_context_the_end_of_the_output_is_said_to_nobody():
    with ros():
        node = LifecycleNode('node')
        with ended(node):
            outputs = Outputs(node, ('cube',))
            node.trigger_configure()
            node.trigger_activate()
            outputs.publish(result(0), NodeSettings(), 0.0)
            # On Jazzy, whose nodes outlive it, rclpy.shutdown() does no more.
            rclpy.get_default_context().handle.shutdown()
            assert outputs.clear()


def test_images_of_one_column_cost_no_prediction_where_somebody_looks_at_them(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        drawn = []
        probe.create_subscription(Image, '/fusion_node/image_annotated', drawn.append, 10)
        probe.wait_for_node()
        # As of a camera that sees a line.
        column = np.random.default_rng(0).integers(0, 256, (3000, 1, 3), np.uint8)
        stamps = itertools.count(1_700_000_000 * 10**9, 10**8)

        def shown():
            stamp = next(stamps)
            probe.images.publish(image_message(header_message(stamp, 'camera'), column))
            probe.publish(stamp, camera=False)
            return drawn

        assert wait_until(shown, 'the drawn image')[0].width == 1
        told = wait_until(
            lambda: probe.streams().get('camera', {}).get('used') and probe.streams(), 'word'
        )
    assert {s['dropped']['inference_error'] for s in told.values()} == {0}


def test_a_node_that_is_cleaned_up_takes_its_topics_back(tmp_path):
    names = (*TOPICS, 'detections', 'label_info')

    def there():
        return {name for name in names if probe.count_publishers(f'/fusion_node/{name}')}

    with probed(small_bundle(tmp_path)) as probe:
        wait_until(lambda: there() >= set(TOPICS), 'the topics')
        for transition in ('deactivate', 'cleanup'):
            assert probe.change_state(transition), transition
        wait_until(lambda: not there(), 'the topics to go')
