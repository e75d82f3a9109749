"""The way from messages to results, with a camera that is elsewhere than in the training."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from ros_graph import RANGES, wait_until
from ways import BEGIN, PIXELS

from fusion_perception.ros.messages import camera_info_message, header_message
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.transforms import NoTransform, rigid

AHEAD = (-0.5, 0.5, -0.5, 0.5)
# One metre above the LiDAR.
ABOVE = f'0 0 1 {" ".join(map(str, AHEAD))}'
T_ABOVE = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class Frames:
    """What tf knows: a camera above the LiDAR, unless it knows nothing."""

    def __init__(self, known=True):
        self.known, self.asked = known, []

    def T_camera_lidar(self, *question):
        self.asked.append(question)
        if not self.known:
            raise NoTransform('Nobody knows.')
        return np.linalg.inv(rigid((0.0, 0.0, 1.0), AHEAD))


def test_the_place_of_the_camera_counts_in_prediction_and_picture(begun, runtime):
    way = begun(camera_pose=ABOVE)
    way.pair()
    camera = way.result().camera
    assert np.allclose(camera.T_camera_lidar, T_ABOVE)
    expected = runtime.predict_frame(PIXELS, RANGES, Camera(T_camera_lidar=T_ABOVE))
    np.testing.assert_allclose(way.result().prediction.centers, expected.centers, atol=1e-5)
    beside = runtime.predict_frame(PIXELS, RANGES)
    assert not np.allclose(beside.centers, expected.centers, atol=1e-3)


def test_its_intrinsics_are_those_of_camera_info_all_the_same(begun):
    way = begun(camera_pose=ABOVE)
    told = camera_info_message(header_message(BEGIN, 'camera'), Camera(fx=50.0))
    way.pipeline.calibrate(told)
    way.pair()
    assert way.result().camera.fx == 50.0
    assert np.allclose(way.result().camera.T_camera_lidar, T_ABOVE)


def test_tf_is_asked_of_the_frames_and_the_time_of_each_pair(begun):
    frames = Frames()
    way = begun(camera_pose='tf', frames=frames, pairing=PairingSettings(dropout_after_s=0.1))
    way.pair()
    assert np.allclose(way.result().camera.T_camera_lidar, T_ABOVE)
    # Without a scan it is the frame of the last one.
    for ms in range(50, 500, 50):
        way.image(ms)
    way.result(2)
    first, second = frames.asked[:2]
    assert first == ('camera', 'velodyne', BEGIN)
    assert second == ('camera', 'velodyne', way.results[1].stamp_ns)


def test_before_the_first_scan_the_lidar_is_where_lidar_frame_says(begun):
    frames = Frames()
    pairing = PairingSettings(dropout_after_s=0.1)
    way = begun(camera_pose='tf', frames=frames, pairing=pairing, lidar_frame='os_lidar')
    for ms in range(0, 500, 50):
        way.image(ms)
    way.result()
    assert frames.asked[0][:2] == ('camera', 'os_lidar')


def test_what_tf_does_not_know_is_lost_and_said_and_the_lidar_goes_on_alone(begun):
    frames = Frames(known=False)
    way = begun(camera_pose='tf', frames=frames, pairing=PairingSettings(dropout_after_s=0.1))
    way.pair()
    way.become({'no_transform': 1})
    wait_until(lambda: way.complaints == ['Nobody knows.'], 'the fault')
    for ms in range(50, 500, 50):
        way.scan(ms)
    assert way.result().prediction.mode == ('lidar_only',)
    frames.known = True
    way.pair(550)
    wait_until(lambda: way.results[-1].prediction.mode == ('fusion',), 'both sensors')
