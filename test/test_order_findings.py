"""What is said of stamps that come out of order or jump back."""

import random

import pytest
from small_facts import COMPRESSED, DRIVER, IMAGE, arrivals, node, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import Publisher
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import PairingSettings


def twofold(behind_s):
    """Two that publish on one topic in turn, one of them so far behind."""
    ours, late = arrivals(), arrivals(delay_s=0.05, shift_s=behind_s)
    return sorted([*ours, *late], key=lambda arrival: arrival.arrived_ns)


def test_two_publishers_of_different_clocks_are_named():
    publishers = [DRIVER, Publisher('/replay', IMAGE), Publisher('/other', COMPRESSED)]
    facts = {'arrivals': twofold(2.0), 'dropped': {'clock_jump': 19}, 'received': 40}
    found = only(node(stream('camera', publishers, **facts), pairs=0))
    assert found.level == 'ERROR'
    assert 'jump back again and again, 20 times among the last 40' in found.symptom
    assert 'by up to 2.000 s' in found.symptom
    assert found.cause == '/driver and /replay publish there'
    assert 'two sources' in only(node(stream('camera', **facts))).cause


def swapped(came):
    """Let each two messages arrive together, the later one first."""
    pairs = zip(came[::2], came[1::2], strict=True)
    return [Arrival(a.stamp_ns, late.arrived_ns) for first, late in pairs for a in (late, first)]


@pytest.mark.parametrize('camera_s', [0.0, 0.03])
def test_messages_out_of_order_are_named_and_no_offset_is_advised_for_them(camera_s):
    camera = stream('camera', arrivals=swapped(arrivals(0.05, shift_s=camera_s, count=40)))
    lidar = stream('lidar', arrivals=swapped(arrivals()))
    found = diagnose(node(camera, lidar, pairs=3))
    assert [each.level for each in found] == ['ERROR', 'ERROR']
    assert '20 of the last 40 messages on /image come after one with a later' in found[0].symptom
    assert 'up to 0.100 s later' in found[1].symptom
    assert all('in the order of its stamps' in each.remedy for each in found)


def test_an_offset_that_the_order_cannot_explain_is_measured_all_the_same():
    camera = stream('camera', arrivals=swapped(arrivals(shift_s=0.34)))
    *_, found = diagnose(node(camera, pairs=0))
    assert 'pairing.camera_offset_s to 0.340' in found.remedy


def test_two_publishers_with_one_a_little_behind_are_named_although_pairs_come_of_it():
    publishers = [DRIVER, Publisher('/second', IMAGE)]
    facts = {'arrivals': twofold(0.08), 'received': 40}
    found = only(node(stream('camera', publishers, **facts)))
    assert (found.level, found.cause) == ('WARN', '/driver and /second publish there')
    assert 'end the other' in found.remedy
    assert diagnose(node(stream('camera', **facts))) == []  # A lone driver's do no harm as yet.


def delayed(least_s, most_s):
    """Let messages of 20 Hz be on their way for some time, none as long as the next."""
    chance = random.Random(0)
    sent = arrivals(0.05, count=64, delay_s=0.0)
    came = [
        Arrival(each.stamp_ns, each.arrived_ns + round(1e9 * chance.uniform(least_s, most_s)))
        for each in sent
    ]
    return {'arrivals': sorted(came, key=lambda each: each.arrived_ns), 'received': 64}


@pytest.mark.parametrize('name', ['camera', 'lidar'])
def test_lateness_that_the_order_explains_is_not_told_beside_it(name):
    other = 'lidar' if name == 'camera' else 'camera'
    facts = {other: stream(other, arrivals=arrivals(0.05, count=64), received=64), 'pairs': 5}
    mixed = stream(name, **delayed(0.0, 0.8))
    assert 'come after one with a later stamp' in only(node(**facts, **{name: mixed})).symptom


