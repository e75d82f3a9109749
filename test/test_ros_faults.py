"""What a simulated sensor does wrong on request: one fault at a time, and a scenario of them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.faults import Event, Faults, Outlet, Scenario
from fusion_perception.ros.messages import header_message, image_message, range_message
from fusion_perception.sensing.decode import (
    BadEncoding,
    BadShape,
    decode_image,
    decode_range,
    stamp_ns,
)

pytestmark = pytest.mark.ros
SCENARIO = Path(__file__).parents[1] / 'config' / 'chaos.yaml'
MS = 1_000_000


def camera(stamp):
    pixels = np.full((4, 6, 3), stamp // (100 * MS) % 256, np.uint8)
    return image_message(header_message(stamp, 'camera'), pixels)


def lidar(stamp):
    ranges = np.full((8, 8), stamp / (100 * MS), np.float32)
    return range_message(header_message(stamp, 'lidar'), ranges)


def sent(count=10, stream='camera', **faults):
    """Return [(delay, message)] of a sensor that measured at 0.1, 0.2, ... s."""
    outlet = Outlet(stream, seed=1)
    message = {'camera': camera, 'lidar': lidar}[stream]
    return [
        leaving
        for tick in range(1, count + 1)
        for leaving in outlet.departures(message(tick * 100 * MS), Faults(**faults))
    ]


def stamps(leaving):
    return [round(stamp_ns(message) / (100 * MS)) for _, message in leaving]


def test_without_a_fault_every_message_leaves_at_once_and_unchanged():
    leaving = sent()
    assert stamps(leaving) == list(range(1, 11))
    assert all(delay == 0 for delay, _ in leaving)
    assert [decode_image(message)[0, 0, 0] for _, message in leaving] == list(range(1, 11))


def test_the_other_stream_is_spared():
    assert len(sent(silent=True)) == 0
    outlet = Outlet('lidar', seed=1)
    faults = Faults(stream='camera', silent=True)
    assert len(outlet.departures(lidar(MS), faults)) == 1


def test_a_share_is_lost_and_the_same_seed_loses_the_same():
    leaving = stamps(sent(1000, drop=0.3))
    assert 630 < len(leaving) < 770
    assert leaving == stamps(sent(1000, drop=0.3))


def test_the_delay_varies_by_the_jitter():
    delays = [delay for delay, _ in sent(200, delay_s=0.2, jitter_s=0.1)]
    assert 0.2 <= min(delays) < 0.21
    assert 0.29 < max(delays) <= 0.3


def test_reordered_messages_change_places_with_the_next_and_none_is_lost():
    leaving = stamps(sent(10, reorder=1))
    assert leaving == [2, 1, 4, 3, 6, 5, 8, 7, 10, 9]


def test_a_duplicate_follows_its_original():
    assert stamps(sent(3, duplicate=1)) == [1, 1, 2, 2, 3, 3]


def test_a_frozen_sensor_repeats_itself_until_it_thaws():
    outlet = Outlet('lidar', seed=1)
    leaving = []
    for tick in range(1, 6):
        leaving += outlet.departures(lidar(tick * 100 * MS), Faults(freeze=2 <= tick <= 4))
    assert stamps(leaving) == [1, 2, 2, 2, 5]
    assert [decode_range(message)[0, 0] for _, message in leaving] == [1, 2, 2, 2, 5]


@pytest.mark.parametrize(('stream', 'decode'), [('camera', decode_image), ('lidar', decode_range)])
def test_wrong_messages_are_what_decoding_refuses(stream, decode):
    for fault, error in (('wrong_encoding', BadEncoding), ('wrong_size', BadShape)):
        for _, message in sent(1, stream, **{fault: True}):
            with pytest.raises(error):
                decode(message)


def test_a_covered_sensor_sends_what_holds_nothing():
    for (_, seen), (_, covered) in zip(sent(), sent(covered=True), strict=True):
        assert stamp_ns(covered) == stamp_ns(seen)
        assert decode_image(covered).shape == decode_image(seen).shape
        assert not decode_image(covered).any()
    scans = [decode_range(message) for _, message in sent(stream='lidar', covered=True)]
    assert len(scans) == 10 and not np.any(scans)


def test_stamps_are_zero_or_off_by_the_jump():
    assert stamps(sent(2, zero_stamp=True)) == [0, 0]
    assert stamps(sent(2, clock_jump_s=5)) == [51, 52]


def test_a_clock_that_jumps_before_its_beginning_is_one_that_has_not_begun():
    # ROS knows no stamps below zero.
    assert stamps(sent(2, clock_jump_s=-5)) == [0, 0]


def test_what_was_held_back_leaves_although_the_next_message_is_lost():
    outlet = Outlet('camera', seed=1)
    assert outlet.departures(camera(100 * MS), Faults(reorder=1)) == []
    assert stamps(outlet.departures(camera(200 * MS), Faults(drop=1))) == [1]


def test_the_streams_do_not_lose_the_same_messages():
    images, scans = (set(stamps(sent(1000, stream, drop=0.5))) for stream in ('camera', 'lidar'))
    assert 150 < len(images & scans) < 350


def test_a_damaged_message_keeps_its_frame_and_its_byte_order():
    message = lidar(100 * MS)
    message.is_bigendian = 1
    ((_, leaving),) = Outlet('lidar', seed=1).departures(message, Faults(wrong_encoding=True))
    assert (leaving.header.frame_id, leaving.is_bigendian) == ('lidar', 1)


def test_what_is_wrong_is_said_in_a_few_words():
    assert Faults().words() == Faults(stream='lidar').words() == ''
    assert Faults(stream='lidar', drop=0.5, freeze=True).words() == 'lidar: drop 0.5, freeze'
    assert Event(start_s=1, end_s=2, silent=True).words() == 'both: silent'


def test_a_scenario_plays_its_events_in_their_time():
    scenario = Scenario.read(
        {'events': [{'start_s': 1, 'end_s': 2, 'drop': 1}, {'start_s': 2, 'end_s': 3}]}
    )
    assert scenario.at(0.9) is scenario.at(3.0) is None
    assert scenario.at(1.0) == scenario.at(1.9) == scenario.events[0]
    assert scenario.at(2.0) == scenario.events[1]


@pytest.mark.parametrize('times', [(3, 2, 4, 5), (1, 3, 2, 4)])
def test_a_scenario_out_of_order_is_refused(times):
    a, b, c, d = times
    with pytest.raises(ValueError, match='must end after it starts'):
        Scenario.read({'events': [{'start_s': a, 'end_s': b}, {'start_s': c, 'end_s': d}]})


def test_the_scenario_that_ships_shows_every_fault_once_within_a_minute():
    events = Scenario.read_yaml(SCENARIO).events
    shown = {name for event in events for name in event.model_fields_set}
    assert shown == set(Event.model_fields)
    assert 50 <= events[-1].end_s <= 60


def test_a_misspelt_fault_in_a_scenario_is_named_with_its_event(tmp_path):
    path = tmp_path / 'scenario.yaml'
    path.write_text(
        'events:\n'
        '  - {start_s: 1, end_s: 2, drop: 0.5}\n'
        '  - {start_s: 3, end_s: 4, wrong_encodign: true}\n'
    )
    with pytest.raises(ValueError) as caught:
        Scenario.read_yaml(path)
    assert str(caught.value) == (
        f"{path}: events.1: Event has no 'wrong_encodign'. Did you mean 'wrong_encoding'?"
    )
