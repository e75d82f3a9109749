"""Whatever arrives in whatever order, pairing keeps its promises."""

from arrivals import MS, both, feed, pairer
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings

EPOCH = 1_700_000_000_000  # ms; real stamps do not fit a float's 53 bits in nanoseconds.


def closest_first(cameras: list[int], lidars: list[int], slop: int) -> list[tuple[int, int]]:
    """Pair offline: the closest two, then the same on either side of them."""
    within = [
        (abs(camera - lidar), i, j)
        for i, camera in enumerate(cameras)
        for j, lidar in enumerate(lidars)
        if abs(camera - lidar) <= slop
    ]
    if not within:
        return []
    _, i, j = min(within)
    return [
        *closest_first(cameras[:i], lidars[:j], slop),
        (cameras[i], lidars[j]),
        *closest_first(cameras[i + 1 :], lidars[j + 1 :], slop),
    ]


stamps = st.lists(st.integers(EPOCH, EPOCH + 120), max_size=14).map(sorted)
slops = st.integers(0, 30)
turns = st.lists(st.booleans(), min_size=28, max_size=28)
# Anything a broken driver may send: disorder, jumps, repeats, no stamp at all.
mess = st.lists(
    st.tuples(
        st.sampled_from(['camera', 'lidar']),
        st.one_of(st.integers(1, 200), st.integers(0, 5000), st.just(0)),
    ),
    max_size=40,
)
any_settings = st.builds(
    PairingSettings,
    policy=st.sampled_from(['approximate', 'exact']),
    slop_s=slops.map(lambda ms: ms / 1000),
    camera_offset_s=st.sampled_from([0.0, 0.007, -0.1]),
    queue_size=st.integers(1, 5),
    wait=st.sampled_from(['likely', 'certain']),
    allow_single=st.booleans(),
    dropout_after_s=st.sampled_from([0.04, 0.5]),
)


def merge(cameras: list[int], lidars: list[int], turn: list[bool]) -> list[tuple[str, int]]:
    """Let two ordered streams arrive in any interleaving."""
    cameras, lidars, arrivals = cameras[:], lidars[:], []
    for camera_next in turn:
        if cameras and (camera_next or not lidars):
            arrivals.append(('camera', cameras.pop(0)))
        elif lidars:
            arrivals.append(('lidar', lidars.pop(0)))
    return arrivals


@settings(max_examples=300)
@given(stamps, stamps, slops, turns)
def test_streams_in_order_give_the_pairs_of_closest_first_however_they_interleave(
    cameras, lidars, slop, turn
):
    pairing = pairer(slop_s=slop / 1000, queue_size=100)
    pairs = feed(pairing, *merge(cameras, lidars, turn)) + pairing.flush()
    assert both(pairs) == closest_first(sorted(set(cameras)), sorted(set(lidars)), slop)


@settings(max_examples=200)
@given(mess, any_settings)
def test_counters_add_up_after_every_step(arrivals, chosen):
    pairing = Pairer(chosen)
    received = dict.fromkeys(('camera', 'lidar'), 0)
    used = dict.fromkeys(('camera', 'lidar'), 0)

    def check(pairs: list[Pair[int]]) -> None:
        for pair in pairs:
            used['camera'] += pair.camera is not None
            used['lidar'] += pair.lidar is not None
        for stream, counts in pairing.counters().items():
            assert counts['received'] == received[stream]
            assert counts['used'] == used[stream]
            lost = sum(counts['dropped'].values())
            assert counts['received'] == counts['used'] + counts['pending'] + lost
            assert counts['pending'] == len(pairing._lines[stream]) <= chosen.queue_size

    for stream, ms in arrivals:
        received[stream] += 1
        check(pairing.add(stream, ms * MS, ms))
    check(pairing.flush())
    assert all(counts['pending'] == 0 for counts in pairing.counters().values())


