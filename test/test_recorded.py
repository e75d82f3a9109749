"""What was compressed comes out whole, and what pretends to be small never fills the memory."""

import tracemalloc

import pytest
from lz4 import frame as lz4
from odd_files import bomb

from fusion_perception.sensing.recordings.recorded import decompressed, unpack, zstd

MEBIBYTE = 1 << 20
COMPRESS = {'zstd': zstd.compress, 'lz4': lz4.compress}


def peak_of(work):
    """Return what a function returns, and how many bytes it held at most."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('compression', COMPRESS)
@pytest.mark.parametrize('size', [0, 1, 70_000, 3 * MEBIBYTE + 1])
def test_what_was_compressed_comes_out_whole(compression, size):
    data = bytes(range(256)) * (size // 256 + 1)
    packed = COMPRESS[compression](data[:size])
    assert decompressed(compression, packed, size) == (data[:size], True)
    assert decompressed(compression, packed, 10 * size + 1) == (data[:size], True)


@pytest.mark.parametrize('compression', COMPRESS)
def test_what_was_torn_comes_out_as_far_as_it_goes(compression):
    data = bytes(range(256)) * 40_000
    out, whole = decompressed(compression, COMPRESS[compression](data)[:-9], len(data))
    assert not whole and data.startswith(out)


@pytest.mark.parametrize('compression', COMPRESS)
def test_a_bomb_is_not_decompressed_beyond_what_is_asked_for(compression):
    packed = bomb(compression, 400)
    (out, whole), peak = peak_of(lambda: decompressed(compression, packed, 5 * MEBIBYTE))
    assert (len(out), whole) == (5 * MEBIBYTE + 1, False)
    assert peak < 12 * MEBIBYTE


def test_large_data_are_held_once(tmp_path):
    packed = bomb('zstd', 100)
    (out, whole), peak = peak_of(lambda: decompressed('zstd', packed, 200 * MEBIBYTE))
    assert (len(out), whole) == (100 * MEBIBYTE, True)
    assert peak < 150 * MEBIBYTE


def test_frames_that_follow_one_another_are_unpacked_together(tmp_path):
    data = bytes(range(256)) * 10_000
    packed, copy = tmp_path / 'a.mcap.zstd', tmp_path / 'a.mcap'
    packed.write_bytes(zstd.compress(data) + zstd.compress(data))
    unpack(packed, copy)
    assert copy.read_bytes() == 2 * data


def test_a_bomb_of_a_file_is_unpacked_to_a_bounded_size(tmp_path):
    packed, copy = tmp_path / 'a.mcap.zstd', tmp_path / 'a.mcap'
    packed.write_bytes(bomb('zstd', 400))
    with pytest.raises(ValueError, match=r'a\.mcap\.zstd unpacks to more than 268,435,456 bytes'):
        unpack(packed, copy)
    assert 255 * MEBIBYTE < copy.stat().st_size <= 256 * MEBIBYTE
