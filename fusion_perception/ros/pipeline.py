"""Decode, pair and predict: what stands between the node's topics, with every loss counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.ros.bridge import decoder_of
from fusion_perception.ros.clock_watch import ClockWatch
from fusion_perception.ros.frames import Frames
from fusion_perception.ros.inference import NewestWorker
from fusion_perception.ros.messages import NANOSECONDS
from fusion_perception.ros.monitor import Monitor, Times
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.outputs import Result
from fusion_perception.ros.senders import Senders
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.camera_info import Calibration, CameraInfoMessage
from fusion_perception.sensing.decode import message_bytes, stamp_ns
from fusion_perception.sensing.findings.facts import ScanFacts
from fusion_perception.sensing.intake import (
    Frame,
    Intake,
    Message,
    Needs,
    Refused,
    ages_s_of,
    arrays_of,
    came_ns,
)
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.mounting import Mounting
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import Pair
from fusion_perception.sensing.transforms import NoTransform


class _Ready(NamedTuple):
    """A pair that the pairing let go, so long after its last message had come."""

    pair: Pair[Frame]
    held_ms: float


class Pipeline:
    """The way from messages to results. One thread calls all but `publish` and `complain`.

    The thread that predicts calls these two as well; `now_ns` is the clock that the stamps come
    from, and `frames` are needed where tf tells where the camera is. Nothing is predicted before
    `open` and after `close`.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: NodeSettings,
        publish: Callable[[Result], None],
        complain: Callable[[str], None],
        now_ns: Callable[[], int],
        frames: Frames | None = None,
    ) -> None:
        self.runtime, self.settings = runtime, settings
        mounted = runtime.bundle.rig.camera
        self.calibration = Calibration(mounted, settings.camera_matrix)
        find = None if frames is None else frames.T_camera_lidar
        self._mounting = Mounting(settings.camera_pose, mounted, find)
        self.image: NDArray[np.uint8] | None = None  # (H, W, C), the last one.
        self.monitor, self.clock = Monitor(), ClockWatch()
        bundle = runtime.bundle
        self._decoder = decoder_of(settings)
        self.intake = Intake(
            Needs(bundle.path.name, bundle.lidar, bundle.model.modes),
            settings.pairing,
            self._decoder,
        )
        if settings.lidar_type == 'points':
            self.intake.prepare_for_clouds()
        self._publish, self._complain, self._now_ns = publish, complain, now_ns
        self.senders: dict[Stream, Senders] = {stream: Senders() for stream in STREAMS}
        self.frame_ids: dict[Stream, str] = dict.fromkeys(STREAMS, '')  # Of the last messages.
        self._scan: Frame | None = None  # The last one, None when it could not be read.
        self._worker: NewestWorker[_Ready] | None = None

    def open(self) -> None:
        """Begin to predict."""
        self.monitor.began_to_listen()
        self._worker = NewestWorker(self._predict, self._supersede)

    def close(self) -> None:
        """Let what is under way come out, and give up what waits."""
        if self._worker is None:
            return
        self._submit(self.intake.flush())
        self._worker.stop()
        self._worker = None

    def change(self, settings: NodeSettings) -> None:
        """Go on with other settings; the counters go on as well."""
        self.settings = settings
        # cv_bridge is not looked for again.
        self._decoder = replace(
            self._decoder,
            range_scale=settings.range_scale,
            invalid_values=settings.invalid_values,
        )
        self._submit(self.intake.change(settings.pairing, self._decoder))

    def change_clock(self) -> None:
        """Note that `now_ns` tells the time of another clock from now on."""
        self.monitor.change_clock()
        self.clock.forget()
        self.intake.change_clock()

    def hear(self, stream: Stream, message: Message, info: Mapping[str, Any]) -> None:
        """Take in a message of a stream, and what the middleware says of who sent it."""
        self.senders[stream].note(info)
        self.take(stream, message)

    def take(self, stream: Stream, message: Message) -> None:
        """Take in a message of a stream. What cannot be decoded is dropped, counted and said."""
        if self._worker is None:
            return  # It left the middleware just before the subscription ended.
        now_ns = self._now_ns()
        self.monitor.heard(stream, stamp_ns(message), now_ns, message_bytes(message))
        self.frame_ids[stream] = message.header.frame_id
        try:
            pairs = self.intake.take(stream, message, now_ns)
        except Refused as fault:
            self._refused(fault)
            return
        self._submit(pairs)

    def calibrate(self, message: CameraInfoMessage) -> None:
        """Take in a camera_info. What cannot be used is said; the one before counts on."""
        if not self.calibration.take(message, self._now_ns()):
            self._complain(self.calibration.fault)

    def scan(self) -> ScanFacts | None:
        """Return the facts of the last scan, None before the first and after one was refused."""
        if (scan := self._scan) is None:
            return None
        ranges = cast('NDArray[np.float32]', scan.values)
        return ScanFacts.of(ranges, self.runtime.bundle.lidar.max_range, scan.placement)

    def _submit(self, pairs: list[Pair[Frame]]) -> None:
        now_ns = self._now_ns()
        for pair in pairs:
            if self._worker is None:
                self.intake.lose(pair, 'no_partner')
            else:
                held_ns = max(0, now_ns - came_ns(pair))
                self._worker.submit(_Ready(pair, 1e3 * held_ns / NANOSECONDS))

    def _predict(self, ready: _Ready) -> None:
        pair = ready.pair
        if 0 < self.settings.max_age_s < self._age_s(pair):
            self.intake.lose(pair, 'stale')
            return
        try:
            self.intake.decode(pair)
        except Refused as fault:
            self._refused(fault)
            return
        began = time.perf_counter()
        try:
            image, ranges = arrays_of(pair)
            self._scan = pair.lidar or self._scan
            if image is not None:
                self.image = image
            camera = self._camera_of(pair)
            prediction = self.runtime.predict_frame(image, ranges, camera)
            inferred = time.perf_counter()
            self._publish(
                Result(
                    stamp_ns=pair.stamp_ns,
                    frame_id=self._lidar_frame_of(pair),
                    prediction=prediction,
                    ranges=ranges,
                    lidar=self.runtime.bundle.lidar,
                    image=image,
                    camera=camera or self.runtime.bundle.rig.camera,
                    camera_frame='' if pair.camera is None else pair.camera.frame_id,
                )
            )
        except NoTransform as fault:
            self.intake.lose(pair, 'no_transform')
            self._fault(str(fault), *STREAMS)
            return
        except Exception as fault:  # Whatever it is, the node goes on with the next pair.
            self.intake.lose(pair, 'inference_error')
            self._fault(f'Inference failed: {type(fault).__name__}: {fault}', *STREAMS)
            return
        mode = prediction.mode[0]
        times = Times(
            latency_ms=1e3 * self._age_s(pair),
            pairing_ms=ready.held_ms,
            inference_ms=1e3 * (inferred - began),
            publishing_ms=1e3 * (time.perf_counter() - inferred),
            apart_ms=pair.apart_ns / 1e6 if mode == 'fusion' else None,
        )
        self.monitor.published(mode, times, ages_s_of(pair))
        # After the output, for which nobody shall have to wait.
        if image is not None and ranges is not None and self.monitor.is_to_compare():
            self._compare(image, ranges, camera)

    def _lidar_frame_of(self, pair: Pair[Frame]) -> str:
        return self.frame_ids['lidar'] if pair.lidar is None else pair.lidar.frame_id

    def _camera_of(self, pair: Pair[Frame]) -> Camera | None:
        """Return the camera of a pair where it is; None: the bundle's."""
        told = self.calibration.camera
        if pair.camera is None:
            return told
        lidar_frame = self._lidar_frame_of(pair) or self.settings.lidar_frame
        return self._mounting.placed(told, pair.camera.frame_id, lidar_frame, pair.stamp_ns)

    def _compare(
        self, image: NDArray[np.uint8], ranges: NDArray[np.float32], camera: Camera | None
    ) -> None:
        """Note how far camera and LiDAR, each by itself, put the objects apart."""
        try:
            self.monitor.compared(self.runtime.disagreement(image, ranges, camera))
        except Exception as fault:  # Whatever it is, the node goes on with the next pair.
            self._fault(f'The sensors cannot be compared: {type(fault).__name__}: {fault}')

    def _supersede(self, ready: _Ready) -> None:
        self.intake.lose(ready.pair, 'superseded')

    def _age_s(self, pair: Pair[Frame]) -> float:
        return (self._now_ns() - pair.stamp_ns) / NANOSECONDS

    def _refused(self, fault: Refused) -> None:
        self._fault(f'{fault.stream}: {fault}')
        self.monitor.faults[fault.stream] = str(fault)
        if fault.stream == 'lidar':
            self._scan = None

    def _fault(self, sentence: str, *streams: Stream) -> None:
        self.monitor.failed(sentence)
        self.monitor.lost_by.update(dict.fromkeys(streams, sentence))
        self._complain(sentence)
