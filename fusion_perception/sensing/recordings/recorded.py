"""Define what a recording holds: topics, and messages as they were serialised."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import yaml
from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from fusion_perception.sensing.settings import YAML_FAULTS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
DEFINITION_FORMATS = {
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')
LATCHED = 'transient_local'
# As `ros2 bag play` assumes: DDS does not tell a recorder the depth of a publisher.
UNKNOWN_DEPTH = 10
# A message or a chunk of them that claims to be larger is damage, not data.
LARGEST = 1 << 29
_BLOCK, _PART = 1 << 16, 1 << 20
# Real data do not shrink to a thousandth, except in small files.
_SMALL, _MOST_TIMES = 1 << 28, 1000
_LEFT_FREE = 1 << 28


@dataclass(frozen=True)
class Recorded:
    """A message as it was recorded: serialised (CDR), with the time of its recording."""

    topic: str
    type: str
    log_ns: int
    data: bytes


@dataclass(frozen=True)
class Channel:
    """What a file says of a topic.

    `latched` is how many of the last messages its publishers kept for late subscribers (the
    depths of those that were transient local), 0 for none.
    """

    topic: str
    type: str
    definition: MessageDefinition
    latched: int = 0


class Decompressor(Protocol):
    """What zstd and LZ4 have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the frame was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether all was given out that the input so far holds."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return what can be decompressed, at most `max_length` bytes."""


class DamagedFile(Protocol):
    """A file that is read in spite of its damage.

    `channels`, `counts` (messages by topic and type) and `span` (the first and the last time, None
    without a message) are of what can be read; `faults` says what cannot.
    """

    channels: list[Channel]
    counts: dict[tuple[str, str], int]
    span: tuple[int, int] | None
    faults: list[str]

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of these topics."""

    def close(self) -> None:
        """Release the file."""


def latched(profiles: Iterable[tuple[str, int]]) -> int:
    """Return `Channel.latched` by durability and depth of each publisher's QoS."""
    return sum(depth or UNKNOWN_DEPTH for durability, depth in profiles if durability == LATCHED)


def latched_in(profiles: str) -> int:
    """Return `Channel.latched` by a file's offered_qos_profiles, 0 where they cannot be read."""
    try:
        return latched(
            # Up to Iron the policies were numbers.
            (LATCHED if entry['durability'] == 1 else entry['durability'], int(entry['depth']))
            for entry in yaml.safe_load(profiles) or ()
        )
    except YAML_FAULTS:
        return 0


def decompressed(compression: str, data: bytes, size: int) -> tuple[bytes, bool]:
    """Return what can be decompressed, at most `size` + 1 bytes, and whether that is all of it.

    `compression` is 'zstd', 'lz4' or '' for none.
    """
    if not compression:
        return data, True
    if compression not in ('zstd', 'lz4'):
        return b'', False
    stream = zstd.ZstdDecompressor() if compression == 'zstd' else LZ4FrameDecompressor()
    # BytesIO gives out the memory that was written; other buffers would need it twice.
    out = BytesIO()
    try:
        # Block by block: what precedes a fault would be lost with it.
        for at in range(0, len(data), _BLOCK):
            for part in _parts(stream, data[at : at + _BLOCK]):
                out.write(part[: size + 1 - out.tell()])
                if out.tell() > size:
                    return out.getvalue(), bool(stream.eof)
            if stream.eof:
                break
    except (zstd.ZstdError, RuntimeError):
        return out.getvalue(), False
    return out.getvalue(), bool(stream.eof)


def _parts(stream: Decompressor, block: bytes) -> Iterator[bytes]:
    """Yield what a block decompresses to, in parts of a bounded size: it may be a bomb."""
    yield stream.decompress(block, _PART)
    while not (stream.eof or stream.needs_input):
        yield stream.decompress(b'', _PART)


def unpack(packed: Path, copy: Path) -> None:
    """Write what a .zstd file holds into another file.

    Raises ValueError when it is damaged, or larger than a recording can be or than there is room
    for; the copy then holds what precedes.
    """
    real = max(_SMALL, _MOST_TIMES * packed.stat().st_size)
    room = shutil.disk_usage(copy.parent).free - _LEFT_FREE
    with packed.open('rb') as file, copy.open('wb') as out:
        stream = zstd.ZstdDecompressor()
        try:
            # Block by block, as above.
            while block := file.read(_BLOCK):
                while block:
                    if stream.eof:  # One frame may follow another.
                        stream = zstd.ZstdDecompressor()
                    for part in _parts(stream, block):
                        if out.tell() + len(part) > min(real, room):
                            raise ValueError(_too_large(packed, real, room, copy.parent))
                        out.write(part)
                    block = stream.unused_data
        except zstd.ZstdError as fault:
            raise ValueError(f'{packed.name} cannot be unpacked to its end: {fault}.') from None
        if not stream.eof:
            raise ValueError(f'{packed.name} cannot be unpacked to its end: it is torn.')


def _too_large(packed: Path, real: int, room: int, folder: Path) -> str:
    if room < real:
        return (
            f'{packed.name} does not fit into the {max(0, room):,} bytes that may be written to '
            f'{folder.parent}: only what fits was read. Free some, or unpack it elsewhere with '
            '`zstd -d`.'
        )
    return (
        f'{packed.name} unpacks to more than {real:,} bytes, as no recording does: only these '
        'were read. If it is one, unpack it with `zstd -d`.'
    )
