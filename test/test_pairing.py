"""Which messages become pairs, and what becomes of those that do not."""

import pytest
from arrivals import MS, both, dropped, feed, pairer

from fusion_perception.sensing.ledger import CAUSES, Ledger
from fusion_perception.sensing.pairing import PairingSettings


def test_a_looped_bag_is_counted_and_gives_as_many_pairs_on_every_pass():
    bag = [arrival for t in range(1000, 3000, 50) for arrival in (('camera', t), ('lidar', t + 6))]
    pairing = pairer()
    assert [len(feed(pairing, *bag)) for _ in range(3)] == [39, 40, 40]
    assert len(pairing.flush()) == 1
    assert pairing.clock_jumps == 2
    assert pairing.counters()['camera']['used'] == 120


def test_what_waits_when_the_clock_jumps_back_is_dropped_as_clock_jump():
    pairing = pairer()
    assert not feed(pairing, ('camera', 9000), ('camera', 101))
    assert dropped(pairing, 'camera') == {'clock_jump': 1}
    assert pairing.clock_jumps == 1


def test_slop_zero_pairs_equal_stamps():
    pairing = pairer(slop_s=0)
    pairs = feed(pairing, ('camera', 100), ('lidar', 100), ('lidar', 150), ('camera', 151))
    assert both(pairs) == [(100, 100)]


def test_the_exact_policy_ignores_the_slop():
    pairing = pairer(policy='exact', slop_s=0.02)
    arrivals = [('camera', 100), ('lidar', 101), ('lidar', 200), ('camera', 200)]
    assert both(feed(pairing, *arrivals)) == [(200, 200)]
    assert dropped(pairing, 'lidar') == {'no_partner': 1}


def test_equal_stamps_pair_at_once():
    pairing = pairer()
    assert both(feed(pairing, ('lidar', 100), ('camera', 100))) == [(100, 100)]


def test_the_closer_of_two_images_wins_although_it_comes_later():
    pairing = pairer()
    assert not feed(pairing, ('camera', 90), ('lidar', 100))
    assert both(feed(pairing, ('camera', 104), ('lidar', 200))) == [(104, 100)]
    assert dropped(pairing, 'camera') == {'no_partner': 1}


def test_a_pair_leaves_as_soon_as_no_closer_message_can_come():
    pairing = pairer()
    assert not feed(pairing, ('camera', 90), ('lidar', 100))
    assert both(feed(pairing, ('camera', 110))) == [(90, 100)]


def test_a_message_whose_closer_partner_is_taken_keeps_the_next_one():
    pairing = pairer()
    # 19 is closer to 10 than 0 is, but belongs to 27, which is closer still.
    arrivals = [('camera', 1000), ('lidar', 1010), ('camera', 1019), ('lidar', 1027)]
    assert both(feed(pairing, *arrivals) + pairing.flush()) == [(1000, 1010), (1019, 1027)]


def test_a_known_period_lets_a_pair_leave_without_waiting_for_the_next_image():
    arrivals = [('camera', t) for t in range(1000, 1300, 50)]
    for wait, expected in (('likely', [(1250, 1262)]), ('certain', [])):
        pairing = pairer(wait=wait)
        feed(pairing, *arrivals)
        assert both(feed(pairing, ('lidar', 1262))) == expected


def test_a_known_period_holds_a_pair_that_the_next_image_could_part():
    pairing = pairer(wait='likely', slop_s=0.04)
    feed(pairing, *(('camera', t) for t in range(1000, 1300, 50)))
    assert not feed(pairing, ('lidar', 1276))
    assert both(feed(pairing, ('camera', 1300))) == []
    assert both(pairing.flush()) == [(1300, 1276)]


def test_too_few_periods_prove_nothing():
    pairing = pairer(wait='likely')
    assert not feed(pairing, ('camera', 1000), ('camera', 1100), ('lidar', 1110))


def test_an_offset_moves_one_stream_before_comparing_and_leaves_the_stamp_alone():
    pairing = pairer(slop_s=0, camera_offset_s=-0.03)
    (pair,) = feed(pairing, ('camera', 130), ('lidar', 100))
    assert (pair.stamp_ns, pair.apart_ns) == (100 * MS, 0)


def test_an_offset_on_the_lidar_leaves_the_stamp_that_its_message_carries():
    pairing = pairer(slop_s=0, lidar_offset_s=-37)
    (pair,) = feed(pairing, ('lidar', 50_000), ('camera', 13_000))
    assert pair.stamp_ns == 50_000 * MS


