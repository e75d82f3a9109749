"""Turn a recording into the pairs that the robot would have made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from fusion_perception.learning.bags.mounts import BagMounting
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.timeline import Timeline
from fusion_perception.learning.bags.topics import CAMERA_INFO, Topics
from fusion_perception.learning.bags.walk import Walk
from fusion_perception.sensing.camera_info import Calibration, CameraInfoMessage
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.camera import of_lens, of_shape, of_turns
from fusion_perception.sensing.findings.facts import CameraFacts, ScanFacts, Source
from fusion_perception.sensing.findings.images import ImageTally
from fusion_perception.sensing.findings.scans import ScanTally
from fusion_perception.sensing.intake import Frame, Intake, Message, Needs, Refused, arrays_of
from fusion_perception.sensing.ledger import STREAMS, Cause, Stream
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import Pair
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.transforms import NoTransform

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class BagPair:
    """A pair, the camera as camera_info described it by then, and when it was complete.

    Before the first usable camera_info `camera` is what that one describes: an image often comes
    before the camera_info of the same stamp. It is None where none is usable and the camera is
    where it was in the training. `time_s` counts from the first message that was recorded.
    """

    pair: Pair[Frame]
    camera: Camera | None
    time_s: float


class BagPairs:
    """The pairs of a recording, in order; iterate once.

    `mounted` gives the camera's pose unless `camera_pose` does, and `whose` camera that is: its
    intrinsics are to be used where no camera_info tells others. `of_both` counts those of both
    sensors.
    `intake` keeps the counts, `timeline` when what was lost, and `notes` says afterwards what
    could not be used.
    """

    def __init__(
        self,
        recording: Recording,
        topics: Topics,
        needs: Needs,
        settings: BagSettings,
        mounted: Camera,
        whose: str,
        progress: Progress | None,
    ) -> None:
        self.intake = Intake(needs, settings.pairing, settings.decoder())
        self.timeline = Timeline()
        self.now_s = 0.0
        self.of_both = self._now_ns = 0
        self._recording, self._topics = recording, topics
        self._mounted, self._whose, self._progress = mounted, whose, progress
        self._calibration = Calibration(mounted, settings.camera_matrix)
        self._mounting = BagMounting(
            recording, topics.image, topics.ranges, settings.camera_pose, mounted
        )
        self._infos_unusable, self._info_fault = 0, ''
        self._pairs_without = 0
        self._faults: dict[tuple[Stream, Cause], str] = {}
        self._walk, self._scans = Walk(recording, topics), ScanTally()
        self._images = ImageTally()
        self._max_range, self._outside_max = needs.lidar.max_range, settings.points_outside_max
        # Facts of the camera, once per shape of its images; of the worst lens; of most changes.
        self._shapes: dict[tuple[object, ...], CameraFacts] = {}
        self._bent: CameraFacts | None = None
        self._turning: CameraFacts | None = None

    def __iter__(self) -> Iterator[BagPair]:
        topics, recording = self._topics, self._recording
        total = sum(recording.topics[name].count for name in topics.inputs)
        if topics.camera_info is not None:
            # Images that come before the first camera_info are taken to be of its camera.
            recording.first(topics.camera_info, lambda told: self._calibrated_by(told, 0))
        for number, (stream, message, log_ns) in enumerate(self._walk, start=1):
            self._now_ns = log_ns
            if self.timeline.parts(self.now_s, self._walk.now_s):
                self.note_counts()
            self.now_s = self._walk.now_s
            if message is not None and stream is not None:
                yield from self._take(stream, cast('Message', message), log_ns)
            elif message is not None and not self._calibrated_by(message, log_ns):
                # As on the robot, the last one that could be used counts on.
                self._infos_unusable += 1
                self._info_fault = self._info_fault or self._calibration.fault
            if self._progress is not None:
                self._progress(number, total)
        yield from self._completed(self.intake.flush())

    def note_counts(self) -> None:
        """Take the counts since the last bin into the timeline."""
        self.timeline.counters(self.now_s, self.intake.ledger.counters())

    def notes(self) -> list[str]:
        """Say, after the last pair, what of the recording could not be used."""
        counters = self.intake.ledger.counters()
        notes = []
        for (stream, cause), fault in self._faults.items():
            count = counters[stream]['dropped'][cause]
            notes.append(f'{counted(count, *_dropped(stream))} ({cause}): {fault}')
        for stream in STREAMS:
            if count := counters[stream]['dropped']['unstamped']:
                notes.append(
                    counted(
                        count,
                        f'{stream} message was dropped: its stamp is zero or negative.',
                        f'{stream} messages were dropped: their stamp is zero or negative.',
                    )
                )
            if count := self.intake.leaps.counts[stream]:
                notes.append(
                    f'{counted(count, *_dropped(stream))} (clock_jump): '
                    + ('its stamp leaps' if count == 1 else 'their stamps leap')
                    + ' into the future, which those before do not.'
                )
        notes += map(str, self._topics.undecided.values())
        notes += self._about_camera()
        notes += map(str, self._images.findings())
        notes += map(str, self._scans.findings(self._outside_max))
        if jumps := self.intake.clock_jumps:
            often = 'once' if jumps == 1 else f'{jumps:,} times'
            notes.append(
                f'The stamps jumped back {often} by more than pairing.jump_back_s; the pairing '
                'began anew.'
            )
        notes += self._walk.notes()
        return notes

    def about_lens(self) -> list[str]:
        """Say, after the last pair, where a lens bent images unlike those of the training."""
        return [] if self._bent is None else [str(finding) for finding in of_lens(self._bent)]

    def _take(self, stream: Stream, message: Message, arrived_ns: int) -> Iterator[BagPair]:
        try:
            pairs = self.intake.take(stream, message, arrived_ns)
        except Refused as fault:
            self._note(fault)
        else:
            yield from self._completed(pairs)

    def _completed(self, pairs: list[Pair[Frame]]) -> Iterator[BagPair]:
        for pair in pairs:
            told = self._calibration.camera
            try:
                self.intake.decode(pair)
                camera = self._mounting.placed(pair, told)
            except Refused as fault:
                self._note(fault)
            except NoTransform as fault:
                self.intake.lose(pair, 'no_transform')
                self._faults.setdefault(('camera', 'no_transform'), str(fault))
            else:
                self._pairs_without += pair.camera is not None and told is None
                self.of_both += pair.mode == 'fusion'
                self._look_at(pair)
                yield BagPair(pair, camera, self.now_s)

    def _look_at(self, pair: Pair[Frame]) -> None:
        image, ranges = arrays_of(pair)
        if pair.lidar is not None and ranges is not None:
            self._scans.add(ScanFacts.of(ranges, self._max_range, pair.lidar.placement))
        if image is None:
            return
        self._images.add(image)
        info = Source(self._topics.camera_info or '', CAMERA_INFO)
        trained, size = (self._mounted.width, self._mounted.height), image.shape[1::-1]
        facts = CameraFacts.of(info, trained, size, self._calibration, self._now_ns)
        self._shapes.setdefault((facts.told, facts.images), facts)
        if self._turning is None or facts.returns > self._turning.returns:
            self._turning = facts
        if facts.distortion is not None and (not self._bent or _moved(self._bent) < _moved(facts)):
            self._bent = facts

    def _note(self, fault: Refused) -> None:
        self._faults.setdefault((fault.stream, fault.cause), str(fault))

    def _calibrated_by(self, message: object, now_ns: int) -> bool:
        return self._calibration.take(cast('CameraInfoMessage', message), now_ns)

    def _about_camera(self) -> Iterator[str]:
        if count := self._infos_unusable:
            yield f'{counted(count, "camera_info message")} cannot be used: {self._info_fault}'
        if count := self._pairs_without:
            lacking = 'no' if self._topics.camera_info is None else 'no usable'
            yield (
                f'{counted(count, "pair has", "pairs have")} {lacking} camera_info: the '
                f'intrinsics of {self._whose} were used.'
            )
        for facts in self._shapes.values():
            yield from map(str, of_shape(facts))
        if self._turning is not None:
            yield from map(str, of_turns(self._turning))


def _moved(facts: CameraFacts) -> float:
    """Return by how much a lens moves an image; endless where that is not known."""
    bent = facts.distortion
    return math.inf if bent is None or bent.most_px is None else bent.most_px


def _dropped(stream: Stream) -> tuple[str, str]:
    return f'{stream} message was dropped', f'{stream} messages were dropped'
