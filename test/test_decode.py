import array
import io
import struct
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fusion_perception.sensing.decode import (
    IMAGE_ENCODINGS,
    BadEncoding,
    BadShape,
    decode_compressed_image,
    decode_image,
    decode_range,
    stamp_ns,
)

HEIGHT, WIDTH = 5, 7
# How the data of a message arrives: from rclpy, from rosbags, and from elsewhere.
CARRIERS = {
    'array': lambda raw: array.array('B', raw),
    'ndarray': lambda raw: np.frombuffer(raw, np.uint8).copy(),
    'bytes': bytes,
    'memoryview': memoryview,
}


@dataclass
class Message:
    encoding: str
    data: object
    step: int
    height: int = HEIGHT
    width: int = WIDTH
    is_bigendian: int = 0
    header: object = field(
        default_factory=lambda: SimpleNamespace(
            stamp=SimpleNamespace(sec=1_700_000_000, nanosec=123_456_789), frame_id='sensor'
        )
    )


def message(encoding: str, values: np.ndarray, padding: int = 0, carrier: str = 'array', **stated):
    """Lay an image (H, W, ...) out in rows with `padding` bytes of noise after each."""
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    noise = np.full((len(rows), padding), 0xA5, np.uint8)
    padded = np.hstack((rows, noise))
    return Message(
        encoding,
        CARRIERS[carrier](padded.tobytes()),
        **{'step': padded.shape[1], 'height': values.shape[0], 'width': values.shape[1], **stated},
    )


def pixels(channels: int) -> np.ndarray:
    count = HEIGHT * WIDTH * channels
    return np.arange(count, dtype=np.uint8).reshape(HEIGHT, WIDTH, channels)


def metres() -> np.ndarray:
    values = np.linspace(0.5, 49.5, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    values[0, :4] = 0, np.inf, np.nan, 50
    return values


def torch_can_hold(values: np.ndarray) -> bool:
    return values.dtype.isnative and all(s % values.itemsize == 0 for s in values.strides)


@pytest.mark.parametrize('carrier', CARRIERS)
@pytest.mark.parametrize('padding', [0, 1, 5])
@pytest.mark.parametrize('encoding', IMAGE_ENCODINGS)
def test_every_encoding_gives_the_colours_in_rgb_order(encoding, padding, carrier):
    seen = pixels(IMAGE_ENCODINGS[encoding])
    order = {'bgr8': [2, 1, 0], 'bgra8': [2, 1, 0, 3]}.get(encoding, slice(None))
    decoded = decode_image(message(encoding, seen[..., order], padding, carrier))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, seen)


@pytest.mark.parametrize('carrier', CARRIERS)
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', ['rgb8', 'rgba8', 'mono8', 'bgr8'])
def test_an_image_is_a_read_only_view_of_the_message(encoding, padding, carrier):
    came = message(encoding, pixels(IMAGE_ENCODINGS[encoding]), padding, carrier)
    decoded = decode_image(came)
    assert np.shares_memory(decoded, np.frombuffer(came.data, np.uint8))
    assert not decoded.flags.writeable


@pytest.mark.parametrize('carrier', CARRIERS)
@pytest.mark.parametrize('padding', [0, 4])
def test_a_32fc1_range_image_is_a_read_only_view_of_the_message(padding, carrier):
    came = message('32FC1', metres(), padding, carrier)
    decoded = decode_range(came)
    np.testing.assert_array_equal(decoded, metres())
    assert np.shares_memory(decoded, np.frombuffer(came.data, np.uint8))
    assert not decoded.flags.writeable


@pytest.mark.parametrize('padding', [0, 1, 2, 4])
@pytest.mark.parametrize('order', ['<', '>'])
def test_32fc1_is_metres_in_either_byte_order_whatever_the_padding(order, padding):
    came = message('32FC1', metres().astype(order + 'f4'), padding, is_bigendian=order == '>')
    decoded = decode_range(came)
    assert decoded.dtype == np.float32 and torch_can_hold(decoded)
    np.testing.assert_array_equal(decoded, metres())


@pytest.mark.parametrize('padding', [0, 1, 2])
@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_counts_become_metres_by_the_scale_and_zero_stays_zero(encoding, order, padding):
    counts = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 1800
    came = message(encoding, counts.astype(order + 'u2'), padding, is_bigendian=order == '>')
    decoded = decode_range(came, range_scale=0.004)
    assert decoded.dtype == np.float32 and torch_can_hold(decoded)
    assert decoded[0, 0] == 0
    np.testing.assert_allclose(decoded, counts * 0.004, rtol=1e-6)


def test_counts_are_millimetres_unless_told_otherwise():
    came = message('16UC1', np.full((HEIGHT, WIDTH), 1500, np.uint16))
    np.testing.assert_allclose(decode_range(came), 1.5, rtol=1e-6)