@settings(max_examples=200)
@given(mess, any_settings)
def test_each_message_is_used_once_and_every_pair_lies_within_the_slop(arrivals, chosen):
    pairing = Pairer(chosen)
    pairs = [
        pair
        for number, (stream, ms) in enumerate(arrivals)
        for pair in pairing.add(stream, ms * MS, number)
    ] + pairing.flush()
    used = [message for pair in pairs for message in (pair.camera, pair.lidar)]
    used = [message for message in used if message is not None]
    assert len(set(used)) == len(used)
    slop = 0 if chosen.policy == 'exact' else round(chosen.slop_s * 1000)
    offset = round(chosen.camera_offset_s * 1000)
    for pair in pairs:
        if pair.mode == 'fusion':
            apart = abs(arrivals[pair.camera][1] + offset - arrivals[pair.lidar][1])
            assert apart <= slop and pair.apart_ns == apart * MS


@settings(max_examples=200)
@given(mess, any_settings)
def test_pairs_leave_in_stamp_order(arrivals, chosen):
    chosen = chosen.model_copy(update={'jump_back_s': 3600.0, 'camera_offset_s': 0.0})
    pairing = Pairer(chosen)
    pairs = feed(pairing, *arrivals) + pairing.flush()
    out = [pair.stamp_ns for pair in pairs]
    assert out == sorted(out)
    for stream in ('camera', 'lidar'):
        passed = [getattr(pair, stream) for pair in pairs if getattr(pair, stream) is not None]
        assert passed == sorted(passed)


@settings(max_examples=100)
@given(stamps, stamps, turns, any_settings)
def test_two_passes_of_a_looped_bag_give_the_same_pairs(cameras, lidars, turn, chosen):
    # A real pass is longer than the tolerance for disorder; both streams begin with it.
    cameras, lidars = [EPOCH - 2000, *cameras, EPOCH + 1000], [EPOCH - 2000, *lidars, EPOCH + 1000]
    bag = merge(cameras, lidars, [*turn, True, False, True, False])
    pairing = Pairer(chosen)
    first = feed(pairing, *bag)
    again = pairing.add(*(bag[0][0], bag[0][1] * MS, -1))
    first += [pair for pair in again if -1 not in (pair.camera, pair.lidar)]
    pairing = Pairer(chosen)
    second = feed(pairing, *bag) + pairing.flush()
    assert both(first) == both(second)


@settings(max_examples=50)
@given(st.integers(5, 60), st.integers(5, 60), st.integers(0, 60), slops)
def test_with_even_periods_not_waiting_gives_the_very_same_pairs(every, other, phase, slop):
    arrivals = sorted(
        [(EPOCH + t, 'camera') for t in range(0, 600, every)]
        + [(EPOCH + t, 'lidar') for t in range(phase, 600, other)]
    )
    arrivals = [(stream, ms) for ms, stream in arrivals]
    patient, quick = (pairer(slop_s=slop / 1000, wait=wait) for wait in ('certain', 'likely'))
    assert both(feed(quick, *arrivals) + quick.flush()) == both(
        feed(patient, *arrivals) + patient.flush()
    )


@settings(max_examples=200)
@given(mess, any_settings, st.data())
def test_whatever_comes_twice_changes_no_pair(arrivals, chosen, data):
    again = data.draw(st.lists(st.booleans(), min_size=len(arrivals), max_size=len(arrivals)))
    doubled = [a for a, twice in zip(arrivals, again, strict=True) for a in [a, a][: 1 + twice]]
    once, pairing = Pairer(chosen), Pairer(chosen)
    assert feed(pairing, *doubled) + pairing.flush() == feed(once, *arrivals) + once.flush()
    for stream in ('camera', 'lidar'):
        twice, single = (p.counters()[stream]['dropped'] for p in (pairing, once))
        copies = sum(n for (s, _), n in zip(arrivals, again, strict=True) if s == stream)
        # A copy of what is too old, from before a jump back or without a stamp is so itself.
        causes = ('duplicate', 'stale', 'clock_jump', 'unstamped')
        lost = [sum(map(counts.get, causes)) for counts in (twice, single)]
        assert lost[0] == lost[1] + copies
