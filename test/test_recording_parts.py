"""Files that were recorded in turn are read as one recording."""

from dataclasses import replace

import pytest
from recordings import at, joined, record

from fusion_perception.learning.bags.topics import TopicSettings, choose_topics
from fusion_perception.learning.bags.walk import SECOND, Walk
from fusion_perception.learning.to_bag import IMAGE, RANGES, TRUTH
from fusion_perception.sensing.recordings.recording import Recording

POSES, IMAGES = 'geometry_msgs/msg/PoseArray', 'sensor_msgs/msg/Image'


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(('count', 'read', 'left'), [(2, IMAGES, POSES), (4, POSES, IMAGES)])
def test_of_two_types_of_a_topic_the_more_frequent_is_read(
    tmp_path, reverse, storage, count, read, left
):
    moved = {IMAGE: '/elsewhere', TRUTH: IMAGE}
    bags = [
        record(tmp_path / 'poses', count, storage=storage, topics=moved),
        record(tmp_path / 'images', 2, storage=storage),
    ]
    with Recording(joined(tmp_path / 'bag', *bags[:: -1 if reverse else 1])) as recording:
        assert {message.type for message in recording.messages([IMAGE])} == {read}
        topic = recording.topics[IMAGE]
        assert (topic.type, topic.count) == (read, count)
        said = f'{IMAGE} has messages of {read} and of {left}; only the former are read.'
        assert said in recording.unread


def between(first, last):
    """Return the edit of a recording that leaves these frames, by their numbers."""
    return lambda events: [event for event in events if first <= event.index < last]


@pytest.fixture
def halves(tmp_path):
    """Return the first and the second half of two seconds as recordings of their own."""

    def make(storage='mcap', torn=False):
        names = {'first': (0, 10), 'second': (10, 20)}
        for name, frames in names.items():
            bag = record(tmp_path / name, 20, edit=between(*frames), storage=storage)
            if torn:
                (file,) = bag.glob('*.mcap')
                file.write_bytes(file.read_bytes()[:-20])
        return [tmp_path / name for name in names]

    return make


def walked(bag):
    """Return when the images and scans of a recording came, the walk, and what it notes."""
    with Recording(bag) as recording:
        walk = Walk(recording, choose_topics(recording, TopicSettings()))
        times = [log_ns for _, _, log_ns in walk]
        return times, walk, list(walk.notes())


@pytest.mark.parametrize(
    ('storage', 'torn'), [('mcap', False), ('mcap', True), ('sqlite3', False)]
)
def test_parts_come_in_the_order_of_time_whatever_their_names(tmp_path, halves, storage, torn):
    first, second = halves(storage, torn)
    times, walk, notes = walked(joined(tmp_path / 'bag', second, first))
    assert times == sorted(times) and len(times) == 60
    assert (walk.began_ns, walk.now_s) == (at(0), pytest.approx(1.9))
    assert notes == []


def test_a_part_with_one_wrong_time_keeps_its_place(tmp_path, halves):
    first, _ = halves()
    slipped = record(
        tmp_path / 'slipped',
        20,
        edit=lambda events: [
            replace(event, log_ns=at(-100))
            if (event.topic, event.index) == (RANGES, 15)
            else event
            for event in between(10, 20)(events)
        ],
    )
    times, walk, _ = walked(joined(tmp_path / 'bag', first, slipped))
    assert times[:30] == sorted(times[:30])
    assert times[30] == walk.began_ns == at(-100)


def test_parts_recorded_side_by_side_last_as_long_as_both(tmp_path):
    long = record(tmp_path / 'long', 40)
    within = record(tmp_path / 'within', 20, edit=between(10, 20))
    times, walk, notes = walked(joined(tmp_path / 'bag', long, within))
    assert times != sorted(times)
    assert (walk.began_ns, walk.now_s) == (at(0), pytest.approx(3.9))
    assert notes == []


def test_messages_of_a_torn_chunk_come_in_the_order_of_time(tmp_path):
    bag = record(tmp_path / 'bag', 10, edit=lambda events: events[::-1])
    (file,) = bag.glob('*.mcap')
    file.write_bytes(file.read_bytes()[:-20])
    times, walk, _ = walked(bag)
    assert times == sorted(times) and len(times) == 30
    assert walk.now_s == pytest.approx((at(9) - at(0)) / SECOND)
