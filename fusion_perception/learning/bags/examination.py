"""Examine a recording: what it holds, whether it pairs, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from fusion_perception.learning.bags.settings import RecordingSettings
from fusion_perception.learning.bags.topics import CAMERA_INFO, Topics, choose_topics
from fusion_perception.sensing.camera_info import Calibration, CameraInfoMessage
from fusion_perception.sensing.facts import CameraFacts, Facts, Source
from fusion_perception.sensing.finding import Finding, of_fault, worst
from fusion_perception.sensing.findings import diagnose
from fusion_perception.sensing.intake import Message
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.recording import Recording
from fusion_perception.sensing.watch import Watch, of_streams


def examine_recording(path: Path, settings: RecordingSettings) -> list[Finding]:
    """Read a recording's images, scans and camera_info: kinds, rates, stamps, pairs."""
    try:
        recording = Recording(path)
    except (ValueError, FileNotFoundError) as fault:
        return [of_fault(str(path), fault)]
    with recording:
        try:
            topics = choose_topics(recording, settings)
        except ValueError as fault:
            return [of_fault(str(path), fault)]
        watch = Watch(settings.pairing, settings.range_scale, settings.invalid_values)
        calibration = Calibration(Camera(), settings.camera_matrix)
        streams: dict[str, Stream] = {}
        for topic, stream in zip((topics.image, topics.ranges), STREAMS, strict=True):
            if topic is not None:
                streams[topic] = stream
        infos = [] if topics.camera_info is None else [topics.camera_info]
        for recorded in recording.messages([*streams, *infos]):
            message = recording.read(recorded)
            if message is None:
                continue
            if recorded.topic in streams:
                watch.take(streams[recorded.topic], cast('Message', message), recorded.log_ns)
            else:
                calibration.take(cast('CameraInfoMessage', message))
        watch.finish()
        sources = {s: [Source(t, recording.topics[t].type)] for t, s in streams.items()}
        heard: dict[Stream, float] = {s: 0.0 for s in STREAMS if watch.received[s]}
        facts = Facts(
            inputs=watch.inputs(sources, heard, {}, {}, {}),
            pairs=watch.pairs,
            pairing=settings.pairing,
            returns=watch.returns,
            camera=_camera(topics.camera_info, watch, calibration),
        )
        wrong = diagnose(facts)
        findings = [*_of_recording(recording, topics), *of_streams(facts, watch)]
        if len(heard) == len(STREAMS) and not (facts.pairs_are_few and worst(wrong) == 'ERROR'):
            findings.append(_of_pairs(facts, watch))
        return findings + wrong


def _of_pairs(facts: Facts, watch: Watch) -> Finding:
    """Return how many pairs there are, and that they are few where nobody else says why."""
    scans, slop_s = watch.received['lidar'], facts.pairing.slop_s
    if not facts.pairs_are_few:
        return Finding('OK', f'{watch.pairs} of {scans} scans form a pair within {slop_s:g} s')
    return Finding(
        'WARN' if watch.pairs else 'ERROR',
        f'Only {watch.pairs} of {scans} scans form a pair'
        if watch.pairs
        else f'None of {scans} scans forms a pair',
        f'no image lies within {slop_s:g} s of the others',
        'Look whether both sensors were recorded all along, and at their stamps.',
    )


def _camera(topic: str | None, watch: Watch, calibration: Calibration) -> CameraFacts | None:
    if topic is None:
        return None
    # Of what size the images of the model will be is not known here: as those that ship.
    size = Camera().width, Camera().height
    return CameraFacts.of(Source(topic, CAMERA_INFO), size, watch.image_size, calibration)


def _of_recording(recording: Recording, topics: Topics) -> list[Finding]:
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
        (topics.camera_info, CAMERA_INFO, False),
        (topics.truth, 'ground truth', False),
    ):
        if topic is None and needed:
            remedy = 'Record them as well, or name their topic with a flag.'
            findings.append(Finding('WARN', f'There are no {what} in it', '', remedy))
        elif topic is None:
            findings.append(Finding('OK', f'There is no {what} in it'))
        elif not needed:
            findings.append(Finding('OK', f'{topic}: {recording.topics[topic].count} messages'))
    return findings
