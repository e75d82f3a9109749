"""When the next message of a stream may come, and what is known of those that did."""

import pytest
from arrivals import both, feed, pairer

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
