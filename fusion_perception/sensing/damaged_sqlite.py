"""Read what is left of a damaged rosbag2 database (.db3), which is refused as a whole."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import MessageDefinition

from fusion_perception.sensing.recorded import (
    DEFINITION_FORMATS,
    NO_DEFINITION,
    Channel,
    Recorded,
    latched_in,
)

# So many ids in a row that lead to no message are taken for the end of the table.
PATIENCE = 10_000


class DamagedSqlite:
    """A database read row by row, so that a broken page costs no more than its own rows.

    It is opened as immutable: SQLite then writes neither into it nor beside it. Raises OSError
    where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self.channels: list[Channel] = []
        self.counts: dict[str, int] = {}
        self._topics: dict[int, Channel] = {}
        path.open('rb').close()  # It says why it cannot be opened, which SQLite does not.
        where = quote(str(path.resolve()))
        self._database = sqlite3.connect(f'file:{where}?mode=ro&immutable=1', uri=True)
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
        self.counts = dict(Counter(channel.topic for channel, _, _ in self._rows(self._topics)))

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of these topics, by time where the index is whole, else by row."""
        wanted = {key for key, channel in self._topics.items() if channel.topic in topics}
        for channel, log_ns, data in self._rows(wanted):
            yield Recorded(channel.topic, channel.type, log_ns, data)

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

    def _rows(self, topics: Collection[int]) -> Iterator[tuple[Channel, int, bytes]]:
        lost = 0
        newest: float = -1
        faults: list[str] = []
        try:
            # The index over time lies on pages of its own.
            for (key,) in self._database.execute(
                'SELECT id FROM messages INDEXED BY timestamp_idx ORDER BY timestamp, id'
            ):
                row, broken = self._row(key)
                lost += broken
                if row is not None and row[1] in topics:
                    newest = max(newest, row[0])
                    yield self._topics[row[1]], row[0], row[2]
        except sqlite3.Error as error:
            faults.append(f'its index over time is broken ({error})')
            key = misses = 0
            while misses < PATIENCE:
                key += 1
                row, broken = self._row(key)
                misses = 0 if row is not None else misses + 1
                # What the index still led to came out before.
                if row is not None and row[1] in topics and row[0] > newest:
                    yield self._topics[row[1]], row[0], row[2]
        if lost:
            faults.append(f'{lost:,} of its messages lie on broken pages')
        self.faults = faults

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
