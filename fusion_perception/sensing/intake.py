"""Take in the messages of camera and LiDAR and give out decoded pairs, with every loss counted.

The robot and the evaluation of recordings both take their messages in here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.beams import Beams, Placement
from fusion_perception.sensing.cloud import PointCloudMessage, decode_points, to_lidar_axes
from fusion_perception.sensing.decode import (
    IMAGE_ENCODINGS,
    RANGE_ENCODINGS,
    BadShape,
    CompressedImageMessage,
    Decoder,
    ImageMessage,
    stamp_ns,
)
from fusion_perception.sensing.leaps import Leaps
from fusion_perception.sensing.ledger import STREAMS, Cause, Ledger, Stream
from fusion_perception.sensing.observation import Lidar, Mode
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings

Message = ImageMessage | CompressedImageMessage | PointCloudMessage
Values = NDArray[np.uint8] | NDArray[np.float32]

# To decode images of these is to look at the message's own bytes.
_VIEWS = frozenset({*IMAGE_ENCODINGS, *RANGE_ENCODINGS})
TRAIN_ANOTHER = (
    'Connect the LiDAR that the bundle was trained for, or train a bundle for this one.'
)


class Refused(ValueError):  # noqa: N818 (named after what became of the message)
    """A message cannot be used: of which stream it is, and the cause it is counted under."""

    def __init__(self, stream: Stream, fault: Exception) -> None:
        super().__init__(str(fault) or type(fault).__name__)
        self.stream = stream
        self.cause: Cause = 'bad_shape' if isinstance(fault, BadShape) else 'bad_encoding'


class Frame:
    """What a message holds, decoded when it is first asked for, and the frame it is measured in.

    values are the pixels (H, W, C) uint8 of an image, or the ranges (R, C) float32 in metres;
    `placement` says what became of the points of a cloud, None before it is decoded, `came_ns`
    when the message came, and `age_ns` how old its stamp was then.
    """

    def __init__(
        self,
        stream: Stream,
        frame_id: str,
        decode: Callable[[], Values | Placement],
        age_ns: int = 0,
        came_ns: int = 0,
    ) -> None:
        self.frame_id, self.age_ns, self.came_ns = frame_id, age_ns, came_ns
        self.placement: Placement | None = None
        self._stream, self._decode = stream, decode
        self._values: Values | None = None

    @property
    def values(self) -> Values:
        """Return the values; raises Refused for a message that holds none."""
        # Before Python 3.12 a cached_property has one lock for the frames of all threads.
        if self._values is None:
            self._values = self._decoded()
        return self._values

    def _decoded(self) -> Values:
        try:
            decoded = self._decode()
        except Exception as fault:  # Whatever a decoder raises: one message must not end a node.
            raise Refused(self._stream, fault) from fault
        if isinstance(decoded, Placement):
            self.placement = decoded
            return decoded.ranges
        return decoded


@dataclass(frozen=True)
class Needs:
    """What can be taken in: whose needs these are, their LiDAR and the modes they can serve.

    `remedy` is what to do about range images of another shape than the LiDAR's.
    """

    whose: str
    lidar: Lidar
    modes: Collection[Mode]
    remedy: str = TRAIN_ANOTHER


def check_shape(
    ranges: NDArray[np.float32],
    needed: tuple[int, int],
    whose: str = 'the bundle',
    remedy: str = TRAIN_ANOTHER,
) -> None:
    """Raise BadShape for a range image of other (rows, columns) than are needed."""
    if ranges.shape != needed:
        raise BadShape(
            f'A range image of {ranges.shape} came and {whose} needs {needed} (rows, columns). '
            f'{remedy}'
        )


def arrays_of(
    pair: Pair[Frame],
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """Return the pixels (H, W, C) and the ranges (R, C) of a pair; None for a silent sensor.

    Raises Refused for what `Intake.decode` would.
    """
    image = None if pair.camera is None else pair.camera.values
    ranges = None if pair.lidar is None else pair.lidar.values
    return cast('NDArray[np.uint8] | None', image), cast('NDArray[np.float32] | None', ranges)


def ages_s_of(pair: Pair[Frame]) -> dict[Stream, float]:
    """Return how old the stamps of a pair's messages were when these came, seconds."""
    return {stream: frame.age_ns / 1e9 for stream, frame in _frames_of(pair).items()}


def came_ns(pair: Pair[Frame]) -> int:
    """Return when the last message of a pair came."""
    return max(frame.came_ns for frame in _frames_of(pair).values())


def _frames_of(pair: Pair[Frame]) -> dict[Stream, Frame]:
    """Return the frames of the sensors that are not silent."""
    frames = {stream: getattr(pair, stream) for stream in STREAMS}
    return {stream: frame for stream, frame in frames.items() if frame is not None}


