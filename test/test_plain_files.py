"""The short way to decode gives what Pillow and NumPy give, or nothing."""

import errno
import io
import random
from pathlib import Path

import numpy as np
import pytest
from odd_files import no_file_larger_than
from PIL import Image, PngImagePlugin

from fusion_perception.learning.data.folder import read_image, read_ranges
from fusion_perception.learning.data.plain_files import plain_npy, plain_png
from fusion_perception.sensing.npy import write_npy

RANDOM = np.random.default_rng(0)


def png(mode='RGBA', size=(7, 5), **options) -> bytes:
    channels = {'RGBA': 4, 'RGB': 3, 'LA': 2, 'L': 1}[mode]
    # Smooth below, noisy above, so that every kind of filter comes up.
    pixels = RANDOM.integers(0, 256, (size[1], size[0], channels)).astype(np.uint8)
    pixels[size[1] // 2 :] = np.arange(size[0])[:, None]
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, 'PNG', **options)
    return file.getvalue()


def npy(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize('mode', ['RGBA', 'RGB'])
@pytest.mark.parametrize('size', [(1, 1), (7, 5), (64, 64), (300, 200)])
def test_a_plain_png_is_what_pillow_reads(mode, size):
    content = png(mode, size)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGBA'))
    assert plain_png(content) == (expected.shape[:2], expected.tobytes())


def test_a_png_of_another_kind_is_left_to_pillow():
    extra = PngImagePlugin.PngInfo()
    extra.add_text('a', 'b')
    for content in (png('L'), png('LA'), png(pnginfo=extra), png('RGB', transparency=(1, 2, 3))):
        assert plain_png(content) is None
    assert plain_png(b'') is None
    assert plain_png(b'GIF89a' + bytes(100)) is None


def test_no_flipped_or_missing_byte_gets_through():
    content = png()
    for at in range(len(content)):
        torn = bytearray(content)
        torn[at] ^= 1 << random.Random(at).randrange(8)
        assert plain_png(bytes(torn)) is None
        assert plain_png(content[:at]) is None


def test_a_plain_array_is_what_numpy_reads():
    values = RANDOM.random((5, 3)).astype(np.float32)
    assert plain_npy(npy(values)) == (values.shape, values.tobytes())


def test_an_array_of_another_kind_is_left_to_numpy():
    values = np.ones((4, 3), np.float32)
    for content in (
        npy(values.astype(np.float64)),
        npy(values.astype('>f4')),
        npy(np.asfortranarray(values)),
        npy(values[0]),
        npy(values)[:-1],
        npy(values) + b'x',
        b'',
    ):
        assert plain_npy(content) is None


def test_a_folder_s_files_are_read_the_same_either_way(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(png())
    short = read_image(path)
    extra = PngImagePlugin.PngInfo()
    extra.add_text('a', 'b')
    Image.open(path).save(path, pnginfo=extra)
    assert np.array_equal(read_image(path), short)
    values = np.ones((4, 3), np.float32)
    for kind in (np.float32, np.float64, np.float16):
        np.save(tmp_path / 'a.npy', values.astype(kind))
        assert np.array_equal(read_ranges(tmp_path / 'a.npy'), values)
    assert short.flags.writeable
    assert read_ranges(tmp_path / 'a.npy').flags.writeable


def test_an_array_that_finds_no_room_ends_in_what_the_system_says(tmp_path: Path) -> None:
    with no_file_larger_than(8192), pytest.raises(OSError) as fault:
        write_npy(tmp_path / '0000.npy', np.zeros((64, 64), np.float32))
    assert fault.value.errno == errno.EFBIG
