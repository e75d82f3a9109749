"""Define what a recording holds: topics, and messages as they were serialised."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
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
# What `ros2 bag play` takes as well: DDS tells who records nothing of a publisher's depth.
UNKNOWN_DEPTH = 10
_BLOCK = 1 << 16


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


class DamagedFile(Protocol):
    """A file that is read in spite of its damage.

    `channels` and `counts` (messages by topic) are what can be read; `faults` says what cannot.
    """

    channels: list[Channel]
    counts: dict[str, int]
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
    out = bytearray()
    try:
        # Block by block: what precedes a fault would be lost with it.
        for at in range(0, len(data), _BLOCK):
            out += stream.decompress(data[at : at + _BLOCK])
            if len(out) > size or stream.eof:
                break
    except (zstd.ZstdError, RuntimeError):
        return bytes(out), False
    return bytes(out[: size + 1]), bool(stream.eof)


def unpack(packed: Path, copy: Path) -> None:
    """Write what a .zstd file holds into another file.

    Raises ValueError when it is damaged; the copy then holds what precedes the damage.
    """
    with packed.open('rb') as file, copy.open('wb') as out:
        stream = zstd.ZstdDecompressor()
        try:
            # Block by block, as above.
            while block := file.read(_BLOCK):
                while block:
                    if stream.eof:  # One frame may follow another.
                        stream = zstd.ZstdDecompressor()
                    out.write(stream.decompress(block))
                    block = stream.unused_data
        except zstd.ZstdError as fault:
            raise ValueError(f'{packed.name} cannot be unpacked to its end: {fault}.') from None
        if not stream.eof:
            raise ValueError(f'{packed.name} cannot be unpacked to its end: it is torn.')
