"""What a recording lists and does not give is said, whatever a reader makes of it."""

import sqlite3
import struct
import subprocess
import sys

import pytest
from recordings import record

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.to_bag import IMAGE, RANGES
from fusion_perception.sensing.recordings import damaged_mcap
from fusion_perception.sensing.recordings.damaged_mcap import DamagedMcap
from fusion_perception.sensing.recordings.recorded import LARGEST, NO_DEFINITION
from fusion_perception.sensing.recordings.recording import Recording

# Before the data of an mcap message: its length, and channel, sequence, and two times.
CHANNEL = 2 + 4 + 8 + 8
LENGTH = CHANNEL + 8

pytestmark = pytest.mark.usefixtures('one_thread')


def damaged(bag, image, before, bit):
    """Return a recording in which a bit is wrong in a byte so far before the data of an image."""
    with Recording(bag) as recording:
        data = [bytes(m.data) for m in recording.messages([IMAGE])][image]
    (file,) = bag.glob('*.mcap')
    content = bytearray(file.read_bytes())
    content[content.index(data) - before] ^= bit
    file.write_bytes(content)
    return bag


@pytest.fixture
def misplaced(tmp_path):
    """Return a recording of four images, one of which has the channel of nobody."""
    return damaged(record(tmp_path / 'bag', 4), 1, CHANNEL, 0x40)


@pytest.fixture
def overlong(tmp_path):
    """Return a recording of 40 messages, one of which claims to be longer than its chunk."""
    return damaged(record(tmp_path / 'bag', 10), 7, LENGTH - 3, 0x10)


@pytest.fixture
def garbled(tmp_path):
    """Return a recording of which no range image can be read."""
    bag = record(tmp_path / 'bag', 4, storage='sqlite3')
    (file,) = bag.glob('*.db3')
    with sqlite3.connect(file) as database:
        ranges = 'SELECT id FROM topics WHERE name = ?'
        database.execute(
            f'UPDATE messages SET data = ? WHERE topic_id = ({ranges})', (b'\0\1' * 25, RANGES)
        )
    database.close()
    return bag


def test_messages_that_a_file_lists_and_does_not_hold_are_counted(misplaced):
    text, code = doctor(DoctorSettings(bag=misplaced))
    assert code == 1
    assert f'1 of the 4 messages of {IMAGE} that it lists are not there' in text


def test_a_topic_that_cannot_be_read_is_not_passed_over_in_silence(garbled, tmp_path, bundle):
    said = f'{RANGES}: 4 messages unread: '
    text, code = doctor(DoctorSettings(bag=garbled))
    assert code == 1
    assert said in text
    values = {'bundle': str(bundle), 'bag': (str(garbled),), 'device': 'cpu'}
    with pytest.raises(ValueError, match=said):
        evaluate(EvaluateSettings.read({**values, 'out': tmp_path / 'report'}))


@pytest.mark.parametrize(('messages', 'said'), [('id = 1', []), ('id > 0', ['5 messages unread'])])
def test_what_is_damaged_is_told_where_nothing_of_a_topic_can_be_read(tmp_path, messages, said):
    bag = record(tmp_path / 'bag', 5, storage='sqlite3')
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute(f'UPDATE messages SET data = ? WHERE {messages}', (b'\0\1' * 25,))
    database.close()
    with Recording(bag) as recording:
        assert recording.first(IMAGE, lambda image: False) is None
        assert [line.split(': ')[1] for line in recording.unread] == said


@pytest.mark.parametrize('indexed', [True, False])
def test_a_record_that_is_too_long_ends_its_chunk_and_it_is_said(overlong, indexed):
    if not indexed:
        (file,) = overlong.glob('*.mcap')
        footer = file.read_bytes()[:-28] + struct.pack('<QQI', 0, 0, 0) + file.read_bytes()[-8:]
        file.write_bytes(footer)
    with Recording(overlong) as recording:
        given = [m.topic for m in recording.messages([IMAGE, RANGES])]
    assert (given.count(IMAGE), given.count(RANGES)) == (7, 7)
    assert any('bytes of a chunk hold no whole record' in said for said in recording.unread)
    told = [f'3 of the 10 messages of {topic} that it lists' for topic in (IMAGE, RANGES)]
    assert not indexed or all(any(one in said for said in recording.unread) for one in told)
    text, code = doctor(DoctorSettings(bag=overlong))
    assert (code, 'hold no whole record' in text) == (1, True)


