"""Whether several publishers send on one topic by turns, by what the middleware says."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros_graph import ros, wait_until
from std_msgs.msg import String

from fusion_perception.ros.senders import Senders


def turns(*infos):
    senders = Senders()
    for info in infos:
        senders.note(info)
    return senders.turns


def numbered(*numbers):
    return [{'publication_sequence_number': number} for number in numbers]


def test_of_a_middleware_that_says_nothing_no_turns_are_known():
    nothing = {'publication_sequence_number': None, 'publisher_gid': None}
    assert turns(*[{}] * 9) == turns(*[nothing] * 9) == turns(*numbered(*[0] * 9)) == 0


def test_publishers_are_told_apart_by_their_gids():
    one, other = ({'publisher_gid': {'data': data}} for data in (b'a', b'b'))
    assert turns(one, one, other, other, one) == 2


def test_where_no_publisher_is_named_its_messages_are_known_by_their_numbers():
    assert turns(*numbered(1, 2, 5, 6, 90)) == 0  # Some were lost.
    assert turns(*numbered(100, 3, 101, 4, 102, 5)) == 3
    assert turns(*numbered(1, 1, 2, 2, 3, 3)) == 3
    assert turns(*numbered(70, 71, 1, 2, 3)) == 1  # A driver was started again.


@pytest.mark.ros
@pytest.mark.parametrize('sending', [1, 2])
def test_the_middleware_tells_how_many_publishers_send(sending):
    """Of two one stands by, or both send; each sends ten messages."""
    with ros():
        node = Node('heard')
        senders, sent, heard = Senders(), [], []

        def take(message, info):
            senders.note(info)
            heard.append(message)

        node.create_subscription(String, 'topic', take, 50)
        publishers = [node.create_publisher(String, 'topic', 50) for _ in range(2)]
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            wait_until(lambda: all(p.get_subscription_count() for p in publishers), 'the match')
            for _ in range(10):
                for publisher in publishers[:sending]:
                    sent.append(String())
                    publisher.publish(sent[-1])
                    wait_until(lambda: executor.spin_once(0.1) or heard == sent, 'the message')
        finally:
            executor.shutdown()
            node.destroy_node()
    assert (senders.turns >= 9) == (sending == 2), senders.turns
    assert sending == 2 or senders.turns == 0
