"""Find why camera and LiDAR seldom or never form a pair, and which setting would let them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from fusion_perception.sensing.findings.facts import Facts, InputFacts, several
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.findings.losses import loses_large, repeats
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.offsets import (
    Apart,
    age_s,
    apart,
    fit,
    jumps_back,
    oldest_s,
    period_s,
    rate_hz,
    together,
)
from fusion_perception.sensing.pairing import (
    MOST_OFFSET_S,
    MOST_WAITING,
    PARTNER,
    PairingSettings,
    patience,
)

# With fewer jumps a clock was set back, or a recording began anew; fewer out of order do no harm.
_FEW_JUMPS = 3
_RARE_JUMPS = 0.1
# A sensor that seems to lag the other by more than this more likely has a wrong clock.
_LONG_S = 1.0
# Advise a fifth more than was measured.
_ROOM = 1.2

_MESSAGES: dict[Stream, str] = {'camera': 'images', 'lidar': 'scans'}


def of_pairing(facts: Facts) -> Iterator[Finding]:
    """Yield what keeps the two streams apart, as far as stamps and arrivals tell."""
    jumping = [finding for stream in facts.inputs for finding in _of_jumps(stream, facts)]
    yield from jumping
    yield from (finding for stream in facts.inputs for finding in _of_turns(stream))
    by_stream = {stream.stream: stream for stream in facts.inputs}
    if jumping or len(by_stream) < len(_MESSAGES) or any(s.silent for s in facts.inputs):
        return
    # No offset can be measured while the time stands still or messages get lost.
    if facts.time_is_in_doubt or any(map(loses_large, facts.inputs)):
        return
    back_s = [_steps_back(stream, facts) for stream in facts.inputs]
    orders = {
        stream.stream: list(_of_order(stream, steps_s, facts))
        for stream, steps_s in zip(facts.inputs, back_s, strict=True)
    }
    camera, lidar = together(by_stream['camera'].usable, by_stream['lidar'].usable)
    measured = apart(camera, lidar)
    settings = facts.pairing
    known_s = settings.camera_to_lidar_s
    slop_s = 0.0 if settings.policy == 'exact' else settings.slop_s
    if measured is not None and (
        not facts.pairs_are_few or fit(camera, lidar, round(1e9 * known_s), round(1e9 * slop_s))
    ):
        camera_late_s = (age_s(camera) or 0.0) - (age_s(lidar) or 0.0) - known_s
        yield from _of_order_or_lateness(facts, by_stream, orders, camera_late_s, measured)
        return
    yield from chain.from_iterable(orders.values())
    if measured is None:
        return
    left_s = measured.median_s - known_s
    # Where order is lost so are messages, and what is left seems to lie apart by as much.
    if any(abs(left_s) <= by_s for steps_s in back_s for by_s in steps_s):
        return
    if max(abs(measured.least_s - known_s), abs(measured.most_s - known_s)) <= slop_s:
        return
    yield Finding(
        'ERROR',
        _few(facts),
        f'{_in_words(measured, known_s)}, and '
        + (
            'the policy is exact'
            if settings.policy == 'exact'
            else f'pairing.slop_s allows {slop_s:.3f} s'
        ),
        _pairing_remedy(measured, left_s, slop_s, settings),
    )


def _few(facts: Facts) -> str:
    if not facts.pairs:
        return 'Camera and LiDAR never form a pair'
    heard = {stream.stream: stream.received for stream in facts.inputs}
    return f'Of {heard["camera"]} images and {heard["lidar"]} scans only {facts.pairs} form a pair'


def _of_order_or_lateness(
    facts: Facts,
    by_stream: Mapping[Stream, InputFacts],
    orders: Mapping[Stream, Sequence[Finding]],
    camera_late_s: float,
    measured: Apart,
) -> Iterator[Finding]:
    """Yield which messages come out of order (`orders`, by stream), and which too late.

    Of one stream that is a single fault: the finding that explains the other is told alone.
    """
    late: Stream = 'camera' if camera_late_s > 0 else 'lidar'
    mixed_s = _most_late_by_order(by_stream[late], facts) if orders[late] else 0.0
    lateness = list(_of_lateness(facts, by_stream, camera_late_s, measured, mixed_s))
    for stream, findings in orders.items():
        # Of messages that come late, those that take longest are overtaken.
        if not (lateness and stream == late):
            yield from findings
    yield from lateness


def _most_late_by_order(stream: InputFacts, facts: Facts) -> float:
    """Return how late messages may seem because of their order, seconds.

    Of what two publish nothing can be said that is true of one.
    """
    return math.inf if several(stream.sources) else max(_steps_back(stream, facts))


def _of_jumps(stream: InputFacts, facts: Facts) -> Iterator[Finding]:
    """Yield that stamps jump back again and again: the pairing begins anew with each jump."""
    jumps_s = jumps_back(stream.arrivals, facts.pairing.jump_back_s)
    if _is_rare(jumps_s, stream):
        return
    yield Finding(
        'ERROR',
        f'The stamps on {stream.topics} jump back again and again, {len(jumps_s)} times among '
        f'the last {len(stream.arrivals)} messages, by up to {max(jumps_s):.3f} s',
        several(stream.sources)
        or 'two sources publish there, or its clock is set back all the time',
        _let_one_publish(stream),
    )


def _of_turns(stream: InputFacts) -> Iterator[Finding]:
    """Yield that several send by turns, unless their stamps show it and that is told."""
    steps_s = jumps_back(stream.arrivals, 0.0)
    if stream.by_turns and _is_rare(steps_s, stream) and not repeats(stream):
        yield Finding(
            'WARN',
            f'Several send on {stream.topics} by turns, in the order of their stamps',
            stream.by_turns,
            _let_one_publish(stream),
        )


def _of_order(stream: InputFacts, steps_s: Sequence[float], facts: Facts) -> Iterator[Finding]:
    """Yield that messages come out of order: the partner of a late one may have been let go."""
    both = several(stream.sources)
    if not steps_s or not (both or facts.pairs_are_few):
        return
    yield Finding(
        'ERROR' if facts.pairs_are_few else 'WARN',
        f'{len(steps_s)} of the last {len(stream.arrivals)} messages on {stream.topics} come '
        f'after one with a later stamp, which is up to {max(steps_s):.3f} s later',
        both or 'the driver or the way from it mixes their order, or two sources publish there',
        _let_one_publish(stream)
        if both
        else 'Let the driver send in the order of its stamps; look at how evenly it does '
        f'(`ros2 topic delay {stream.sources[0].topic}`).',
    )


def _steps_back(stream: InputFacts, facts: Facts) -> list[float]:
    """Return by how many seconds stamps step back that do not jump, [] where that is rare."""
    least_s = facts.pairing.jump_back_s
    steps_s = [by_s for by_s in jumps_back(stream.usable, 0.0) if by_s <= least_s]
    return [] if _is_rare(steps_s, stream) else steps_s


def _is_rare(jumps_s: Sequence[float], stream: InputFacts) -> bool:
    return len(jumps_s) < max(_FEW_JUMPS, _RARE_JUMPS * len(stream.arrivals))


def _let_one_publish(stream: InputFacts) -> str:
    return (
        'Let one alone publish there: end the other, or give it a topic of its own. '
        f'`ros2 topic info -v {stream.sources[0].topic}` names them.'
    )


def _of_lateness(
    facts: Facts,
    by_stream: Mapping[Stream, InputFacts],
    camera_late_s: float,
    measured: Apart,
    mixed_s: float,
) -> Iterator[Finding]:
    """Yield that one sensor's messages come too late for those of the other, which wait.

    `camera_late_s` is how much later images arrive than scans of their time, or earlier (< 0), and
    `mixed_s` what their order explains of that, where that is told.
    """
    settings = facts.pairing
    late: Stream = 'camera' if camera_late_s > 0 else 'lidar'
    late_s, early = abs(camera_late_s), PARTNER[late]
    those, these = _MESSAGES[late], _MESSAGES[early]
    waiting = _waiting(by_stream[early], late_s)
    causes, needed = [], []
    if waiting > settings.queue_size:
        causes.append(
            f'pairing.queue_size lets {settings.queue_size} {these} wait for a partner, and '
            f'{waiting} have to'
        )
        needed.append(f'pairing.queue_size to {math.ceil(_ROOM * waiting)}')
    held_s = patience(period_s(by_stream[late].usable), settings.dropout_after_s)
    shift_ns = round(1e9 * settings.camera_to_lidar_s)
    last_s = oldest_s(
        by_stream[late].usable,
        by_stream[early].usable,
        shift_ns if late == 'lidar' else -shift_ns,
    )
    # So late, it is doubted where both wait for each other, too.
    if late_s >= held_s or (settings.allow_single and last_s > held_s):
        causes.append(
            f'pairing.dropout_after_s takes a sensor for gone after {held_s:.3g} s, and the last '
            f'of the {those} gets {max(late_s, last_s):.3f} s old'
        )
        enough_s = math.ceil(100 * _ROOM * max(late_s, last_s)) / 100
        needed.append(f'pairing.dropout_after_s to {enough_s:.2f}')
    by_order = (
        max(late_s, last_s) - mixed_s <= held_s
        and _waiting(by_stream[early], late_s - mixed_s) <= settings.queue_size
    )
    if not causes or (mixed_s and by_order):
        return
    few = facts.pairs_are_few
    # No way is so short that what was measured arrives before. Once that clock is right, the late
    # ones may be late enough all the same.
    early_age_s, late_age_s = (age_s(by_stream[s].usable) or 0.0 for s in (early, late))
    left_s = late_s + early_age_s
    is_clock = early_age_s <= -facts.ahead_s < late_age_s and left_s < held_s / 2
    can_wait = _ROOM * waiting <= MOST_WAITING and not is_clock
    # Where it is no way and no clock, but the gaps between its own messages, no offset helps.
    beside_s = abs(measured.median_s - settings.camera_to_lidar_s)
    by_itself = beside_s <= settings.slop_s and last_s - beside_s > held_s
    if by_itself and settings.allow_single and can_wait:
        symptom = f'The {those} come at uneven intervals'
        remedy = f'Set {" and ".join(needed)}, or let their driver send at a steady rate.'
    else:
        symptom = f'The {those} come late for the {these} of their time'
        causes.insert(
            0, f'the {those} arrive {late_s:.3f} s later than the {these} with the same stamps'
        )
        remedy = _lateness_remedy(
            f'set {" and ".join(needed)}' if can_wait else '',
            measured.median_s + settings.lidar_offset_s,
            late_s,
        )
    yield Finding(
        'ERROR' if few else 'WARN', _few(facts) if few else symptom, ', and '.join(causes), remedy
    )


def _waiting(stream: InputFacts, late_s: float) -> int:
    """Return how many messages wait for what comes so late: its partner, and those since."""
    return 1 + math.floor(rate_hz(stream.usable) * max(0.0, late_s))


def _lateness_remedy(patience: str, offset_s: float, late_s: float) -> str:
    # That offset is right if both sensors take as long from measurement to arrival.
    clocks = f"set pairing.camera_offset_s to {offset_s:.3f}, or synchronise the sensors' clocks"
    if not patience:
        return f'{_sentence(clocks)}.'
    if late_s > _LONG_S:
        return f'{_sentence(clocks)}. Where it is no clock but a long way, {patience}.'
    return f'{_sentence(patience)}. Where it is no long way but the clocks, {clocks}.'


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _in_words(measured: Apart, known_s: float) -> str:
    side = 'behind' if measured.median_s > 0 else 'ahead of'
    text = f"the camera's stamps lie {abs(measured.median_s):.3f} s {side} the LiDAR's"
    if measured.spread_s > 0.001:
        text += f', give or take {measured.spread_s:.3f} s'
    return text + (f' (offsets of {known_s:.3f} s are set)' if known_s else '')


def _pairing_remedy(
    measured: Apart, left_s: float, slop_s: float, settings: PairingSettings
) -> str:
    # Rounded up to a millisecond, with some room.
    slop_needed = 0.001 * int(1.1e3 * (abs(left_s) + measured.spread_s) + 1)
    wider = f'pairing.slop_s to {slop_needed:.3f}'
    if slop_needed >= settings.dropout_after_s:
        # First, as neither is ever taken without it.
        wider = f'pairing.dropout_after_s to {_ROOM * slop_needed:.2f} and {wider}'
    if settings.policy == 'exact':
        wider = f"pairing.policy to 'approximate' and {wider}"
    wider = f'set {wider}'
    if measured.spread_s > max(slop_s, 0.001):
        return f"{_sentence(wider)}, or let one sensor's trigger start the other."
    offset_s = measured.median_s + settings.lidar_offset_s
    if abs(offset_s) > MOST_OFFSET_S:
        return "Synchronise the sensors' clocks; no offset that can be set is as large."
    shifted = f'Set pairing.camera_offset_s to {offset_s:.3f}'
    if abs(left_s) > 0.2:
        return f"{shifted}, or synchronise the sensors' clocks."
    return f'{shifted}, or {wider} when the scene moves slowly.'
