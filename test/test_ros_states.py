"""What a node holds in each state: its settings, its subscriptions, its outputs, its faults."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_graph import Probe, ended, ros, spinning, wait_until
from small_bundles import small_bundle
from std_msgs.msg import String
from std_srvs.srv import SetBool

from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.sensing.decode import stamp_ns

pytestmark = pytest.mark.ros
SUCCESS, ERROR = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.ERROR


@pytest.fixture
def node(tmp_path):
    """Return a fusion node that nothing was asked of, and that nobody spins."""
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'engine:=torch'):
        node = FusionNode()
        yield node
        node.destroy_node()


@pytest.fixture
def active(node):
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    return node


def enable(node, on):
    return node._on_enable(SetBool.Request(data=on), SetBool.Response())


def heard(node):
    """Return the topics of the node's subscriptions, without those of rclpy."""
    topics = [subscription.topic_name for subscription in node.subscriptions]
    return sorted(topic for topic in topics if topic not in ('/clock', '/parameter_events'))


INPUTS = ['/camera_info', '/image', '/range_image']


def test_nothing_waits_in_line_before_an_active_node(active):
    assert heard(active) == INPUTS
    asked = [s.qos_profile for s in active.subscriptions if s.topic_name in INPUTS]
    assert {qos.depth for qos in asked} == {1}
    assert {qos.reliability for qos in asked} == {ReliabilityPolicy.BEST_EFFORT}


def test_a_node_that_is_enabled_twice_listens_once(active):
    assert enable(active, True).success
    assert heard(active) == INPUTS
    assert enable(active, False).message == 'Not predicting.'
    assert heard(active) == []


def test_a_node_that_was_disabled_stays_so_when_it_is_activated_anew(active):
    enable(active, False)
    assert active.trigger_deactivate() == active.trigger_activate() == SUCCESS
    assert heard(active) == []
    assert enable(active, True).message == 'Predicting.'
    assert heard(active) == INPUTS


def test_a_node_that_is_enabled_while_inactive_listens_once_it_is_active(node):
    assert node.trigger_configure() == SUCCESS
    assert enable(node, True).message == 'Not predicting.'
    assert heard(node) == []
    assert node.trigger_activate() == SUCCESS
    assert heard(node) == INPUTS


def test_a_node_that_is_deactivated_or_shut_down_listens_no_more(active):
    assert active.trigger_deactivate() == SUCCESS
    assert heard(active) == []
    assert active.trigger_activate() == active.trigger_shutdown() == SUCCESS
    assert heard(active) == []


def test_a_node_that_was_cleaned_up_publishes_nothing_but_its_diagnostics(active):
    assert '/fusion_node/centers' in {publisher.topic_name for publisher in active.publishers}
    assert active.trigger_deactivate() == active.trigger_cleanup() == SUCCESS
    left = {publisher.topic_name for publisher in active.publishers}
    assert '/diagnostics' in left and not any('/fusion_node/' in topic for topic in left)


def test_a_node_is_configured_as_its_parameters_say(node):
    before = torch.get_num_threads()
    values = {'threads': 2, 'precision': 'bfloat16', 'engine': 'torch', 'camera_matrix': 'p'}
    node.set_parameters([Parameter(name, value=value) for name, value in values.items()])
    assert node.trigger_configure() == SUCCESS
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    runtime = node._pipeline.runtime
    assert (threads, runtime.precision, runtime.engine) == (2, 'bfloat16', 'torch')
    assert node._pipeline.settings.camera_matrix == 'p'


def test_a_node_that_cannot_listen_falls_back_says_why_and_can_be_activated_later(node):
    # One process takes one type per topic only.
    other = Node('other')
    with ended(other):
        other.create_subscription(String, 'image', lambda message: None, 1)
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == ERROR
        assert heard(node) == []
        assert 'it cannot listen: no Image can be heard on /image' in node._fault
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    assert heard(node) == INPUTS and not node._fault


def test_a_node_that_cannot_listen_refuses_to_be_enabled_and_says_why(active):
    enable(active, False)
    other = Node('other')
    with ended(other):
        # The last of the node's inputs: what was begun for the others is taken back.
        other.create_subscription(String, 'range_image', lambda message: None, 1)
        answer = enable(active, True)
    assert not answer.success
    assert 'no Image can be heard on /range_image' in answer.message
    assert heard(active) == []
    assert enable(active, True).success
    assert heard(active) == INPUTS


def test_a_fault_that_was_healed_is_not_told_any_more(tmp_path):
    with ros('-p', 'bundle:=nowhere.safetensors', '-p', 'engine:=torch'):
        node, probe = FusionNode(), Probe()
        node.start()
        with ended(node, probe), spinning(node, probe):
            wait_until(lambda: any('nowhere' in s.message for s in probe.diagnostics), 'the fault')
            assert probe.set('bundle', str(small_bundle(tmp_path))).successful
            assert probe.change_state('configure') and probe.change_state('cleanup')
            probe.diagnostics.clear()
            (said, *_) = wait_until(lambda: probe.diagnostics, 'a word after it was cleaned up')
    assert (said.level, said.message.split(':')[0]) == (b'\0', 'Unconfigured')


def test_diagnostics_bear_the_time_and_are_judged_by_the_node_s_thresholds(tmp_path):
    threshold = ('-p', 'diagnostics.warn_latency_ms:=0.001')
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'engine:=torch', *threshold):
        node, probe, told = FusionNode(), Probe(), []
        probe.create_subscription(DiagnosticArray, '/diagnostics', told.append, 10)
        node.start()
        began_ns = probe.get_clock().now().nanoseconds
        with ended(node, probe), spinning(node, probe):
            probe.wait_for_node()
            probe.create_timer(0.05, lambda: probe.publish(probe.get_clock().now().nanoseconds))
            wait_until(
                lambda: any('p95 latency' in s.message for t in told for s in t.status),
                'a warning of the latency',
            )
            ended_ns = probe.get_clock().now().nanoseconds
    assert all(began_ns < stamp_ns(message) < ended_ns for message in told)