def test_a_small_disorder_is_sorted_out():
    pairing = pairer()
    pairs = feed(pairing, ('camera', 150), ('camera', 99), ('lidar', 100), ('lidar', 151))
    assert both(pairs + pairing.flush()) == [(99, 100), (150, 151)]


def test_a_message_older_than_what_has_left_is_stale():
    pairing = pairer()
    feed(pairing, ('camera', 100), ('lidar', 100), ('camera', 95))
    assert dropped(pairing, 'camera') == {'stale': 1}


def test_a_message_that_comes_twice_is_a_duplicate_while_the_first_one_waits():
    pairing = pairer(slop_s=0)
    arrivals = [('camera', 100), ('camera', 100), ('lidar', 100), ('lidar', 150)]
    assert both(feed(pairing, *arrivals) + pairing.flush()) == [(100, 100)]
    assert pairing.counters()['camera'] | {'dropped': 1} == {
        'received': 2,
        'used': 1,
        'pending': 0,
        'dropped': 1,
    }
    assert dropped(pairing, 'camera') == {'duplicate': 1}


def test_what_was_used_and_comes_again_gives_no_second_pair():
    pairing = pairer(slop_s=0)
    assert both(feed(pairing, ('camera', 100), ('lidar', 100))) == [(100, 100)]
    assert not feed(pairing, ('camera', 100), ('lidar', 100), ('lidar', 100))
    assert dropped(pairing, 'camera') == {'duplicate': 1}
    assert dropped(pairing, 'lidar') == {'duplicate': 2}


def test_what_passed_alone_and_comes_again_does_not_pass_again():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    assert len(feed(pairing, *(('camera', t) for t in (1000, 1100, 1200, 1300)))) == 4
    assert not feed(pairing, ('camera', 1300), ('camera', 1000))
    assert dropped(pairing, 'camera') == {'duplicate': 2}


def test_a_sensor_that_froze_counts_as_silent():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    feed(pairing, ('camera', 1000), ('lidar', 1000))
    frozen = [a for t in range(1100, 1500, 100) for a in (('camera', 1000), ('lidar', t))]
    assert [pair.mode for pair in feed(pairing, *frozen)] == ['lidar_only'] * 4
    assert dropped(pairing, 'camera') == {'duplicate': 4}


def test_what_has_no_partner_does_not_get_one_by_coming_again():
    pairing = pairer()
    feed(pairing, ('camera', 100), ('lidar', 200), ('camera', 100))
    assert dropped(pairing, 'camera') == {'no_partner': 1, 'duplicate': 1}


def test_both_sensors_may_have_the_same_stamp_and_so_may_the_next_pass_of_a_bag():
    bag = [(stream, t) for t in range(1000, 3000, 100) for stream in ('camera', 'lidar')]
    pairing = pairer(slop_s=0)
    feed(pairing, *bag, *bag)
    assert pairing.clock_jumps == 1
    assert not dropped(pairing, 'camera')


def test_a_message_that_was_never_stamped_is_dropped_and_counted():
    pairing = pairer()
    assert pairing.add('lidar', 0, 0) == []
    assert dropped(pairing, 'lidar') == {'unstamped': 1}
    assert pairing.clock_jumps == 0


def test_a_full_queue_drops_its_oldest_message():
    pairing = pairer(queue_size=2, dropout_after_s=3600)
    feed(pairing, ('camera', 100), ('camera', 200), ('camera', 300))
    assert dropped(pairing, 'camera') == {'queue_overflow': 1}
    assert pairing.counters()['camera']['pending'] == 2
    assert both(feed(pairing, ('lidar', 300))) == [(300, 300)]


def test_a_sensor_passes_alone_once_its_partner_is_silent_and_fusion_returns_with_it():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    assert both(feed(pairing, ('camera', 1000), ('lidar', 1000))) == [(1000, 1000)]
    assert not feed(pairing, ('lidar', 1100), ('lidar', 1200))
    waited = feed(pairing, ('lidar', 1300))
    assert both(waited) == [(None, 1100), (None, 1200), (None, 1300)]
    assert {pair.mode for pair in waited} == {'lidar_only'}
    assert both(feed(pairing, ('lidar', 1400))) == [(None, 1400)]
    (back,) = feed(pairing, ('camera', 1500), ('lidar', 1500))
    assert (back.mode, back.camera, back.lidar) == ('fusion', 1500, 1500)


