"""Which topics of a recording are taken for camera and LiDAR, unless they are named."""

import numpy as np
from recordings import at, header_of, made

from fusion_perception.learning.bags.topics import TopicSettings, choose_topics
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.sensing.recordings.recording import Recording

PICTURE, SCAN = np.full((4, 4, 4), 255, np.uint8), np.ones((4, 4), np.float32)


def chosen(path, pictures=(), scans=(), compressed=()):
    """Write a message on each of these topics, and return what is taken of them."""
    with BagWriter(path) as bag:
        for topic in pictures:
            bag.image(topic, at(0), PICTURE)
        for topic in scans:
            bag.ranges(topic, at(0), SCAN)
        for topic in compressed:
            kind, data = 'sensor_msgs/msg/CompressedImage', np.zeros(4, np.uint8)
            message = made(kind, header=header_of(at(0)), format='png', data=data)
            bag.write(topic, kind, at(0), message)
    with Recording(path) as recording:
        return choose_topics(recording, TopicSettings())


def test_the_compressed_twin_of_a_topic_is_not_taken_twice(tmp_path):
    twins = '/image/compressed', '/range/compressed'
    found = chosen(tmp_path / 'bag', ['/image'], ['/range'], twins)
    assert (found.image, found.ranges) == ('/image', '/range')


def test_compressed_depth_is_no_picture(tmp_path):
    both = '/image/compressed', '/depth/compressedDepth'
    assert chosen(tmp_path / 'bag', compressed=both).image == '/image/compressed'


def test_a_topic_on_which_nothing_came_is_not_meant(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.ranges('/range', at(0), SCAN)
        bag.centers('/centers', at(0), np.ones((1, 3)))
        # As a recorder does that subscribes to everything.
        for topic in ('/objects', '/people'):
            bag._writer.add_connection(topic, 'geometry_msgs/msg/PoseArray', typestore=bag._types)
    with Recording(tmp_path / 'bag') as recording:
        assert '/objects' in recording.topics
        assert choose_topics(recording, TopicSettings()).truth == '/centers'
