"""What a configured node tells of itself, gathered from its parts."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from ros_graph import RANGES
from small_facts import node, nothing

from fusion_perception.ros.monitor import Monitor
from fusion_perception.ros.node_state import state_of
from fusion_perception.sensing.findings.facts import ScanFacts

TOPICS = {'camera': '/image', 'lidar': '/range_image'}


class Clock:
    """A steady clock that is set by hand."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def watched(begun):
    """Return what begins a pipeline whose monitor goes by a clock of its own."""

    def begin(**values):
        way, clock = begun(**values), Clock()
        way.pipeline.monitor = Monitor(clock)
        return way, clock

    return begin


def state(way, facts=None, active=True, enabled=True):
    publishers = {'camera': 1, 'lidar': 2}
    return state_of(way.pipeline, facts, TOPICS, publishers, active, enabled)


def test_the_mode_is_none_before_the_first_output_and_when_the_next_is_overdue(watched):
    way, clock = watched()
    assert (state(way).mode, state(way).output_age_s) == ('none', None)
    way.pair()
    way.published()
    assert state(way).mode == 'fusion'
    clock.now_s += 9.0
    told = state(way)
    assert (told.mode, told.modes, told.output_age_s) == ('none', {'fusion': 1}, 9.0)


@pytest.mark.parametrize('switched_off', [{'active': False}, {'enabled': False}])
def test_the_mode_of_a_node_that_is_switched_off_is_none_at_once(watched, switched_off):
    way, _ = watched(pairing={'dropout_after_s': 60.0})
    way.pair()
    way.published()
    assert state(way).mode == 'fusion'
    assert state(way, **switched_off).mode == 'none'


def test_each_stream_is_told_of_by_itself(watched):
    way, clock = watched()
    for ms in (0, 250):
        clock.now_s = 100.0 + ms / 1000
        way.scan(ms)
    clock.now_s += 0.5
    streams = state(way).streams
    lidar, camera = streams['lidar'], streams['camera']
    assert (lidar.topic, lidar.publishers, lidar.received) == ('/range_image', 2, 2)
    assert (lidar.age_s, lidar.period_s) == pytest.approx((0.5, 0.25))
    assert (camera.topic, camera.publishers, camera.received) == ('/image', 1, 0)
    assert (camera.age_s, camera.period_s) == (None, 0.0)


def test_what_a_model_can_do_is_told_before_it_did_any_of_it(begun, runtime):
    assert state(begun()).able == sorted(runtime.bundle.model.modes)


def test_a_node_that_does_not_listen_is_inactive_and_still_tells_of_its_last_scan(begun):
    way = begun()
    assert 'returns' not in state(way).about
    way.pair()
    way.published()
    told = state(way, active=False)
    assert told.lifecycle == 'inactive'
    assert float(told.about['returns']) == pytest.approx((RANGES < 50).mean(), abs=1e-4)


def test_a_node_that_listens_tells_what_the_facts_say_and_what_is_wrong_with_them(begun):
    told = state(begun(), node(nothing('camera'), scan=ScanFacts(0.25)))
    assert (told.lifecycle, told.about['returns']) == ('active', '0.2500')
    assert [finding.symptom for finding in told.findings] == ['Nothing arrives on /image']


def test_the_settings_that_latency_and_silence_are_put_down_to_are_told(begun):
    told = state(begun(target_frame='map'), enabled=False)
    assert (told.target_frame, told.dropout_after_s, told.enabled) == ('map', 0.5, False)