class Intake:
    """Pair messages, and decode those that found a partner.

    Only they are worth the time: decoding a large compressed image, or placing a cloud, takes
    longer than it takes the next one to come. What is a view of the message is decoded when it
    comes. So is everything of a stream whose last message could not be decoded: the other stream
    must not wait for what cannot be used.

    `take`, `change`, `change_clock` and `flush` run one at a time; `decode` and `lose` may be
    called from another thread meanwhile. `ledger` counts every message, `leaps` the stamps that
    leapt.
    """

    def __init__(self, needs: Needs, pairing: PairingSettings, decoder: Decoder) -> None:
        self.ledger, self.leaps = Ledger(), Leaps()
        self._needs = needs
        self._beams: Beams | None = None
        self._given, self._decoder = pairing, decoder
        self._trusted: set[Stream] = set()
        self._jumps_before = 0
        self._pairer: Pairer[Frame] = Pairer(self._served(pairing), self.ledger)

    @property
    def clock_jumps(self) -> int:
        """Return how often the stamps jumped back so far that everything began anew."""
        return self._jumps_before + self._pairer.clock_jumps

    def prepare_for_clouds(self) -> None:
        """Do beforehand what the first point cloud would otherwise have to wait for."""
        if self._beams is None:
            self._beams = Beams(self._needs.lidar)

    def take(self, stream: Stream, message: Message, arrived_ns: int) -> list[Pair[Frame]]:
        """Return the pairs that this message completes, in stamp order.

        `arrived_ns` is when it came, by the clock that the stamps are of. A stamp that leaps into
        the future would pass alone, and end what goes on in the present: it is dropped
        (clock_jump) unless the one before did so.

        Raises Refused for a message that cannot be used, after counting it.
        """
        arrival = Arrival(stamp_ns(message), arrived_ns)
        if self.leaps.take(stream, arrival):
            self.ledger.receive(stream)
            self.ledger.drop(stream, 'clock_jump')
            return []
        frame = Frame(
            stream,
            message.header.frame_id,
            lambda: self._decode(stream, message),
            age_ns=arrived_ns - arrival.stamp_ns,
            came_ns=arrived_ns,
        )
        if stream not in self._trusted or self._takes_no_time(stream, message):
            try:
                self._look_into(frame)
            except Refused as fault:
                self.ledger.receive(stream)
                self.ledger.drop(stream, fault.cause)
                raise
            self._trusted.add(stream)
        return self._usable(self._pairer.add(stream, arrival.stamp_ns, frame))

    def decode(self, pair: Pair[Frame]) -> None:
        """Decode the messages of a pair that came out.

        Raises Refused when one cannot be used, after counting it as dropped, and the other, whose
        partner it was, as well.
        """
        present = _frames_of(pair)
        for stream, frame in present.items():
            try:
                self._look_into(frame)
            except Refused as fault:
                self._trusted.discard(stream)
                for each in present:
                    cause = fault.cause if each == stream else 'no_partner'
                    self.ledger.reclassify(each, cause)
                raise

    def flush(self) -> list[Pair[Frame]]:
        """End both streams and return the pairs that were still waiting."""
        return self._usable(self._pairer.flush())

    def change(self, pairing: PairingSettings, decoder: Decoder) -> list[Pair[Frame]]:
        """Go on with other settings; return the pairs that still belong to the old ones."""
        self._decoder = decoder
        if pairing == self._given:
            return []
        pairs = self.flush()
        self._given, self._jumps_before = pairing, self.clock_jumps
        self._pairer = Pairer(self._served(pairing), self.ledger)
        return pairs

    def change_clock(self) -> None:
        """Take the times of arrival by another clock from now on."""
        self.leaps.forget()

    def lose(self, pair: Pair[Frame], cause: Cause) -> None:
        """Count the messages of a pair that came out, and then came to nothing, as dropped."""
        for stream in _frames_of(pair):
            self.ledger.reclassify(stream, cause)

    def _served(self, pairing: PairingSettings) -> PairingSettings:
        # A sensor that the model cannot use alone shall wait for its partner.
        able = {'camera_only', 'lidar_only'} & set(self._needs.modes)
        return pairing.model_copy(update={'allow_single': pairing.allow_single and bool(able)})

    def _usable(self, pairs: list[Pair[Frame]]) -> list[Pair[Frame]]:
        usable = []
        for pair in pairs:
            if pair.mode == 'fusion' or pair.mode in self._needs.modes:
                usable.append(pair)
            else:
                self.lose(pair, 'no_partner')
        return usable

    def _takes_no_time(self, stream: Stream, message: Message) -> bool:
        """Say whether a message is soon decoded, or refused."""
        if not hasattr(message, 'encoding'):
            return False
        decoder = self._decoder
        fallback = decoder.image_fallback if stream == 'camera' else decoder.range_fallback
        return message.encoding in _VIEWS or fallback is None

    @staticmethod
    def _look_into(frame: Frame) -> None:
        _ = frame.values

    def _decode(self, stream: Stream, message: Message) -> Values | Placement:
        if stream == 'camera':
            return self._decoder.image(cast('ImageMessage | CompressedImageMessage', message))
        if hasattr(message, 'point_step'):
            return self._placed(cast('PointCloudMessage', message))
        ranges = self._decoder.ranges(cast('ImageMessage', message))
        check_shape(ranges, self._needs.lidar.shape, self._needs.whose, self._needs.remedy)
        return ranges

    def _placed(self, message: PointCloudMessage) -> Placement:
        points = decode_points(message)
        self.prepare_for_clouds()
        assert self._beams is not None
        organised = points.shape[:2] == self._needs.lidar.shape
        return self._beams.place(to_lidar_axes(points), organised)
