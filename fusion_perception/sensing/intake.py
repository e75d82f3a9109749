"""Take in the messages of camera and LiDAR and give out decoded pairs, with every loss counted.

The robot and the evaluation of recordings both take their messages in here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.beams import Beams, Placement
from fusion_perception.sensing.cloud import PointCloudMessage, decode_points, to_lidar_axes
from fusion_perception.sensing.decode import (
    INVALID_VALUES,
    RANGE_SCALE,
    BadEncoding,
    BadShape,
    CompressedImageMessage,
    Fallback,
    ImageMessage,
    decode_compressed_image,
    decode_image,
    decode_range,
    stamp_ns,
)
from fusion_perception.sensing.ledger import STREAMS, Cause, Ledger, Stream
from fusion_perception.sensing.observation import Lidar, Mode
from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings

Message = ImageMessage | CompressedImageMessage | PointCloudMessage


@dataclass(frozen=True)
class Frame:
    """A decoded message: its values, and the frame they were measured in.

    values are the pixels (H, W, C) uint8 of an image, or the ranges (R, C) float32 in metres.
    """

    values: NDArray[np.uint8] | NDArray[np.float32]
    frame_id: str


@dataclass(frozen=True)
class Needs:
    """What can be taken in: whose needs these are, their LiDAR and the modes they can serve.

    `remedy` is what to do about range images of another shape than the LiDAR's.
    """

    whose: str
    lidar: Lidar
    modes: Collection[Mode]
    remedy: str = (
        'Connect the LiDAR that the bundle was trained for, or train a bundle for this one.'
    )


def arrays_of(
    pair: Pair[Frame],
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """Return the pixels (H, W, C) and the ranges (R, C) of a pair; None for a silent sensor."""
    image = None if pair.camera is None else pair.camera.values
    ranges = None if pair.lidar is None else pair.lidar.values
    return cast('NDArray[np.uint8] | None', image), cast('NDArray[np.float32] | None', ranges)


class Intake:
    """Decode each message and pair it. `take`, `change` and `flush` run one at a time.

    `ledger` counts every message; `lose` may be called from any thread. `placement` says what
    became of the points of the last cloud, None before the first.
    """

    def __init__(
        self,
        needs: Needs,
        pairing: PairingSettings,
        range_scale: float = RANGE_SCALE,
        invalid_values: Collection[int] = INVALID_VALUES,
        image_fallback: Fallback | None = None,
        range_fallback: Fallback | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.placement: Placement | None = None
        self._needs = needs
        self._beams: Beams | None = None
        self._range_scale, self._invalid_values = range_scale, invalid_values
        self._image_fallback, self._range_fallback = image_fallback, range_fallback
        self._given = pairing
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

    def take(self, stream: Stream, message: Message) -> list[Pair[Frame]]:
        """Return the pairs that this message completes, in stamp order.

        Raises BadEncoding or BadShape for a message that cannot be used, after counting it.
        """
        try:
            values = self._decode(stream, message)
        except (BadEncoding, BadShape) as fault:
            self.ledger.receive(stream)
            self.ledger.drop(
                stream, 'bad_encoding' if isinstance(fault, BadEncoding) else 'bad_shape'
            )
            raise
        frame = Frame(values, message.header.frame_id)
        return self._usable(self._pairer.add(stream, stamp_ns(message), frame))

    def flush(self) -> list[Pair[Frame]]:
        """End both streams and return the pairs that were still waiting."""
        return self._usable(self._pairer.flush())

    def change(
        self,
        pairing: PairingSettings,
        range_scale: float = RANGE_SCALE,
        invalid_values: Collection[int] = INVALID_VALUES,
    ) -> list[Pair[Frame]]:
        """Go on with other settings; return the pairs that still belong to the old ones."""
        self._range_scale, self._invalid_values = range_scale, invalid_values
        if pairing == self._given:
            return []
        pairs = self.flush()
        self._given, self._jumps_before = pairing, self.clock_jumps
        self._pairer = Pairer(self._served(pairing), self.ledger)
        return pairs

    def lose(self, pair: Pair[Frame], cause: Cause) -> None:
        """Count the messages of a pair that came out, and then came to nothing, as dropped."""
        for stream in STREAMS:
            if getattr(pair, stream) is not None:
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

    def _decode(self, stream: Stream, message: Message) -> NDArray[np.uint8] | NDArray[np.float32]:
        if stream == 'camera':
            if hasattr(message, 'encoding'):
                return decode_image(cast('ImageMessage', message), self._image_fallback)
            return decode_compressed_image(cast('CompressedImageMessage', message))
        if hasattr(message, 'point_step'):
            return self._ranges_of(cast('PointCloudMessage', message))
        image = cast('ImageMessage', message)
        ranges = decode_range(image, self._range_scale, self._range_fallback, self._invalid_values)
        if ranges.shape != self._needs.lidar.shape:
            raise BadShape(
                f'A range image of {ranges.shape} came and {self._needs.whose} needs '
                f'{self._needs.lidar.shape} (rows, columns). {self._needs.remedy}'
            )
        return ranges

    def _ranges_of(self, message: PointCloudMessage) -> NDArray[np.float32]:
        points = decode_points(message)
        self.prepare_for_clouds()
        assert self._beams is not None
        organised = points.shape[:2] == self._needs.lidar.shape
        self.placement = self._beams.place(to_lidar_axes(points), organised)
        return self.placement.ranges