@pytest.mark.parametrize('invalid', [None, (0, 65535), (65535, 1000)])
def test_every_count_that_means_no_return_becomes_zero(invalid):
    counts = np.array([[0, 65535, 1000]], np.uint16)
    chosen = {} if invalid is None else {'invalid_values': invalid}
    decoded = decode_range(message('16UC1', counts), **chosen)
    np.testing.assert_allclose(decoded, [[0, 0, 0 if 1000 in (invalid or ()) else 1]], rtol=1e-6)


def test_the_range_scale_leaves_metres_alone():
    np.testing.assert_array_equal(decode_range(message('32FC1', metres()), 0.004), metres())


def test_an_unknown_image_encoding_names_what_is_supported():
    with pytest.raises(BadEncoding, match="'bayer_rggb8' is not supported") as caught:
        decode_image(message('bayer_rggb8', pixels(1)))
    assert all(encoding in str(caught.value) for encoding in (*IMAGE_ENCODINGS, 'cv_bridge'))


@pytest.mark.parametrize(
    'fallback',
    [None, lambda came: int(came.encoding), lambda came: np.zeros((HEIGHT, WIDTH, 2))],
    ids=['none', 'fails', 'gives neither'],
)
@pytest.mark.parametrize('decode', [decode_image, decode_range])
def test_an_encoding_moves_no_terminal_and_fills_no_log(decode, fallback):
    came = message('\x1b[2J\n' + 'x' * 100_000, pixels(1))
    with pytest.raises(BadEncoding) as caught:
        decode(came, fallback=fallback)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize('data', [b'', b'no image'])
def test_a_format_moves_no_terminal_and_fills_no_log(data):
    came = SimpleNamespace(format='\x1b[2J\n' + 'x' * 100_000, data=data)
    with pytest.raises(BadEncoding) as caught:
        decode_compressed_image(came)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_an_unknown_range_encoding_names_what_is_supported():
    with pytest.raises(BadEncoding, match="'64FC1' is not supported") as caught:
        decode_range(message('64FC1', metres().astype(np.float64)))
    assert all(encoding in str(caught.value) for encoding in ('32FC1', '16UC1', 'mono16'))


@pytest.mark.parametrize('shape', [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 3)])
def test_an_unknown_image_encoding_goes_through_the_fallback(shape):
    seen = np.ones(shape, np.uint8)
    decoded = decode_image(message('bayer_rggb8', pixels(1)), lambda came: seen)
    assert decoded.shape == (HEIGHT, WIDTH, shape[2] if len(shape) == 3 else 1)


def test_an_unknown_range_encoding_goes_through_the_fallback_and_is_scaled_if_it_counts():
    came = message('32SC1', np.zeros((HEIGHT, WIDTH), np.int32))
    counted = decode_range(came, 0.01, lambda _: np.full((HEIGHT, WIDTH, 1), 200, np.int32))
    measured = decode_range(came, 0.01, lambda _: np.full((HEIGHT, WIDTH), 2.0))
    np.testing.assert_allclose(counted, measured)
    assert counted.shape == (HEIGHT, WIDTH) and counted.dtype == measured.dtype == np.float32


def test_a_known_encoding_does_not_bother_the_fallback():
    def refuse(came):
        raise AssertionError(came.encoding)

    decode_image(message('rgb8', pixels(3)), refuse)
    decode_range(message('32FC1', metres()), fallback=refuse)


def test_what_the_fallback_cannot_read_is_a_bad_encoding_with_its_reason():
    def refuse(came):
        raise ValueError(f'no conversion from {came.encoding}')

    with pytest.raises(BadEncoding, match='could not be converted: no conversion from nv99'):
        decode_image(message('nv99', pixels(1)), refuse)


@pytest.mark.parametrize('given', [np.zeros((5, 7, 2), np.uint8), np.zeros((5, 7), np.uint16)])
def test_a_fallback_that_gives_no_image_is_a_bad_encoding(given):
    with pytest.raises(BadEncoding, match='8 bits and 1, 3 or 4 channels'):
        decode_image(message('nv99', pixels(1)), lambda came: given)


def test_a_fallback_that_gives_no_ranges_is_a_bad_encoding():
    with pytest.raises(BadEncoding, match='one number per pixel'):
        decode_range(message('rgb8', pixels(3)), fallback=lambda came: pixels(3))


