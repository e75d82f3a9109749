"""Read image messages into arrays by their shape, without a copy wherever there is a choice.

A message is anything with the fields of the ROS message of that name: one that rclpy received
(`data` is an array.array), one read from a bag (`data` is a NumPy array), or bytes. What is
none of the encodings named here goes to a `fallback`: the robot hands in cv_bridge where it is
installed. A fallback takes the message, returns (H, W) or (H, W, C), colours in the order RGB(A),
and raises ValueError for what it cannot read either.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import Field
from typing_extensions import Buffer

from fusion_perception.sensing.quoting import quoted, reason

# Channels, which for these are also the bytes of a pixel.
IMAGE_ENCODINGS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
RANGE_ENCODINGS = {'32FC1': 'f4', '16UC1': 'u2', 'mono16': 'u2'}
COMPRESSED_MODES = ('L', 'RGB', 'RGBA')
# What counts of a 16-bit range image mean, for the settings of whoever reads them.
RangeScale = Annotated[
    float, Field(gt=0, le=1, description='Metres per count of 16UC1 and mono16 range images')
]
InvalidValues = Annotated[
    tuple[Annotated[int, Field(ge=0, le=65535)], ...],
    Field(description='Counts of 16UC1 and mono16 range images that mean no return'),
]
RANGE_SCALE, INVALID_VALUES = 0.001, (0, 65535)


class BadEncoding(ValueError):  # noqa: N818 (named after its cause in the ledger)
    """The message holds pixels of a kind that cannot be read."""


class BadShape(ValueError):  # noqa: N818
    """The sizes that the message states and the data it carries do not agree."""


class Stamp(Protocol):
    """A time as builtin_interfaces/Time has it."""

    sec: int
    nanosec: int


class Header(Protocol):
    """The part of std_msgs/Header that is used here."""

    stamp: Stamp
    frame_id: str


class StampedMessage(Protocol):
    """Any message with a header."""

    header: Header


class ImageMessage(StampedMessage, Protocol):
    """A message shaped like sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Buffer


class CompressedImageMessage(StampedMessage, Protocol):
    """A message shaped like sensor_msgs/CompressedImage."""

    format: str
    data: Buffer


Fallback = Callable[[ImageMessage], NDArray[np.generic]]


def message_bytes(message: object) -> int:
    """Return how many bytes of data a message carries; 0 where it has none."""
    data = getattr(message, 'data', None)
    return 0 if data is None else memoryview(data).nbytes


