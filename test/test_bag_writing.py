"""What is written into a recording is what is read from it, and half a one is not left."""

import numpy as np
import pytest
from odd_files import no_file_larger_than
from recordings import CAMERA_INFO, IMAGE, RANGES, TRUTH, at, frames

from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.sensing.camera_info import camera_from_info
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.recordings.recording import Recording

CAMERA = Camera(width=96, height=48, fx=70.0, fy=65.0, cx=46.5, cy=25.25)


def test_a_camera_info_tells_of_the_camera_in_both_of_its_matrices(tmp_path):
    bent = CAMERA.model_copy(update={'lens': Lens(coefficients=(-0.3, 0.1, 0.0, 0.0, 0.02))})
    with BagWriter(tmp_path / 'bag') as bag:
        bag.camera_info(CAMERA_INFO, at(0), bent)
    with Recording(tmp_path / 'bag') as recording:
        (message,) = map(recording.read, recording.messages([CAMERA_INFO]))
        assert camera_from_info(message, Camera(), 'k') == bent
        assert camera_from_info(message, Camera(), 'p') == CAMERA
        assert message.header.frame_id == 'camera'


def test_every_message_may_be_recorded_later_than_its_stamp(tmp_path):
    seen = frames(8, 10)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.image(IMAGE, at(0), seen.images[0].numpy(), log_ns=at(5))
        bag.camera_info(CAMERA_INFO, at(0), CAMERA, log_ns=at(5))
        bag.ranges(RANGES, at(0), seen.ranges[0].numpy(), log_ns=at(5))
        bag.centers(TRUTH, at(0), seen.centers[0].double().numpy(), log_ns=at(5))
    with Recording(tmp_path / 'bag') as recording:
        recorded = list(recording.messages(list(recording.topics)))
        assert [message.log_ns for message in recorded] == [at(5)] * 4
        assert [stamp_ns(recording.read(message)) for message in recorded] == [at(0)] * 4


def test_where_a_frame_moves_nothing_is_latched(tmp_path):
    shift, upright = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.transform(at(0), 'base', 'lidar', shift, upright)
        bag.transform(at(0), 'base', 'mast', shift, upright, moving=True)
    with Recording(tmp_path / 'bag') as recording:
        latched = {topic.name: topic.latched for topic in recording.topics.values()}
    assert latched == {'/tf_static': 1, '/tf': 0}


def test_an_image_of_which_a_single_pixel_is_transparent_keeps_its_alpha(tmp_path):
    pixels = np.full((4, 6, 4), 255, np.uint8)
    pixels[3, 5, 3] = 254
    with BagWriter(tmp_path / 'bag') as bag:
        bag.image(IMAGE, at(0), pixels)
    with Recording(tmp_path / 'bag') as recording:
        (message,) = map(recording.read, recording.messages([IMAGE]))
    assert (message.encoding, message.step) == ('rgba8', 24)
    assert message.data[-1] == 254


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_that_ends_in_an_exception_is_not_left(tmp_path, storage):
    def fail_halfway():
        with BagWriter(tmp_path / 'bag', storage) as bag:
            bag.camera_info(CAMERA_INFO, at(0), CAMERA)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('limit', [0, 3_000, 60_000])
@pytest.mark.parametrize('compression', ['none', 'file', 'message'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_for_which_there_is_no_room_is_not_left(tmp_path, storage, compression, limit):
    noise = np.random.default_rng(0).random((64, 64), np.float32)

    def fill_the_disk():
        with BagWriter(tmp_path / 'bag', storage, compression) as bag:
            for index in range(20):
                bag.ranges(RANGES, at(index), noise)

    with no_file_larger_than(limit), pytest.raises(OSError, match=r'cannot be written|too large'):
        fill_the_disk()
    assert not (tmp_path / 'bag').exists()
