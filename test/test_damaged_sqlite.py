"""What is left of a damaged database is read in order, and what is not is counted."""

import sqlite3
from contextlib import closing

import pytest
from recordings import record

from fusion_perception.learning.to_bag import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.sensing.recordings.damaged_sqlite import DamagedSqlite
from fusion_perception.sensing.recordings.recording import Recording

TOPICS = IMAGE, CAMERA_INFO, RANGES, TRUTH


@pytest.fixture
def damaged(tmp_path):
    """Return what reads a recording of five, of each topic, as damaged after some SQL."""

    def read(*statements):
        file = record(tmp_path / 'bag', 5, storage='sqlite3') / 'bag.db3'
        with closing(sqlite3.connect(file)) as database, database:
            for statement in statements:
                database.execute(statement)
        return DamagedSqlite(file)

    return read


def test_what_is_left_of_a_database_comes_in_the_order_of_its_times(damaged):
    left = damaged('UPDATE messages SET timestamp = 1000 - id')
    times = [message.log_ns for message in left.messages(TOPICS)]
    assert times == list(range(980, 1000))
    assert left.span == (980, 999)


@pytest.mark.parametrize(('after', 'wide'), [(4, 1_000), (4, 50_000), (0, 50_000)])
def test_a_gap_of_many_ids_is_not_the_end_of_a_damaged_database(damaged, after, wide):
    # As a broken page leaves one, of small messages, where the index is lost as well.
    gap = f'UPDATE messages SET id = id + {wide} WHERE id > {after}'
    left = damaged(gap, 'DROP INDEX timestamp_idx')
    assert sum(left.counts.values()) == 20
    (fault,) = left.faults
    assert 'its index over time is broken' in fault


def test_a_definition_in_a_language_that_nobody_knows_costs_no_message_of_what_is_left(damaged):
    left = damaged("UPDATE message_definitions SET encoding = 'riddles'")
    assert left.faults == []
    assert (len(left.channels), sum(left.counts.values())) == (4, 20)


@pytest.mark.parametrize('broken', ["timestamp = x'00'", "data = 'text'", 'topic_id = 99'])
def test_a_message_of_which_a_part_is_broken_is_left_out_and_counted(damaged, broken):
    left = damaged(f'UPDATE messages SET {broken} WHERE id = 3')
    assert left.faults == ['1 of its messages lie on broken pages']
    assert sum(left.counts.values()) == 19
    assert len(list(left.messages(TOPICS))) == 19


def test_beside_a_damaged_database_with_a_journal_nothing_is_written(damaged, tmp_path):
    left = damaged('PRAGMA journal_mode = WAL')
    assert sum(left.counts.values()) == 20
    assert {path.name for path in (tmp_path / 'bag').iterdir()} == {'metadata.yaml', 'bag.db3'}


def test_a_sound_database_without_an_index_is_not_damaged(tmp_path):
    bag = record(tmp_path / 'bag', 5, storage='sqlite3')
    with closing(sqlite3.connect(bag / 'bag.db3')) as database, database:
        database.execute('DROP INDEX timestamp_idx')
    with Recording(bag) as recording:
        assert len(list(recording.messages(TOPICS))) == 20
        assert recording.unread == []


def test_a_message_on_a_broken_page_costs_none_of_the_same_time(tmp_path):
    file = record(tmp_path / 'bag', 5, storage='sqlite3') / 'bag.db3'
    whole = file.read_bytes()
    places = range(4096, len(whole), 4096)
    # Where a large message goes on, a page begins with the number of the next one.
    chained = [at for at in places if 0 < int.from_bytes(whole[at : at + 4], 'big') <= len(places)]
    assert chained
    for at in chained[::3]:
        file.write_bytes(whole[:at] + b'\xff\xff\xff\xff' + whole[at + 4 :])
        with Recording(tmp_path / 'bag') as recording:
            read = [(m.topic, m.log_ns) for m in recording.messages(TOPICS)]
        assert len(read) == len(set(read)) == 19
