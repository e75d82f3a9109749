"""When the node takes its output for overdue, and how often its inputs come."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from fusion_perception.ros.monitor import Monitor


class Watched:
    """A monitor whose clock is set by hand."""

    def __init__(self):
        self.now_s = 100.0
        self.monitor = Monitor(lambda: self.now_s)

    def outputs(self, *after_s):
        for interval_s in after_s:
            self.now_s += interval_s
            self.monitor.published('fusion', 5.0, 2.0)

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


def test_a_clock_stands_still_before_it_begins_and_when_it_does_not_go_on():
    watched = Watched()

    def stands_still(now_ns, in_s=1.0):
        watched.now_s += in_s
        return watched.monitor.stands_still(now_ns)

    assert stands_still(0)
    assert not any(stands_still(now_ns) for now_ns in (5, 6, 6, 6, 6))
    assert stands_still(6)
    assert not stands_still(7)
    assert not stands_still(3)  # A recording that begins anew.


def test_one_long_gap_does_not_make_the_next_silence_pass_for_usual():
    watched = Watched()
    watched.outputs(0.1, 0.1, 30.0)
    assert watched.overdue(0.6)
