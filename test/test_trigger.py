"""When the simulated sensors are due, and what becomes of instants that they miss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_perception.simulation.trigger import Trigger

SECOND = 1_000_000_000
RATES = st.floats(0.01, 1000)


def due(instants, stream):
    return [instant.stamp_ns for instant in instants if stream in instant.streams]


@given(RATES, RATES, st.integers(0, 2**60), st.integers(1, 50))
def test_each_sensor_is_due_at_multiples_of_its_period(camera, lidar, begin, count):
    instants = Trigger({'camera': camera, 'lidar': lidar}, begin).after(begin, count)
    stamps = [instant.stamp_ns for instant in instants]
    assert stamps == sorted(set(stamps)) and stamps[0] == begin
    for stream, hz in (('camera', camera), ('lidar', lidar)):
        found = due(instants, stream)
        planned = [begin + round(tick * SECOND / hz) for tick in range(len(found))]
        # Within a microsecond both see one instant.
        assert found == pytest.approx(planned, rel=0, abs=1000)
        assert begin + round(len(found) * SECOND / hz) >= stamps[-1]


@pytest.mark.slow
@pytest.mark.parametrize('lidar', [20.0, 9.99])
def test_sensors_whose_rates_have_a_common_multiple_meet_after_hours_too(lidar):
    trigger = Trigger({'camera': 3 * lidar, 'lidar': lidar}, 0)
    instants = trigger.after(0, 3 * 20 * 3600)[-30:]
    assert [len(instant.streams) for instant in instants] == [2, 1, 1] * 10


@given(st.integers(0, 10 * SECOND), st.integers(1, 4))
def test_what_is_half_a_period_late_is_given_up_and_counted(ready, count):
    trigger = Trigger({'camera': 20.0, 'lidar': 10.0}, 0)
    instants = trigger.after(ready, count)
    period = SECOND // 20
    assert ready - period // 2 <= instants[0].stamp_ns < max(1, ready + period // 2)
    assert trigger.skipped == instants[0].stamp_ns // period
    assert len(instants) == count
    assert trigger.next_ns() == instants[-1].stamp_ns + period


def test_a_frame_that_is_late_by_less_is_not_given_up():
    trigger = Trigger({'camera': 20.0, 'lidar': 10.0}, 0)
    assert not trigger.gives_up(SECOND, SECOND + SECOND // 40)
    assert not trigger.skipped
    assert trigger.gives_up(SECOND, SECOND + SECOND // 40 + 1)
    assert trigger.skipped == 1


def test_what_is_allowed_to_be_late_is_given_up_only_after_that():
    trigger = Trigger({'camera': 20.0, 'lidar': 10.0}, 0)
    assert not trigger.gives_up(0, SECOND, allowed_ns=SECOND)
    assert trigger.gives_up(0, SECOND + 1, allowed_ns=SECOND)
    # Half a period it always has.
    assert not trigger.gives_up(0, SECOND // 40, allowed_ns=1)
    assert trigger.skipped == 1