def test_a_queue_that_is_too_short_for_what_the_order_does_not_explain_is_told_of():
    few = {'pairs': 5, 'pairing': PairingSettings(queue_size=5)}
    late = stream('camera', **delayed(0.3, 0.4))
    lidar = stream('lidar', arrivals=arrivals(0.05, count=64), received=64)
    found = only(node(late, lidar, **few))
    assert 'and 8 have to' in found.cause and 'pairing.queue_size to 10' in found.remedy
    # Twenty may wait of what is set by default: then the order alone is left.
    assert 'come after one with a later stamp' in only(node(late, lidar, pairs=5)).symptom


@pytest.mark.parametrize('name', ['camera', 'lidar'])
def test_an_order_that_lateness_explains_is_not_told_beside_it(name):
    other = 'lidar' if name == 'camera' else 'camera'
    facts = {other: stream(other, arrivals=arrivals(0.05, count=64), received=64), 'pairs': 5}
    late = stream(name, **delayed(0.9, 1.2))
    found = only(node(**facts, **{name: late}))
    assert 'arrive 1.0' in found.cause and 'pairing.dropout_after_s' in found.remedy


def test_of_two_publishers_none_is_told_how_late_it_comes():
    publishers = [DRIVER, Publisher('/second', IMAGE)]
    mixed = stream('camera', publishers, **delayed(0.9, 1.2))
    lidar = stream('lidar', arrivals=arrivals(0.05, count=64), received=64)
    for pairs in (5, 60):
        assert only(node(mixed, lidar, pairs=pairs)).cause == '/driver and /second publish there'


def in_turn(**facts):
    """Describe two drivers whose stamps interleave in order."""
    publishers = [DRIVER, Publisher('/second', IMAGE)]
    return stream('camera', publishers, arrivals=arrivals(0.05, count=40), received=40, **facts)


def test_two_that_send_by_turns_are_named_although_their_stamps_are_in_order():
    found = only(node(in_turn(turns=32)))
    assert (found.level, found.cause) == ('WARN', '/driver and /second publish there')
    assert 'Several send on /image by turns' in found.symptom and 'end the other' in found.remedy


def test_one_that_stands_by_and_takes_over_now_and_then_is_no_fault():
    assert diagnose(node(in_turn())) == diagnose(node(in_turn(turns=2))) == []
    # One driver with two publishers knows what it does.
    assert diagnose(node(stream('camera', [DRIVER, DRIVER], turns=32))) == []


def test_who_sends_everything_twice_is_named():
    found = only(node(in_turn(turns=40, dropped={'duplicate': 20})))
    assert found.cause == '/driver and /second publish there' and 'repeat a stamp' in found.symptom


def test_of_stamps_out_of_order_turns_are_no_second_finding():
    publishers = [DRIVER, Publisher('/second', IMAGE)]
    for behind_s in (0.08, 2.0):
        facts = {'arrivals': twofold(behind_s), 'received': 40, 'turns': 32}
        assert 'by turns' not in only(node(stream('camera', publishers, **facts))).symptom


@pytest.mark.parametrize(
    ('passes', 'period_s', 'count'), [(3, 0.1, 20), (3, 0.3, 5), (5, 0.1, 20)]
)
def test_a_recording_that_begins_anew_is_no_fault(passes, period_s, count):
    came = [
        arrival
        for by_s in range(0, 2 * passes, 2)
        for arrival in arrivals(period_s, begin_s=100 + by_s, shift_s=by_s, count=count)
    ]
    looped = {'arrivals': came, 'received': len(came)}
    facts = node(stream('camera', **looped), stream('lidar', **looped), pairs=len(came))
    assert diagnose(facts) == []


def test_three_jumps_back_are_no_recording_that_begins_anew():
    came = [a for by_s in range(0, 8, 2) for a in arrivals(0.3, 100 + by_s, shift_s=by_s, count=5)]
    found, *_ = diagnose(node(stream('camera', arrivals=came, received=20), pairs=20))
    assert 'again and again, 3 times among the last 20' in found.symptom
