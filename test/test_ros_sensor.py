"""What the simulated sensor publishes: in its frames and sizes, at its rates, with its faults."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from ros_graph import ended, ros, spinning, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from fusion_perception.ros.faults import Faults, Outlet
from fusion_perception.ros.messages import stamp_message
from fusion_perception.ros.sensor_sim import SensorSim
from fusion_perception.sensing.camera_info import camera_from_info
from fusion_perception.sensing.decode import decode_image, decode_range, stamp_ns
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import TASK_CLASSES, Rig
from fusion_perception.simulation.motion import MovingScene
from fusion_perception.simulation.render import render
from fusion_perception.simulation.topics import CAMERA_INFO, IMAGE, RANGES, TRUTH

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('one_thread')]
KINDS = {IMAGE: Image, CAMERA_INFO: CameraInfo, RANGES: Image, TRUTH: PoseArray}
SECOND = 1_000_000_000


class Heard(Node):
    """Keeps what a simulated sensor publishes, by topic, and what it says is wrong with it."""

    def __init__(self):
        super().__init__('listener')
        self.messages = {topic: [] for topic in KINDS}
        self.said, self.speakers = [], set()
        for topic, kind in KINDS.items():
            take = self.messages[topic].append
            self.create_subscription(kind, topic, take, qos_profile_sensor_data)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_diagnostics(self, message):
        self.said += [(status.level, status.message) for status in message.status]
        self.speakers |= {status.name for status in message.status}


@contextmanager
def working(**values):
    """Give a sensor with these parameters, at work, and its listener; both spin."""
    with ros():
        given = [Parameter(name, value=value) for name, value in values.items()]
        sensor, heard = SensorSim(parameter_overrides=given), Heard()
        sensor.start()
        with ended(sensor, heard), spinning(sensor, heard):
            yield sensor, heard


def listening(scans, then=None, **values):
    """Return what is heard of a sensor with these parameters until so many scans came."""
    with working(**values) as (sensor, heard):
        wait_until(lambda: len(heard.messages[RANGES]) >= scans, 'the scans')
        if then is not None:
            then(sensor, heard)
    return heard


@pytest.fixture(scope='module')
def heard(one_thread):
    sizes = {'image_width': 96, 'image_height': 32}
    frames = {'camera_frame': 'eye', 'lidar_frame': 'roof'}
    return listening(8, camera_hz=40.0, lidar_hz=20.0, **sizes, **frames)


def stamps(heard, topic):
    return [stamp_ns(message) for message in heard.messages[topic]]


def test_each_message_is_in_the_frame_of_its_sensor(heard):
    frames = {topic: {m.header.frame_id for m in heard.messages[topic]} for topic in KINDS}
    assert frames == {IMAGE: {'eye'}, CAMERA_INFO: {'eye'}, RANGES: {'roof'}, TRUTH: {'roof'}}


def test_a_sensor_in_a_namespace_publishes_there():
    with ros():
        sensor = SensorSim(namespace='/left')
        topics = {publisher.topic_name for publisher in sensor.publishers}
        sensor.finish()
        sensor.destroy_node()
    assert topics >= {f'/left{topic}' for topic in KINDS}


def test_images_and_their_camera_info_are_of_one_size_and_time(heard):
    image, info = heard.messages[IMAGE][-1], heard.messages[CAMERA_INFO][-1]
    assert decode_image(image).shape == (32, 96, 3)
    assert camera_from_info(info, Rig().camera) == Rig().camera.resized(96, 32)
    assert set(stamps(heard, CAMERA_INFO)) & set(stamps(heard, IMAGE))


@pytest.mark.parametrize(('topic', 'hz'), [(IMAGE, 40), (RANGES, 20), (TRUTH, 20)])
def test_each_sensor_has_its_rate(heard, topic, hz):
    # A busy machine may let some instants pass: the shortest interval is the period.
    periods = np.diff(sorted(stamps(heard, topic)))
    assert periods.min() == pytest.approx(SECOND / hz, abs=2)


def test_after_a_stall_scans_come_at_their_pace_and_not_in_a_burst():
    rates, stall_s, came = {'camera_hz': 50.0, 'lidar_hz': 50.0}, 0.3, []

    def stall(sensor, heard):
        stalled = threading.Event()

        def hold():
            timer.cancel()
            came.append(len(heard.messages[RANGES]))
            threading.Event().wait(stall_s)  # As if others held the cores.
            stalled.set()

        timer = sensor.create_timer(0.001, hold)
        wait_until(stalled.is_set, 'the stall')
        wait_until(lambda: len(heard.messages[RANGES]) >= came[0] + 10, 'the scans after it')

    heard = listening(5, then=stall, **rates)
    periods = np.diff(stamps(heard, RANGES))
    # Those before it, and those after it: none made up for.
    assert periods.max() >= (stall_s - 2 / 50) * SECOND
    assert not periods.max() % (SECOND // 50)
    assert periods.min() >= SECOND // 50


def test_a_rate_that_is_beyond_the_machine_leaves_out_instants_and_delays_none():
    heard = listening(30, camera_hz=1000.0, lidar_hz=1000.0)
    periods = np.diff(stamps(heard, RANGES))
    assert periods.min() >= SECOND // 1000
    assert periods.max() > SECOND // 1000


@contextmanager
def simulated(step_s, **values):
    """Give a sensor's listener, and a function that sets the clock, which steps on by itself."""
    now_s = 0.0

    def set_clock(time_s):
        nonlocal now_s
        now_s = time_s

    def tick():
        set_clock(now_s + step_s)
        clock.publish(Clock(clock=stamp_message(round(now_s * SECOND))))

    with working(use_sim_time=True, **values) as (_, heard):
        source = Node('source')
        clock = source.create_publisher(Clock, '/clock', 10)
        source.create_timer(0.005, tick)
        with ended(source), spinning(source):
            yield heard, set_clock


