"""The way from messages to results: what comes out, with which times, and what was lost why."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from ros_graph import RANGES, wait_until
from sensor_msgs.msg import CameraInfo
from ways import BEGIN, MS, PIXELS, Way

from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros.messages import (
    camera_info_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.transforms import NoTransform


def test_a_result_is_of_the_lidar_s_time_and_of_each_sensor_s_frame(begun):
    way = begun()
    way.image(5)
    way.scan(0)
    way.image(45)
    way.scan(50)
    result = way.result()
    assert (result.stamp_ns, result.frame_id, result.camera_frame) == (BEGIN, 'velodyne', 'camera')
    assert np.array_equal(result.image, PIXELS)
    assert np.array_equal(result.ranges, RANGES)


@pytest.mark.parametrize('first', ['image', 'scan'])
def test_frames_are_those_of_the_pair_and_not_of_what_came_since(begun, first):
    way = begun()
    send = {'image': way.image, 'scan': way.scan}
    partner = send['scan' if first == 'image' else 'image']
    send[first](0, frame_id='own')
    send[first](50, frame_id='another')
    partner(0, frame_id='own')
    result = way.result()
    assert (result.frame_id, result.camera_frame) == ('own', 'own')


def test_what_the_lidar_sees_alone_has_no_camera_s_frame_and_no_stamps_apart(begun):
    way = begun(pairing=PairingSettings(dropout_after_s=0.1))
    way.image(0)
    for ms in range(150, 500, 50):
        way.scan(ms)
    assert (way.result().camera_frame, way.result().frame_id) == ('', 'velodyne')
    times = way.published().times()
    assert times['apart_ms'] == {} and times['latency_ms']


def test_what_the_camera_sees_alone_is_in_the_frame_of_the_last_scan(begun):
    way = begun(pairing=PairingSettings(dropout_after_s=0.1))
    way.pair()
    way.result()
    for ms in range(50, 500, 50):
        way.image(ms)
    result = way.result(2)
    assert (result.prediction.mode, result.ranges) == (('camera_only',), None)
    assert result.frame_id == 'velodyne'


def test_camera_info_counts_in_prediction_and_picture(begun, runtime):
    camera = Camera(fx=50.0, fy=55.0)
    way = begun()
    way.pipeline.calibrate(camera_info_message(header_message(BEGIN, 'camera'), camera))
    way.pair()
    result = way.result()
    expected = Runtime(runtime.bundle, 'cpu').predict_frame(PIXELS, RANGES, camera)
    assert (result.camera.fx, result.camera.fy) == (50.0, 55.0)
    np.testing.assert_allclose(result.prediction.centers, expected.centers, atol=1e-5)
    without = Runtime(runtime.bundle, 'cpu').predict_frame(PIXELS, RANGES)
    assert not np.allclose(without.centers, expected.centers, atol=1e-3)


def test_without_camera_info_the_picture_is_of_the_bundle_s_camera(begun, runtime):
    way = begun()
    way.pair()
    assert way.result().camera == runtime.bundle.rig.camera


def test_a_camera_info_that_cannot_be_used_is_said_and_the_one_before_counts_on(begun):
    way = begun()
    told = camera_info_message(header_message(BEGIN, 'camera'), Camera(fx=50.0))
    way.pipeline.calibrate(told)
    way.pipeline.calibrate(CameraInfo(width=64, height=64))
    assert way.pipeline.calibration.camera.fx == 50.0
    (complaint,) = way.complaints
    assert 'no calibration' in complaint


def test_the_size_of_the_images_is_their_width_and_height(begun):
    way = begun()
    way.image(pixels=np.zeros((32, 48, 3), np.uint8))
    way.scan()
    way.result()
    assert way.pipeline.image.shape[:2] == (32, 48)


def test_a_comparison_of_the_sensors_that_fails_is_said_and_loses_nothing(
    begun, runtime, monkeypatch
):
    def broken(*frame):
        raise MemoryError('no room')

    monkeypatch.setattr(runtime, 'disagreement', broken)
    way = begun()
    for number in (1, 2):
        way.pair(50 * number)
        way.result(number)
    wait_until(lambda: way.complaints, 'what failed')
    assert way.complaints == ['The sensors cannot be compared: MemoryError: no room']
    way.become({'used': 2})


def test_latency_is_from_the_stamp_to_the_end_and_the_pair_s_stamps_lie_apart(begun):
    way = begun()
    way.now_ns = BEGIN + 40 * MS
    way.image(-5)
    way.scan(0)
    way.image(35)
    way.scan(50)
    times = way.published().times()
    assert times['latency_ms']['max'] == 40.0
    assert times['apart_ms']['max'] == 5.0


def test_another_clock_makes_no_stamp_leap(begun):
    way = begun()
    way.pair(0)
    way.result()
    way.now_ns -= 10**15
    way.pipeline.change_clock()
    way.pair(50)
    way.result(2)
    way.become({'used': 2})
    assert len(way.pipeline.monitor.arrivals('camera')) == 1


@pytest.mark.parametrize(('jump_ms', 'held_ms'), [(0, 45.0), (-100, 0.0)])
def test_how_long_the_pairing_held_a_pair_is_told_from_when_it_was_complete(
    begun, jump_ms, held_ms
):
    way = begun(pairing=PairingSettings(wait='certain'))
    for ms, take in ((0, way.scan), (5, way.image), (50, way.scan), (55, way.image)):
        way.now_ns = BEGIN + (ms + jump_ms * (ms >= 50)) * MS
        take(ms)
    # The scan came first, and the next one showed that none is closer to the image.
    assert way.published().times()['pairing_ms']['max'] == held_ms


def test_inference_and_publishing_are_timed_one_after_the_other(begun, bundle):
    def busy():
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until:
            pass

    def predict(*arrays):
        busy()
        prediction = predicted(*arrays)
        inferred.append(time.perf_counter())
        return prediction

    def publish(result):
        publishing.append(time.perf_counter())
        busy()

    runtime, inferred, publishing = Runtime(load_bundle(bundle), 'cpu'), [], []
    predicted, runtime.predict_frame = runtime.predict_frame, predict
    way = begun(runtime, publish=publish)
    began = time.perf_counter()
    way.pair()
    times = way.published().times()
    since_ms = 1000 * (time.perf_counter() - inferred[0])
    assert 50 <= times['inference_ms']['max'] <= 1000 * (publishing[0] - began)
    assert 50 <= times['publishing_ms']['max'] <= since_ms


def test_what_is_too_old_when_its_turn_comes_is_stale(begun):
    way = begun(max_age_s=0.1)
    way.now_ns = BEGIN + 101 * MS
    way.pair(0)
    way.become({'stale': 1})
    way.pair(2)
    way.result()
    way.become({'stale': 1, 'used': 1})
    assert [result.stamp_ns for result in way.results] == [BEGIN + 2 * MS]


def test_a_pair_without_transform_is_lost_and_why_is_said(begun):
    def publish(result):
        raise NoTransform('No transform from here to there.')

    way = begun(publish=publish)
    way.pair()
    way.become({'no_transform': 1})
    wait_until(lambda: way.pipeline.monitor.lost_by, 'the fault')
    assert set(way.pipeline.monitor.lost_by.values()) == {'No transform from here to there.'}
    assert set(way.pipeline.monitor.lost_by) == {'camera', 'lidar'}
    assert not way.pipeline.monitor.faults  # No message was refused.
    assert way.pipeline.monitor.output()[0] is None


def test_a_pair_on_which_inference_fails_is_lost_and_the_next_one_is_predicted(begun):
    results = []

    def publish(result):
        results.append(result)
        if len(results) == 1:
            raise RuntimeError('out of memory')

    way = begun(publish=publish)
    way.pair(0)
    way.become({'inference_error': 1})
    way.pair(100)
    way.published()
    way.become({'inference_error': 1, 'used': 1})
    assert way.pipeline.monitor.last_fault()[0] == 'Inference failed: RuntimeError: out of memory'


def test_pairs_that_came_while_one_was_predicted_are_superseded_but_for_the_newest(begun):
    at_work, go_on, results = threading.Event(), threading.Event(), []

    def publish(result):
        at_work.set()
        assert go_on.wait(10)
        results.append(result)

    way = begun(publish=publish)
    way.pair(0)
    assert at_work.wait(10)
    for ms in (100, 200, 300):
        way.pair(ms)
    way.become({'superseded': 2, 'used': 2})
    go_on.set()
    way.published(2)
    assert [result.stamp_ns for result in results] == [BEGIN, BEGIN + 300 * MS]


def test_what_waits_for_a_partner_at_the_end_is_counted(runtime):
    way = Way(runtime)
    way.pipeline.open()
    way.image()
    assert way.counts('camera') == {'pending': 1}
    way.pipeline.close()
    assert way.counts('camera') == {'no_partner': 1}


def test_what_comes_before_the_beginning_and_after_the_end_does_not_count(runtime):
    way = Way(runtime)
    way.pair()
    way.pipeline.open()
    way.pipeline.close()
    way.pair(100)
    assert way.counts('camera') == way.counts('lidar') == {}


@pytest.mark.parametrize(
    ('changed', 'before_m', 'after_m'),
    [({'range_scale': 0.01}, 3.0, 30.0), ({'invalid_values': (3000,)}, 3.0, 0.0)],
    ids=['range_scale', 'invalid_values'],
)
def test_what_counts_mean_is_set_and_can_change_under_way(begun, changed, before_m, after_m):
    other = begun(**changed)
    other.pair(0, count=3000)
    assert other.result().ranges[5, 5] == pytest.approx(after_m)
    way = begun()
    way.pair(0, count=3000)
    assert way.result().ranges[5, 5] == pytest.approx(before_m)
    way.pipeline.change(NodeSettings(**changed))
    way.pair(100, count=3000)
    assert way.result(2).ranges[5, 5] == pytest.approx(after_m)


def test_how_old_a_pair_may_be_can_change_under_way(begun):
    way = begun()
    way.now_ns = BEGIN + 500 * MS
    way.pair(0)
    way.result()
    way.pipeline.change(NodeSettings(max_age_s=0.3))
    way.pair(100)
    way.become({'used': 1, 'stale': 1})


def test_how_far_apart_stamps_may_lie_can_change_under_way_and_the_counters_go_on(begun):
    way = begun(pairing=PairingSettings(slop_s=0.02, allow_single=False))
    way.pair(0)
    way.result()
    way.pipeline.change(NodeSettings(pairing=PairingSettings(slop_s=0.08, allow_single=False)))
    way.image(100)
    way.scan(160)
    way.image(300)
    way.scan(360)
    assert way.result(2).stamp_ns == BEGIN + 160 * MS
    assert sum(way.counts('lidar').values()) == 3


def test_a_refused_message_is_the_fault_of_its_stream_alone(begun):
    way = begun()
    header = header_message(BEGIN, 'lidar')
    way.pipeline.take('lidar', range_message(header, np.zeros((8, 16), np.float32)))
    assert way.counts('lidar') == {'bad_shape': 1}
    assert set(way.pipeline.monitor.faults) == {'lidar'}
    assert way.pipeline.monitor.last_fault()[0].startswith('lidar: A range image of (8, 16) came')


def test_the_facts_of_the_last_scan_are_gone_when_one_was_refused(begun):
    way = begun()
    assert way.pipeline.scan() is None
    way.pair()
    way.published()
    assert way.pipeline.scan().returns == pytest.approx((RANGES < 50).mean())
    header = header_message(BEGIN + 100 * MS, 'lidar')
    way.pipeline.take('lidar', range_message(header, np.zeros((8, 16), np.float32)))
    assert way.pipeline.scan() is None


def test_the_facts_of_the_last_scan_outlast_an_image_that_was_refused(begun):
    way = begun()
    way.pair()
    way.published()
    image = image_message(header_message(BEGIN + 100 * MS, 'camera'), PIXELS)
    image.encoding = 'unheard_of'
    way.pipeline.take('camera', image)
    way.scan(100)
    wait_until(lambda: way.complaints, 'what was refused')
    assert way.pipeline.scan() is not None


@pytest.mark.parametrize('alone', ['image', 'scan'])
def test_what_a_silent_sensor_saw_last_is_known_while_the_other_serves_alone(begun, alone):
    way = begun(pairing=PairingSettings(dropout_after_s=0.1))
    way.pair()
    way.result()
    for ms in range(50, 500, 50):
        getattr(way, alone)(ms)
    assert way.result(2).prediction.mode[0] != 'fusion'
    assert way.pipeline.scan() is not None and way.pipeline.image is not None
