"""Find why camera and LiDAR never form a pair, and which setting would let them."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.facts import Facts
from fusion_perception.sensing.finding import Finding
from fusion_perception.sensing.offsets import Apart, apart, fit
from fusion_perception.sensing.pairing import MOST_OFFSET_S, PairingSettings


def of_pairing(facts: Facts) -> Iterator[Finding]:
    """Yield what keeps the two streams apart, where there were no pairs lately."""
    by_stream = {stream.stream: stream for stream in facts.inputs}
    if facts.pairs or not {'camera', 'lidar'} <= set(by_stream):
        return
    camera, lidar = by_stream['camera'].usable, by_stream['lidar'].usable
    measured = apart(camera, lidar)
    settings = facts.pairing
    known_s = settings.camera_offset_s - settings.lidar_offset_s
    slop_s = 0.0 if settings.policy == 'exact' else settings.slop_s
    if measured is None or fit(camera, lidar, round(1e9 * known_s), round(1e9 * slop_s)):
        return
    left_s = measured.median_s - known_s
    if max(abs(measured.least_s - known_s), abs(measured.most_s - known_s)) <= slop_s:
        return
    yield Finding(
        'ERROR',
        'Camera and LiDAR never form a pair',
        f'{_in_words(measured, known_s)}, and '
        + (
            'the policy is exact'
            if settings.policy == 'exact'
            else f'pairing.slop_s allows {slop_s:.3f} s'
        ),
        _pairing_remedy(measured, left_s, slop_s, settings),
    )


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
    wider = f'set pairing.slop_s to {slop_needed:.3f}'
    if settings.policy == 'exact':
        wider = f"set pairing.policy to 'approximate' and pairing.slop_s to {slop_needed:.3f}"
    if measured.spread_s > max(slop_s, 0.001):
        return f"{wider.capitalize()}, or let one sensor's trigger start the other."
    offset_s = measured.median_s + settings.lidar_offset_s
    if abs(offset_s) > MOST_OFFSET_S:
        return "Synchronise the sensors' clocks; no offset that can be set is as large."
    shifted = f'Set pairing.camera_offset_s to {offset_s:.3f}'
    if abs(left_s) > 0.2:
        return f"{shifted}, or synchronise the sensors' clocks."
    return f'{shifted}, or {wider} when the scene moves slowly.'
