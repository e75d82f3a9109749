"""A recording that is replayed gives the live node what evaluating the recording gives."""

import contextlib
import csv
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from recordings import LATCHED, SPOKEN, at, joined, record, record_latched
from ros_graph import PATIENCE_S, RosProcess, probing, ros, spinning, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from small_bundles import small_bundle
from std_msgs.msg import String

from fusion_perception import cli
from fusion_perception.learning.bags.writing import SECOND, BagWriter
from fusion_perception.learning.to_bag import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.ros.replay import SETTLED_S, Player, ReplaySettings, replay
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.rep103 import centers_of

pytestmark = pytest.mark.ros
KEPT = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LINKS = [
    part
    for name, topic in (('image', IMAGE), ('camera_info', CAMERA_INFO), ('range_image', RANGES))
    for part in ('-r', f'{name}:={topic}')
]


@contextlib.contextmanager
def player_of(bag, **settings):
    """Give the player of a recording, and a listener that hears it."""
    with ros(), Recording(bag) as recording:
        listener = Listener()
        player = Player(recording, ReplaySettings(bag=bag, **settings))
        with spinning(listener):
            player.wait_for_subscribers()
            yield player, listener
        player.destroy_node()
        listener.destroy_node()


@contextlib.contextmanager
def replaying(bag, *flags):
    command = [sys.executable, '-m', 'fusion_perception.cli', 'replay', str(bag), *flags]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def timed(bag, act, **settings):
    """Return how long the player of a recording takes to act, seconds, and how much it sent."""
    with ros(), Recording(bag) as recording:
        player = Player(recording, ReplaySettings(bag=bag, **settings))
        began = time.monotonic()
        act(player)
        lasted_s = time.monotonic() - began
        player.destroy_node()
    return lasted_s, player.sent


class Listener(Node):
    """Hears the clock and the range images of a replay."""

    def __init__(self):
        super().__init__('listener')
        self.clock, self.stamps = [], []
        self.create_subscription(
            Clock,
            '/clock',
            lambda m: self.clock.append(m.clock.sec * SECOND + m.clock.nanosec),
            10,
        )
        self.create_subscription(
            Image, RANGES, lambda m: self.stamps.append(stamp_ns(m)), QoSProfile(depth=100)
        )


@pytest.mark.parametrize('engine', ['torch', 'onnxruntime'])
def test_the_live_node_and_the_evaluation_predict_the_same(tmp_path, engine):
    if engine == 'onnxruntime':
        pytest.importorskip('onnxruntime', reason='needs onnxruntime: pip install onnxruntime')
    bag = record(tmp_path / 'bag', 20, edit=lambda events: [
        e for e in events if (e.topic, e.index) not in {(IMAGE, 5), (RANGES, 9)}
    ])  # fmt: skip
    bundle = small_bundle(tmp_path)
    parameters = ('-p', f'bundle:={bundle}', '-p', f'engine:={engine}')
    with (
        RosProcess('fusion_node', tmp_path / 'node.log', *parameters, *LINKS) as node,
        probing() as probe,
    ):
        wait_until(lambda: probe.count_subscribers(RANGES), 'the node', 2 * PATIENCE_S)
        wait_until(lambda: probe.count_publishers('/fusion_node/centers'), 'its output')
        with replaying(bag, '--rate', '0.5') as replay:
            said, complaints = replay.communicate(timeout=3 * PATIENCE_S)
        assert replay.returncode == 0, complaints
        assert said.startswith('78 messages')
        # The last pair waits for a later message that does not come; the end flushes it.
        assert node.end() == 0, node.output()
        wait_until(lambda: len(probe.centers) >= 9, 'centres')
    flags = ['--bundle', str(bundle), '--bag', str(bag), '--engine', engine]
    assert cli.main(['evaluate', *flags, '--out', str(tmp_path / 'out')]) == 0
    with (tmp_path / 'out' / 'predictions.csv').open() as file:
        rows = {int(row['stamp_ns']): row for row in csv.DictReader(file)}
    assert set(rows) == {at(index) for index in range(20) if index not in (5, 9)}
    live = {stamp_ns(message): centers_of(message) for message in probe.centers}
    assert set(live) <= set(rows)
    for stamp, centers in live.items():
        evaluated = [
            [float(rows[stamp][f'{name}_{axis}']) for axis in 'xyz']
            for name in ('cube', 'sphere', 'torus')
        ]
        np.testing.assert_allclose(centers, evaluated, atol=1e-4)


