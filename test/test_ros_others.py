"""A node notices who else goes by its name, or publishes on its output."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo
from ros_graph import probed, ros, wait_until
from small_bundles import small_bundle

from fusion_perception.ros import others
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.others import Others, other_names

pytestmark = pytest.mark.ros


@pytest.fixture
def probe(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        yield probe


def findings(probe):
    """Return what the node said last, as long as it has not said it, nothing."""
    last = probe.diagnostics[-1:]
    return ' '.join(value.value for status in last for value in status.values)


def test_whoever_publishes_on_its_centres_is_named(probe):
    probe.create_publisher(PoseArray, '/fusion_node/centers', 1)
    said = '/probe publishes on /fusion_node/centers as well'
    wait_until(lambda: said in findings(probe), 'the rival to be named')


def test_nobody_is_a_rival_before_his_name_is_known():
    endpoints = [
        TopicEndpointInfo(node_name='fusion_node', node_namespace='/left'),
        TopicEndpointInfo(node_name='player', node_namespace='/'),
        TopicEndpointInfo(
            node_name='_NODE_NAME_UNKNOWN_', node_namespace='_NODE_NAMESPACE_UNKNOWN_'
        ),
    ]
    assert other_names(endpoints, '/left/fusion_node') == ['/player']


def test_a_second_node_of_the_same_name_is_told_of(probe, monkeypatch):
    monkeypatch.setattr(others, 'GHOST_S', 0.0)
    namesake = FusionNode()
    wait_until(lambda: '2 nodes are called /fusion_node' in findings(probe), 'the namesake')
    namesake.destroy_node()
    wait_until(lambda: 'are called' not in findings(probe), 'the namesake to be forgotten')


def test_what_a_killed_node_leaves_for_a_while_is_no_namesake():
    with ros():
        node, ghost = Node('robot'), Node('robot')
        for each in (node, ghost):
            each.create_publisher(PoseArray, '/diagnostics', 1)
        watching = Others(node, '/diagnostics')
        wait_until(lambda: node.count_publishers('/diagnostics') == 2, 'both publishers')
        assert watching.namesakes() == 0
        node.destroy_node()
        ghost.destroy_node()
