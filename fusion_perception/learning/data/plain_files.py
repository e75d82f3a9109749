"""Decode the common kinds of PNG and .npy by the shortest way; all others, and faults, are None.

A data folder holds tens of thousands of small files: of each, opening takes longer than decoding.
Whoever gets None asks Pillow or NumPy, which know every kind and say what is wrong. Bytes go in
and come out, so that a process that only decodes need not wait for NumPy.
"""

from __future__ import annotations

import re
import struct
import zlib

from PIL import Image

_BEGIN = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR'
_MODES = {2: 'RGB', 6: 'RGBA'}
LARGEST_PIXELS = 2**26  # Pillow warns of more, on stderr.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, "
    rb"'shape': \((\d+), (\d+)\), \} *\n",
    re.DOTALL,
)


def png_size(content: bytes) -> tuple[int, int] | None:
    """Return the (H, W) that a PNG says it has; None where it does not begin as one."""
    if content[:16] != _BEGIN or len(content) < 33:
        return None
    width, height = struct.unpack_from('>II', content, 16)
    return height, width


def plain_png(content: bytes) -> tuple[tuple[int, int], bytes] | None:
    """Return (H, W) and the RGBA bytes, by rows, of a whole PNG.

    It must be 8-bit RGB or RGBA, not interlaced, and have no extras.
    """
    size = png_size(content)
    if size is None:
        return None
    (height, width), (depth, colour, *rest) = size, content[24:29]
    mode = _MODES.get(colour)
    if mode is None or depth != 8 or any(rest) or not 0 < width * height <= LARGEST_PIXELS:
        return None
    pixels = _data_chunks(content)
    if pixels is None:
        return None
    try:
        image = Image.frombytes(mode, (width, height), pixels, 'zip', mode)
    except ValueError:
        return None
    return (height, width), (image if mode == 'RGBA' else image.convert('RGBA')).tobytes()


def plain_npy(content: bytes) -> tuple[tuple[int, int], memoryview] | None:
    """Return (R, C) and the bytes of a whole, little-endian float32 array laid out by rows."""
    header = _NPY.match(content)
    if header is None:
        return None
    rows, columns = int(header[1]), int(header[2])
    if len(content) - header.end() != 4 * rows * columns:
        return None
    return (rows, columns), memoryview(content)[header.end() :]


def _data_chunks(content: bytes) -> bytes | None:
    """Return the data of a PNG that has nothing beside it, once every checksum is right."""
    found: list[memoryview] = []
    view, begin = memoryview(content), 33
    if zlib.crc32(view[12:29]) != int.from_bytes(view[29:33], 'big'):
        return None
    while begin + 12 <= len(content):
        size, kind = struct.unpack_from('>I4s', content, begin)
        end = begin + 8 + size
        if zlib.crc32(view[begin + 4 : end]) != int.from_bytes(view[end : end + 4], 'big'):
            return None
        if kind == b'IEND':
            return b''.join(found)
        if kind != b'IDAT':
            return None
        found.append(view[begin + 8 : end])
        begin = end + 4
    return None
