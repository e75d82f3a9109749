"""Read what is left of a torn or damaged .mcap file, which the rosbags library rightly refuses.

The format is that of the MCAP specification (mcap.dev/spec).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from rosbags.interfaces import MessageDefinition

from fusion_perception.sensing.recordings.recorded import (
    DEFINITION_FORMATS,
    LARGEST,
    NO_DEFINITION,
    Channel,
    Recorded,
    decompressed,
    latched_in,
)

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_HEAD = struct.Struct('<BQ')


class DamagedMcap:
    """An .mcap file read from its start, record by record, up to where it is torn."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        self.faults: list[str] = []
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        self._channels: dict[int, Channel] = {}
        self.span: tuple[int, int] | None = None
        counts: Counter[tuple[str, str]] = Counter()
        for channel, log_ns, _ in self._walk():
            counts[channel.topic, channel.type] += 1
            begin, end = self.span or (log_ns, log_ns)
            self.span = min(begin, log_ns), max(end, log_ns)
        self.counts = dict(counts)
        self.channels = list(self._channels.values())

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of these topics as they lie in the file, those of a chunk by time."""
        for channel, log_ns, data in self._walk():
            if channel.topic in topics:
                yield Recorded(channel.topic, channel.type, log_ns, data)

    def close(self) -> None:
        """Do nothing: each reading opens the file itself."""

    def _walk(self) -> Iterator[tuple[Channel, int, bytes]]:
        self.faults.clear()
        with self._path.open('rb') as file:
            if file.read(len(MAGIC)) != MAGIC:
                self._fault('it does not begin as an .mcap file does')
                return
            whole, lacking = file.tell(), 0
            for opcode, content, missing in _records(file, self._size):
                if opcode == CHUNK:
                    yield from self._within(*self._unpacked(content, missing))
                elif not missing:
                    yield from self._take(opcode, content)
                if missing:
                    lacking = missing if opcode == CHUNK else 0
                    break
                whole = file.tell()
                if opcode in (FOOTER, DATA_END):
                    return
        torn = self._size - whole
        if not torn:
            self._fault('its end is torn')
        elif lacking:
            self._fault(
                f'the last {torn:,} of its {self._size:,} bytes are a chunk that is cut off '
                f'{lacking:,} bytes before its end: it is read up to there'
            )
        else:
            self._fault(f'the last {torn:,} of its {self._size:,} bytes hold no whole record')

    def _within(self, inside: bytes, whole: bool) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield the messages of a chunk by time, up to the first record that leads beyond it."""
        records, read_to = BytesIO(inside), 0
        messages: list[tuple[Channel, int, bytes]] = []
        for opcode, content, missing in _records(records, len(inside)):
            if missing:
                break
            read_to = records.tell()
            messages += self._take(opcode, content)
        if whole and (left := len(inside) - read_to):
            self._fault(
                f'the last {left:,} of the {len(inside):,} bytes of a chunk hold no whole record'
            )
        yield from sorted(messages, key=lambda message: message[1])

    def _take(self, opcode: int, content: bytes) -> Iterator[tuple[Channel, int, bytes]]:
        try:
            if opcode == SCHEMA:
                (key,) = struct.unpack_from('<H', content)
                name, encoding, text = _strings(content[2:], 3)
                known = DEFINITION_FORMATS.get(encoding)
                self._schemas[key] = (
                    name,
                    MessageDefinition(known, text) if known else NO_DEFINITION,
                )
            elif opcode == CHANNEL:
                key, schema = struct.unpack_from('<HH', content)
                (topic,) = _strings(content[4:], 1)
                name, definition = self._schemas.get(schema, ('', NO_DEFINITION))
                latched = latched_in(_metadata(content).get('offered_qos_profiles', ''))
                self._channels[key] = Channel(topic, name, definition, latched)
            elif opcode == MESSAGE:
                key, _, log_ns, _ = struct.unpack_from('<HIQQ', content)
                if key in self._channels:
                    yield self._channels[key], log_ns, content[22:]
        except (struct.error, UnicodeDecodeError):
            self._fault('a record in it is none')

    def _unpacked(self, content: bytes, missing: int) -> tuple[bytes, bool]:
        """Return the records of a chunk, as far as they are there, and whether all are."""
        try:
            size, crc = struct.unpack_from('<QI', content, 16)
            (compression,) = _strings(content[28:], 1)
        except (struct.error, UnicodeDecodeError):
            size, crc, compression = LARGEST + 1, 0, ''
        data, whole = b'', False
        if size <= LARGEST:
            data, whole = decompressed(compression, content[40 + len(compression) :], size)
        if missing:
            return data, False
        if whole and len(data) == size and (not crc or crc32(data) == crc):
            return data, True
        self._fault(f'a chunk of {len(content):,} bytes in it is damaged')
        # Up to where decompression failed all is well; a wrong checksum says nothing of where.
        return b'' if whole else data, False

    def _fault(self, sentence: str) -> None:
        if sentence not in self.faults:
            self.faults.append(sentence)


def _records(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield opcode, content and the number of missing bytes of each record; stop at a bad one.

    The content of a kind that is of no use here is skipped.
    """
    while (at := file.tell()) + _HEAD.size <= end:
        opcode, length = _HEAD.unpack(file.read(_HEAD.size))
        needed = opcode in (SCHEMA, CHANNEL, MESSAGE, CHUNK)
        # There is no opcode 0: this is space that was reserved and never written.
        if not opcode or (needed and length > LARGEST):
            file.seek(at)
            return
        after = at + _HEAD.size + length
        content = file.read(length) if needed else b''
        file.seek(min(after, end))
        yield opcode, content, max(0, after - end)


def _metadata(channel: bytes) -> dict[str, str]:
    """Return what a channel's record holds besides; nothing where that is damaged."""
    try:
        topic, encoding = _strings(channel[4:], 2)
        at = 12 + len(topic.encode()) + len(encoding.encode())
        (size,) = struct.unpack_from('<I', channel, at)
        left, pairs = channel[at + 4 : at + 4 + size], {}
        while left:
            key, value = _strings(left, 2)
            pairs[key] = value
            left = left[8 + len(key.encode()) + len(value.encode()) :]
    except (struct.error, UnicodeDecodeError):
        return {}
    return pairs


def _strings(content: bytes, count: int) -> list[str]:
    """Return the first `count` length-prefixed strings."""
    strings, at = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from('<I', content, at)
        text = content[at + 4 : at + 4 + length]
        if len(text) < length:
            raise struct.error('a string is longer than its record')
        strings.append(text.decode())
        at += 4 + length
    return strings