def stamp_ns(message: StampedMessage) -> int:
    """Return the stamp in integer nanoseconds; 0 is that of a message that was never stamped."""
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def decode_image(message: ImageMessage, fallback: Fallback | None = None) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) uint8, C of 1 (mono), 3 (RGB) or 4 (RGBA).

    A read-only view of the message's data, also over padded rows; a BGR image is that view with
    its channels reversed. Only bgra8 is copied, for want of a stride that puts alpha last.
    Raises BadEncoding or BadShape.
    """
    if message.encoding not in IMAGE_ENCODINGS:
        pixels = _through(fallback, message, IMAGE_ENCODINGS)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
            raise BadEncoding(
                f'Encoding {quoted(message.encoding)} was read as {pixels.dtype} {pixels.shape}; '
                'an image has 8 bits and 1, 3 or 4 channels. Publish rgb8.'
            )
        return pixels.astype(np.uint8, copy=False)
    channels = IMAGE_ENCODINGS[message.encoding]
    rows = _rows(message, message.width * channels)
    pixels = rows.reshape(message.height, message.width, channels)
    if message.encoding == 'bgr8':
        return pixels[..., ::-1]
    if message.encoding == 'bgra8':
        swapped = pixels.copy()  # Two strided writes take half the time of indexing [2, 1, 0, 3].
        swapped[..., 0], swapped[..., 2] = pixels[..., 2], pixels[..., 0]
        return swapped
    return pixels


def decode_range(
    message: ImageMessage,
    range_scale: float = RANGE_SCALE,
    fallback: Fallback | None = None,
    invalid_values: Collection[int] = INVALID_VALUES,
) -> NDArray[np.float32]:
    """Return the ranges (R, C) float32 in metres.

    32FC1 holds metres: a read-only view of the message's data where byte order and alignment
    allow; what means "no return" stays as it is. 16UC1 and mono16 hold counts of `range_scale`
    metres; counts among the `invalid_values` become 0. Raises BadEncoding or BadShape.
    """
    if message.encoding in RANGE_ENCODINGS:
        order = '>' if message.is_bigendian else '<'
        dtype = np.dtype(order + RANGE_ENCODINGS[message.encoding])
        values = _rows(message, message.width * dtype.itemsize).view(dtype)
    else:
        values = _through(fallback, message, RANGE_ENCODINGS)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[..., 0]
        if values.ndim != 2 or values.dtype.kind not in 'uif':
            raise BadEncoding(
                f'Encoding {quoted(message.encoding)} was read as {values.dtype} {values.shape}; '
                'a range image has one number per pixel. Publish 32FC1 in metres.'
            )
    if values.dtype.kind == 'f':
        # Torch takes neither foreign byte order nor rows that start between two numbers.
        metres: NDArray[np.float32] = np.require(values, np.float32, ['ALIGNED'])
        return metres
    scaled = values.astype(np.float32) * np.float32(range_scale)
    for count in invalid_values:
        scaled[values == count] = 0
    return scaled


def decode_compressed_image(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG into (H, W, C) uint8, C of 1 (mono), 3 (RGB) or 4 (RGBA).

    Raises BadEncoding for what is neither, is torn, or has more than 8 bits per channel.
    """
    try:
        # Pillow notices a torn file; faster decoders fill it up with grey.
        with Image.open(io.BytesIO(message.data), formats=('JPEG', 'PNG')) as image:
            if image.mode not in COMPRESSED_MODES:
                raise BadEncoding(
                    f'A compressed image ({quoted(message.format)}) has pixels of mode '
                    f'{image.mode}. Compress 8-bit RGB or mono images.'
                )
            pixels = np.asarray(image)
    except BadEncoding:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own words for what it cannot identify are an object's address.
        unknown = isinstance(error, UnidentifiedImageError)
        fault = 'neither a JPEG nor a PNG' if unknown else reason(error)
        raise BadEncoding(
            f'A compressed image ({quoted(message.format)}, {message_bytes(message)} bytes) '
            f'cannot be read: {fault}. Publish whole JPEG or PNG images, or uncompressed ones.'
        ) from None
    return pixels.reshape(*pixels.shape[:2], -1)


@dataclass(frozen=True)
class Decoder:
    """Decodes images whatever they come as: what 16-bit ranges mean, and the fallbacks."""

    range_scale: float = RANGE_SCALE
    invalid_values: Collection[int] = INVALID_VALUES
    image_fallback: Fallback | None = None
    range_fallback: Fallback | None = None

    def image(self, message: ImageMessage | CompressedImageMessage) -> NDArray[np.uint8]:
        """Return the pixels of a camera's message, as `decode_image` does."""
        if hasattr(message, 'encoding'):
            return decode_image(cast('ImageMessage', message), self.image_fallback)
        return decode_compressed_image(message)

    def ranges(self, message: ImageMessage) -> NDArray[np.float32]:
        """Return the ranges of a range image, as `decode_range` does."""
        return decode_range(message, self.range_scale, self.range_fallback, self.invalid_values)


def _rows(message: ImageMessage, row_bytes: int) -> NDArray[np.uint8]:
    """Return the data as (H, row_bytes) without its padding: a read-only view."""
    said = f'An image says {message.height} x {message.width} {quoted(message.encoding)}'
    if message.height <= 0 or message.width <= 0:
        raise BadShape(f'{said}: it has no pixels. Check the driver.')
    if message.step < row_bytes:
        raise BadShape(
            f'{said} with a step of {message.step} bytes, but a row takes {row_bytes}. '
            'Correct the step.'
        )
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if data.size != message.height * message.step:
        raise BadShape(
            f'{said} with a step of {message.step} bytes, which makes '
            f'{message.height * message.step}, but carries {data.size}. Check the driver.'
        )
    data.flags.writeable = False
    rows: NDArray[np.uint8] = data.reshape(message.height, message.step)[:, :row_bytes]
    return rows


def _through(
    fallback: Fallback | None, message: ImageMessage, supported: dict[str, int] | dict[str, str]
) -> NDArray[np.generic]:
    remedy = f'Publish one of {", ".join(supported)}'
    if fallback is None:
        raise BadEncoding(
            f'Encoding {quoted(message.encoding)} is not supported. {remedy}, or install '
            'cv_bridge.'
        )
    try:
        return fallback(message)
    except ValueError as error:
        raise BadEncoding(
            f'Encoding {quoted(message.encoding)} could not be converted: {reason(error)}. '
            f'{remedy}.'
        ) from None
