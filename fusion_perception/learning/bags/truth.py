"""Read the true centres from a recording, and find those of a stamp."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.learning.data.labels import FARTHEST, are_possible
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.decode import StampedMessage, stamp_ns
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.rep103 import PoseArrayMessage, PoseMessage, centers_of, from_rep103

Note = Callable[[str], None]


class Truth:
    """True centres by stamp.

    stamps_ns (M,) int64 ascending; centers (M, K, 3) float64 metres in the LiDAR frame; frames
    are the frame_ids they came in.
    """

    def __init__(
        self,
        stamps_ns: NDArray[np.int64],
        centers: NDArray[np.float64],
        frames: tuple[str, ...] = (),
    ) -> None:
        self.stamps_ns, self.centers, self.frames = stamps_ns, centers, frames

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def at(self, stamp_ns: int, slop_ns: int) -> NDArray[np.float64] | None:
        """Return the centres (K, 3) with the closest stamp within the slop, the earlier of two."""
        right = int(np.searchsorted(self.stamps_ns, stamp_ns))
        best: int | None = None
        for index in (right - 1, right):
            if 0 <= index < len(self) and abs(self.stamps_ns[index] - stamp_ns) <= slop_ns:
                away = abs(int(self.stamps_ns[index]) - stamp_ns)
                if best is None or away < abs(int(self.stamps_ns[best]) - stamp_ns):
                    best = index
        return None if best is None else self.centers[best]


def no_truth(objects: int) -> Truth:
    """Return the truth of a recording that has none."""
    return Truth(np.empty(0, np.int64), np.empty((0, objects, 3)))


def read_truth(
    recording: Recording, topic: str, classes: Sequence[str], max_range: float, note: Note
) -> Truth:
    """Read a topic of true centres; what of it cannot be used goes to `note`.

    `max_range` is how far the LiDAR sees, metres: what lies many times as far off is left out.

    Some 100 bytes per message stay in memory. Of several messages with one stamp the first counts.
    """
    stamps, values = array('q'), array('d')
    frames: dict[str, None] = {}
    unstamped = unfit = beyond = 0
    example, first_beyond = '', 0
    for recorded in recording.messages([topic]):
        message = recording.read(recorded)
        if message is None:
            continue
        stamp = stamp_ns(cast('StampedMessage', message))
        if stamp <= 0:
            unstamped += 1
            continue
        try:
            centers = _centers(message, classes, max_range)
        except ValueError as fault:
            unfit, example = unfit + 1, example or str(fault)
            continue
        if (np.linalg.norm(centers, axis=-1) > max_range).any():
            beyond, first_beyond = beyond + 1, first_beyond or stamp
        stamps.append(stamp)
        values.extend(centers.reshape(-1).tolist())
        frames[cast('StampedMessage', message).header.frame_id] = None
    if unstamped:
        note(
            f'{topic}: {counted(unstamped, "message was", "messages were")} left out for a zero '
            'or negative stamp.'
        )
    if unfit:
        note(
            f'{topic}: {counted(unfit, "message was", "messages were")} left out; the first '
            f'{example}.'
        )
    if beyond:
        note(
            f'{topic}: {counted(beyond, "message has", "messages have")} a centre beyond '
            f'max_range = {max_range:g} m, where no ray returns from, the first at '
            f'{first_beyond / 1e9:.3f} s. Check their unit and frame.'
        )
    return _sorted(stamps, values, len(classes), tuple(frames), topic, note)


def _sorted(
    stamps: array[int],
    values: array[float],
    objects: int,
    frames: tuple[str, ...],
    topic: str,
    note: Note,
) -> Truth:
    times = np.array(stamps, np.int64)
    centers = np.array(values, np.float64).reshape(-1, objects, 3)
    order = np.argsort(times, kind='stable')
    times, centers = times[order], centers[order]
    again = np.flatnonzero(np.diff(times) == 0) + 1
    if len(again):
        first = np.searchsorted(times, times[again])
        apart = float(np.linalg.norm(centers[again] - centers[first], axis=-1).max())
        note(
            f'{topic}: {counted(len(again), "message repeats", "messages repeat")} a stamp, up '
            f'to {apart:.3f} m from the first of that stamp, which was taken.'
        )
        keep = np.ones(len(times), bool)
        keep[again] = False
        times, centers = times[keep], centers[keep]
    return Truth(times, centers, frames)


class _Hypothesis(Protocol):
    class_id: str


class _Result(Protocol):
    hypothesis: _Hypothesis


class _Box(Protocol):
    center: PoseMessage


class _Detection(Protocol):
    results: Sequence[_Result]
    bbox: _Box
    id: str


def _centers(message: object, classes: Sequence[str], max_range: float) -> NDArray[np.float64]:
    """Return the centres (K, 3) of a PoseArray or Detection3DArray in the order of the classes."""
    if hasattr(message, 'detections'):
        centers, names = _detected(message.detections)
        if all(name.isdigit() and int(name) < len(classes) for name in names):
            names = [classes[int(name)] for name in names]
        if set(names) == set(classes) and len(names) == len(classes):
            centers = centers[[names.index(name) for name in classes]]
        elif any(names):
            raise ValueError(f'names {", ".join(names)} where {", ".join(classes)} are looked for')
    else:
        centers = centers_of(cast('PoseArrayMessage', message))
    if len(centers) != len(classes):
        raise ValueError(
            f'holds {len(centers)} poses where {len(classes)} ({", ".join(classes)}) are needed'
        )
    # Some fill in the largest float64 where they know nothing; errors are float32.
    if not (np.abs(centers) < np.finfo(np.float32).max).all():
        raise ValueError('holds a pose that is not finite, or as good as infinite')
    if not are_possible(centers, max_range).all():
        away = float(np.linalg.norm(centers, axis=-1).max())
        raise ValueError(
            f'holds a centre {away:.4g} m from the LiDAR, more than {FARTHEST} times max_range = '
            f'{max_range:g} m; record it in metres, in the frame of the LiDAR'
        )
    return centers


def _detected(detections: Sequence[_Detection]) -> tuple[NDArray[np.float64], list[str]]:
    rows, names = [], []
    for detection in detections:
        position = detection.bbox.center.position
        rows.append((position.x, position.y, position.z))
        hypothesis = detection.results[0].hypothesis if len(detection.results) else None
        names.append(detection.id if hypothesis is None else hypothesis.class_id)
    return from_rep103(np.array(rows, np.float64).reshape(-1, 3)), names