def test_in_simulated_time_scans_follow_the_clock_when_it_starts_and_wherever_it_jumps():
    def scans_after(begin_s):
        return [s for s in stamps(heard, RANGES) if 0 <= s / SECOND - begin_s < 300]

    # Each jump comes at another moment between two scans.
    begins_s = (10_000.0, 8000.0, 6000.0, 4000.0, 2000.0, 1e6)
    with simulated(0.01, camera_hz=20.0, lidar_hz=20.0) as (heard, set_clock):
        for number, begin_s in enumerate(begins_s):
            set_clock(begin_s)
            wait_until(lambda s=begin_s, n=number: len(scans_after(s)) > 3 + n, f'{begin_s} s')


def test_a_slow_sensor_keeps_its_rate():
    with simulated(0.1, camera_hz=0.1, lidar_hz=0.1) as (heard, _):
        wait_until(lambda: len(heard.messages[RANGES]) > 4, 'the scans')
    assert set(np.diff(stamps(heard, RANGES)) % (10 * SECOND)) == {0}


def test_a_truth_is_of_the_instant_of_a_scan(heard):
    assert set(stamps(heard, TRUTH)) <= {*stamps(heard, RANGES), *stamps(heard, IMAGE)}
    assert set(stamps(heard, TRUTH)) & set(stamps(heard, RANGES))


def test_rays_without_return_are_as_many_as_were_asked_for():
    heard = listening(1, dropout=1.0)
    ranges = decode_range(heard.messages[RANGES][0])
    assert not ((ranges > 0) & (ranges < 50)).any()


def test_a_fault_befalls_the_messages_at_once_and_is_told_until_it_is_over():
    def change(sensor, heard):
        def send(jump_s):
            sensor.set_parameters([Parameter('faults.clock_jump_s', value=jump_s)])

        def ahead_s():
            return (stamps(heard, RANGES)[-1] - heard.get_clock().now().nanoseconds) / SECOND

        send(100.0)
        wait_until(lambda: ahead_s() > 99, 'the jump')
        wait_until(lambda: len(heard.said) >= 1, 'what is wrong')
        send(0.0)
        wait_until(lambda: ahead_s() < 1, 'the clock to be right')
        wait_until(lambda: len(heard.said) >= 2, 'that nothing is wrong')

    heard = listening(2, then=change)
    warning, end = heard.said
    assert warning == (b'\1', 'both: clock_jump_s 100')
    assert end == (b'\0', 'No fault is simulated.')
    # With its namespace, by which two of them differ.
    assert heard.speakers == {'/sensor_sim'}


def test_delayed_messages_come_as_late_and_in_the_order_in_which_they_were_measured():
    values = {'faults.delay_s': 0.2, 'lidar_hz': 20.0, 'camera_hz': 20.0}
    late_s = []

    def measure(sensor, heard):
        before = len(heard.messages[RANGES])
        wait_until(lambda: len(heard.messages[RANGES]) > before, 'another scan')
        now_ns = heard.get_clock().now().nanoseconds
        late_s.append((now_ns - stamps(heard, RANGES)[-1]) / SECOND)

    heard = listening(6, then=measure, **values)
    assert late_s[0] >= 0.19
    assert stamps(heard, RANGES) == sorted(stamps(heard, RANGES))
    # The truth does not suffer.
    assert max(stamps(heard, TRUTH)) > max(stamps(heard, RANGES))


def test_what_befalls_the_messages_of_a_sensor_is_of_its_seed():
    message, faults = Image(), Faults(drop=0.5, jitter_s=1.0)
    with ros():
        sensor = SensorSim(parameter_overrides=[Parameter('seed', value=5)])
        found = [sensor._outlets['lidar'].departures(message, faults) for _ in range(20)]
        sensor.finish()
        sensor.destroy_node()
    expected = Outlet('lidar', 5)
    assert found == [expected.departures(message, faults) for _ in range(20)]


@pytest.mark.parametrize('noise_m', [0.0, 0.2])
def test_a_scan_is_of_the_scene_of_its_seed_at_its_stamp_and_as_noisy_as_was_asked_for(noise_m):
    with working(seed=5, task='cubes', range_noise=noise_m, lidar_hz=50.0) as (sensor, heard):

        def scans():
            # A busy machine may have made it begin anew.
            begin_ns, messages = sensor._trigger.begin_ns, list(heard.messages[RANGES])
            return begin_ns, [m for m in messages if stamp_ns(m) >= begin_ns]

        begin_ns, messages = wait_until(lambda: len(scans()[1]) > 5 and scans(), 'the scans')
    times_s = [(stamp_ns(message) - begin_ns) / SECOND for message in messages]
    rig = Rig(classes=TASK_CLASSES['cubes'])
    scenes = MovingScene('cubes', 5, rig=rig).at(torch.tensor(times_s, dtype=torch.float64))
    expected = render(scenes, rig, UniformGrid().lidar()).ranges.numpy()
    found = np.stack([decode_range(message) for message in messages])
    met = (expected > 0) & (expected < 50)
    assert (found - expected)[met].std() == pytest.approx(noise_m, rel=0.1, abs=1e-4)
    assert np.array_equal(found[~met], expected[~met])
