"""Files that were recorded in turn are read as one recording."""

import shutil

import pytest
from recordings import record

from fusion_perception.learning.to_bag import IMAGE, TRUTH
from fusion_perception.sensing.recording import Recording

POSES, IMAGES = 'geometry_msgs/msg/PoseArray', 'sensor_msgs/msg/Image'


def joined(folder, *bags):
    """Return a recording whose parts are the files of others, in this order by their names."""
    folder.mkdir()
    for number, bag in enumerate(bags):
        (file,) = [path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3')]
        shutil.copy(file, folder / f'drive_{number}{file.suffix}')
    return folder


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
