"""Examine a recording: what it holds, whether it pairs, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from fusion_perception.learning.bags.settings import RecordingSettings
from fusion_perception.learning.bags.topics import CAMERA_INFO, Topics, choose_topics
from fusion_perception.learning.bags.walk import Walk
from fusion_perception.sensing.camera_info import Calibration, CameraInfoMessage
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import CameraFacts, Facts, Source
from fusion_perception.sensing.findings.finding import Finding, of_fault, worst
from fusion_perception.sensing.findings.watch import Watch, of_streams
from fusion_perception.sensing.intake import Message
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.recordings.recording import Recording

# The size of the model's images is not known here: take that of the bundles that ship.
USUAL = Camera().width, Camera().height
# Clocks of robots do not stand before 2001, those of simulations begin at zero.
_LONG_AGO_NS = 10**18
# It is mentioned if less than this share of the rarer sensor's messages is in pairs.
_MOST = 0.8
_FARTHEST_M = 500.0
_PAUSED = 'Look whether the sensor or the recorder paused; record again for the rest.'


def examine_recording(path: Path, settings: RecordingSettings) -> list[Finding]:
    """Read a recording's images, scans and camera_info: kinds, rates, stamps, pairs."""
    try:
        recording = Recording(path)
    except (ValueError, FileNotFoundError) as fault:
        return [of_fault(str(path), fault)]
    with recording:
        try:
            topics = choose_topics(recording, settings, needs_truth=False)
        except ValueError as fault:
            return [of_fault(str(path), fault)]
        return _examine(recording, topics, settings)


def _examine(recording: Recording, topics: Topics, settings: RecordingSettings) -> list[Finding]:
    watch = Watch(settings.pairing, settings.decoder())
    calibration = Calibration(Camera(), settings.camera_matrix)
    walk, returns = Walk(recording, topics), 0
    for stream, message, log_ns in walk:
        if message is not None and stream is not None:
            watch.take(stream, cast('Message', message), log_ns)
        elif message is not None:
            calibration.take(cast('CameraInfoMessage', message), log_ns)
            returns = max(returns, calibration.returns(log_ns))
    watch.finish()
    sources = {s: [Source(t, recording.topics[t].type)] for t, s in topics.streams.items()}
    heard: dict[Stream, float] = {s: 0.0 for s in STREAMS if watch.received[s]}
    camera = None
    if topics.camera_info is not None:
        info = Source(topics.camera_info, CAMERA_INFO)
        camera = CameraFacts.of(info, USUAL, watch.image_size, calibration, 0)
        camera = replace(camera, returns=returns)
    facts = Facts(
        inputs=watch.inputs(sources, heard, {}, {}, {}),
        # A recorder notes simulated times as they stand, and these advance in steps.
        simulated='/clock' in recording.topics or walk.began_ns < _LONG_AGO_NS,
        pairs=watch.pairs,
        pairing=settings.pairing,
        # The lens that a bundle learned with is not known here.
        camera=None if camera is None else replace(camera, distortion=None),
    )
    wrong = [*diagnose(facts), *watch.images.findings()]
    wrong += watch.scans.findings(settings.points_outside_max)
    wrong += [Finding('WARN', note.rstrip('.'), '', _PAUSED) for note in walk.notes()]
    wrong += [*_of_units(watch), *_of_jumps(watch)]
    wrong += _of_frames(recording, topics, {i.stream: i.frame_id for i in facts.inputs})
    findings = [*_of_recording(recording, topics, watch.image_size), *of_streams(facts, watch)]
    if camera is not None:
        findings += _of_lens(camera)
    if len(heard) == len(STREAMS) and not (facts.pairs_are_few and worst(wrong) == 'ERROR'):
        findings.append(_of_pairs(facts, watch))
    return findings + wrong