def test_a_replay_brings_every_message_and_its_clock(tmp_path):
    bag = record(tmp_path / 'bag', 10)
    with ros():
        listener = Listener()
        with spinning(listener), replaying(bag, '--rate', '2') as replay:
            said, complaints = replay.communicate(timeout=3 * PATIENCE_S)
            wait_until(lambda: len(listener.stamps) == 10, 'the last message')
    assert (replay.returncode, said.strip()) == (0, f'40 messages of {bag} published.'), complaints
    assert listener.stamps == [at(index) for index in range(10)]
    assert listener.clock == sorted(listener.clock)
    assert at(0) <= listener.clock[0] and listener.clock[-1] <= at(9)
    assert len(listener.clock) > 20


def test_a_replay_that_nobody_hears_waits_as_long_as_it_was_told_to_and_no_longer(tmp_path):
    waited_s, _ = timed(record(tmp_path / 'bag', 1), Player.wait_for_subscribers, wait_s=0.3)
    assert 0.3 <= waited_s < 5


def test_a_replay_waits_a_little_for_those_who_come_after_the_first_subscriber(tmp_path):
    with ros():
        listener = Listener()
        with spinning(listener), Recording(record(tmp_path / 'bag', 1)) as recording:
            player = Player(recording, ReplaySettings(bag=tmp_path / 'bag'))
            began = time.monotonic()
            player.wait_for_subscribers()
            waited_s = time.monotonic() - began
            player.destroy_node()
        listener.destroy_node()
    assert SETTLED_S <= waited_s < 5


def test_at_half_the_speed_the_clock_runs_from_the_first_message_to_the_last(tmp_path):
    bag = record(tmp_path / 'bag', 3)
    with player_of(bag, rate=0.5) as (player, listener):
        player.play()
        wait_until(lambda: listener.clock and listener.clock[-1] == at(2), 'the last time')
    assert at(0) <= listener.clock[0]
    assert listener.clock == sorted(listener.clock)


def test_a_message_that_is_out_of_order_does_not_turn_the_clock_back(tmp_path):
    before = record(tmp_path / 'before', 6)
    after = record(tmp_path / 'after', 12, edit=lambda events: [e for e in events if e.index > 2])
    with player_of(joined(tmp_path / 'bag', before, after), rate=2) as (player, listener):
        player.play()
        wait_until(lambda: listener.clock and listener.clock[-1] == at(11), 'the last time')
        wait_until(lambda: len(listener.stamps) == 15, 'the last scan')
    assert listener.clock == sorted(listener.clock)
    assert listener.stamps == [at(index) for index in (*range(6), *range(3, 12))]


def test_where_the_times_of_a_recording_go_back_the_clock_runs_anew(tmp_path):
    inner = record(tmp_path / 'inner', 15, edit=lambda events: [e for e in events if e.index > 4])
    bag = joined(tmp_path / 'bag', record(tmp_path / 'outer', 20), inner)
    lasted_s, sent = timed(bag, Player.play, rate=2)
    assert sent == 120
    assert 1.9 / 2 + 0.9 / 2 <= lasted_s < 3


def test_a_recorded_clock_gives_way_to_the_one_of_the_replay(tmp_path):
    bag = record(tmp_path / 'bag', 2, topics={TRUTH: '/clock'})
    with ros(), Recording(bag) as recording:
        player = Player(recording, ReplaySettings(bag=bag, wait_s=0))
        player.play()
        sent, topics = player.sent, sorted(p.topic_name for p in player.publishers)
        player.destroy_node()
    assert sent == 6
    assert {*topics} >= {'/clock', IMAGE, CAMERA_INFO, RANGES} and topics.count('/clock') == 1
    with pytest.raises(ValueError, match='but those of /clock, which is made anew'):
        timed(bag, Player.play, topics=('clock',))


def test_a_loop_goes_on_until_it_is_stopped(tmp_path):
    bag = record(tmp_path / 'bag', 5)
    with ros():
        listener = Listener()
        with (
            spinning(listener),
            replaying(bag, '--loop', '--rate', '4', '--topics', 'lidar/range_image') as replay,
        ):
            wait_until(lambda: len(listener.stamps) > 12, 'the third round', 3 * PATIENCE_S)
            replay.send_signal(signal.SIGINT)
            said, complaints = replay.communicate(timeout=PATIENCE_S)
    assert replay.returncode == 0, complaints
    assert said.endswith('published. Stopped.\n') and 'Traceback' not in complaints
    assert listener.stamps[:5] == listener.stamps[5:10]
    assert any(later < sooner for sooner, later in pairwise(listener.clock))
    # Where only the newest message counts, the next round may not follow on the heels of one.
    assert at(4) + 0.3 * SECOND < max(listener.clock) <= at(4) + 0.4 * SECOND


