"""When the next message of a stream may come, and what is known of those that did."""

import pytest
from arrivals import both, dropped, feed, pairer

from fusion_perception.sensing.pairing import PairingSettings


def test_the_shortest_of_the_last_periods_says_when_a_closer_image_may_come():
    pairing = pairer(wait='likely')
    feed(pairing, *(('camera', t) for t in (1000, 1050, 1100, 1150, 1180, 1230)))
    # An image of 1260, thirty after the last, would lie closer.
    assert not feed(pairing, ('lidar', 1246))
    assert both(feed(pairing, ('camera', 1260)) + pairing.flush()) == [(1260, 1246)]


def test_an_image_out_of_order_does_not_make_its_sensor_silent():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    feed(pairing, *((stream, 1000) for stream in ('camera', 'lidar')))
    assert not feed(pairing, ('camera', 1100), ('camera', 1060), ('lidar', 1200), ('lidar', 1320))
    assert pairing.counters()['lidar']['pending'] == 2


def test_a_dropout_as_long_as_the_slop_is_refused():
    with pytest.raises(ValueError, match='is not longer than the slop_s'):
        PairingSettings(slop_s=0.03, dropout_after_s=0.03)


def test_three_periods_prove_nothing_and_four_do():
    # All of three could span a lost image, and one of 1312 would lie closer.
    images = [('camera', t) for t in (1000, 1100, 1200, 1300, 1400)]
    three = pairer(wait='likely')
    assert not feed(three, *images[:4], ('lidar', 1310))
    assert both(feed(three, ('camera', 1312)) + three.flush()) == [(1312, 1310)]
    four = pairer(wait='likely')
    assert both(feed(four, *images, ('lidar', 1410))) == [(1400, 1410)]


@pytest.mark.parametrize(('since', 'leaves'), [(15, False), (16, True)])
def test_a_short_period_counts_among_the_last_sixteen(since, leaves):
    pairing = pairer(wait='likely')
    images = [1000, *range(1020, 1021 + 50 * since, 50)]
    feed(pairing, *(('camera', t) for t in images))
    # An image thirty after the last would lie as close, one twenty after it closer.
    assert bool(feed(pairing, ('lidar', images[-1] + 15))) == leaves


def test_what_comes_twice_is_a_duplicate_though_a_hundred_came_between():
    pairing = pairer(jump_back_s=1.0)
    feed(pairing, *((stream, t) for t in range(1000, 1404, 4) for stream in ('camera', 'lidar')))
    feed(pairing, ('camera', 1000))
    assert dropped(pairing, 'camera') == {'duplicate': 1}
