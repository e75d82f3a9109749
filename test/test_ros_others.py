"""A node notices who else goes by its name, or publishes on its output."""

from itertools import count
from threading import Event

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.topic_endpoint_info import TopicEndpointInfo
from ros_graph import ended, probed, ros, said, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from small_bundles import small_bundle
from std_srvs.srv import SetBool

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.ros import others
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.observed import sources_of, type_name
from fusion_perception.ros.others import Others, fusion_nodes, other_names

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
    with ended(namesake):
        wait_until(lambda: '2 nodes are called /fusion_node' in findings(probe), 'the namesake')
    wait_until(lambda: 'are called' not in findings(probe), 'the namesake to be forgotten')


def test_two_drivers_that_send_by_turns_are_named_and_one_that_stands_by_is_not(probe):
    second, numbers = Node('second'), count()
    images = second.create_publisher(Image, '/image', qos_profile_sensor_data)
    sending = Event()

    def measure():
        ours = probe.images
        probe.images = images if sending.is_set() and next(numbers) % 2 else ours
        probe.publish(probe.get_clock().now().nanoseconds)
        probe.images = ours

    try:
        probe.create_timer(0.05, measure)
        wait_until(lambda: said(probe, 'Predicting, fusion.'), 'output')
        probe.diagnostics.clear()
        wait_until(lambda: len(probe.diagnostics) > 2, 'news')
        assert not [status.message for status in probe.diagnostics if 'turns' in status.message]
        sending.set()
        words = 'Several send on /image by turns', '/probe and /second publish there'
        wait_until(lambda: said(probe, *words), 'both to be named')
        text, _ = doctor(DoctorSettings(live=True, seconds=1.0))
    finally:
        sending.clear()
        gone = probe.executor.create_task(second.destroy_node)
        wait_until(gone.done, 'the second to leave')
    assert words[0] in text and words[1] in text, text


def test_what_a_killed_node_leaves_for_a_while_is_no_namesake():
    with ros():
        node, ghost = Node('robot'), Node('robot')
        for each in (node, ghost):
            each.create_publisher(PoseArray, '/diagnostics', 1)
        watching = Others(node, '/diagnostics')
        with ended(node, ghost):
            wait_until(lambda: node.count_publishers('/diagnostics') == 2, 'both publishers')
            assert watching.namesakes() == 0


def test_a_namesake_counts_once_it_has_been_there_for_long(monkeypatch):
    monkeypatch.setattr(others, 'GHOST_S', 0.2)
    with ros():
        nodes = [Node(name) for name in ('robot', 'robot', 'camera')]
        for each in nodes:
            each.create_publisher(PoseArray, '/diagnostics', 1)
        watching = Others(nodes[0], '/diagnostics')
        with ended(*nodes):
            wait_until(lambda: nodes[0].count_publishers('/diagnostics') == 3, 'the publishers')
            assert watching.namesakes() == 0
            assert wait_until(watching.namesakes, 'the namesake to count') == 1


def test_a_fusion_node_has_a_lifecycle_and_can_be_enabled():
    with ros():
        nodes = Node('motors'), LifecycleNode('driver'), LifecycleNode('fusion', namespace='/left')
        for each in nodes:
            if each.get_name() != 'driver':
                each.create_service(SetBool, '~/enable', lambda request, response: response)
        names = {'/motors/enable', '/driver/change_state', '/left/fusion/change_state'}
        with ended(*nodes):
            wait_until(lambda: names <= dict(nodes[0].get_service_names_and_types()).keys(), 'all')
            assert wait_until(lambda: fusion_nodes(nodes[0]), 'the node') == ['/left/fusion']


class Counting(Node):
    """Counts how often it asks the graph who else is there."""

    asked = 0

    def get_node_names_and_namespaces(self):
        self.asked += 1
        return super().get_node_names_and_namespaces()

    def get_service_names_and_types(self):
        self.asked += 1
        return super().get_service_names_and_types()


def test_for_all_inputs_without_a_publisher_the_graph_is_asked_once():
    wanted = {Image: 'image', PointCloud2: 'points', CameraInfo: 'camera_info'}
    with ros():
        node, driver = Counting('fusion_node'), Node('driver')
        with ended(driver, node):
            for kind, topic in wanted.items():
                driver.create_publisher(kind, f'/driver/{topic}', 1)
            there = [f'/driver/{topic}' for topic in wanted.values()]
            wait_until(lambda: all(map(node.count_publishers, there)), 'the driver')
            inputs = [
                (f'/{t}', type_name(kind), QoSProfile(depth=1)) for kind, t in wanted.items()
            ]
            sources = sources_of(node, inputs, '/fusion_node')
    assert [source.elsewhere[source.type] for source in sources] == [[topic] for topic in there]
    assert node.asked == 2
