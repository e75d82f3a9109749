"""What the monitor makes of counters between two publications of the diagnostics."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.monitor import LATELY, Monitor, Times


class Watched:
    """A monitor whose clock and counters are set by hand."""

    def __init__(self):
        self.now_s = 100.0
        self.monitor = Monitor(lambda: self.now_s)
        self.counts = {
            stream: {
                'received': 0,
                'used': 0,
                'pending': 0,
                'dropped': {'no_partner': 0, 'stale': 0, 'superseded': 0},
            }
            for stream in ('camera', 'lidar')
        }

    def came(self, stream, used=0, pending=0, **dropped):
        """Count messages of a stream; `pending` is how many wait now."""
        before = self.counts[stream]
        received = before['received'] + used + pending - before['pending'] + sum(dropped.values())
        fates = {cause: n + dropped.get(cause, 0) for cause, n in before['dropped'].items()}
        used += before['used']
        told = {'received': received, 'used': used, 'pending': pending, 'dropped': fates}
        self.counts = {**self.counts, stream: told}

    def tick(self, after_s=1.0):
        self.now_s += after_s
        return self.monitor.since_last_tick(self.counts)

    def publish(self, mode='fusion', apart_ms=0.0):
        self.monitor.published(mode, Times(5.0, 0.5, 2.0, 1.0, apart_ms), {})


def test_rates_are_per_second_and_of_the_time_since_the_last_publication():
    watched = Watched()
    watched.came('camera', used=30)
    watched.came('lidar', used=10)
    assert watched.tick(2.0)[0] == {'camera': 15.0, 'lidar': 5.0}
    watched.came('camera', used=10)
    assert watched.tick(0.5)[0] == {'camera': 20.0, 'lidar': 0.0}


def test_the_share_that_was_lost_is_of_what_came_since_the_last_publication():
    watched = Watched()
    watched.came('camera', used=4, stale=2)
    watched.came('lidar', used=6, superseded=4)
    assert watched.tick()[1] == pytest.approx(6 / 16)
    watched.came('camera', used=4)
    assert watched.tick()[1] == 0.0
    assert watched.tick()[1] == 0.0


def test_images_without_partner_are_no_loss():
    watched = Watched()
    watched.came('camera', used=10, no_partner=20)
    watched.came('lidar', used=10)
    assert watched.tick()[1] == 0.0


def test_no_more_is_lost_than_came():
    watched = Watched()
    watched.came('lidar', pending=9)
    watched.tick()
    # Eight that came earlier and one of now.
    watched.came('lidar', pending=0, stale=10)
    assert watched.tick()[1] == 1.0


def test_lately_reaches_back_over_the_last_publications_and_no_further():
    watched = Watched()
    for _ in range(LATELY + 3):
        watched.came('camera', used=2, pending=3, stale=1)
        lately = watched.monitor.lately(watched.counts)
    assert lately['camera']['used'] == 2 * LATELY
    assert lately['camera']['dropped'] == {'no_partner': 0, 'stale': LATELY, 'superseded': 0}
    # Of what waits there is no before.
    assert lately['camera']['pending'] == 3
    assert lately['camera']['received'] == 3 * LATELY
    assert lately['lidar']['received'] == 0


def test_lately_counts_from_the_beginning_at_first():
    watched = Watched()
    watched.came('camera', used=7)
    assert watched.monitor.lately(watched.counts)['camera']['used'] == 7


def test_what_was_fused_lately_is_counted_and_what_one_sensor_gave_is_not():
    watched = Watched()
    fused = []
    for _ in range(LATELY + 3):
        watched.publish()
        watched.publish('lidar_only', apart_ms=None)
        fused.append(watched.monitor.lately_fused())
    assert (fused[0], fused[-1]) == (1, LATELY)


def test_of_a_single_sensor_no_stamps_lie_apart():
    watched = Watched()
    watched.publish('lidar_only', apart_ms=None)
    assert watched.monitor.times()['apart_ms'] == {}
    assert watched.monitor.times()['latency_ms']['max'] == 5.0


def test_stamps_that_are_the_same_lie_no_time_apart():
    watched = Watched()
    watched.publish(apart_ms=0.0)
    assert watched.monitor.times()['apart_ms'] == {'p50': 0.0, 'p95': 0.0, 'p99': 0.0, 'max': 0.0}


def test_listening_begins_anew_with_each_subscription():
    watched = Watched()
    watched.now_s += 50.0
    watched.monitor.began_to_listen()
    watched.now_s += 3.0
    assert watched.monitor.listening_s() == 3.0


def test_what_a_message_took_is_that_of_the_last_one():
    watched = Watched()
    assert watched.monitor.message_bytes('camera') == 0
    for size in (300, 200):
        watched.monitor.heard('camera', 0, 0, size)
    assert watched.monitor.message_bytes('camera') == 200
    assert watched.monitor.message_bytes('lidar') == 0


def test_an_arrival_is_a_stamp_and_the_time_it_came():
    watched = Watched()
    watched.monitor.heard('lidar', 5, 9)
    (arrival,) = watched.monitor.arrivals('lidar')
    assert (arrival.stamp_ns, arrival.arrived_ns) == (5, 9)
    assert watched.monitor.arrivals('camera') == []
