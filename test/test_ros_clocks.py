"""The node itself says what is wrong with simulated time."""

from itertools import count

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from builtin_interfaces.msg import Time
from rclpy.clock import Clock as Timepiece
from rclpy.clock import ClockType
from ros_graph import impatient, said, text_of, wait_until
from rosgraph_msgs.msg import Clock
from small_bundles import small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.ros.messages import header_message

pytestmark = pytest.mark.ros
# That of the probe stands still with /clock.
STEADY = Timepiece(clock_type=ClockType.STEADY_TIME)


def test_two_clocks_are_named(tmp_path):
    with impatient(small_bundle(tmp_path), '-p', 'use_sim_time:=true') as probe:
        for _ in range(2):
            probe.create_publisher(Clock, '/clock', 1)
        wait_until(lambda: '2 publish on /clock' in text_of(probe), 'the clocks')


@pytest.mark.parametrize('paused', [False, True], ids=['ended', 'paused'])
def test_simulated_time_that_stops_is_named_by_node_and_doctor(tmp_path, paused):
    with impatient(small_bundle(tmp_path), '-p', 'use_sim_time:=true') as probe:
        clock = probe.create_publisher(Clock, '/clock', 1)
        now = Time(sec=1000)

        def tick():
            now.sec += 1
            clock.publish(Clock(clock=now))
            return said(probe, 'Nothing arrives') and not said(probe, 'The time stands still')

        assert wait_until(tick, 'the time to go on')
        if paused:  # The same time again and again.
            probe.create_timer(0.05, lambda: clock.publish(Clock(clock=now)), clock=STEADY)
        wait_until(lambda: said(probe, 'The time stands still', 'is paused'), 'the reason')
        text, _ = doctor(DoctorSettings(live=True, seconds=3.5))
        assert 'The time stands still' in text


@pytest.mark.parametrize('go_on', [False, True], ids=['silent', 'repeating'])
def test_sensors_are_not_blamed_while_it_is_not_known_that_the_time_stopped(tmp_path, go_on):
    with impatient(small_bundle(tmp_path), '-p', 'use_sim_time:=true') as probe:
        probe.wait_for_node()
        clock = probe.create_publisher(Clock, '/clock', 1)
        stamps_ns = list(range(1000 * 10**9, 1008 * 10**9, 100_000_000))

        def tick():
            if len(stamps_ns) > 1 or go_on:
                stamp_ns = stamps_ns.pop(0) if len(stamps_ns) > 1 else stamps_ns[0]
                clock.publish(Clock(clock=header_message(stamp_ns, '').stamp))
                probe.publish(stamp_ns)

        probe.create_timer(0.1, tick, clock=STEADY)
        wait_until(lambda: said(probe, 'Predicting'), 'output')
        wait_until(lambda: len(stamps_ns) == 1, 'the time to stop')
        before = len(probe.diagnostics)
        wait_until(lambda: said(probe, 'The time stands still'), 'the reason')
        since = [status.message for status in probe.diagnostics[before:]]
        assert len(since) > 2, since
        assert not [text for text in since if 'silent' in text or 'repeat' in text], since


def test_simulated_time_that_is_set_late_is_no_fault_of_the_sensors(tmp_path):
    with impatient(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        clock = probe.create_publisher(Clock, '/clock', 1)
        stamps_ns = count(1000 * 10**9, 100_000_000)

        def tick():
            stamp_ns = next(stamps_ns)
            clock.publish(Clock(clock=header_message(stamp_ns, '').stamp))
            probe.publish(stamp_ns)

        probe.create_timer(0.1, tick)
        wait_until(lambda: said(probe, 'behind'), 'what the stamps are before')
        assert probe.set('use_sim_time', True).successful
        before = len(probe.diagnostics)
        wait_until(lambda: len(probe.diagnostics) >= before + 5, 'what is said since')
        since = [status.message for status in probe.diagnostics[before + 1 :]]  # One is under way.
        assert not [text for text in since if 'behind' in text or 'ahead' in text], since
        assert not [s for s in probe.streams().values() if s['dropped']['clock_jump']]


def test_a_clock_that_seldom_ticks_does_not_stand_still_for_who_listens_shortly(tmp_path):
    with impatient(small_bundle(tmp_path), '-p', 'use_sim_time:=true') as probe:
        clock, seconds = probe.create_publisher(Clock, '/clock', 1), count(1000)

        def tick():
            clock.publish(Clock(clock=Time(sec=next(seconds))))

        probe.create_timer(0.9, tick, clock=STEADY)
        wait_until(lambda: len(probe.diagnostics) > 1, 'the time to go on')
        text, _ = doctor(DoctorSettings(live=True, seconds=0.1))
    assert '/fusion_node is there: active' in text and 'stands still' not in text, text