@pytest.mark.ros
def test_a_replay_says_what_it_could_not_read(misplaced):
    pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')
    from fusion_perception.ros.replay import ReplaySettings, replay

    said = replay(ReplaySettings(bag=misplaced, rate=1000, wait_s=0))
    assert said.startswith('15 messages of') and IMAGE in said, said


@pytest.mark.ros
def test_a_loop_over_what_cannot_be_read_ends(tmp_path):
    pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')
    bag = damaged(record(tmp_path / 'bag', 1), 0, CHANNEL, 0x40)
    flags = ['--loop', '--topics', IMAGE, '--wait-s', '0']
    command = [sys.executable, '-m', 'fusion_perception.cli', 'replay', str(bag), *flags]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith('0 messages of') and IMAGE in said, said


def text(value):
    return struct.pack('<I', len(value)) + value.encode()


def record_of(opcode, content):
    return struct.pack('<BQ', opcode, len(content)) + content


def mcap_of(encoding='ros2msg'):
    """Return an .mcap file of one message on /chat that ends without an end."""
    words = text('std_msgs/msg/String') + text(encoding) + text('string data')
    schema = record_of(damaged_mcap.SCHEMA, struct.pack('<H', 1) + words)
    words = text('/chat') + text('cdr') + struct.pack('<I', 0)
    channel = record_of(damaged_mcap.CHANNEL, struct.pack('<HH', 2, 1) + words)
    return damaged_mcap.MAGIC + schema + channel + said_at(7)


def said_at(time_ns):
    content = struct.pack('<HIQQ', 2, 0, time_ns, time_ns) + b'hello'
    return record_of(damaged_mcap.MESSAGE, content)


def test_a_definition_in_a_language_that_nobody_knows_is_none(tmp_path):
    (tmp_path / 'torn.mcap').write_bytes(mcap_of('protobuf'))
    (channel,) = DamagedMcap(tmp_path / 'torn.mcap').channels
    assert channel.definition == NO_DEFINITION


def test_an_attachment_of_any_size_is_passed_over(tmp_path):
    path = tmp_path / 'torn.mcap'
    with path.open('wb') as file:
        file.write(mcap_of() + struct.pack('<BQ', 9, LARGEST + 1))
        file.seek(LARGEST + 1, 1)  # It takes no room on the disk.
        file.write(said_at(8))
    read = DamagedMcap(path)
    assert [recorded.data for recorded in read.messages(['/chat'])] == [b'hello'] * 2
    assert read.faults == ['its end is torn']


def test_what_is_damaged_in_a_channel_besides_its_topic_costs_no_message(tmp_path):
    whole = mcap_of()
    at = whole.index(text('cdr') + struct.pack('<I', 0))
    (tmp_path / 'torn.mcap').write_bytes(whole[: at + 4] + b'\xff' + whole[at + 5 :])
    read = DamagedMcap(tmp_path / 'torn.mcap')
    assert read.counts == {('/chat', 'std_msgs/msg/String'): 1}


def test_a_record_with_a_damaged_name_is_said_to_be_none(tmp_path):
    whole = mcap_of()
    (tmp_path / 'torn.mcap').write_bytes(whole.replace(b'/chat', b'/ch\xfft'))
    read = DamagedMcap(tmp_path / 'torn.mcap')
    assert (read.counts, read.channels) == ({}, [])
    assert 'a record in it is none' in read.faults


def test_times_of_a_torn_file_span_the_earliest_and_the_latest(tmp_path):
    more = b''.join(map(said_at, (9, 8, 3, 5)))
    (tmp_path / 'torn.mcap').write_bytes(mcap_of() + more)
    assert DamagedMcap(tmp_path / 'torn.mcap').span == (3, 9)
