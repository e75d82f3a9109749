"""Predict pairs in batches and judge them by the truth, keeping numbers but no images."""

from __future__ import annotations

import heapq
import time
from array import array
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from fusion_perception.learning.bags.pairs import BagPair
from fusion_perception.learning.bags.timeline import Timeline
from fusion_perception.learning.bags.truth import Truth
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.intake import Intake, arrays_of
from fusion_perception.sensing.observation import Camera, Mode, Observation, Prediction

WORST = 10
MODES: tuple[Mode, ...] = ('fusion', 'camera_only', 'lidar_only')


@dataclass(frozen=True)
class JudgedFrame:
    """What the sensors saw when a prediction was far off; metres, LiDAR frame.

    image (H, W, C) uint8 and ranges (R, C) float32, None for a silent sensor; predicted and truth
    (K, 3), covariance (K, 3, 3) or None; error_m is the mean over the objects. `place` says in
    words which frame it is; `camera` is the image's, None for the bundle's.
    """

    place: str
    mode: Mode
    error_m: float
    image: NDArray[np.uint8] | None
    ranges: NDArray[np.float32] | None
    predicted: NDArray[np.float32]
    truth: NDArray[np.float32]
    covariance: NDArray[np.float32] | None
    camera: Camera | None = None


@dataclass(frozen=True)
class Judged:
    """N predictions beside the truth, in the order they came out; metres, LiDAR frame.

    stamps_ns (N,) are the LiDAR's, the camera's where it was alone; time_s (N,) is when the pair
    was complete, counted from the beginning of the recording; modes (N,) index MODES; apart_ms
    (N,) parts the stamps of a pair; centers (N, K, 3); covariance (N, K, 3, 3) or None; truth
    (N, K, 3), NaN where none is near enough.
    """

    stamps_ns: NDArray[np.int64]
    time_s: NDArray[np.float64]
    modes: NDArray[np.uint8]
    apart_ms: NDArray[np.float64]
    centers: NDArray[np.float32]
    covariance: NDArray[np.float32] | None
    truth: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Say which predictions have a truth to be judged by, (N,)."""
        there: NDArray[np.bool_] = np.isfinite(self.truth[:, 0, 0])
        return there


# A pair with its observation; a prediction with a place in it, or why there is none.
Seen = tuple[BagPair, Observation]
Outcome = tuple[Prediction, int] | str


def predict_batch(runtime: Runtime, seen: Sequence[Observation]) -> list[Outcome]:
    """Predict observations together, or one by one where one of them spoils the batch."""
    try:
        prediction = runtime.predict(Observation.of(seen))
    except (ValueError, RuntimeError) as fault:
        if len(seen) == 1:
            return [str(fault)]
        return [outcome for one in seen for outcome in predict_batch(runtime, [one])]
    return [(prediction, index) for index in range(len(seen))]


class Judge:
    """Predicts what it is given, on `workers` threads while the next pairs are being read.

    The thread that calls it prepares each pair (`Runtime.observe`) and counts what comes back; a
    worker has a twin of the runtime for itself while it predicts. Some 400 bytes of each
    prediction stay in memory. A context manager; the results are in the order of the pairs, and
    two runs give the same.
    """

    def __init__(
        self,
        runtime: Runtime,
        intake: Intake,
        timeline: Timeline,
        truth: Truth,
        truth_slop_ns: int,
        source: str,
        batch_size: int,
        timed: int,
        workers: int,
    ) -> None:
        self._runtime, self._intake, self._timeline = runtime, intake, timeline
        self._truth, self._truth_slop_ns = truth, truth_slop_ns
        self._source, self._batch_size, self._timed = source, batch_size, timed
        self._objects = len(runtime.bundle.rig.classes)
        self._waiting: list[Seen] = []
        self._workers, self._pool = workers, ThreadPoolExecutor(workers, 'predict')
        # One thread lets a runtime predict at a time; observing touches nothing of that.
        self._idle = [runtime, *(runtime.twin() for _ in range(workers - 1))]
        self._underway: deque[tuple[list[Seen], Future[list[Outcome]]]] = deque()
        self._stamps, self._modes = array('q'), array('B')
        self._times, self._apart = array('d'), array('d')
        self._centers, self._covariance, self._truths = array('f'), array('f'), array('f')
        self._worst: list[tuple[float, int, JudgedFrame]] = []
        self.latency_ms: list[float] = []
        self.fault = ''

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, pair: BagPair) -> None:
        """Take a pair; it is predicted when its batch is full."""
        if len(self.latency_ms) < self._timed:
            self._take_in(pair, self._timed_outcome(pair))
            return
        observation = self._runtime.observe(*arrays_of(pair.pair), pair.camera)
        self._waiting.append((pair, observation))
        if len(self._waiting) == self._batch_size:
            self._predict(at_most=self._workers)

    def finish(self) -> Judged:
        """Predict what still waits and return everything."""
        self._predict(at_most=0)
        count, objects = len(self._stamps), self._objects
        covariance = None
        if len(self._covariance):
            covariance = np.array(self._covariance, np.float32).reshape(count, objects, 3, 3)
        return Judged(
            stamps_ns=np.array(self._stamps, np.int64),
            time_s=np.array(self._times, np.float64),
            modes=np.array(self._modes, np.uint8),
            apart_ms=np.array(self._apart, np.float64),
            centers=np.array(self._centers, np.float32).reshape(count, objects, 3),
            covariance=covariance,
            truth=np.array(self._truths, np.float32).reshape(count, objects, 3),
        )

    def worst(self) -> tuple[JudgedFrame, ...]:
        """Return the frames that were furthest off, worst first."""
        return tuple(frame for _, _, frame in sorted(self._worst, key=lambda w: (-w[0], -w[1])))

    def _timed_outcome(self, pair: BagPair) -> Outcome:
        began = time.perf_counter()
        try:
            return self._runtime.predict_frame(*arrays_of(pair.pair), pair.camera), 0
        except (ValueError, RuntimeError) as fault:
            return str(fault)
        finally:
            self.latency_ms.append(1000 * (time.perf_counter() - began))

    def _predict(self, at_most: int) -> None:
        """Hand on what waits, and take results in until so many batches are under way."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            task = self._pool.submit(self._on_idle, [seen for _, seen in waiting])
            self._underway.append((waiting, task))
        while len(self._underway) > at_most:
            batch, task = self._underway.popleft()
            for (pair, _), outcome in zip(batch, task.result(), strict=True):
                self._take_in(pair, outcome)

    def _on_idle(self, seen: Sequence[Observation]) -> list[Outcome]:
        runtime = self._idle.pop()
        try:
            return predict_batch(runtime, seen)
        finally:
            self._idle.append(runtime)

    def _take_in(self, pair: BagPair, outcome: Outcome) -> None:
        if isinstance(outcome, str):
            self._intake.lose(pair.pair, 'inference_error')
            self.fault = self.fault or outcome
        else:
            self._keep(pair, *outcome)

    def _keep(self, judged: BagPair, prediction: Prediction, index: int) -> None:
        pair, mode = judged.pair, prediction.mode[index]
        centers = prediction.centers[index].numpy()
        truth = self._truth.at(pair.stamp_ns, self._truth_slop_ns)
        self._stamps.append(pair.stamp_ns)
        self._times.append(judged.time_s)
        self._modes.append(MODES.index(mode))
        self._apart.append(pair.apart_ns / 1e6)
        self._centers.extend(centers.reshape(-1).tolist())
        covariance = None
        if prediction.covariance is not None:
            covariance = prediction.covariance[index].numpy()
            self._covariance.extend(covariance.reshape(-1).tolist())
        self._timeline.count(judged.time_s, f'modes.{mode}')
        if truth is None:
            self._truths.extend([float('nan')] * centers.size)
            return
        self._truths.extend(truth.reshape(-1).tolist())
        error_m = float(np.linalg.norm(centers - truth, axis=-1).mean())
        rank = (error_m, -len(self._stamps))
        if len(self._worst) < WORST or rank > self._worst[0][:2]:
            image, ranges = arrays_of(pair)
            frame = JudgedFrame(
                f'{self._source}, stamp {pair.stamp_ns} (left at {judged.time_s:.2f} s)',
                mode,
                error_m,
                None if image is None else image.copy(),
                None if ranges is None else ranges.copy(),
                centers.copy(),
                truth.astype(np.float32),
                None if covariance is None else covariance.copy(),
                judged.camera,
            )
            add = heapq.heappush if len(self._worst) < WORST else heapq.heapreplace
            add(self._worst, (*rank, frame))
