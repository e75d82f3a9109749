"""Decode, pair and predict: what stands between the node's topics, with every loss counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import Image

from fusion_perception.ros.bridge import cv_bridge_fallback
from fusion_perception.ros.inference import NewestWorker
from fusion_perception.ros.messages import NANOSECONDS
from fusion_perception.ros.monitor import Monitor
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.decode import (
    BadEncoding,
    BadShape,
    decode_image,
    decode_range,
    stamp_ns,
)
from fusion_perception.sensing.ledger import STREAMS, Cause, Stream
from fusion_perception.sensing.observation import Camera, Prediction
from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings


@dataclass(frozen=True)
class Frame:
    """A decoded message: its values, and the frame they were measured in."""

    values: NDArray[Any]
    frame_id: str


# Publishes a prediction for a stamp; the frame_id is the LiDAR's, or '' while none was heard.
Publish = Callable[[int, str, Prediction], None]


class Pipeline:
    """The way of the messages. `take`, `change`, `open` and `close` are called by one thread.

    `publish` and `complain` are called from the thread that predicts; `now_ns` is the clock that
    the stamps come from. Nothing is predicted before `open` and after `close`.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: NodeSettings,
        publish: Publish,
        complain: Callable[[str], None],
        now_ns: Callable[[], int],
    ) -> None:
        self.runtime, self.settings = runtime, settings
        self.camera: Camera | None = None
        self.monitor = Monitor()
        self.pairer: Pairer[Frame] = Pairer(self._pairing(settings))
        self._publish, self._complain, self._now_ns = publish, complain, now_ns
        self._lidar_frame = ''
        self._worker: NewestWorker[Pair[Frame]] | None = None
        self._image_fallback = cv_bridge_fallback('rgb8')
        self._range_fallback = cv_bridge_fallback('passthrough')

    def open(self) -> None:
        """Begin to predict."""
        self.monitor.began_to_listen()
        self._worker = NewestWorker(self._predict, self._supersede)

    def close(self) -> None:
        """Let what is under way come out, and give up what waits."""
        if self._worker is None:
            return
        self._submit(self.pairer.flush())
        self._worker.stop()
        self._worker = None

    def change(self, settings: NodeSettings) -> None:
        """Go on with other settings; the counters go on as well."""
        before, self.settings = self.settings, settings
        if settings.pairing != before.pairing:
            self._submit(self.pairer.flush())
            self.pairer = Pairer(self._pairing(settings), self.pairer.ledger)

    def take(self, stream: Stream, message: Image) -> None:
        """Take in a message of a stream. What cannot be decoded is dropped, counted and said."""
        if self._worker is None:
            return  # It left the middleware just before the subscription ended.
        self.monitor.heard(stream)
        if stream == 'lidar':
            self._lidar_frame = message.header.frame_id
        try:
            values = self._decode(stream, message)
        except (BadEncoding, BadShape) as fault:
            self.pairer.ledger.receive(stream)
            cause: Cause = 'bad_encoding' if isinstance(fault, BadEncoding) else 'bad_shape'
            self.pairer.ledger.drop(stream, cause)
            self._fault(f'{stream}: {fault}')
            return
        frame = Frame(values, message.header.frame_id)
        self._submit(self.pairer.add(stream, stamp_ns(message), frame))

    def _pairing(self, settings: NodeSettings) -> PairingSettings:
        able = {'camera_only', 'lidar_only'} & self.runtime.bundle.model.modes
        single = settings.pairing.allow_single and bool(able)
        return settings.pairing.model_copy(update={'allow_single': single})

    def _decode(self, stream: Stream, message: Image) -> NDArray[Any]:
        if stream == 'camera':
            return decode_image(message, self._image_fallback)
        ranges = decode_range(message, self.settings.range_scale, self._range_fallback)
        bundle = self.runtime.bundle
        if ranges.shape != bundle.lidar.shape:
            raise BadShape(
                f'A range image of {ranges.shape} came and {bundle.path.name} needs '
                f'{bundle.lidar.shape} (rows, columns). Connect the LiDAR that the bundle was '
                'trained for, or train a bundle for this one.'
            )
        return ranges

    def _submit(self, pairs: list[Pair[Frame]]) -> None:
        for pair in pairs:
            if self._worker is None:
                self._lose(pair, 'no_partner')
            else:
                self._worker.submit(pair)

    def _predict(self, pair: Pair[Frame]) -> None:
        began = time.perf_counter()
        if pair.mode != 'fusion' and pair.mode not in self.runtime.bundle.model.modes:
            self._lose(pair, 'no_partner')
            return
        if 0 < self.settings.max_age_s < self._age_s(pair):
            self._lose(pair, 'stale')
            return
        try:
            image = None if pair.camera is None else pair.camera.values
            ranges = None if pair.lidar is None else pair.lidar.values
            prediction = self.runtime.predict(self.runtime.observe(image, ranges, self.camera))
            inferred = time.perf_counter()
            frame_id = self._lidar_frame if pair.lidar is None else pair.lidar.frame_id
            self._publish(pair.stamp_ns, frame_id, prediction)
        except Exception as fault:  # Whatever it is, the node goes on with the next pair.
            self._lose(pair, 'inference_error')
            self._fault(f'Inference failed: {type(fault).__name__}: {fault}')
            return
        self.monitor.published(
            prediction.mode[0], 1e3 * self._age_s(pair), 1e3 * (inferred - began)
        )

    def _supersede(self, pair: Pair[Frame]) -> None:
        self._lose(pair, 'superseded')

    def _lose(self, pair: Pair[Frame], cause: Cause) -> None:
        for stream in STREAMS:
            if getattr(pair, stream) is not None:
                self.pairer.ledger.reclassify(stream, cause)

    def _age_s(self, pair: Pair[Frame]) -> float:
        return (self._now_ns() - pair.stamp_ns) / NANOSECONDS

    def _fault(self, sentence: str) -> None:
        self.monitor.last_fault = sentence
        self._complain(sentence)