def _of_lens(camera: CameraFacts) -> Iterator[Finding]:
    """Yield what camera_info tells of the lens; to a bundle that learned with it that is right."""
    bent = camera.distortion
    if bent is None or camera.told is None:
        return
    moves = (
        'which is no known model'
        if bent.most_px is None
        else 'moves parts of the {}x{} image by up to {:.1f} pixels'.format(
            *camera.told, bent.most_px
        )
    )
    yield Finding('OK', f'{camera.info.topic}: the lens ({bent.seen}) {moves}')


def _of_units(watch: Watch) -> Iterator[Finding]:
    """Yield that the ranges are farther than any LiDAR sees."""
    median_m = watch.median_m()
    if median_m is not None and median_m > _FARTHEST_M:
        yield Finding(
            'WARN',
            f'Half of what the LiDAR measured lies farther than {median_m:,.0f} m',
            'no LiDAR sees as far, so that its units are others than metres',
            'Publish 32FC1 and clouds in metres; 16-bit counts are as --range-scale says.',
        )


def _of_frames(
    recording: Recording, topics: Topics, frames: Mapping[Stream, str]
) -> Iterator[Finding]:
    """Yield that the truth is in another frame than the scans."""
    truth = None if topics.truth is None else recording.first(topics.truth)
    its = '' if truth is None else cast('Message', truth).header.frame_id
    lidar = frames.get('lidar', '')
    if its and lidar and its != lidar:
        yield Finding(
            'WARN',
            f"The ground truth on {topics.truth} is in the frame '{its}', the scans are in "
            f"'{lidar}'",
            'an evaluation does not know how the two lie to each other',
            "Record the truth in the LiDAR's frame, or evaluate with --same-frames if both are "
            'one.',
        )


def _of_jumps(watch: Watch) -> Iterator[Finding]:
    if watch.clock_jumps:
        yield Finding(
            'WARN',
            f'Stamps jump back by more than pairing.jump_back_s (times: {watch.clock_jumps})',
            'a clock was set, or several recordings are in one',
            'What waits at a jump is dropped and pairing begins anew: set the clocks before '
            'recording.',
        )


def _of_pairs(facts: Facts, watch: Watch) -> Finding:
    """Return how many pairs there are, and that they are few where nobody else says why."""
    scans, slop_s = watch.received['lidar'], facts.pairing.slop_s
    if watch.pairs >= _MOST * min(watch.received.values()):
        return Finding('OK', f'{watch.pairs} of {scans} scans form a pair within {slop_s:g} s')
    return Finding(
        'WARN' if watch.pairs else 'ERROR',
        f'Only {watch.pairs} of {scans} scans form a pair'
        if watch.pairs
        else f'None of {scans} scans forms a pair',
        f'no image lies within {slop_s:g} s of the others',
        'Look whether both sensors were recorded all along, and at their stamps.',
    )


def _without_camera_info(images: tuple[int, int]) -> Finding:
    return Finding(
        'WARN',
        'There is no camera_info in it',
        'the images have {}x{} pixels, and a bundle takes them for those of its own camera'.format(
            *images
        ),
        'Record camera_info as well.',
    )


def _of_recording(
    recording: Recording, topics: Topics, images: tuple[int, int] | None
) -> list[Finding]:
    findings = [
        Finding(
            'WARN',
            note.rstrip('.'),
            '',
            'What can be read is used; record again for the rest.',
        )
        for note in recording.unread
    ]
    for topic, what, needed in (
        (topics.image, 'camera images', True),
        (topics.ranges, 'range images', True),
        (topics.camera_info, 'camera_info', False),
        (topics.truth, 'ground truth', False),
    ):
        if topic is None and needed:
            remedy = 'Record them as well, or name their topic with a flag.'
            findings.append(Finding('WARN', f'There are no {what} in it', '', remedy))
        elif topic is None and what in topics.undecided:
            findings.append(topics.undecided[what])
        elif topic is None and what == 'camera_info' and images and images != USUAL:
            findings.append(_without_camera_info(images))
        elif topic is None:
            findings.append(Finding('OK', f'There is no {what} in it'))
        elif not needed:
            findings.append(
                Finding('OK', f'{topic}: {counted(recording.topics[topic].count, "message")}')
            )
    return findings
