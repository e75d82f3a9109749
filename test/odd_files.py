"""Files that nobody should have written, and a lack of room, for tests of what is said of them."""

import io
import resource
import struct
import zlib
from contextlib import contextmanager

import numpy as np
from lz4.frame import LZ4FrameCompressor

from fusion_perception.sensing.recordings.recorded import zstd


def npy_of(shape, data=b''):
    """Return a .npy file that says it holds float32 values of a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode() + data


def npz():
    """Return an archive of arrays."""
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(64, np.float32))
    return archive.getvalue()


NO_ARRAYS = {
    'a zip': b'PK\x03\x04abc',
    'an archive': npz(),
    'an open bracket': npy_of('(64, 64)')[:10] + b'(' * 118 + bytes(100),
    'many brackets': b'\x93NUMPY\x01\x00\x10\x27' + b'(' * 9_999 + b'\n',
    'no dictionary': b'\x93NUMPY\x01\x00\x02\x003\n',
    'a terabyte': npy_of('(262144, 1048576)', bytes(100)),
    'more than there is memory in the world': npy_of('(4294967296, 4294967296)'),
    'a size of too many digits': npy_of(f'({10**40}, 1)'),
    'a negative size': npy_of('(-1, 64)', bytes(100)),
    'a size of None': npy_of('(None, 64)', bytes(100)),
}


def bomb(compression, mebibytes):
    """Return a few bytes that decompress to as many zeros."""
    if compression == 'zstd':
        compressor = zstd.ZstdCompressor()
        begin = b''
    else:
        compressor = LZ4FrameCompressor()
        begin = compressor.begin()
    zeros = bytes(1 << 20)
    return (
        begin + b''.join(compressor.compress(zeros) for _ in range(mebibytes)) + compressor.flush()
    )


def png_of(width, height):
    """Return a PNG that says it has this size, and holds next to nothing."""
    parts = (
        (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
        (b'IDAT', zlib.compress(bytes(1000))),
        (b'IEND', b''),
    )
    chunks = (
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


@contextmanager
def no_file_larger_than(size):
    """Let no file of this process grow beyond a size: it is cut off, as on a full disk."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
