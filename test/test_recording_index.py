"""A database whose index over time is damaged still gives all its messages."""

import struct
from collections import Counter

import pytest
from recordings import at, record

from fusion_perception.learning.to_bag import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.sensing.recordings.recording import Recording

ALL = (IMAGE, CAMERA_INFO, RANGES, TRUTH)
# Where they are in an entry of the index, seen from its time.
HEAD_SIZE, ID = -3, 8


@pytest.fixture
def entry(tmp_path):
    """Return a recording of 40 messages, four of a time, and change a byte of an index entry."""
    bag = record(tmp_path / 'bag', 10, storage='sqlite3')
    (file,) = bag.glob('*.db3')

    def change(number, offset, value):
        content = bytearray(file.read_bytes())
        found = content.index(struct.pack('>qB', at((number - 1) // 4), number))
        content[found + offset] = value
        file.write_bytes(content)
        return bag

    return change


def given(bag):
    with Recording(bag) as recording:
        messages = list(recording.messages(ALL))
        return messages, recording.unread


@pytest.mark.parametrize(
    ('offset', 'value', 'said'),
    [
        (ID, 99, 'leads to 39 of its 40 messages'),  # There is none of this id.
        (ID, 7, 'leads to 39 of its 40 messages'),
        (HEAD_SIZE, 0x7F, 'its index over time is broken'),
    ],
)
@pytest.mark.parametrize('number', [2, 21, 22, 23, 40])
def test_what_the_index_no_longer_leads_to_is_found_by_its_id(entry, number, offset, value, said):
    messages, unread = given(entry(number, offset, value))
    assert Counter(message.topic for message in messages) == dict.fromkeys(ALL, 10)
    times = [message.log_ns for message in messages]
    assert times == sorted(times)
    assert len(unread) == 1 and said in unread[0]
    assert unread[0].endswith('40 messages in it can be read.')
