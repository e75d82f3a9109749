"""Run a bundle over a recording: decode, pair and predict as the robot does, and judge it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion_perception.learning.agreement import Comparison
from fusion_perception.learning.bags.judging import Judge, Judged, JudgedFrame
from fusion_perception.learning.bags.pairs import BagPairs, Progress
from fusion_perception.learning.bags.settings import BagSettings, no_pair
from fusion_perception.learning.bags.topics import Topics, choose_topics
from fusion_perception.learning.bags.truth import Truth, no_truth, read_truth
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import Alignment
from fusion_perception.sensing.intake import Needs, arrays_of
from fusion_perception.sensing.ledger import Stream, StreamCounts
from fusion_perception.sensing.recordings.recording import Recording

log = logging.getLogger(__name__)
# The first pairs are predicted as the robot does it, and timed; the rest in batches.
TIMED_PAIRS = 100


@dataclass(frozen=True)
class BagRun:
    """What came of one recording.

    `streams` says what became of each message, `timeline` when; `unread` says in sentences what
    of the recording was not used; `worst` are the frames furthest off, worst first;
    `disagreements` are of some of its pairs, as of `Runtime.disagreement`, and `alignment` says
    where the camera seems to be, None where that is not elsewhere or not known.
    """

    source: str
    topics: Topics
    seconds: float
    judged: Judged
    streams: Mapping[Stream, StreamCounts]
    clock_jumps: int
    timeline: Mapping[str, object]
    latency_ms: tuple[float, ...]
    worst: tuple[JudgedFrame, ...]
    unread: tuple[str, ...]
    disagreements: tuple[float, ...]
    alignment: Alignment | None


def run_bag(
    runtime: Runtime,
    path: Path,
    settings: BagSettings,
    batch_size: int,
    progress: Progress | None = None,
    timed: int = TIMED_PAIRS,
    workers: int = 1,
) -> BagRun:
    """Predict every pair of a recording, the first `timed` of them as on the robot.

    `progress` hears the number of messages read and of all. Memory holds one batch of images, the
    worst frames, and some 400 bytes per pair.
    Raises FileNotFoundError or ValueError when nothing in the recording can be evaluated.
    """
    bundle = runtime.bundle
    notes: list[str] = []
    with Recording(path) as recording:
        topics = choose_topics(recording, settings, needs_truth=False)
        truth = no_truth(len(bundle.rig.classes))
        if topics.truth is not None:
            classes, max_range = bundle.rig.classes, bundle.lidar.max_range
            truth = read_truth(recording, topics.truth, classes, max_range, notes.append)
        needs = Needs(bundle.path.name, bundle.lidar, bundle.model.modes)
        pairs = BagPairs(
            recording, topics, needs, settings, bundle.rig.camera, 'the bundle', progress
        )
        slop_ns = round(settings.truth_slop * 1e9)
        runtime.warm_up(frames=1)
        checked = settings.same_frames
        comparison = Comparison(runtime)
        with Judge(
            runtime,
            pairs.intake,
            pairs.timeline,
            truth,
            slop_ns,
            str(path),
            batch_size,
            timed,
            workers,
        ) as judge:
            for pair in pairs:
                if not checked and pair.pair.lidar is not None:
                    check_frames(path, truth, pair.pair.lidar.frame_id)
                    checked = True
                judge.add(pair)
                comparison.add(*arrays_of(pair.pair), pair.camera)
            judged = judge.finish()
        pairs.note_counts()
        streams = pairs.intake.ledger.counters()
        notes += [*pairs.notes(), *pairs.about_lens()]
        if judge.fault:
            notes.append(f'Inference failed on some pairs, first: {judge.fault}')
        notes += _about(path, topics, judged, settings, pairs)
        unread = (*recording.unread, *notes)
    if not len(judged):
        why = no_pair(path, settings, streams, runtime.bundle.path)
        raise ValueError(' '.join((f'Nothing in {path} can be evaluated.', *unread, why)))
    return BagRun(
        source=str(path),
        topics=topics,
        seconds=pairs.now_s,
        judged=judged,
        streams=streams,
        clock_jumps=pairs.intake.clock_jumps,
        timeline=pairs.timeline.as_json(),
        latency_ms=tuple(judge.latency_ms),
        worst=judge.worst(),
        unread=unread,
        disagreements=comparison.disagreements(),
        alignment=comparison.alignment(),
    )


def outcome_of(
    runtime: Runtime,
    path: Path,
    settings: BagSettings,
    batch_size: int,
    progress: Progress | None = None,
    workers: int = 1,
) -> BagRun | str:
    """Return what came of a recording, or the sentence that names it and says why nothing did."""
    try:
        return run_bag(runtime, path, settings, batch_size, progress, workers=workers)
    except (ValueError, OSError) as fault:
        said = str(fault)
    except Exception as fault:  # What nobody foresaw in one recording must not end the others.
        log.debug('%s cannot be evaluated', path, exc_info=True)
        said = f'{path} cannot be evaluated ({type(fault).__name__}: {fault}).'
    return said if str(path) in said else f'{path}: {said}'


def check_frames(path: Path, truth: Truth, lidar_frame: str) -> None:
    """Raise ValueError when truth and ranges are in frames of different names."""
    others = set(truth.frames) - {lidar_frame, ''}
    if others and lidar_frame:
        raise ValueError(
            f"{path}: the ground truth is in the frame '{min(others)}' and the range images in "
            f"'{lidar_frame}'. Record it in the LiDAR's frame, or say that both are one with "
            '--same-frames.'
        )


def _about(
    path: Path,
    topics: Topics,
    judged: Judged,
    settings: BagSettings,
    pairs: BagPairs,
) -> list[str]:
    notes = []
    if topics.image is None:
        notes.append('There are no camera images in it.')
    if topics.ranges is None:
        notes.append('There are no range images in it.')
    elif topics.image is not None and len(judged) and not pairs.of_both:
        notes.append(no_pair(path, settings, pairs.intake.ledger.counters()))
    without = int((~judged.scored).sum())
    if topics.truth is None and 'ground truth' not in topics.undecided:
        notes.append('There is no ground truth in it: nothing was scored.')
    elif topics.truth is not None and without:
        notes.append(
            f'{without:,} of {len(judged):,} predictions have no ground truth within '
            f'{settings.truth_slop:g} s and were not scored.'
        )
    return notes
