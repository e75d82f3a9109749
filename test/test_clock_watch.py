"""Whether a clock goes on, stands still or seems about to."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.clock_watch import ClockWatch


class Looked:
    """A clock that is looked at once per second, by a steady one."""

    def __init__(self):
        self.now_s = 0.0
        self.watch = ClockWatch(lambda: self.now_s)

    def at(self, *times, in_s=1.0):
        """Look at these times of the clock, in seconds; say of each what the watch does."""
        told = []
        for time_s in times:
            self.now_s += in_s
            self.watch.look(round(1e9 * time_s))
            told.append((self.watch.stands_still, self.watch.falters))
        return told


FALTERS, WELL = (False, True), (False, False)


def test_a_clock_stands_still_before_it_begins_and_when_it_does_not_go_on():
    told = Looked().at(0, 5, 6, 6, 6, 6, 6, 7, 3)
    assert [still for still, _ in told] == [True, *[False] * 5, True, False, False]


@pytest.mark.parametrize('share', [0.0, 0.02, 0.6])
def test_a_clock_that_has_just_stopped_falters_until_it_is_known_to_stand_still(share):
    stopped = 1004 + share
    told = Looked().at(1000, 1001, 1002, 1003, 1004, *[stopped] * 5)
    assert told[:5] == [WELL] * 5
    assert all(falters for _, falters in told[5:9])
    assert told[9][0]


@pytest.mark.parametrize('period_s', [0.01, 0.9, 1.5, 2.0, 3.0])
def test_a_clock_that_ticks_evenly_never_falters(period_s):
    shown = [1000 + period_s * (second // period_s) for second in range(30)]
    assert not any(falters for _, falters in Looked().at(*shown)[3:])


def test_a_clock_that_is_looked_at_just_as_it_ticks_soon_falters_no_more():
    ticks = [0, 1, 2, 2, 4, 5, 5, 7, 8, 9, 9, 11]
    told = Looked().at(*(1000 + each for each in ticks))
    assert told[3] == FALTERS and told[4:] == [WELL] * 8


def test_a_clock_that_was_slow_for_a_moment_still_falters_once_it_stops():
    told = Looked().at(1000, 1001, 1002, 1002.3, 1003.3, 1004.3, 1004.4, 1004.4)
    assert told == [WELL] * 3 + [FALTERS] + [WELL] * 2 + [FALTERS] * 2


def test_a_clock_that_is_seen_late_does_not_falter():
    looked = Looked()
    looked.at(1000, 1001, 1002)
    assert looked.at(1005, in_s=3.0) == looked.at(1005.2, in_s=0.2) == [WELL]


def test_a_clock_that_is_slower_from_now_on_soon_falters_no_more():
    told = Looked().at(*range(1000, 1008), *(1007 + 0.2 * each for each in range(1, 7)))
    assert told[8] == FALTERS and told[-1] == WELL


def test_another_clock_is_not_measured_by_the_one_before():
    looked = Looked()
    looked.at(1000, 1010, 1020)
    looked.watch.forget()
    assert looked.at(5, 6, 7) == [WELL] * 3
