"""Read rosbag2 recordings without ROS: mcap and SQLite, compressed or not, whole or damaged.

Nothing is written into a recording. What must be unpacked or repaired first is a copy in a
temporary folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import Reader
from typing_extensions import Self

from fusion_perception.sensing.recordings.damaged_mcap import DamagedMcap
from fusion_perception.sensing.recordings.damaged_sqlite import DamagedSqlite, index_leads_to_all
from fusion_perception.sensing.recordings.files import (
    Note,
    files_of,
    find_recordings,
    readable_copy,
)
from fusion_perception.sensing.recordings.message_types import MessageTypes
from fusion_perception.sensing.recordings.recorded import (
    LARGEST,
    ZSTD_MAGIC,
    Channel,
    DamagedFile,
    Recorded,
    decompressed,
    latched,
)

_NEVER = 1 << 64


@dataclass(frozen=True)
class Topic:
    """A topic of a recording, with the number of its messages; `latched` as in `Channel`."""

    name: str
    type: str
    count: int
    latched: int = 0


class Recording:
    """A rosbag2 folder, or one file of it, open for reading; a context manager.

    `topics` lists what it holds; `unread` says, in sentences, what could not be read so far.
    Raises FileNotFoundError or ValueError when nothing in it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unread: list[str] = []
        self._stack = ExitStack()
        self._storages: list[_Storage] = []
        self._failed: Counter[str] = Counter()
        found = files_of(path, self._note)
        self._types = MessageTypes(found.distribution, self._note)
        try:
            for file in found.files:
                self._storages.append(_Storage(file, self._stack, self._note))
        except BaseException:
            self._stack.close()
            raise
        self._storages = _by_time(self._storages)
        self.topics = self._merged_topics()
        if not self.topics:
            self.close()
            faults = '; '.join(note.rstrip('.') for note in self.unread) or 'it has no topics'
            why = f'{faults}. Copy it anew, or record it again.'
            if not found.files:
                why = _without_files(path)
            raise ValueError(f'Nothing in {path} can be read: {why}')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and delete what was unpacked."""
        self._stack.close()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of these topics in the order in which they were recorded."""
        for storage in self._storages:
            for recorded in storage.messages(topics):
                topic = self.topics.get(recorded.topic)
                if topic is None or recorded.type != topic.type:
                    continue
                if recorded.data[:4] != ZSTD_MAGIC:  # CDR begins with a zero byte.
                    yield recorded
                    continue
                data, whole = decompressed('zstd', recorded.data, LARGEST)
                if len(data) > LARGEST:
                    self._fail(recorded, f'it unpacks to more than {LARGEST >> 20} MiB')
                elif whole:
                    yield Recorded(recorded.topic, recorded.type, recorded.log_ns, data)
                else:
                    self._fail(recorded, 'its compression is damaged')

    def read(self, recorded: Recorded) -> object | None:
        """Return the message itself, or None, noted in `unread`, when it is damaged."""
        try:
            return self._types.deserialize(recorded.data, recorded.type)
        except ValueError as fault:
            self._fail(recorded, str(fault))
            return None

    def first(
        self, topic: str, usable: Callable[[object], bool] = lambda message: True
    ) -> object | None:
        """Return the first message of a topic that can be read and used, None without one.

        What was damaged is noted in `unread` where nothing of the topic is left.
        """
        damaged, why, read = 0, '', False
        for recorded in self.messages([topic]):
            try:
                message = self._types.deserialize(recorded.data, recorded.type)
            except ValueError as fault:
                damaged, why = damaged + 1, why or str(fault)
                continue
            read = True
            if usable(message):
                return message
        if damaged and not read:
            self._tell_unread(topic, damaged, why)
        return None

    def _fail(self, recorded: Recorded, why: str) -> None:
        self._failed[recorded.topic] += 1
        self._tell_unread(recorded.topic, self._failed[recorded.topic], why)

    def _tell_unread(self, topic: str, count: int, why: str) -> None:
        # One sentence per topic, however many messages: the last fault and the count.
        start = f'{topic}: '
        self.unread = [line for line in self.unread if not line.startswith(start)]
        self._note(f'{start}{count:,} {"message" if count == 1 else "messages"} unread: {why}.')

    def _note(self, sentence: str) -> None:
        if sentence not in self.unread:
            self.unread.append(sentence)

    def _merged_topics(self) -> dict[str, Topic]:
        counts: Counter[tuple[str, str]] = Counter()
        types: dict[str, list[str]] = {}
        kept: dict[str, int] = {}
        for storage in self._storages:
            counts.update(storage.counts)
            for channel in storage.channels:
                if not (isinstance(channel.topic, str) and isinstance(channel.type, str)):
                    self._note(
                        f'A topic has the name {channel.topic!r} and the type {channel.type!r}: '
                        'its messages were not read.'
                    )
                    continue
                self._types.learn(channel.type, channel.definition)
                kept[channel.topic] = max(kept.get(channel.topic, 0), channel.latched)
                of_topic = types.setdefault(channel.topic, [])
                if channel.type not in of_topic:
                    of_topic.append(channel.type)
        topics = {}
        for name, of_topic in sorted(types.items()):
            # Of equally many those of a sensor are worth more than what was found out from them.
            best = max(of_topic, key=lambda kind: (counts[name, kind], 'sensor_msgs/' in kind))
            topics[name] = Topic(name, best, counts[name, best], kept[name])
            for other in of_topic:
                if other != best and counts[name, other]:
                    self._note(
                        f'{name} has messages of {best} and of {other}; only the former are read.'
                    )
        return topics


