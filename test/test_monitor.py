"""When the node takes its output for overdue, and how often its inputs come."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.diagnostics import NodeState, StreamState, Thresholds, verdict
from fusion_perception.ros.monitor import COMPARE_S, Monitor, Times
from fusion_perception.ros.node_state import memory_values
from fusion_perception.sensing.offsets import Arrival


def said(age_s=0.1, period_s=0.1, lidar_age_s=0.1, stamps_s=0.0, **values):
    """Return what a node says of itself whose LiDAR and outputs come so often."""
    lidar = StreamState('/range_image', 1, lidar_age_s, 10.0, 0.1, stamp_age_s=stamps_s)
    camera = StreamState('/image', 1, 0.05, 20.0, 0.05, received=9)
    state = NodeState(
        'active',
        output_age_s=age_s,
        output_period_s=period_s,
        streams={'camera': camera, 'lidar': lidar},
        able=['camera_only', 'fusion'],
        **{'mode': 'fusion', 'listening_s': 60.0, **values},
    )
    return verdict(state, Thresholds())


def test_outputs_that_come_seldom_are_no_error_before_two_periods():
    assert said(age_s=2.4, period_s=2.5) == (b'\0', 'Predicting, fusion.')
    level, sentence = said(age_s=5.1, period_s=2.5)
    assert level == b'\2' and sentence.endswith('Waiting for the next pair.')


@pytest.mark.parametrize(('lidar_age_s', 'word'), [(0.6, 'is silent'), (0.1, 'sends is used')])
def test_a_sensor_that_is_gone_is_not_said_to_send_in_vain(lidar_age_s, word):
    _, sentence = said(lidar_age_s=lidar_age_s, mode='camera_only')
    assert 'LiDAR' in sentence and word in sentence


@pytest.mark.parametrize(
    ('stamps_s', 'publishing_ms', 'target_frame', 'word'),
    [
        (2.0, 5.0, 'map', 'on /range_image are 2.000 s old when they arrive'),
        (0.1, 5.0, 'map', 'in the node'),
        (0.1, 1900.0, 'map', "the wait for the transform to target_frame 'map'"),
        (0.1, 1900.0, '', 'in the node'),
    ],
)
def test_latency_is_put_down_to_what_takes_most_of_it(stamps_s, publishing_ms, target_frame, word):
    level, sentence = said(
        stamps_s=stamps_s,
        latency_ms={'p95': 2010.0},
        publishing_ms={'p95': publishing_ms},
        target_frame=target_frame,
    )
    assert level == b'\1' and 'p95 latency 2010 ms, above 100 ms' in sentence and word in sentence


@pytest.mark.parametrize(
    ('mode', 'moved_s', 'words', 'more'),
    [
        ('camera_only', -2.0, 'pairing.lidar_offset_s move by -2.000 s', {}),
        ('lidar_only', -2.0, 'pairing.lidar_offset_s move by -2.000 s', {}),  # By turns.
        ('lidar_only', -2.0, 'in the node', {'modes': {'lidar_only': 20}}),
        ('camera_only', -2.0, 'in the node', {'inference_ms': {'p95': 1200.0}}),
        ('fusion', -2.0, 'in the node', {}),
        ('camera_only', -0.5, 'in the node', {}),
        ('camera_only', 2.0, 'in the node', {}),
    ],
)
def test_latency_by_offsets_that_move_the_stamps_of_images_is_put_down_to_them(
    mode, moved_s, words, more
):
    state = {'modes': {'camera_only': 9, 'lidar_only': 9}, 'latency_ms': {'p95': 2010.0}, **more}
    _, sentence = said(mode=mode, camera_to_lidar_s=moved_s, **state)
    assert words in sentence


@pytest.mark.parametrize('listening_s', [19.9, 20.1])
@pytest.mark.parametrize('pairing_ms', [60.0, 59.0])
def test_the_wait_for_a_closer_partner_is_named_and_no_fault_at_first(listening_s, pairing_ms):
    times = {'latency_ms': {'p95': 120.0}, 'pairing_ms': {'p95': pairing_ms}}
    _, sentence = said(listening_s=listening_s, **times)
    assert ('p95 latency' in sentence) == (pairing_ms < 60 or listening_s > 20)
    assert ('wait for a partner' in sentence) == (pairing_ms == 60 and listening_s > 20)


class Watched:
    """A monitor whose clock is set by hand."""

    def __init__(self):
        self.now_s = 100.0
        self.monitor = Monitor(lambda: self.now_s)

    def outputs(self, *after_s):
        for interval_s in after_s:
            self.now_s += interval_s
            self.publish(5.0)

    def publish(self, latency_ms, lidar_age_s=0.0):
        held_ms, inference_ms = 0.5 + lidar_age_s // 1, 2.0 + lidar_age_s // 1
        times = Times(latency_ms, held_ms, inference_ms, publishing_ms=1.0, apart_ms=0.0)
        self.monitor.published('fusion', times, {'lidar': lidar_age_s})

    def overdue(self, in_s, after_s=0.5):
        self.now_s += in_s
        return self.monitor.overdue(after_s)


def test_output_is_overdue_before_the_first_one():
    assert Monitor().overdue(0.5)


def test_output_is_overdue_after_the_time_to_a_dropout():
    watched = Watched()
    watched.outputs(0.1, 0.1, 0.1)
    assert not watched.overdue(0.49)
    assert watched.overdue(0.02)


def test_what_comes_seldom_is_not_overdue_between_two_outputs():
    watched = Watched()
    watched.outputs(1.0, 1.0, 1.0)
    assert not watched.overdue(1.9)
    assert watched.overdue(0.2)


def test_the_period_of_a_stream_is_its_shortest_lately():
    watched = Watched()
    assert watched.monitor.period_s('lidar') == 0.0
    for interval_s in (1.5, 30.0, 1.4, 1.5):
        watched.monitor.heard('lidar', 0, 0)
        watched.now_s += interval_s
    assert watched.monitor.period_s('lidar') == pytest.approx(1.4)
    assert watched.monitor.period_s('camera') == 0.0


def test_a_clock_that_has_not_begun_says_nothing_of_when_stamps_arrive():
    watched = Watched()
    for now_ns in (0, 7):
        watched.monitor.heard('lidar', 5, now_ns)
    assert watched.monitor.arrivals('lidar') == [Arrival(5, 7)]


def test_percentiles_forget_what_was_slow_half_a_minute_ago():
    watched = Watched()
    for latency_ms, count in ((2000.0, 50), (5.0, 250)):
        for _ in range(count):
            watched.now_s += 0.1
            watched.publish(latency_ms)
    assert watched.monitor.times()['latency_ms'] == {
        'p50': 5.0,
        'p95': 5.0,
        'p99': 5.0,
        'max': 5.0,
    }
    watched.now_s += 30.0
    assert watched.monitor.times()['latency_ms'] == {}


def test_sensors_are_compared_now_and_then_and_some_comparisons_tell():
    watched = Watched()
    due = []
    for _ in range(100):
        watched.now_s += 0.1
        if watched.monitor.is_to_compare():
            due.append(watched.now_s)
            watched.monitor.compared([9.0, 1.0, None, 2.0, 3.0, 4.0][len(due) % 6])
            told = watched.monitor.disagreement()
            assert told == {6: 3.0}.get(len(due))
            if told:
                break
        watched.now_s += 0.5
    assert len(due) == 6
    assert min(after - before for before, after in pairwise(due)) >= COMPARE_S
    watched.now_s += 30.0
    assert watched.monitor.disagreement() is None


def test_latency_and_the_ages_of_stamps_are_of_the_same_outputs():
    watched = Watched()
    watched.publish(2000.0, lidar_age_s=1.99)
    for _ in range(10):
        watched.now_s += 0.1
        watched.publish(5.0, lidar_age_s=0.001)
        watched.monitor.heard('lidar', 0, 10**6)
    assert watched.monitor.times()['latency_ms']['p95'] == pytest.approx(1002.5)
    assert watched.monitor.stamp_age_s('lidar') == pytest.approx(0.9955)
    assert watched.monitor.stamp_age_s('camera') == 0.0


def test_one_long_gap_does_not_make_the_next_silence_pass_for_usual():
    watched = Watched()
    watched.outputs(0.1, 0.1, 30.0)
    assert watched.overdue(0.6)


def test_a_rate_that_falls_is_known_after_two_intervals():
    watched = Watched()
    watched.outputs(*[0.1] * 20, 1.0)
    assert watched.overdue(0.9)
    watched.outputs(0.1)
    assert not watched.overdue(0.9)


def test_an_interval_that_takes_twice_as_long_as_the_next_is_not_usual():
    watched = Watched()
    watched.outputs(0.0, 4.0, 2.0, 1.5)
    assert watched.monitor.output_period_s() == 1.5


def test_a_rate_that_rises_is_known_once_the_slow_intervals_are_forgotten():
    watched = Watched()
    watched.outputs(*[1.0] * 20, *[0.1] * 8)
    assert watched.overdue(0.6)


def test_output_of_an_irregular_trigger_is_not_overdue_in_its_pauses():
    watched = Watched()
    burst = (0.1, 0.1, 1.3)
    watched.outputs(*burst, *burst)
    for _ in range(5):
        for interval_s in burst:
            assert not watched.overdue(interval_s)
            watched.outputs(0.0)
    assert watched.overdue(2.7)


def test_each_change_of_mode_is_said_but_not_each_of_many():
    watched = Watched()

    def said(mode, in_s):
        watched.now_s += in_s
        return watched.monitor.enter(mode)

    assert said('fusion', 0.0) == 'Mode: fusion.'
    assert said('fusion', 9.0) == ''
    assert said('none', 9.0) == 'Mode: none.'
    assert said('camera_only', 0.5) == ''
    assert said('camera_only', 2.0) == 'Mode: camera_only.'
    flapping = [said(mode, 0.5) for mode in ('none', 'fusion') * 4]
    assert [words for words in flapping if words] == [
        'Mode: fusion. It changed 4 times.',
        'Mode: fusion. It changed 4 times.',
    ]


def test_a_cpu_has_no_gpu_memory_to_tell_of():
    assert memory_values(torch.device('cpu')) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_what_torch_holds_of_a_gpu_is_told():
    held = torch.zeros(64 * 2**20, dtype=torch.uint8, device='cuda')
    told = int(memory_values(held.device)['gpu_memory_mib'])
    assert told * 2**20 >= held.nbytes


def test_the_last_fault_is_told_with_its_age():
    watched = Watched()
    assert watched.monitor.last_fault()[0] == ''
    watched.monitor.failed('lidar: Too small.')
    watched.now_s += 3.0
    watched.monitor.failed('camera: Too large.')
    watched.now_s += 7.0
    assert watched.monitor.last_fault() == ('camera: Too large.', pytest.approx(7.0))


def test_what_was_measured_by_a_clock_that_was_set_since_is_no_latency():
    watched = Watched()
    for age_s in (0.02, 5.0, 0.02):
        watched.publish(1e3 * age_s, lidar_age_s=age_s)
    assert watched.monitor.times()['latency_ms']['max'] == 5e3
    watched.publish(1e3 * 1.8e9, lidar_age_s=1.8e9)
    watched.publish(30.0, lidar_age_s=0.02)
    assert watched.monitor.times()['latency_ms'] == dict.fromkeys(('p50', 'p95', 'p99', 'max'), 30)
    assert watched.monitor.stamp_age_s('lidar') == 0.02
    assert watched.monitor.times()['pairing_ms']['max'] == 0.5
    # What a steady clock measured counts on.
    assert watched.monitor.times()['inference_ms']['max'] == 2 + 1.8e9
