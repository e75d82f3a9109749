"""What arrivals and stamps of two streams tell of their offset, and what they do not."""

import pytest
from small_facts import SECOND, arrivals

from fusion_perception.sensing.offsets import (
    Arrival,
    age_s,
    apart,
    fit,
    oldest_s,
    period_s,
    rate_hz,
)


@pytest.mark.parametrize('shift_s', [-7.03, -0.4, 0.03, 1.5, 3600.02])
def test_an_offset_of_whole_periods_is_told_from_none(shift_s):
    measured = apart(arrivals(0.05, shift_s=shift_s, count=40), arrivals())
    assert measured.median_s == pytest.approx(shift_s, abs=1e-6)
    assert measured.spread_s < 1e-6


@pytest.mark.parametrize('aside_s', [-0.04, 0.04])
def test_the_spread_is_how_far_the_furthest_lies_on_either_side(aside_s):
    measured = apart(arrivals(jitter_s=[0.0] * 5 + [aside_s]), arrivals())
    assert measured.spread_s == pytest.approx(0.04) and measured.median_s == 0.0


def test_scans_after_the_last_image_and_images_in_disorder_spread_nothing():
    assert apart(arrivals(0.05), arrivals()).spread_s < 1e-6
    camera = arrivals()
    camera[5], camera[6] = camera[6], camera[5]
    assert apart(camera, arrivals()).spread_s < 1e-6


def test_too_few_messages_measure_nothing():
    assert apart(arrivals(count=2), arrivals()) is None
    assert apart(arrivals(), arrivals(count=2)) is None
    assert age_s([]) is None
    assert rate_hz(arrivals(count=1)) == 0.0
    assert rate_hz(arrivals(0.05)) == pytest.approx(20.0)


def test_a_stream_that_paused_once_gets_no_older_by_it():
    late = [*arrivals(count=6), *arrivals(begin_s=105.5, count=6)]
    early = arrivals(begin_s=100.05, count=70)
    assert oldest_s(late, early, 0) == pytest.approx(0.05)


def test_while_nothing_comes_of_the_other_stream_none_gets_older_by_its_stamps():
    assert oldest_s(arrivals(), arrivals(begin_s=100.05, count=1), 0) == pytest.approx(0.05)


def test_messages_that_arrive_at_one_time_have_no_rate():
    assert rate_hz([Arrival(1, 5), Arrival(2, 5), Arrival(3, 5)]) == 0.0


def test_three_messages_of_each_stream_tell_an_offset():
    assert apart(arrivals(count=3, shift_s=0.125), arrivals(count=3)).median_s == 0.125


def test_what_came_before_the_first_of_the_other_stream_has_no_partner():
    camera, lidar = arrivals(begin_s=101.0, count=30, shift_s=0.125), arrivals(count=15)
    measured = apart(camera, lidar)
    assert (measured.median_s, measured.spread_s) == (0.125, 0.0)


@pytest.mark.parametrize(('fitting', 'fits'), [(9, True), (8, False), (4, False)])
def test_stamps_fit_where_more_than_half_of_those_of_the_rarer_sensor_have_a_partner(
    fitting, fits
):
    lidar = arrivals(jitter_s=[0.03] * (16 - fitting), count=16)
    assert fit(arrivals(count=40), lidar, 0, SECOND // 50) is fits


def test_scans_that_came_after_the_last_image_measure_nothing():
    assert apart(arrivals(), arrivals(begin_s=110.0)) is None


def test_the_rarer_images_find_their_partners_among_many_scans():
    assert fit(arrivals(0.4, count=10), arrivals(0.05, count=80), 0, SECOND // 100)


def test_a_pause_and_a_straggler_change_neither_the_period_nor_the_age():
    paused = [*arrivals(), *arrivals(begin_s=200.0)]
    assert period_s(paused) == pytest.approx(0.1)
    straggler = Arrival(paused[-1].stamp_ns, paused[-1].arrived_ns + 60 * SECOND)
    assert age_s([*paused, straggler]) == pytest.approx(0.004)
