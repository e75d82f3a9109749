"""Read what is left of a damaged rosbag2 database (.db3), which is refused as a whole."""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import MessageDefinition

from fusion_perception.sensing.recordings.recorded import (
    DEFINITION_FORMATS,
    NO_DEFINITION,
    Channel,
    Recorded,
    latched_in,
)

# After so many ids in a row that lead to no message the next one is looked for.
PATIENCE = 10_000


class DamagedSqlite:
    """A database read row by row, so that a broken page costs no more than its own rows.

    Raises OSError where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self.channels: list[Channel] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.span: tuple[int, int] | None = None
        self._topics: dict[int, Channel] = {}
        self._order = array('q')
        path.open('rb').close()  # It says why it cannot be opened, which SQLite does not.
        self._database = _opened(path)
        try:
            # Without it, SQLite refuses a file that is shorter than its header says.
            self._database.execute('PRAGMA writable_schema = ON')
            definitions = self._definitions()
            profiles = self._profiles()
            for key, name, kind in self._database.execute('SELECT id, name, type FROM topics'):
                definition = definitions.get(kind, NO_DEFINITION)
                self._topics[key] = Channel(
                    name, kind, definition, latched_in(profiles.get(key, ''))
                )
        except sqlite3.Error as error:
            self.faults.append(f'its list of topics cannot be read ({error})')
            return
        self.channels = list(self._topics.values())
        found = self._found()
        self._order.extend(sorted(found, key=lambda key: (found[key][0], key)))
        if found:
            self.span = found[self._order[0]][0], found[self._order[-1]][0]
        channels = (self._topics[topic] for _, topic in found.values())
        self.counts = dict(Counter((channel.topic, channel.type) for channel in channels))

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of these topics in the order of their times."""
        wanted = {key for key, channel in self._topics.items() if channel.topic in topics}
        for key in self._order:
            row, _ = self._row(key)
            if row is not None and row[1] in wanted:
                channel = self._topics[row[1]]
                yield Recorded(channel.topic, channel.type, row[0], row[2])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _definitions(self) -> dict[str, MessageDefinition]:
        try:
            rows = self._database.execute(
                'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions'
            ).fetchall()
        except sqlite3.Error:
            return {}  # Databases of older distributions have none.
        return {
            name: MessageDefinition(DEFINITION_FORMATS[encoding], text)
            for name, encoding, text in rows
            if encoding in DEFINITION_FORMATS
        }

    def _profiles(self) -> dict[int, str]:
        try:
            rows = self._database.execute('SELECT id, offered_qos_profiles FROM topics').fetchall()
        except sqlite3.Error:
            return {}  # As above.
        return {key: text for key, text in rows if isinstance(text, str)}

    def _found(self) -> dict[int, tuple[int, int]]:
        """Return time and topic of each message that can be read, by id; note what is broken."""
        found: dict[int, tuple[int, int]] = {}
        lost: set[int] = set()
        try:
            # The index over time lies on pages of its own, and what it leads to may be anything.
            for (key,) in self._database.execute(
                'SELECT CAST(id AS INTEGER) FROM messages INDEXED BY timestamp_idx '
                'ORDER BY timestamp'
            ):
                row, broken = self._row(key)
                if row is not None:
                    found[key] = row[:2]
                elif broken:
                    lost.add(key)
        except sqlite3.Error as error:
            self.faults.append(f'its index over time is broken ({error})')
        led_to = len(found)
        tried: int | None = 1
        misses = 0
        while tried is not None:
            row = None if tried in found else self._row(tried)[0]
            if row is not None:
                found[tried] = row[:2]
            misses = 0 if tried in found else misses + 1
            tried = tried + 1 if misses < PATIENCE else self._next_id(tried)
        if led_to < len(found) and not self.faults:
            self.faults.append(
                f'its index over time leads to {led_to:,} of its {len(found):,} messages'
            )
        if lost:
            self.faults.append(f'{len(lost):,} of its messages lie on broken pages')
        return found

    def _next_id(self, key: int) -> int | None:
        """Return the next message's id after this one, None where the pages do not lead to one."""
        try:
            row = self._database.execute(
                'SELECT id FROM messages NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1', (key,)
            ).fetchone()
        except sqlite3.Error:
            return None
        # Broken pages may lead back, and for ever.
        return row[0] if row and isinstance(row[0], int) and row[0] > key else None

    def _row(self, key: int) -> tuple[tuple[int, int, bytes] | None, bool]:
        """Return time, topic and data of a message if it is there, and whether it is broken."""
        try:
            row = self._database.execute(
                'SELECT timestamp, topic_id, data FROM messages WHERE id = ?', (key,)
            ).fetchone()
        except sqlite3.Error:
            return None, True
        if row is None:
            return None, False
        whole = isinstance(row[0], int) and isinstance(row[2], bytes) and row[1] in self._topics
        return (row if whole else None), not whole


def index_leads_to_all(path: Path, count: int) -> bool:
    """Say whether the index over time leads to so many messages, to each of them once.

    Where it does not, SQLite may give the others without an error. An index that is not there or
    cannot be read misleads nobody.
    """
    try:
        with closing(_opened(path)) as database:
            # Of the bare id SQLite takes for granted that it is distinct.
            led_to = database.execute(
                'SELECT count(DISTINCT id + 0) FROM messages INDEXED BY timestamp_idx'
            ).fetchone()
    except sqlite3.Error:
        return True
    return bool(led_to == (count,))


def _opened(path: Path) -> sqlite3.Connection:
    """Open a database as immutable: SQLite then writes neither into it nor beside it."""
    where = quote(str(path.resolve()))
    return sqlite3.connect(f'file:{where}?mode=ro&immutable=1', uri=True)
