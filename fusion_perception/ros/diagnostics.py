"""Say how the node is, on /diagnostics: counters, rates, ages, mode, latency, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from pydantic import Field
from std_msgs.msg import Header

from fusion_perception.ros.pace import LATEST_S
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.observation import Mode
from fusion_perception.sensing.pairing import has_stopped
from fusion_perception.sensing.settings import Settings

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


class Thresholds(Settings):
    """Where the verdict turns."""

    warn_latency_ms: float = Field(
        100.0, gt=0, description='WARN when the p95 latency from stamp to publication is above'
    )
    warn_lost: float = Field(
        0.5, ge=0, le=1, description='WARN when more than this share of the messages was lost'
    )
    error_silence_s: float = Field(
        2.0, gt=0, description='ERROR when nothing came out for this long, seconds'
    )


@dataclass(frozen=True)
class StreamState:
    """One input: its topic, how many publish on it, and what the ledger says of it.

    `age_s` is the time since its last message, `period_s` the usual one between the last ones,
    `stamp_age_s` how old the stamps behind the last outputs were on arrival, in the p95, `turns`
    how many of the last messages followed one of another publisher.
    """

    topic: str
    publishers: int
    age_s: float | None
    rate_hz: float
    period_s: float = 0.0
    stamp_age_s: float = 0.0
    turns: int = 0
    received: int = 0
    used: int = 0
    pending: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeState:
    """What is known about the node at one moment.

    `ended` says that this is its last word, `fault` why it could not be configured, `listening_s`
    for how long it has listened, `output_period_s` the usual time between the last outputs,
    `camera_to_lidar_s` what moves a camera stamp onto the LiDAR's clock, `able` what its model can
    do, `last_fault` what last cost a message or an output.
    """

    lifecycle: str
    ended: bool = False
    fault: str = ''
    listening_s: float = 0.0
    enabled: bool = True
    mode: str = 'none'
    modes: Mapping[str, int] = field(default_factory=dict)
    output_age_s: float | None = None
    output_period_s: float = 0.0
    dropout_after_s: float = 0.5
    camera_to_lidar_s: float = 0.0
    target_frame: str = ''
    streams: Mapping[str, StreamState] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    pairing_ms: Mapping[str, float] = field(default_factory=dict)
    inference_ms: Mapping[str, float] = field(default_factory=dict)
    publishing_ms: Mapping[str, float] = field(default_factory=dict)
    apart_ms: Mapping[str, float] = field(default_factory=dict)
    lost_share: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)
    last_fault: str = ''
    last_fault_age_s: float = 0.0
    findings: Sequence[Finding] = ()
    able: Sequence[Mode] = ()


def verdict(state: NodeState, thresholds: Thresholds) -> tuple[bytes, str]:
    """Return the level and one sentence that says why."""
    if state.ended:
        return OK, 'Ended.'
    if state.lifecycle == 'finalized':
        return WARN, 'Finalized: it was shut down for good. Start the node again.'
    if state.lifecycle != 'active':
        if state.fault:
            return ERROR, f'Not configured: {state.fault}'
        return OK, f'{state.lifecycle.capitalize()}: waiting for the next lifecycle transition.'
    if not state.enabled:
        return OK, 'Disabled through ~/enable.'
    if state.output_age_s is None or has_stopped(
        state.output_age_s, state.output_period_s, thresholds.error_silence_s
    ):
        return _without_output(state, thresholds)
    faults = [*_of_output(state, thresholds), *map(str, state.findings)]
    return (WARN, ' '.join(faults)) if faults else (OK, f'Predicting, {state.mode}.')


def _without_output(state: NodeState, thresholds: Thresholds) -> tuple[bytes, str]:
    if state.listening_s < thresholds.error_silence_s:
        return OK, 'Just begun to listen; waiting for the first pair.'
    heard = any(stream.received for stream in state.streams.values())
    age_s = state.output_age_s
    since = 'No output yet' if age_s is None else f'No output for {age_s:.1f} s'
    return (ERROR if heard else STALE), f'{since}. {why_no_output(state)}'


def _of_output(state: NodeState, thresholds: Thresholds) -> Iterator[str]:
    """Yield what is wrong with an output that comes, in sentences."""
    if state.mode == 'none':
        yield f'No output for {state.output_age_s:.1f} s.'
    elif state.mode != 'fusion' and 'fusion' in state.able:
        yield f'{_without_partner(state)}; going on as {state.mode}.'
    p95 = state.latency_ms.get('p95', 0.0)
    # At first no rate is known that could end the wait for a closer partner sooner.
    begins = state.listening_s < LATEST_S and _is_pairing(state, p95)
    if p95 > thresholds.warn_latency_ms and not begins:
        above = f'p95 latency {p95:.0f} ms, above {thresholds.warn_latency_ms:.0f} ms'
        yield f'{above}: {_what_takes_long(state, p95)}.'
    if state.lost_share > thresholds.warn_lost:
        yield f'{state.lost_share:.0%} of the messages of the last second were lost.'


def _is_pairing(state: NodeState, latency_ms: float) -> bool:
    """Say whether the pairing takes most of the latency."""
    return state.pairing_ms.get('p95', 0.0) >= latency_ms / 2


def _is_by_offsets(state: NodeState, latency_ms: float) -> bool:
    """Say whether outputs of the camera alone look old by the offsets that move its stamps."""
    camera, moved_s = state.streams.get('camera'), state.camera_to_lidar_s
    age_s = (0.0 if camera is None else camera.stamp_age_s) - moved_s
    spent = (state.pairing_ms, state.inference_ms, state.publishing_ms)
    within_ms = sum(part.get('p95', 0.0) for part in spent)
    alone = state.mode != 'fusion' and state.modes.get('camera_only', 0) > 0
    return alone and moved_s < 0 and 1000 * age_s >= latency_ms / 2 > within_ms


def _what_takes_long(state: NodeState, latency_ms: float) -> str:
    """Say where most of the latency comes from, and where to look."""
    late = {stream.topic: stream.stamp_age_s for stream in state.streams.values()}
    oldest = max(late, key=lambda topic: late[topic], default='')
    if oldest and 1000 * late[oldest] >= latency_ms / 2:
        return (
            f'the stamps on {oldest} are {late[oldest]:.3f} s old when they arrive. Look at the '
            'clock of that sensor (chrony, PTP), and at what lies between it and the node'
        )
    if _is_by_offsets(state, latency_ms):
        moved_s = state.camera_to_lidar_s
        return (
            'of the camera alone the output has its stamps, which pairing.camera_offset_s and '
            f'pairing.lidar_offset_s move by {moved_s:.3f} s. Correct these where they are wrong; '
            "where they are right, the LiDAR's clock is behind (chrony, PTP)"
        )
    if _is_pairing(state, latency_ms):
        return (
            'most of it is the wait for a partner. A pair waits while a closer one might come, '
            'which is shorter with pairing.wait at likely and stamps at a steady rate; one sensor '
            'alone until the other counts as gone (pairing.dropout_after_s)'
        )
    if state.target_frame and state.publishing_ms.get('p95', 0.0) >= latency_ms / 2:
        return (
            f"most of it is the wait for the transform to target_frame '{state.target_frame}'. "
            'Publish it more often or with less delay'
        )
    return 'most of it passes in the node (`fusion profile` says where, and what the load is)'


def _without_partner(state: NodeState) -> str:
    """Say what keeps the node from fusing, although it predicts from one sensor."""
    name, stream = ('LiDAR', 'lidar') if state.mode == 'camera_only' else ('camera', 'camera')
    lacking = state.streams.get(stream)
    if (
        lacking is None
        or lacking.age_s is None
        or has_stopped(lacking.age_s, lacking.period_s, state.dropout_after_s)
    ):
        return f'The {name} is silent'
    return f'Not all that the {name} sends is used'


def why_no_output(state: NodeState) -> str:
    """Say, as far as the node can see, what keeps it from predicting."""
    faults = [str(finding) for finding in state.findings]
    silent_s = math.inf if state.output_age_s is None else state.output_age_s
    if not faults and state.last_fault_age_s <= silent_s:  # One from before is no reason.
        faults.append(state.last_fault)
    which = 'first' if state.output_age_s is None else 'next'
    return ' '.join(faults) or f'Waiting for the {which} pair.'


def diagnostics_message(
    header: Header, name: str, state: NodeState, thresholds: Thresholds
) -> DiagnosticArray:
    """Return the state as one DiagnosticStatus; counters stand under `<stream>.<counter>`."""
    level, sentence = verdict(state, thresholds)
    values = [KeyValue(key=key, value=value) for key, value in _values(state)]
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=sentence,
        # The sensors of this node; one that changed would pass for another piece of hardware.
        hardware_id=name,
        values=values,
    )
    return DiagnosticArray(header=header, status=[status])


def streams_of(values: Iterable[KeyValue]) -> dict[str, dict[str, Any]]:
    """Return the counters of a status as {stream: {received, used, pending, dropped: {..}}}."""
    streams: dict[str, dict[str, Any]] = {}
    for pair in values:
        parts = pair.key.split('.')
        if parts[0] not in ('camera', 'lidar'):
            continue
        stream = streams.setdefault(
            parts[0], {'received': 0, 'used': 0, 'pending': 0, 'dropped': {}}
        )
        if parts[1] in ('received', 'used', 'pending'):
            stream[parts[1]] = int(pair.value)
        elif parts[1] == 'dropped':
            stream['dropped'][parts[2]] = int(pair.value)
    return streams


def group(values: Sequence[KeyValue], prefix: str) -> dict[str, float]:
    """Return the numbers under a prefix: 'latency_ms' gives {p50, p95, p99, max}."""
    return {
        pair.key.removeprefix(f'{prefix}.'): float(pair.value)
        for pair in values
        if pair.key.startswith(f'{prefix}.')
    }


def _values(state: NodeState) -> Iterable[tuple[str, str]]:
    yield 'lifecycle', state.lifecycle
    if state.fault:
        yield 'fault', state.fault
    yield 'enabled', str(state.enabled).lower()
    yield 'mode', state.mode
    yield 'pairs', str(sum(state.modes.values()))
    yield from ((f'modes.{mode}', str(count)) for mode, count in state.modes.items())
    for name, stream in state.streams.items():
        yield f'{name}.topic', stream.topic
        yield f'{name}.publishers', str(stream.publishers)
        yield f'{name}.turns', str(stream.turns)
        yield f'{name}.rate_hz', f'{stream.rate_hz:.2f}'
        yield f'{name}.age_s', _number(stream.age_s)
        yield f'{name}.received', str(stream.received)
        yield f'{name}.used', str(stream.used)
        yield f'{name}.pending', str(stream.pending)
        yield from ((f'{name}.dropped.{c}', str(n)) for c, n in stream.dropped.items())
    yield 'output.age_s', _number(state.output_age_s)
    for name in ('latency_ms', 'pairing_ms', 'inference_ms', 'publishing_ms', 'apart_ms'):
        yield from ((f'{name}.{key}', f'{ms:.3f}') for key, ms in getattr(state, name).items())
    if state.target_frame:
        yield 'target_frame', state.target_frame
    yield from state.about.items()
    yield 'able', ' '.join(state.able)
    if state.last_fault:
        yield 'last_fault', state.last_fault
        yield 'last_fault.age_s', _number(state.last_fault_age_s)
    for number, finding in enumerate(state.findings, start=1):
        yield f'finding.{number}', str(finding)


def _number(value: float | None) -> str:
    return f'{math.nan if value is None else value:.3f}'
