"""Say why nothing comes out: from what was observed to symptom, cause and remedy.

The node's diagnostics and `fusion doctor` both ask here. Nothing in this file knows ROS, a clock
or a file: whoever observes hands in the facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.agreement import of_disagreement
from fusion_perception.sensing.findings.camera import of_camera
from fusion_perception.sensing.findings.facts import (
    FAR_FROM_CLOCK_S,
    GHOST_S,
    Facts,
    InputFacts,
    Publisher,
)
from fusion_perception.sensing.findings.finding import Finding, parted
from fusion_perception.sensing.findings.losses import (
    LARGE_BYTES,
    MOST,
    loses_large,
    repeats,
    sent_by_stamps,
)
from fusion_perception.sensing.findings.nodes import of_node
from fusion_perception.sensing.findings.pairing import of_pairing
from fusion_perception.sensing.findings.scans import of_scan
from fusion_perception.sensing.findings.topics import as_another, offers
from fusion_perception.sensing.leaps import leaps_s
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.offsets import age_s
from fusion_perception.sensing.stamps import can_be_stamp

NAMES: dict[Stream, str] = {'camera': 'camera', 'lidar': 'LiDAR'}


def diagnose(facts: Facts) -> list[Finding]:
    """Return everything that is wrong, what lies nearest to the source first."""
    return [
        *of_node(facts),
        *(f for stream in facts.inputs for f in _of_input(stream, facts)),
        *_of_transforms(facts.inputs),
        *(f for stream in facts.inputs for f in _of_leaps(stream, facts.time_is_in_doubt)),
        *(finding for stream in facts.inputs for finding in _of_frame(stream)),
        *of_camera(facts),
        *of_pairing(facts),
        *_of_times(facts),
        *of_scan(facts.scan, facts.points_outside_max),
        *of_disagreement(facts.disagreement, facts.disagreement_max),
    ]


def _of_input(stream: InputFacts, facts: Facts) -> Iterator[Finding]:
    if facts.time_is_in_doubt and stream.silent and stream.fitting:
        return  # With the time everything may stand still.
    if not stream.received and stream.silent_s is None:
        yield from _of_nothing(stream)
    elif stream.silent_s is not None and stream.silent:
        silence = f'{stream.topics} has been silent for {stream.silent_s:.1f} s'
        yield from _of_silence(stream, silence)
    else:
        yield from _of_losses(stream)
        yield from _of_refusals(stream)
        yield from _of_unstamped(stream, facts.pairing.camera_to_lidar_s)
        # Sensors that a simulator drives have no other stamp while its time stands still.
        if repeats(stream) and not facts.time_is_in_doubt:
            yield _of_repeats(stream)
        yield from _of_failures(stream)


def _of_silence(facts: InputFacts, symptom: str) -> Iterator[Finding]:
    unheard = [] if facts.fitting else list(_of_unheard(facts, symptom))
    # With a profile they came before, and would again.
    if facts.fitting and facts.message_bytes >= LARGE_BYTES and not facts.has_profile:
        unheard = [Finding('ERROR', symptom, *_too_large(facts))]
    yield from unheard or [
        Finding(
            'ERROR',
            symptom,
            _why_silent(facts),
            'Look at the log of its driver, the cable and the power.',
        )
    ]


def _why_silent(facts: InputFacts) -> str:
    if not facts.fitting:
        return 'its publisher is gone'
    names = _names(facts.fitting)
    if facts.silent_s is not None and facts.silent_s < GHOST_S:
        return f'{names} sends nothing, or was killed: then ROS lists it for some 20 s more'
    return f'{names} is still there and sends nothing'


def _of_refusals(facts: InputFacts) -> Iterator[Finding]:
    causes = ('bad_encoding', 'bad_shape')
    refused = {cause: n for cause in causes if (n := facts.dropped.get(cause, 0))}
    if refused:
        yield Finding(
            'ERROR' if sum(refused.values()) >= facts.received else 'WARN',
            f'{sum(refused.values())} of {facts.received} {NAMES[facts.stream]} messages are '
            f'refused ({", ".join(refused)})',
            *parted(facts.fault, 'they cannot be read', 'Set the driver accordingly.'),
        )


def _of_unstamped(facts: InputFacts, camera_to_lidar_s: float) -> Iterator[Finding]:
    if unstamped := facts.dropped.get('unstamped', 0):
        yield Finding(
            'ERROR' if unstamped >= facts.received else 'WARN',
            f'{unstamped} of {facts.received} {NAMES[facts.stream]} messages on {facts.topics} '
            'cannot be paired',
            *_why_unstamped(facts, camera_to_lidar_s),
        )


def _of_repeats(facts: InputFacts) -> Finding:
    repeated = facts.dropped['duplicate']
    return Finding(
        'ERROR' if repeated >= MOST * facts.received else 'WARN',
        f'{repeated} of {facts.received} {NAMES[facts.stream]} messages on {facts.topics} '
        'repeat a stamp that came before',
        facts.by_turns or 'the driver froze, or everything is sent twice',
        'Look at its log, and at `ros2 topic info -v` for a second publisher.',
    )


def _of_failures(facts: InputFacts) -> Iterator[Finding]:
    if failed := facts.dropped.get('inference_error', 0):
        name = NAMES[facts.stream]
        yield Finding(
            'ERROR',
            f'{counted(failed, f"{name} message was", f"{name} messages were")} lost in inference',
            *parted(facts.lost_fault, 'the model failed', 'See `fusion doctor --bundle`.'),
        )


def _why_unstamped(facts: InputFacts, camera_to_lidar_s: float) -> tuple[str, str]:
    moved_ns = round(1e9 * camera_to_lidar_s) if facts.stream == 'camera' else 0
    stamps = [arrival.stamp_ns for arrival in facts.arrivals if arrival.stamp_ns > 0]
    if all(can_be_stamp(stamp + moved_ns) for stamp in stamps):
        return (
            'their stamp is zero or negative',
            'Let the driver set header.stamp to the time of measurement.',
        )
    return (
        f'the offsets that are set move their stamps by {camera_to_lidar_s:.3f} s, before the '
        'first or beyond the last time that there is (2038)',
        'Correct pairing.camera_offset_s and pairing.lidar_offset_s; where a simulated time has '
        'only begun, wait until it is later.',
    )


def _of_transforms(inputs: Sequence[InputFacts]) -> Iterator[Finding]:
    """Yield that predictions were lost for want of a transform, once for both streams."""
    for facts in inputs:
        unplaced = facts.dropped.get('no_transform', 0)
        if unplaced and unplaced == max(each.dropped.get('no_transform', 0) for each in inputs):
            yield Finding(
                'ERROR',
                counted(unplaced, 'prediction was lost', 'predictions were lost'),
                *parted(
                    facts.lost_fault,
                    'tf2 does not know how the frames of the LiDAR, of the images or target_frame '
                    'lie to each other',
                    'Publish it on /tf or /tf_static, or correct target_frame or camera_pose.',
                ),
            )
            return


def _of_losses(facts: InputFacts) -> Iterator[Finding]:
    """Yield that a part of large messages gets lost."""
    if not loses_large(facts):
        return
    if facts.received < MOST * facts.announced:
        lost = f'Of {facts.announced} images on {facts.topics} only {facts.received} arrive'
    else:
        sent, came = sent_by_stamps(facts.usable), len(facts.usable)
        lost = f'Of some {sent} messages on {facts.topics} only {came} arrive'
    yield Finding('WARN', lost, *_too_large(facts))


def _of_leaps(facts: InputFacts, time_is_in_doubt: bool) -> Iterator[Finding]:
    if not time_is_in_doubt and (leapt := leaps_s(facts.arrivals)):
        yield Finding(
            'WARN',
            f'{len(leapt)} of the last {len(facts.arrivals)} stamps on {facts.topics} leap into '
            f'the future, by up to {max(leapt):.1f} s',
            'the clock of the sensor was set, or its driver now and then stamps wrongly; a leap '
            'is dropped (clock_jump) unless the next stamp follows it',
            'Look at the log of the driver, and synchronise the clocks (chrony, PTP).',
        )


def _of_nothing(facts: InputFacts) -> Iterator[Finding]:
    symptom = f'Nothing arrives on {facts.topics}'
    publishers = [p for source in facts.sources for p in source.publishers]
    if not publishers:
        offered = [offer for source in facts.sources for offer in offers(facts.stream, source)]
        yield Finding(
            'ERROR',
            symptom,
            'nobody publishes there',
            f"Start the {NAMES[facts.stream]}'s driver, or remap the node's input to its topic"
            + (f': {"; ".join(offered)}.' if offered else '.'),
        )
        return
    unheard = list(_of_unheard(facts, symptom))
    if unheard:
        yield from unheard
        return
    if facts.message_bytes >= LARGE_BYTES:
        yield Finding(
            'ERROR',
            symptom,
            *_too_large(facts),
        )
        return
    yield Finding(
        'ERROR',
        symptom,
        f'{_names(publishers)} publishes there with matching type and QoS, but sends nothing, or '
        'its messages get lost',
        f'Look at its log, and at `ros2 topic hz {facts.sources[0].topic}`. Messages above 0.5 MB '
        'need large_images:=true.',
    )


def _of_unheard(facts: InputFacts, symptom: str) -> Iterator[Finding]:
    """Yield who publishes there what cannot be heard: another type, or another QoS."""
    for source in facts.sources:
        others = [p for p in source.publishers if p.type != source.type]
        if others:
            yield Finding(
                'ERROR',
                symptom,
                f'{_names(others)} publishes {others[0].type} on {source.topic}, and '
                f'{source.type} is needed',
                as_another(facts.stream, source, others[0].type),
            )
        clashing = [p for p in source.publishers if p.clash and p not in others]
        if clashing:
            yield Finding(
                'ERROR',
                symptom,
                f'the QoS of {_names(clashing)} does not match ({clashing[0].clash})',
                'Change that policy on one of the two sides: a subscription may ask for no more '
                'than the publisher offers.',
            )


def _too_large(facts: InputFacts) -> tuple[str, str]:
    publishers = [p for source in facts.sources for p in source.publishers]
    size = f'one message takes {facts.message_bytes / 1e6:.1f} MB'
    takes = f'{size}, which the default transports of Fast DDS lose'
    if not publishers:  # A recording.
        return takes, (
            'Record with FASTDDS_DEFAULT_PROFILES_FILE (on Jazzy FASTRTPS_DEFAULT_PROFILES_FILE) '
            'naming config/fastdds_large_images.xml, for the driver and for the recorder.'
        )
    fits = f'{_names(publishers)} publishes there with matching type and QoS, but'
    if facts.has_profile:
        return (
            f'{fits} {size}: the driver lacks the Fast DDS profile that is set here, it is not '
            'one for large messages, or the machine is too busy',
            'Let it be config/fastdds_large_images.xml, and start the driver with it too. If that '
            'is so, send smaller messages, or fewer.',
        )
    return (
        f'{fits} {takes}',
        'Start the driver and the node with FASTDDS_DEFAULT_PROFILES_FILE (on Jazzy '
        'FASTRTPS_DEFAULT_PROFILES_FILE) naming config/fastdds_large_images.xml; the launch '
        'files do so with large_images:=true.',
    )


def _of_times(facts: Facts) -> Iterator[Finding]:
    if facts.time_is_in_doubt:
        return
    for stream in facts.inputs:
        age = age_s(stream.usable)
        if age is None:
            continue
        moved_s = age
        if stream.stream == 'camera':  # As its output is stamped.
            moved_s -= facts.pairing.camera_to_lidar_s
        # An offset may make up for a clock that is ahead, and for one of the other that is late.
        is_ahead = max(age, moved_s) <= -facts.ahead_s
        age = moved_s
        too_old = 0 < facts.max_age_s < age
        if not (too_old or is_ahead) and abs(age) < FAR_FROM_CLOCK_S:
            continue
        side = 'behind' if age > 0 else 'ahead of'
        if not facts.lifecycle:
            yield Finding(
                'WARN',
                f'The stamps on {stream.topics} lie {abs(age):.3f} s {side} the times noted',
                'the clocks of sensor and recorder differ',
                'Synchronise the clocks (chrony, PTP). Both sensors alike it does no harm; where '
                'they differ, camera_offset_s makes up for it.',
            )
            continue
        yield Finding(
            'ERROR' if too_old else 'WARN',
            f'The stamps on {stream.topics} lie {abs(age):.3f} s {side} the clock',
            f'max_age_s drops what is older than {facts.max_age_s:g} s'
            if too_old
            else 'the clocks differ, or a recording is played without its clock',
            'Synchronise the clocks (chrony, PTP); play a recording with its clock (`ros2 bag '
            'play --clock`, or `fusion replay`) and set use_sim_time'
            + ('; or raise max_age_s.' if too_old else '.'),
        )


def _names(publishers: Sequence[Publisher]) -> str:
    return ', '.join(dict.fromkeys(publisher.node for publisher in publishers))


def _of_frame(facts: InputFacts) -> Iterator[Finding]:
    if facts.frame_id.startswith('/'):
        yield Finding(
            'WARN',
            f"The messages on {facts.topics} have the frame_id '{facts.frame_id}'",
            'tf2 refuses names that begin with a slash, so nothing in that frame can be placed',
            f"Let {_names(facts.fitting) or 'the driver'} name it '{facts.frame_id.lstrip('/')}'.",
        )
