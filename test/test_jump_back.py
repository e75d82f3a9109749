"""What was on its way when one stream went back does not hold up what follows."""

import pytest
from arrivals import both, dropped, feed, pairer

from fusion_perception.sensing.ledger import STREAMS
from fusion_perception.sensing.pairing import PARTNER


def spread(stream, *, begin, end, step=100):
    return [(stream, ms) for ms in range(begin, end, step)]


def together(begin, end):
    return [
        arrival for ms in range(begin, end, 100) for arrival in (('camera', ms), ('lidar', ms))
    ]


def counted(pairing):
    for counts in pairing.counters().values():
        told = counts['used'] + counts['pending'] + sum(counts['dropped'].values())
        assert counts['received'] == told
    return {stream: dropped(pairing, stream) for stream in STREAMS}


@pytest.mark.parametrize('stream', STREAMS)
def test_a_late_message_of_the_old_time_does_not_make_stale_what_follows_in_the_new(stream):
    pairing, late = pairer(allow_single=True), PARTNER[stream]
    feed(pairing, *together(100_000, 102_000))
    found = feed(pairing, (stream, 90_000), (late, 102_000), (stream, 90_100), (late, 102_100))
    found += feed(pairing, *spread(stream, begin=90_200, end=92_000))
    found += feed(pairing, *together(92_000, 93_000))
    # The other one is silent for a while, then both go on.
    modes = [pair.mode for pair in found]
    assert (modes[:20], modes[-9:]) == ([f'{stream}_only'] * 20, ['fusion'] * 9)
    assert counted(pairing)[stream] == {} and dropped(pairing, late)['clock_jump'] == 2
    assert pairing.clock_jumps == 1


def test_a_message_that_follows_into_the_new_time_is_paired_at_once():
    pairing = pairer(allow_single=True)
    feed(pairing, *together(100_000, 102_000))
    found = feed(pairing, ('camera', 90_000), ('lidar', 102_000), *together(90_100, 90_400))
    assert both(found) == [(ms, ms) for ms in (90_100, 90_200, 90_300)]


def test_a_sensor_whose_clock_does_not_go_back_is_heard_again_soon():
    pairing = pairer(allow_single=True)
    feed(pairing, *together(100_000, 102_000))
    apart = [
        arrival
        for ms in range(0, 2000, 100)
        for arrival in (('camera', 90_000 + ms), ('lidar', 102_000 + ms))
    ]
    found = feed(pairing, *apart)
    assert counted(pairing)['lidar'] == {'clock_jump': 5}
    assert both(found)[-1] == (None, 103_900)


@pytest.mark.parametrize('stream', STREAMS)
def test_a_sensor_that_falls_silent_once_it_went_back_does_not_silence_the_other(stream):
    pairing, other = pairer(allow_single=True), PARTNER[stream]
    feed(pairing, *together(100_000, 102_000), (stream, 90_000))
    found = feed(pairing, *spread(other, begin=102_000, end=104_000))
    assert counted(pairing)[other] == {'clock_jump': 5}
    assert [pair.mode for pair in found] == [f'{other}_only'] * 15


def test_a_slow_sensor_is_on_its_way_for_two_of_its_periods_at_most():
    slow = [('camera', 100_000), ('lidar', 100_000), ('camera', 101_000), ('lidar', 101_000)]
    pairing = pairer(allow_single=True)
    feed(
        pairing, *slow, ('camera', 90_000), *spread('lidar', begin=102_000, end=108_000, step=1000)
    )
    assert counted(pairing)['lidar']['clock_jump'] == 2


@pytest.mark.parametrize('stream', STREAMS)
def test_what_was_on_its_way_is_known_as_well_when_a_clock_goes_back_twice(stream):
    pairing, late = pairer(allow_single=True), PARTNER[stream]
    feed(pairing, *together(100_000, 102_000))
    found = feed(pairing, (stream, 95_000), (stream, 90_000), (late, 102_000))
    found += feed(pairing, *together(90_100, 91_000))
    assert counted(pairing)[late] == {'clock_jump': 1} and pairing.clock_jumps == 2
    assert {pair.mode for pair in found} == {'fusion'}


def test_what_the_offsets_move_before_the_first_time_was_on_its_way_as_well():
    pairing = pairer(allow_single=True, camera_offset_s=-50.0, lidar_offset_s=-50.0)
    feed(pairing, *together(40_000, 49_000))
    found = feed(pairing, ('camera', 30_000), ('lidar', 49_000), *together(30_100, 31_000))
    assert counted(pairing)['lidar'] == {'clock_jump': 1}
    assert {pair.mode for pair in found} == {'fusion'}


def test_a_sensor_that_comes_back_after_a_jump_is_not_of_the_old_time():
    pairing = pairer(allow_single=True)
    feed(pairing, *together(89_000, 90_000), *spread('camera', begin=90_000, end=100_000))
    feed(pairing, ('camera', 90_000))
    found = feed(pairing, ('lidar', 90_000), ('lidar', 90_100), ('camera', 90_100))
    assert both(found) == [(90_000, 90_000), (90_100, 90_100)]
    assert counted(pairing)['lidar'] == {}


def test_a_sensor_that_was_never_heard_is_not_of_the_old_time():
    pairing = pairer(allow_single=True)
    feed(pairing, *spread('camera', begin=100_000, end=102_000), ('camera', 90_000))
    feed(pairing, ('lidar', 95_000))
    assert counted(pairing)['lidar'] == {}
