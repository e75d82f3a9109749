"""Recordings are read whole or damaged, compressed or not, and stay as they are."""

import shutil
import sqlite3
import struct
from collections import Counter

import pytest
from odd_files import bomb
from recordings import LATCHED, SPOKEN, record, record_latched
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from fusion_perception.learning.to_bag import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.sensing.decode import decode_range, stamp_ns
from fusion_perception.sensing.recordings.files import find_recordings
from fusion_perception.sensing.recordings.message_types import MessageTypes, known_types
from fusion_perception.sensing.recordings.recorded import Recorded
from fusion_perception.sensing.recordings.recording import Recording

KINDS = [
    (storage, compression)
    for storage in ('mcap', 'sqlite3')
    for compression in ('none', 'file', 'message')
]


def contents(path, topics=(IMAGE, CAMERA_INFO, RANGES, TRUTH)):
    """Return what is in a recording, the number of messages by topic, and what was not read."""
    with Recording(path) as recording:
        messages = [(m, recording.read(m)) for m in recording.messages(topics)]
        return messages, Counter(m.topic for m, read in messages if read), recording.unread


def state(folder):
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob('*')
        if path.is_file()
    }


def storage_of(folder):
    return next(p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3'))


@pytest.mark.parametrize(('storage', 'compression'), KINDS)
def test_every_storage_and_compression_gives_the_same_messages(tmp_path, storage, compression):
    bag = record(tmp_path / 'bag', 4, storage=storage, compression=compression)
    before = state(bag)
    messages, counts, unread = contents(bag)
    assert counts == dict.fromkeys((IMAGE, CAMERA_INFO, RANGES, TRUTH), 4)
    assert unread == []
    assert state(bag) == before
    ranges = [m for recorded, m in messages if recorded.topic == RANGES]
    assert decode_range(ranges[0]).shape == (64, 64)
    assert [stamp_ns(m) for m in ranges] == sorted(stamp_ns(m) for m in ranges)


@pytest.mark.parametrize(('storage', 'compression'), KINDS)
def test_without_metadata_the_files_are_read_all_the_same(tmp_path, storage, compression):
    bag = record(tmp_path / 'bag', 4, storage=storage, compression=compression)
    (bag / 'metadata.yaml').unlink()
    _, counts, unread = contents(bag)
    assert counts[RANGES] == 4
    assert unread == ['metadata.yaml is missing: every storage file in the folder was read.']
    assert find_recordings([bag]) == [bag]


@pytest.mark.parametrize('torn', [False, True])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('version', [8, 9])
def test_a_latched_topic_is_known_with_what_its_publishers_kept(tmp_path, torn, storage, version):
    # A depth of 0 is one that the recorder did not learn.
    bag = record_latched(tmp_path / 'bag', (2, 0), 2000, storage, version)
    if torn:
        file = storage_of(bag)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with Recording(bag) as recording:
        assert any('torn' in said or 'damaged' in said for said in recording.unread) == torn
        assert recording.topics[LATCHED].latched == 12
        assert recording.topics[SPOKEN].latched == 0
        texts = [recording.read(message).data for message in recording.messages([LATCHED])]
    assert texts == ['0', '1', '2']


@pytest.mark.parametrize('compression', ['none', 'file', 'message'])
def test_a_torn_mcap_is_read_up_to_the_tear(tmp_path, compression):
    bag = record(tmp_path / 'bag', 40, compression=compression)
    file = next(bag.glob('*.mcap*'))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    _, counts, unread = contents(bag)
    assert 10 < counts[RANGES] < 40
    assert any('are a chunk that is cut off' in sentence for sentence in unread)


def test_a_chunk_with_a_wrong_checksum_is_left_out_and_the_rest_is_read(tmp_path):
    bag = record(tmp_path / 'bag', 150)
    file = storage_of(bag)
    data = bytearray(file.read_bytes())
    second = chunks(data)[1]
    # rosbags writes no checksum, so this one is of nothing.
    struct.pack_into('<I', data, second + 9 + 24, 0xDEADBEEF)
    file.write_bytes(data)
    _, counts, unread = contents(bag)
    assert 0 < counts[RANGES] < 150
    assert 'a chunk of' in unread[0] and 'damaged' in unread[0]
    lost = f'{150 - counts[RANGES]} of the 150 messages of {RANGES} that it lists are not there'
    assert any(lost in said for said in unread[1:])


def chunks(data):
    """Return where the chunks of an .mcap file begin."""
    at, found = 8, []
    while at < len(data) - 8:
        opcode, length = struct.unpack_from('<BQ', data, at)
        found += [at] if opcode == 6 else []
        at += 9 + length
    return found


def test_a_database_with_a_broken_page_loses_only_what_lies_there(tmp_path):
    bag = record(tmp_path / 'bag', 20, storage='sqlite3')
    file = storage_of(bag)
    with sqlite3.connect(file) as database:
        (page,) = database.execute('PRAGMA page_size').fetchone()
    database.close()
    data = bytearray(file.read_bytes())
    # A leaf of a table begins with 13.
    broken = [at for at in range(0, len(data), page) if data[at] == 13 and at > len(data) // 2]
    data[broken[0] : broken[0] + page // 2] = b'\xff' * (page // 2)
    file.write_bytes(data)
    before = state(bag)
    _, counts, unread = contents(bag)
    assert 10 < counts[RANGES] <= 20
    assert sum(counts.values()) < 80
    assert 'lie on broken pages' in unread[0]
    assert state(bag) == before


def test_a_torn_database_is_read_without_its_index(tmp_path):
    bag = record(tmp_path / 'bag', 20, storage='sqlite3')
    file = storage_of(bag)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3 // 4096 * 4096])
    messages, counts, unread = contents(bag)
    assert 5 < counts[RANGES] < 20
    assert len({(m.topic, m.log_ns) for m, _ in messages}) == len(messages)
    assert 'damaged' in unread[0]


def test_what_a_killed_recorder_left_in_the_journal_is_read_too(tmp_path):
    bag = record(tmp_path / 'whole', 6, storage='sqlite3')
    killed = tmp_path / 'killed'
    shutil.copytree(bag, killed)
    file = storage_of(killed)
    database = sqlite3.connect(file)
    database.execute('PRAGMA journal_mode = WAL')
    database.execute('PRAGMA wal_autocheckpoint = 0')
    rows = database.execute('SELECT topic_id, timestamp, data FROM messages').fetchall()
    later = [(topic, time + 10**9, data) for topic, time, data in rows]
    database.executemany('INSERT INTO messages(topic_id,timestamp,data) VALUES (?,?,?)', later)
    database.commit()
    snapshot = tmp_path / 'snapshot'  # As it lies there while the recorder still has it open.
    shutil.copytree(killed, snapshot, ignore=shutil.ignore_patterns('*-shm'))
    database.close()
    before = state(snapshot)
    assert any(path.name.endswith('-wal') for path in before)
    _, counts, _ = contents(snapshot)
    assert counts[RANGES] == 12
    assert state(snapshot) == before


@pytest.mark.timeout(30)
@pytest.mark.parametrize('name', ['a.mcap', 'a.db3', 'a.mcap.zstd', 'a.db3.zstd'])
def test_ten_gigabytes_of_zeros_are_refused_at_once(tmp_path, name):
    path = tmp_path / name
    with path.open('wb') as file:
        file.truncate(10 << 30)
    with pytest.raises(ValueError, match=r'Nothing in .* can be read'):
        Recording(path)


@pytest.mark.timeout(30)
def test_zeros_after_the_messages_end_the_recording(tmp_path):
    bag = record(tmp_path / 'bag', 40)
    file = storage_of(bag)
    half = file.stat().st_size // 2
    with file.open('r+b') as opened:
        opened.truncate(half)
        opened.truncate(10 << 30)
    _, counts, unread = contents(bag)
    assert counts[RANGES] >= 10
    assert 'hold no whole record' in unread[0]


def test_a_missing_part_is_named_and_the_others_are_read(tmp_path):
    bag = record(tmp_path / 'bag', 4)
    text = (bag / 'metadata.yaml').read_text()
    (bag / 'metadata.yaml').write_text(text.replace('- bag.mcap', '- bag.mcap\n  - bag_1.mcap', 1))
    _, counts, unread = contents(bag)
    assert counts[RANGES] == 4
    assert unread == ['bag_1.mcap, which metadata.yaml lists, is missing.']


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_whose_file_was_renamed_is_read_and_it_is_said(tmp_path, storage):
    bag = record(tmp_path / 'bag', 4, storage=storage)
    file = storage_of(bag)
    file.rename(bag / f'monday{file.suffix}')
    _, counts, unread = contents(bag)
    assert counts == dict.fromkeys((IMAGE, CAMERA_INFO, RANGES, TRUTH), 4)
    assert unread == [
        f'metadata.yaml lists {file.name}, of which nothing is there: every storage file in the '
        'folder was read.'
    ]


def test_a_file_that_was_packed_after_the_recording_is_read(tmp_path):
    bag = record(tmp_path / 'bag', 4, compression='file')
    (packed,) = bag.glob('*.zstd')
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(packed.name, packed.stem))
    _, counts, unread = contents(bag)
    assert (counts[RANGES], unread) == (4, [])


def test_a_recording_without_any_file_is_said_to_have_none(tmp_path):
    bag = record(tmp_path / 'bag', 4)
    storage_of(bag).unlink()
    with pytest.raises(ValueError, match=r'it has no \.mcap and no \.db3 file'):
        Recording(bag)


def test_a_bomb_among_the_messages_is_counted_and_the_others_are_read(tmp_path):
    bag = record(tmp_path / 'bag', 4, storage='sqlite3', compression='message')
    with sqlite3.connect(storage_of(bag)) as database:
        change = 'UPDATE messages SET data = ? WHERE id = 5'
        assert database.execute(change, [bomb('zstd', 600)]).rowcount == 1
    database.close()
    _, counts, unread = contents(bag)
    assert sum(counts.values()) == 15
    assert [line for line in unread if '1 message unread: it unpacks to more than 512 MiB' in line]


def test_a_message_that_is_none_of_its_type_is_counted_and_the_others_are_read(tmp_path):
    bag = record(tmp_path / 'bag', 4)
    with Recording(bag) as recording:
        first = next(iter(recording.messages([RANGES])))
        torn = Recorded(first.topic, first.type, first.log_ns, first.data[:100])
        assert recording.read(torn) is None
        assert recording.read(torn) is None
        assert recording.read(first) is not None
        (sentence,) = recording.unread
    assert sentence.startswith(f'{RANGES}: 2 messages unread')


def test_a_definition_that_nobody_understands_harms_no_other_type(tmp_path):
    types = MessageTypes()
    types.learn('strange_msgs/msg/Odd', MessageDefinition(MessageDefinitionFormat.MSG, 'int3 {'))
    with pytest.raises(ValueError, match=r'strange_msgs/msg/Odd is unknown'):
        types.deserialize(b'', 'strange_msgs/msg/Odd')
    bag = record(tmp_path / 'bag', 2)
    with Recording(bag) as recording:
        recorded = next(iter(recording.messages([TRUTH])))
    types.learn(recorded.type, MessageDefinition(MessageDefinitionFormat.MSG, '???'))
    assert len(types.deserialize(recorded.data, recorded.type).poses) == 3


@pytest.mark.parametrize(
    ('whole', 'flipped'),
    [
        (b'uint32 height', b'uint32 ieight'),
        (b'uint32 nanosec', b'uint32 nanosdc'),
        (b'MSG: std_msgs/Header', b'MSG: std_msgs/Ieader'),
        (b'uint8[] data', b'uint0[] data'),
    ],
)
def test_a_flipped_bit_in_a_definition_of_a_known_type_costs_no_message(tmp_path, whole, flipped):
    bag = record(tmp_path / 'bag', 4)
    file = storage_of(bag)
    content = file.read_bytes()
    assert whole in content
    file.write_bytes(content.replace(whole, flipped))
    messages, counts, _ = contents(bag)
    assert counts == dict.fromkeys((IMAGE, CAMERA_INFO, RANGES, TRUTH), 4)
    ranges = [m for recorded, m in messages if recorded.topic == RANGES]
    assert decode_range(ranges[0]).shape == (64, 64)
    assert all(stamp_ns(m) > 0 for m in ranges)


def test_a_definition_with_more_fields_than_are_known_is_believed():
    known = known_types()
    longer = known.generate_msgdef('std_msgs/msg/Header')[0].replace(
        'string frame_id', 'string frame_id\nint32 seq', 1
    )
    notes = []
    types = MessageTypes(note=notes.append)
    types.learn('std_msgs/msg/Header', MessageDefinition(MessageDefinitionFormat.MSG, longer))
    # CDR: encapsulation, seconds, nanoseconds, length and text of the frame, padding, seq.
    data = struct.pack('<4sIII4sI', b'\0\1\0\0', 1, 2, 4, b'abc\0', 7)
    assert types.deserialize(data, 'std_msgs/msg/Header').seq == 7
    assert notes == []


@pytest.mark.parametrize('column', ['name', 'type'])
def test_a_topic_without_a_name_or_a_type_is_passed_over_and_said(tmp_path, column):
    bag = record(tmp_path / 'bag', 4, storage='sqlite3')
    with sqlite3.connect(storage_of(bag)) as database:
        # The schema forbids it, and damage does not ask.
        database.execute('PRAGMA writable_schema = ON')
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
    database.close()
    with sqlite3.connect(storage_of(bag)) as database:
        change = f'UPDATE topics SET {column} = NULL WHERE name = ?'
        assert database.execute(change, [CAMERA_INFO]).rowcount == 1
    database.close()
    _, counts, unread = contents(bag)
    assert counts == dict.fromkeys((IMAGE, RANGES, TRUTH), 4)
    assert any(f'the {column} None' in sentence for sentence in unread), unread


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('none')
    with pytest.raises(ValueError, match=r'no \.mcap and no \.db3'):
        Recording(path)


def test_a_path_with_characters_of_an_address_is_read(tmp_path):
    bag = tmp_path / 'a?b#c%20'
    record(tmp_path / 'bag', 2, storage='sqlite3').rename(bag)
    _, counts, unread = contents(bag)
    assert counts[RANGES] == 2
    assert unread == []
