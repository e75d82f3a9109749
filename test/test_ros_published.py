"""How long what was published counts, and what may take it back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from ros_graph import ros, spinning, wait_until
from small_bundles import GRID
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.outputs import Outputs, Result
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
