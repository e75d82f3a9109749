"""What the demo's witness makes of the messages that pass: judgements, misses, scenes, a bag."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message
from ros_graph import RANGES as SCAN
from ros_graph import ros
from rosbags.highlevel import AnyReader

from fusion_perception.ros.messages import (
    centers_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.witness import KEPT, Bag, Witness
from fusion_perception.sensing.decode import decode_image, decode_range
from fusion_perception.sensing.rep103 import centers_of
from fusion_perception.simulation.topics import IMAGE, RANGES, TRUTH

pytestmark = pytest.mark.ros
CENTERS = '/fusion_node/centers'
PLACES = np.array([[1.0, 25.0, 2.0], [-3.0, 22.0, 0.5], [0.0, 27.0, -4.0]])
SECOND = 1_000_000_000


class Watching:
    """A witness, and what its subscriptions hand to it."""

    def __init__(self, path):
        self.bag = Bag(path)
        self.witness = Witness(self.bag)

    def hear(self, topic, message):
        kind = type(message)
        self.witness._recorder(topic, kind)(serialize_message(message))

    def centers(self, topic, stamp_ns, places=PLACES):
        self.hear(topic, centers_message(header_message(stamp_ns, 'lidar'), places))

    def image(self, stamp_ns, shade):
        pixels = np.full((4, 6, 3), shade, np.uint8)
        self.hear(IMAGE, image_message(header_message(stamp_ns, 'camera'), pixels))

    def scan(self, stamp_ns, ranges=SCAN):
        self.hear(RANGES, range_message(header_message(stamp_ns, 'lidar'), ranges))


@pytest.fixture
def watching(tmp_path):
    with ros():
        watching = Watching(tmp_path / 'bag')
        yield watching
        watching.witness.destroy_node()
        watching.bag.close()


@pytest.mark.parametrize('first', [TRUTH, CENTERS], ids=['truth first', 'prediction first'])
def test_the_error_is_the_mean_distance_from_the_truth_of_the_same_stamp(watching, first):
    off = PLACES + np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    heard = {TRUTH: PLACES, CENTERS: off}
    for topic in sorted(heard, key=lambda topic: topic != first):
        watching.centers(topic, 5 * SECOND, heard[topic])
    watching.centers(CENTERS, 6 * SECOND)
    (judged,) = watching.witness.judged
    assert judged.stamp_ns == 5 * SECOND
    assert judged.error_m == pytest.approx(2.0)
    np.testing.assert_allclose((judged.predicted, judged.truth), (off, PLACES))


@pytest.mark.parametrize('repeated', [TRUTH, CENTERS], ids=['truth', 'prediction'])
def test_what_comes_twice_is_judged_once(watching, repeated):
    for topic in (TRUTH, CENTERS, repeated):
        watching.centers(topic, 5 * SECOND)
    assert len(watching.witness.judged) == 1


def test_latencies_are_from_the_stamp_on_in_milliseconds(watching):
    began_ns = time.time_ns()
    stamp_ns = began_ns - SECOND // 4
    watching.centers(CENTERS, stamp_ns)
    watching.centers(TRUTH, stamp_ns)
    watching.scan(stamp_ns)
    most_ms = 250 + (time.time_ns() - began_ns) / 1e6
    assert 250 <= watching.witness.judged[0].latency_ms <= most_ms
    assert 250 <= watching.witness.bare_ms[0] <= most_ms


def test_scans_without_prediction_are_missed_between_the_first_and_the_last_that_have_one(
    watching,
):
    assert watching.witness.missed() == 0
    for second in (2, 1, 3, 8, 5, 4, 7, 6):
        watching.centers(TRUTH, second * SECOND)
    for second in (3, 6, 2):
        watching.centers(CENTERS, second * SECOND)
    assert watching.witness.missed() == 2


def test_a_scene_is_the_newest_judged_one_with_the_image_closest_to_it(watching):
    assert watching.witness.scene() is None
    for second in (1, 2, 3):
        watching.centers(TRUTH, second * SECOND)
        watching.centers(CENTERS, second * SECOND)
    for second in (1, 2):  # Of the third the scan is late.
        watching.scan(second * SECOND, np.full((8, 8), second, np.float32))
    assert watching.witness.scene().image is None
    for tenth in (9, 18, 21, 40):
        watching.image(tenth * SECOND // 10, shade=tenth)
    scene = watching.witness.scene()
    assert scene.judged.stamp_ns == 2 * SECOND
    assert (scene.ranges == 2).all()
    # What nobody may write torch takes with a warning only.
    assert scene.ranges.flags.writeable
    assert (scene.image == 21).all()


def test_the_oldest_are_forgotten_first(watching):
    for second in range(1, KEPT + 2):
        watching.centers(TRUTH, second * SECOND)
    for second in (1, 2, KEPT + 1):
        watching.centers(CENTERS, second * SECOND)
    stamps = [judged.stamp_ns // SECOND for judged in watching.witness.judged]
    assert stamps == [2, KEPT + 1]
    assert watching.witness.predictions == 3


def test_the_status_is_that_of_the_node_and_of_no_other(watching):
    for names in (['/camera'], ['/fusion_node', '/camera'], ['/sensor_sim']):
        status = [DiagnosticStatus(name=name) for name in names]
        watching.hear('/diagnostics', DiagnosticArray(status=status))
    assert watching.witness.status.name == '/fusion_node'


def test_the_bag_holds_what_passed_at_the_time_at_which_it_passed(tmp_path):
    with ros():
        watching = Watching(tmp_path / 'bag')
        began_ns = time.time_ns()
        watching.image(1 * SECOND, shade=7)
        watching.scan(2 * SECOND)
        watching.centers(CENTERS, 2 * SECOND)
        ended_ns = time.time_ns()
        watching.witness.destroy_node()
        watching.bag.close()
    with AnyReader([tmp_path / 'bag']) as bag:
        found = [
            (connection.topic, at, bag.deserialize(data, connection.msgtype))
            for connection, at, data in bag.messages()
        ]
    assert [topic for topic, _, _ in found] == [IMAGE, RANGES, CENTERS]
    assert all(began_ns <= at <= ended_ns for _, at, _ in found)
    image, scan, centers = (message for _, _, message in found)
    assert (decode_image(image) == 7).all()
    assert np.array_equal(decode_range(scan), SCAN)
    np.testing.assert_allclose(centers_of(centers), PLACES)