@pytest.mark.parametrize('decode', [decode_image, decode_range])
@pytest.mark.parametrize(
    ('stated', 'fault'),
    [
        ({'step': 6}, 'a row takes'),
        ({'step': 20}, 'a row takes'),
        ({'height': HEIGHT + 1}, 'but carries'),
        ({'height': HEIGHT - 1}, 'but carries'),
        ({'height': 0}, 'no pixels'),
        ({'width': 0}, 'no pixels'),
    ],
)
def test_sizes_that_do_not_fit_the_data_are_named(decode, stated, fault):
    came = (
        message('rgb8', pixels(3), **stated)
        if decode is decode_image
        else message('32FC1', metres(), **stated)
    )
    with pytest.raises(BadShape, match=fault) as caught:
        decode(came)
    assert came.encoding in str(caught.value) and str(caught.value).endswith('.')


def test_an_empty_message_is_a_bad_shape():
    with pytest.raises(BadShape, match='carries 0'):
        decode_image(Message('rgb8', array.array('B'), step=3 * WIDTH))


def test_faults_of_a_message_are_value_errors():
    assert issubclass(BadEncoding, ValueError) and issubclass(BadShape, ValueError)


def test_a_stamp_is_exact_to_the_nanosecond():
    assert stamp_ns(message('mono8', pixels(1))) == 1_700_000_000_123_456_789


def test_a_message_that_was_never_stamped_has_stamp_zero():
    came = message('mono8', pixels(1))
    came.header.stamp = SimpleNamespace(sec=0, nanosec=0)
    assert stamp_ns(came) == 0


def compressed(values: np.ndarray, file_format: str, carrier: str = 'array', cut: int = 0):
    file = io.BytesIO()
    Image.fromarray(values.squeeze()).save(file, file_format, quality=100)
    raw = file.getvalue()
    return SimpleNamespace(
        format=file_format.lower(), data=CARRIERS[carrier](raw[: len(raw) - cut])
    )


@pytest.mark.parametrize('carrier', CARRIERS)
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_a_png_gives_its_very_pixels(channels, carrier):
    decoded = decode_compressed_image(compressed(pixels(channels), 'PNG', carrier))
    np.testing.assert_array_equal(decoded, pixels(channels))


@pytest.mark.parametrize('channels', [1, 3])
def test_a_jpeg_keeps_shape_and_colour(channels):
    seen = np.full((16, 24, channels), (200, 100, 30)[:channels], np.uint8)
    decoded = decode_compressed_image(compressed(seen, 'JPEG'))
    assert decoded.shape == seen.shape
    np.testing.assert_allclose(decoded.astype(int), seen, atol=3)


@pytest.mark.parametrize('file_format', ['PNG', 'JPEG'])
def test_a_torn_compressed_image_is_a_bad_encoding(file_format):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(BadEncoding, match='cannot be read'):
        decode_compressed_image(compressed(noise, file_format, cut=2000))


@pytest.mark.parametrize('data', [b'', b'not an image at all'])
def test_data_that_is_no_image_is_a_bad_encoding(data):
    with pytest.raises(BadEncoding, match=r"'h264'.* neither a JPEG nor a PNG"):
        decode_compressed_image(SimpleNamespace(format='h264', data=data))


def test_a_compressed_image_of_16_bits_is_a_bad_encoding():
    with pytest.raises(BadEncoding, match='mode I'):
        decode_compressed_image(compressed(np.ones((4, 4), np.uint16), 'PNG'))


def test_a_jpeg_for_print_is_a_bad_encoding():
    file = io.BytesIO()
    Image.new('CMYK', (4, 4)).save(file, 'JPEG')
    with pytest.raises(BadEncoding, match='mode CMYK'):
        decode_compressed_image(SimpleNamespace(format='jpeg', data=file.getvalue()))


def test_a_compressed_image_is_a_jpeg_or_a_png_whatever_else_can_be_read():
    with pytest.raises(BadEncoding, match='neither a JPEG nor a PNG'):
        decode_compressed_image(compressed(pixels(3), 'BMP'))


def test_a_png_that_says_it_is_huge_is_a_bad_encoding():
    came = compressed(pixels(3), 'PNG', 'ndarray')
    size = struct.pack('>II', 30_000, 30_000)
    header = b'IHDR' + size + came.data[24:29].tobytes()
    came.data[12:33] = np.frombuffer(header + struct.pack('>I', zlib.crc32(header)), np.uint8)
    with pytest.raises(BadEncoding, match='cannot be read'):
        decode_compressed_image(came)


def test_a_png_whose_parts_are_not_named_is_a_bad_encoding():
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    raw = compressed(noise, 'PNG', 'bytes').data
    first, second, rest = raw.split(b'IDAT', 2)
    broken = first + b'IDAT' + second + bytes(4) + rest
    with pytest.raises(BadEncoding, match='cannot be read'):
        decode_compressed_image(SimpleNamespace(format='png', data=broken))


def test_a_flipped_byte_in_a_png_is_a_bad_encoding():
    came = compressed(pixels(3), 'PNG')
    came.data[len(came.data) // 2] ^= 0xFF
    with pytest.raises(BadEncoding):
        decode_compressed_image(came)
