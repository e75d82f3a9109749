"""Read back what a fusion node says of itself on /diagnostics: it may know what others cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticStatus

from fusion_perception.sensing.findings.facts import CameraFacts, InputFacts, ScanFacts, Source
from fusion_perception.sensing.findings.losses import MOST
from fusion_perception.sensing.lens import Distortion

Values = Mapping[str, str]
# What becomes of messages after they were paired, which only the node does with them.
LOST_BY_THE_NODE = ('inference_error', 'no_transform')
# How faults begin that cost no pair after it was let go.
OF_ANOTHER_KIND = ('camera: ', 'lidar: ', 'The sensors cannot be compared', '~/')


def values_of(status: DiagnosticStatus | None) -> dict[str, str]:
    """Return the values of a status by key, nothing for none."""
    return {} if status is None else {pair.key: pair.value for pair in status.values}


def growth(key: str, before: Values, after: Values) -> int:
    """Return by how much a counter has grown; 0 of a node that began anew meanwhile."""
    return max(0, int(after.get(key, 0)) - int(before.get(key, 0)))


def as_the_node_hears(facts: InputFacts, before: Values, after: Values) -> InputFacts:
    """Believe the node where it hears what does not reach us, or knows what we cannot know.

    That is what it heard before us, who sends by turns, and what it lost of the messages that it
    paired.
    """
    grown = growth(f'{facts.stream}.received', before, after)
    if grown and not facts.received:
        facts = InputFacts(facts.stream, facts.sources, received=grown, silent_s=0.0)
    lost = {
        cause: count
        for cause in LOST_BY_THE_NODE
        if (count := growth(f'{facts.stream}.dropped.{cause}', before, after))
    }
    if lost:
        told = after.get('last_fault', '')
        fault = '' if told.startswith(OF_ANOTHER_KIND) else told
        facts = replace(facts, dropped={**facts.dropped, **lost}, lost_fault=fault)
    age_s = float(after.get(f'{facts.stream}.age_s', 'nan'))
    if facts.silent_s is None and math.isfinite(age_s):
        facts = replace(facts, silent_s=age_s)
    facts = replace(facts, turns=int(after.get(f'{facts.stream}.turns', '0')))
    return replace(facts, announced=0) if grown >= MOST * facts.announced else facts


def camera_values(camera: CameraFacts) -> dict[str, str]:
    """Return what is known of the camera by name, for `camera_facts` to be read back from."""
    bent = camera.distortion
    return {
        'camera_info.topic': camera.info.topic,
        'camera_info.size': _as_text(camera.told),
        'camera_info.fault': camera.fault,
        'camera_info.distortion': '' if bent is None else bent.seen,
        'trained_distortion': '' if bent is None else bent.trained,
        'camera_info.distortion_px': ''
        if bent is None or bent.most_px is None
        else f'{bent.most_px:.2f}',
        'camera_info.returns': str(camera.returns),
        'image_size': _as_text(camera.images),
        'image_blank': '' if camera.blank is None else str(camera.blank).lower(),
        'trained_image_size': _as_text(camera.trained),
    }


def camera_facts(values: Values, info: Source) -> CameraFacts | None:
    """Return what a node, of this version or another, knows of its camera; None for nothing.

    It may have heard a camera_info long ago, or one that its publisher does not repeat.
    """
    trained = _as_size(values.get('trained_image_size', ''))
    if trained is None:
        return None
    seen, learned = values.get('camera_info.distortion', ''), values.get('trained_distortion', '')
    moved = values.get('camera_info.distortion_px', '')
    most_px = float(moved) if moved else None
    blank = values.get('image_blank', '')
    return CameraFacts(
        info,
        trained,
        images=_as_size(values.get('image_size', '')),
        told=_as_size(values.get('camera_info.size', '')),
        fault=values.get('camera_info.fault', ''),
        distortion=Distortion(seen, learned, most_px) if seen or learned else None,
        returns=int(values.get('camera_info.returns', '0')),
        blank=blank == 'true' if blank else None,
    )


def scan_values(scan: ScanFacts | None) -> dict[str, str]:
    """Return what is known of the last scan by name, for `scan_facts` to be read back from.

    `returns` is the share of rays that met something; what begins with `points` counts those of a
    cloud.
    """
    if scan is None:
        return {}
    values = {'returns': f'{scan.returns:.4f}'}
    if scan.points is not None:
        counts = {'': scan.points, '_outside': scan.outside, '_hidden': scan.hidden}
        values |= {f'points{key}': str(count) for key, count in counts.items()}
    return values


def scan_facts(values: Values) -> ScanFacts | None:
    """Return what a node knows of its last scan, None where it does not say."""
    if 'returns' not in values:
        return None
    returns = float(values['returns'])
    if not {'points', 'points_outside', 'points_hidden'} <= values.keys():
        return ScanFacts(returns)
    points, outside, hidden = (
        int(values[key]) for key in ('points', 'points_outside', 'points_hidden')
    )
    return ScanFacts(returns, points, outside, hidden)


def _as_text(size: tuple[int, int] | None) -> str:
    return '' if size is None else '{}x{}'.format(*size)


def _as_size(text: str) -> tuple[int, int] | None:
    width, _, height = text.partition('x')
    return (int(width), int(height)) if height else None