class _Storage:
    """One file of a recording, read by rosbags, and in spite of damage where that refuses it."""

    def __init__(self, file: Path, stack: ExitStack, note: Note) -> None:
        self._name = file.name
        self._note, self._stack = note, stack
        self._damaged: DamagedFile | None = None
        self._reader: Reader | None = None
        self._listed: Counter[tuple[str, str]] = Counter()
        self.span: tuple[int, int] | None = None
        self._file = readable_copy(file, stack, self._note)
        try:
            # rosbags would mistake these characters for parts of an address.
            if set('?#%') & set(str(self._file)):
                raise ValueError('its path has characters with a meaning to SQLite')
            self._reader = stack.enter_context(Reader(self._file))
            self.channels = [
                Channel(c.topic, c.msgtype, c.msgdef, _latched(c))
                for c in self._reader.connections
            ]
            for connection in self._reader.connections:
                self._listed[connection.topic, connection.msgtype] += connection.msgcount
            self.counts = self._listed
            if self._reader.message_count:
                self.span = self._reader.start_time, self._reader.end_time
        except Exception:  # Of a damaged file it raises many kinds.
            self._resort_to_damaged()
            return
        if self._file.suffix == '.db3' and not index_leads_to_all(
            self._file, self._listed.total()
        ):
            self._resort_to_damaged()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        newest = -1
        at_newest: Counter[str] = Counter()
        given: Counter[tuple[str, str]] = Counter()
        if self._reader is not None:
            chosen = [c for c in self._reader.connections if c.topic in topics]
            try:
                for connection, log_ns, data in self._reader.messages(chosen) if chosen else ():
                    if log_ns > newest:
                        newest, at_newest = log_ns, Counter()
                    at_newest[connection.topic] += 1
                    given[connection.topic, connection.msgtype] += 1
                    yield Recorded(connection.topic, connection.msgtype, log_ns, data)
                self._tell_lost(given, topics)
                return
            except Exception:
                self._resort_to_damaged()
        assert self._damaged is not None
        for recorded in self._damaged.messages(topics):
            # What came out before the fault, in the order of time, is not given twice.
            if recorded.log_ns < newest:
                continue
            if recorded.log_ns == newest and at_newest[recorded.topic]:
                at_newest[recorded.topic] -= 1
                continue
            given[recorded.topic, recorded.type] += 1
            yield recorded
        self._tell_lost(given, topics)

    def _tell_lost(self, given: Counter[tuple[str, str]], topics: Collection[str]) -> None:
        for key in sorted(key for key in self._listed if key[0] in topics):
            listed = self._listed[key]
            if (lost := listed - given[key]) > 0:
                self._note(
                    f'{self._name} is damaged: {lost:,} of the {listed:,} messages of {key[0]} '
                    'that it lists are not there.'
                )

    def _resort_to_damaged(self) -> None:
        self._reader = None
        damaged: DamagedFile
        damaged = (
            DamagedMcap(self._file) if self._file.suffix == '.mcap' else DamagedSqlite(self._file)
        )
        self._stack.callback(damaged.close)
        self._damaged = damaged
        self.channels, self.counts = damaged.channels, Counter(damaged.counts)
        self.span = damaged.span
        if damaged.faults:
            read = sum(damaged.counts.values())
            rest = f' {read:,} messages in it can be read.' if read else ''
            self._note(f'{self._name} is damaged: {", ".join(damaged.faults)}.{rest}')


def _by_time(storages: list[_Storage]) -> list[_Storage]:
    """Return the files of a recording in the order of time, where they have one.

    They have none where one lasts from before another to after it, as by a single wrong time.
    """
    # The place in the list decides between equals; a file without messages may come last.
    spans = [one.span or (_NEVER, _NEVER) for one in storages]
    order = sorted(range(len(storages)), key=lambda place: spans[place][0])
    ends = [spans[place][1] for place in order]
    return [storages[place] for place in order] if ends == sorted(ends) else storages


def _without_files(path: Path) -> str:
    """Say what is wrong with a folder that has no storage files, and the next step."""
    lacking = 'it has no .mcap and no .db3 file'
    try:
        within = [one for one in find_recordings([path]) if one != path]
    except FileNotFoundError:
        within = []
    if not within:
        return f'{lacking}. Give what `ros2 bag record` wrote.'
    names = ', '.join(map(str, within[:3])) + (', ...' if len(within) > 3 else '')
    return f'{lacking}, but holds recordings ({names}). Give one of them.'


def _latched(connection: Connection) -> int:
    if not isinstance(connection.ext, ConnectionExtRosbag2):
        return 0
    offered = connection.ext.offered_qos_profiles
    return latched((qos.durability.name.lower(), qos.depth) for qos in offered)