@pytest.mark.parametrize(('camera_s', 'lidar_s'), [(0, 0), (-0.4, 0), (0.1, -0.2)])
def test_a_camera_passes_alone_with_its_stamp_on_the_clock_of_the_lidar(camera_s, lidar_s):
    offsets = {'camera_offset_s': camera_s, 'lidar_offset_s': lidar_s}
    pairing = pairer(allow_single=True, dropout_after_s=0.25, **offsets)
    ahead = round(1000 * (lidar_s - camera_s))
    images = (('camera', t + ahead) for t in range(1000, 1400, 100))
    pairs = feed(pairing, ('lidar', 1000), *images)
    assert [(pair.stamp_ns // MS, pair.mode) for pair in pairs] == [
        (1000, 'fusion'),
        (1100, 'camera_only'),
        (1200, 'camera_only'),
        (1300, 'camera_only'),
    ]


def test_a_sensor_that_never_spoke_counts_as_silent_too():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    assert len(feed(pairing, *(('camera', t) for t in range(1000, 1400, 100)))) == 4


def test_an_image_that_comes_after_a_later_scan_went_out_does_not_pass_alone():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    assert both(feed(pairing, ('camera', 990), ('lidar', 1000), ('camera', 1012))) == [(990, 1000)]
    alone = feed(pairing, ('camera', 995), *(('camera', t) for t in range(1100, 1400, 100)))
    assert [pair.stamp_ns // MS for pair in alone] == [1012, 1100, 1200, 1300]
    assert dropped(pairing, 'camera') == {'stale': 1}


def test_a_partner_that_comes_back_with_an_older_stamp_is_stale():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    feed(pairing, *(('camera', t) for t in (1000, 1150, 1300)), ('lidar', 1290))
    assert dropped(pairing, 'lidar') == {'stale': 1}


def test_nothing_passes_alone_unless_it_may():
    pairing = pairer(dropout_after_s=0.25, queue_size=3)
    assert not feed(pairing, *(('lidar', t) for t in range(1000, 2000, 100)))
    assert dropped(pairing, 'lidar') == {'no_partner': 7}
    assert pairing.counters()['lidar']['pending'] == 3


def test_a_sensor_that_lags_behind_still_finds_its_partners_in_the_queue():
    pairing = pairer(dropout_after_s=0.25, queue_size=10)
    assert not feed(pairing, *(('camera', t) for t in range(1000, 1600, 100)))
    pairs = feed(pairing, *(('lidar', t) for t in range(1000, 1600, 100)))
    assert both(pairs) == [(t, t) for t in range(1000, 1600, 100)]


def test_silence_makes_a_waiting_pair_certain():
    pairing = pairer(dropout_after_s=0.25)
    assert not feed(pairing, ('camera', 990), ('lidar', 1000), ('lidar', 1100), ('lidar', 1200))
    assert both(feed(pairing, ('lidar', 1300))) == [(990, 1000)]


def test_the_end_lets_go_of_what_waits_and_drops_the_rest():
    pairing = pairer()
    assert not feed(pairing, ('camera', 90), ('lidar', 100), ('lidar', 105))
    assert both(pairing.flush()) == [(90, 100)]
    assert dropped(pairing, 'lidar') == {'no_partner': 1}


def test_after_the_end_the_next_bag_may_be_older_be_it_of_one_sensor():
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    feed(pairing, ('camera', 9000), ('lidar', 9000))
    pairing.flush()
    assert both(feed(pairing, ('camera', 100), ('lidar', 100))) == [(100, 100)]
    pairing.flush()
    assert len(feed(pairing, *(('camera', t) for t in (20, 120, 220, 320)))) == 4
    assert pairing.clock_jumps == 0


def test_an_image_that_comes_after_its_time_is_dropped_at_once():
    pairing = pairer()
    feed(pairing, ('lidar', 1000), ('camera', 1100), ('camera', 960))
    assert dropped(pairing, 'camera') == {'no_partner': 1}


def test_a_message_that_cannot_be_decoded_is_received_and_dropped():
    pairing = pairer()
    pairing.ledger.receive('camera')
    pairing.ledger.drop('camera', 'bad_encoding')
    assert pairing.counters()['camera']['received'] == 1
    assert dropped(pairing, 'camera') == {'bad_encoding': 1}


def test_a_used_pair_can_be_counted_as_dropped_later():
    pairing = pairer()
    feed(pairing, ('camera', 100), ('lidar', 100))
    pairing.ledger.reclassify('lidar', 'superseded')
    assert pairing.counters()['lidar']['used'] == 0
    assert dropped(pairing, 'lidar') == {'superseded': 1}


def test_the_report_names_every_cause():
    assert set(Ledger().counters()['camera']['dropped']) == set(CAUSES)


@pytest.mark.parametrize('count', ['use', 'drop', 'reclassify'])
def test_what_never_came_cannot_be_counted(count):
    arguments = ('lidar',) if count == 'use' else ('lidar', 'superseded')
    with pytest.raises(ValueError, match=f'The lidar has no .* message to {count}'):
        getattr(Ledger(), count)(*arguments)


def test_a_dropout_shorter_than_the_slop_is_refused():
    with pytest.raises(
        ValueError, match=r'dropout_after_s of 0\.02 is not longer than the slop_s of 0\.03'
    ):
        PairingSettings.read({'slop_s': 0.03, 'dropout_after_s': 0.02})


def late(start, *, delay_ms, camera_ms=33, lidar_ms=100, until=20_000, silent=(0, 0)):
    """Arrivals of a camera and a LiDAR with exact stamps; what the LiDAR measured comes later."""
    camera = [(t, 'camera', t) for t in range(1000, until, camera_ms)]
    lidar = [(t + delay_ms, 'lidar', t) for t in range(start, until, lidar_ms)]
    came = [arrival for arrival in lidar if not silent[0] <= arrival[2] < silent[1]]
    return [(stream, stamp) for _, stream, stamp in sorted(camera + came)]


@pytest.mark.parametrize('delay_ms', [0, 30, 50, 100, 400])
@pytest.mark.parametrize('gap', [{'start': 1000, 'silent': (4000, 6000)}, {'start': 3000}])
def test_fusion_returns_however_late_the_scans_of_a_sensor_come(gap, delay_ms):
    pairing = pairer(allow_single=True, slop_s=0.02)
    pairs = feed(pairing, *late(delay_ms=delay_ms, **gap))
    # Two scans may be too old for images that passed alone before a scan was expected.
    again = [pair.mode for pair in pairs if pair.stamp_ns > 7000 * MS]
    assert set(again) == {'fusion'}


def test_fusion_returns_after_both_clocks_were_set_forward():
    pairing = pairer(allow_single=True, slop_s=0.02)
    arrivals = late(1000, delay_ms=100, until=10_000)
    ahead = [(stream, t + (10_000 if i > 100 else 0)) for i, (stream, t) in enumerate(arrivals)]
    assert [pair.mode for pair in feed(pairing, *ahead)][-20:] == ['fusion'] * 20


@pytest.mark.parametrize('pause_ms', [300, 900, 5000])
@pytest.mark.parametrize('first', ['camera', 'lidar'])
def test_after_a_pause_of_both_sensors_nothing_passes_alone(pause_ms, first):
    pairing = pairer(allow_single=True, dropout_after_s=0.25)
    second = 'lidar' if first == 'camera' else 'camera'
    times = [t + pause for pause in (0, 900 + pause_ms) for t in range(1000, 2000, 100)]
    pairs = feed(pairing, *((stream, t) for t in times for stream in (first, second)))
    assert both(pairs) == [(t, t) for t in times]


@pytest.mark.parametrize('period_ms', [600, 1000, 3000])
def test_sensors_slower_than_the_time_to_a_dropout_form_pairs(period_ms):
    pairing = pairer(allow_single=True, slop_s=0.02)
    arrivals = late(1000, delay_ms=20, camera_ms=period_ms, lidar_ms=period_ms, until=60_000)
    assert {pair.mode for pair in feed(pairing, *arrivals)[5:]} == {'fusion'}


def test_a_slow_sensor_is_gone_after_two_of_its_periods():
    pairing = pairer(allow_single=True)
    fed = late(1000, delay_ms=20, lidar_ms=1000, until=20_000, silent=(10_000, 20_000))
    passed_at = [at for stream, at in fed if alone(feed(pairing, (stream, at))) and at > 8000]
    assert 11_000 < passed_at[0] <= 11_033


def alone(pairs):
    return any(pair.mode != 'fusion' for pair in pairs)
