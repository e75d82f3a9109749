"""Watch the messages of both streams go by: what they are, when they come, whether they pair."""

from __future__ import annotations

import statistics
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.cloud import PointCloudMessage, decode_points
from fusion_perception.sensing.decode import (
    BadEncoding,
    BadShape,
    Decoder,
    ImageMessage,
    message_bytes,
    stamp_ns,
)
from fusion_perception.sensing.findings.facts import Facts, InputFacts, ScanFacts, Source
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.findings.images import ImageTally
from fusion_perception.sensing.findings.scans import ScanTally
from fusion_perception.sensing.intake import Message, Refused, check_shape
from fusion_perception.sensing.leaps import Leaps
from fusion_perception.sensing.ledger import STREAMS, Cause, Ledger, Stream
from fusion_perception.sensing.offsets import Arrival, rate_hz
from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings

# Enough to measure offsets; a long recording must not fill the memory.
KEPT = 512
# A cloud without order, of which every scan has another size.
_ROW = 'cloud of points'


class Watch:
    """Takes messages as a node would, and keeps facts instead of measurements.

    `lidar_shape` (rows, columns) is what range images must have, None for any; `kinds` counts
    what came by encoding and size, clouds of one row without their size; `scan` tells of the last
    range image that could be used (a cloud takes beams to become one), `scans` of all scans and
    `images` of all images together; `image_size` is the last image's width and height.
    """

    def __init__(
        self,
        pairing: PairingSettings,
        decoder: Decoder,
        lidar_shape: tuple[int, int] | None = None,
        max_range: float = float('inf'),
    ) -> None:
        self.pairs = 0
        self.scan: ScanFacts | None = None
        self.scans = ScanTally()
        self.images = ImageTally()
        self.image_size: tuple[int, int] | None = None
        self.kinds: dict[Stream, Counter[str]] = {stream: Counter() for stream in STREAMS}
        self._decoder = decoder
        self._lidar_shape, self._max_range = lidar_shape, max_range
        self._faults: dict[Stream, str] = {}
        self._arrivals: dict[Stream, deque[Arrival]] = {s: deque(maxlen=KEPT) for s in STREAMS}
        self._ledger = Ledger()
        self._pairer: Pairer[None] = Pairer(pairing, self._ledger)
        self._leaps = Leaps()
        self._medians_m: deque[float] = deque(maxlen=KEPT)
        self._span_m = (float('inf'), 0.0)
        self._row_points = (sys.maxsize, 0)
        self._bytes: dict[Stream, int] = {}
        self._frame_ids: dict[Stream, str] = {}

    def take(self, stream: Stream, message: Message, arrived_ns: int) -> None:
        """Take note of a message; one that cannot be used is counted by cause."""
        stamp = stamp_ns(message)
        arrival = Arrival(stamp, arrived_ns)
        self._arrivals[stream].append(arrival)
        self._bytes[stream] = message_bytes(message)
        self._frame_ids[stream] = message.header.frame_id
        if self._leaps.take(stream, arrival):
            self._drop(stream, 'clock_jump')
            return
        try:
            self.kinds[stream][self._read(stream, message)] += 1
        except (BadEncoding, BadShape) as fault:
            refused = Refused(stream, fault)
            self._drop(stream, refused.cause)
            self._faults[stream] = str(refused)
            return
        self._note(self._pairer.add(stream, stamp, None))

    def finish(self) -> None:
        """Let the pairs out that were waiting for later messages."""
        self._note(self._pairer.flush())

    @property
    def received(self) -> dict[Stream, int]:
        """Return how many messages came of each stream."""
        return {stream: counts['received'] for stream, counts in self._ledger.counters().items()}

    @property
    def clock_jumps(self) -> int:
        """Return how often stamps jumped back so far that the pairing began anew."""
        return self._pairer.clock_jumps

    def median_m(self) -> float | None:
        """Return how far the LiDAR sees, in the median; None before it measured anything."""
        return statistics.median(self._medians_m) if self._medians_m else None

    def span(self) -> str:
        """Return from where to where the LiDAR measured, '' before it measured anything."""
        return '{:.1f} to {:,.1f} m'.format(*self._span_m) if self._medians_m else ''

    def kind(self, stream: Stream) -> str:
        """Return in words what came of a stream, '' for nothing that can be read."""
        least, most = self._row_points
        some = f'{most:,}' if least == most else f'{least:,} to {most:,}'
        return ', '.join(self.kinds[stream]).replace(_ROW, f'cloud of {some} points')

    def rate_hz(self, stream: Stream) -> float:
        """Return how often messages of a stream came."""
        return rate_hz(self._arrivals[stream])

    def inputs(
        self,
        sources: Mapping[Stream, Sequence[Source]],
        silent_s: Mapping[Stream, float | None],
        period_s: Mapping[Stream, float],
        usual_bytes: Mapping[Stream, int],
        announced: Mapping[Stream, int],
        has_profile: bool = False,
    ) -> list[InputFacts]:
        """Return the facts of the streams that have sources.

        `silent_s` lacks, or has None for, what was never heard; `usual_bytes` is what a message
        takes of which none came.
        """
        counters = self._ledger.counters()
        return [
            InputFacts(
                stream=stream,
                sources=sources[stream],
                received=counters[stream]['received'],
                dropped=counters[stream]['dropped'],
                fault=self._faults.get(stream, ''),
                silent_s=silent_s.get(stream),
                period_s=period_s.get(stream, 0.0),
                arrivals=list(self._arrivals[stream]),
                message_bytes=self._bytes.get(stream) or usual_bytes.get(stream, 0),
                announced=announced.get(stream, 0),
                frame_id=self._frame_ids.get(stream, ''),
                has_profile=has_profile,
            )
            for stream in STREAMS
            if sources.get(stream)
        ]

    def _drop(self, stream: Stream, cause: Cause) -> None:
        self._ledger.receive(stream)
        self._ledger.drop(stream, cause)

    def _note(self, pairs: Sequence[Pair[None]]) -> None:
        # What passed alone came of one sensor.
        self.pairs += sum(pair.mode == 'fusion' for pair in pairs)

    def _span(self, measured_m: NDArray[np.float32]) -> None:
        if measured_m.size:
            low, high = self._span_m
            self._span_m = min(low, float(measured_m.min())), max(high, float(measured_m.max()))
            self._medians_m.append(float(np.median(measured_m)))

    def _read(self, stream: Stream, message: Message) -> str:
        if hasattr(message, 'point_step'):
            cloud = cast('PointCloudMessage', message)
            points = decode_points(cloud)
            measured = np.isfinite(points).all(axis=-1) & points.any(axis=-1)
            share = float(measured.mean()) if measured.size else 0.0
            self.scans.add(ScanFacts(share, int(measured.sum())))
            self._span(np.linalg.norm(points[measured], axis=-1))
            if cloud.height == 1:
                least, most = self._row_points
                self._row_points = min(least, cloud.width), max(most, cloud.width)
                return _ROW
            return f'cloud of {cloud.height}x{cloud.width} points'
        if stream == 'camera':
            pixels = self._decoder.image(message)
            self.image_size = pixels.shape[1], pixels.shape[0]
            self.images.add(pixels)
            return '{} {}x{}'.format(getattr(message, 'encoding', 'compressed'), *self.image_size)
        image = cast('ImageMessage', message)
        ranges = self._decoder.ranges(image)
        if self._lidar_shape is not None:
            check_shape(ranges, self._lidar_shape)
        self.scan = ScanFacts.of(ranges, self._max_range)
        self.scans.add(self.scan)
        self._span(ranges[np.isfinite(ranges) & (ranges > 0)])
        return f'{image.encoding} {image.width}x{image.height}'


def of_streams(facts: Facts, watch: Watch) -> list[Finding]:
    """Return what came on each stream that was heard."""
    findings = []
    for stream in facts.inputs:
        rate = watch.rate_hz(stream.stream)
        at = f' at {rate:.1f} Hz' if rate else ''
        kinds = watch.kind(stream.stream) or 'nothing that can be read'
        if stream.stream == 'lidar' and (span := watch.span()):
            kinds += f', {span}'
        if watch.received[stream.stream]:
            findings.append(
                Finding(
                    'OK',
                    f'{stream.topics}: {watch.received[stream.stream]} messages{at}, {kinds}',
                )
            )
    return findings