@pytest.mark.parametrize('version', [8, 9])
def test_a_latched_topic_brings_late_subscribers_what_was_kept_of_it(tmp_path, version):
    bag = record_latched(tmp_path / 'bag', spoken=1200, version=version)
    with ros():
        node, spoken, latched = Node('listener'), [], []
        node.create_subscription(String, SPOKEN, spoken.append, 10)
        with spinning(node), replaying(bag) as replay:
            wait_until(lambda: spoken, 'the replay', 3 * PATIENCE_S)
            node.create_subscription(String, LATCHED, latched.append, KEPT)
            wait_until(lambda: latched, 'what was kept')
            before = len(spoken)
            wait_until(lambda: len(spoken) > before + 5, 'all there is')
            replay.send_signal(signal.SIGINT)
            replay.communicate(timeout=PATIENCE_S)
    assert [message.data for message in latched] == ['1', '2']


def test_a_topic_that_was_latched_without_end_is_replayed_all_the_same(tmp_path):
    bag = record_latched(tmp_path / 'bag', depths=(2**40,))
    with ros(), Recording(bag) as recording:
        node, latched = Node('listener'), []
        node.create_subscription(String, LATCHED, latched.append, KEPT)
        player = Player(recording, ReplaySettings(bag=bag, rate=20.0))
        with spinning(node):
            player.wait_for_subscribers()
            player.play()
            wait_until(lambda: len(latched) == 3, 'what was kept')
        player.destroy_node()
        node.destroy_node()


def test_a_latched_topic_in_a_loop_goes_on_from_what_was_kept_of_it(tmp_path):
    bag = record_latched(tmp_path / 'bag', spoken=10)
    with ros():
        node, spoken, latched = Node('listener'), [], []
        node.create_subscription(String, SPOKEN, spoken.append, 10)
        with spinning(node), replaying(bag, '--loop') as replay:
            wait_until(lambda: len(spoken) > 12, 'the second round', 3 * PATIENCE_S)
            node.create_subscription(String, LATCHED, latched.append, KEPT)
            wait_until(lambda: len(latched) > 8, 'two more rounds')
            replay.send_signal(signal.SIGINT)
            _, complaints = replay.communicate(timeout=PATIENCE_S)
    assert replay.returncode == 0, complaints
    numbers = [int(message.data) for message in latched]
    assert all(later == (sooner + 1) % 3 for sooner, later in pairwise(numbers))


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        (['--topics', 'lidar/range'], "Did you mean '/lidar/range_image'"),
        (['--rate', '0'], 'equal to 0.001'),
        (['--rate', '1e-320'], 'equal to 0.001'),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, flags, complaint):
    bag = record(tmp_path / 'bag', 1)
    with replaying(bag, *flags) as replay:
        _, complaints = replay.communicate(timeout=3 * PATIENCE_S)
    assert replay.returncode == 2
    assert complaint in complaints and 'Traceback' not in complaints


def test_a_topic_on_which_nothing_was_recorded_is_not_published(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.ranges(RANGES, at(0), np.ones((4, 4), np.float32))
        # As a recorder does that subscribes to everything.
        bag._writer.add_connection('/objects', 'sensor_msgs/msg/Image', typestore=bag._types)
    with ros(), Recording(tmp_path / 'bag') as recording:
        player = Player(recording, ReplaySettings(bag=tmp_path / 'bag'))
        names = {publisher.topic_name for publisher in player.publishers}
        player.destroy_node()
    assert {*recording.topics} & names == {RANGES}


@pytest.mark.parametrize('kind', ['nowhere_msgs/msg/Objects', 'std_msgs/msg/Objects'])
def test_messages_of_a_type_that_is_not_installed_are_left_out(tmp_path, kind):
    with BagWriter(tmp_path / 'bag') as bag:
        to = bag._writer.add_connection('/objects', kind, msgdef='bool any', rihs01='RIHS01_0')
        bag._writer.write(to, at(0), b'\0\1\0\0\1')
        bag.ranges(RANGES, at(0), np.ones((4, 4), np.float32))
    assert timed(tmp_path / 'bag', Player.play)[1] == 1
    with pytest.raises(ValueError, match='no message of a type installed here'):
        timed(tmp_path / 'bag', Player.play, topics=('objects',))


def test_a_replay_leaves_what_ctrl_c_does_as_it_was(tmp_path):
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        own = signal.getsignal(signal.SIGINT)
        replay(ReplaySettings(bag=record(tmp_path / 'bag', 1), wait_s=0))
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
