"""The fusion node over real DDS: its output, its counters, and its lifecycle."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from diagnostic_msgs.msg import DiagnosticStatus
from ros_graph import RANGES, probed, wait_until
from small_bundles import small_bundle
from std_srvs.srv import SetBool

from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros.messages import header_message, image_message, range_message
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.decode import stamp_ns

pytestmark = pytest.mark.ros


def now_ns(probe):
    return probe.get_clock().now().nanoseconds


def feed_until(probe, condition, what, period_s=0.02, **message):
    """Publish pairs until something holds; return the stamps."""
    stamps = []

    def publish_one():
        stamps.append(now_ns(probe))
        probe.publish(stamps[-1], **message)
        return wait_briefly(condition, period_s)

    wait_until(publish_one, what)
    return stamps


def wait_briefly(condition, patience_s):
    try:
        wait_until(condition, 'now', patience_s)
    except AssertionError:
        return False
    return True


def test_centres_leave_with_the_lidar_s_stamp_and_frame_in_class_order(tmp_path):
    path = small_bundle(tmp_path)
    with probed(path) as probe:
        probe.wait_for_node()
        stamps = feed_until(probe, lambda: len(probe.centers) >= 3, 'centres', frame_id='velodyne')
        message = probe.centers[0]
    assert message.header.frame_id == 'velodyne'
    stamp = stamp_ns(message)
    assert stamp in stamps
    runtime = Runtime(load_bundle(path), device='cpu')
    pixels = np.random.default_rng(stamp).integers(0, 256, (64, 64, 3), np.uint8)
    x, y, z = runtime.predict(runtime.observe(pixels, RANGES)).centers[0].T.numpy()
    positions = np.array([(p.position.x, p.position.y, p.position.z) for p in message.poses])
    assert np.allclose(positions, np.stack((y, -x, z), axis=1), atol=1e-4)


def test_counters_add_up_and_name_each_cause(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        feed_until(probe, lambda: probe.centers, 'centres')
        stamp = now_ns(probe)
        strange = image_message(header_message(stamp, 'camera'), np.zeros((4, 4, 3), np.uint8))
        strange.encoding = 'yuv422'
        small = range_message(header_message(stamp, 'lidar'), np.zeros((8, 16), np.float32))
        unstamped = range_message(header_message(0, 'lidar'), RANGES)

        def dropped(stream, cause):
            return probe.streams().get(stream, {}).get('dropped', {}).get(cause, 0)

        for publisher, message, stream, cause in (
            (probe.images, strange, 'camera', 'bad_encoding'),
            (probe.ranges, small, 'lidar', 'bad_shape'),
            (probe.ranges, unstamped, 'lidar', 'unstamped'),
        ):

            def counted(publisher=publisher, message=message, stream=stream, cause=cause):
                publisher.publish(message)
                return wait_briefly(lambda: dropped(stream, cause), 0.3)

            wait_until(counted, cause)


def test_what_is_sent_twice_is_predicted_once_and_counted(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        stamp = feed_until(probe, lambda: probe.centers, 'centres')[-1]

        def duplicates():
            probe.publish(stamp)
            counted = [s.get('dropped', {}).get('duplicate', 0) for s in probe.streams().values()]
            return len(counted) == 2 and min(counted) > 3

        wait_until(lambda: wait_briefly(duplicates, 0.05), 'duplicates of both sensors')
        times = [stamp_ns(message) for message in probe.centers]
    assert len(set(times)) == len(times)


def test_a_bad_bundle_fails_to_configure_and_can_be_corrected_without_a_restart(tmp_path):
    good, torn = small_bundle(tmp_path), tmp_path / 'torn.safetensors'
    torn.write_bytes(good.read_bytes()[:1000])
    with probed(torn, '-p', 'autostart:=false') as probe:
        assert not probe.change_state('configure')
        assert probe.state() == 'unconfigured'
        wait_until(lambda: any(str(torn) in s.message for s in probe.diagnostics), 'the reason')
        assert probe.set('bundle', str(good)).successful
        for _ in range(2):
            assert probe.change_state('configure')
            refused = probe.set('bundle', 'shapes')
            assert not refused.successful
            assert 'bundle' in refused.reason
            assert probe.change_state('activate')
            probe.wait_for_node()
            before = len(probe.centers)
            feed_until(probe, lambda before=before: len(probe.centers) > before, 'centres')
            assert probe.change_state('deactivate')
            assert probe.change_state('cleanup')
            assert probe.state() == 'unconfigured'
            wait_until(lambda: not probe.images.get_subscription_count(), 'the node to let go')


def test_in_each_state_the_diagnostics_are_of_one_piece_of_hardware(tmp_path):
    with probed(small_bundle(tmp_path), '-p', 'autostart:=false') as probe:

        def lifecycles():
            return {v.value for s in probe.diagnostics for v in s.values if v.key == 'lifecycle'}

        wait_until(lambda: 'unconfigured' in lifecycles(), 'a word before it is configured')
        assert probe.change_state('configure')
        wait_until(lambda: 'inactive' in lifecycles(), 'a word after it is configured')
        assert {status.hardware_id for status in probe.diagnostics} == {'/fusion_node'}
        devices = {v.value for v in probe.diagnostics[-1].values if v.key == 'device'}
        assert len(devices) == 1


def test_a_wrong_parameter_fails_to_configure_and_heals(tmp_path):
    with probed(small_bundle(tmp_path), '-p', 'device:=gpu') as probe:
        assert probe.state() == 'unconfigured'
        assert not probe.change_state('configure')
        assert probe.set('device', 'cpu').successful
        assert probe.change_state('configure')


def test_an_impossible_transition_is_refused_and_harms_nothing(tmp_path):
    with probed(small_bundle(tmp_path), '-p', 'autostart:=false') as probe:
        assert not probe.change_state('activate')
        assert not probe.change_state('nonsense')
        assert probe.change_state('configure')
        assert not probe.change_state('configure')
        assert probe.change_state('shutdown')
        assert probe.state() == 'finalized'


@pytest.mark.parametrize('bundle', [small_bundle, lambda folder: folder / 'absent.safetensors'])
def test_a_node_that_was_shut_down_says_that_it_waits_for_nothing(tmp_path, bundle):
    with probed(bundle(tmp_path)) as probe:
        assert probe.change_state('shutdown')

        def last():
            told = probe.diagnostics[-1:]
            return told and told[0].message.startswith('Finalized') and told[0]

        status = wait_until(last, 'the state')
        assert status.level == DiagnosticStatus.WARN
        assert {v.key: v.value for v in status.values}['lifecycle'] == 'finalized'


def test_settings_that_may_change_do_so_while_it_runs(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        feed_until(probe, lambda: probe.centers, 'centres')
        assert probe.set('pairing.slop_s', 0.1).successful
        assert not probe.set('pairing.slop_s', -1.0).successful
        before = len(probe.centers)
        feed_until(probe, lambda: len(probe.centers) > before, 'centres after the change')
        assert probe.set('max_age_s', 1e-9).successful
        wait_until(
            lambda: (
                feed_until(probe, lambda: True, 'a pair', period_s=0.02)
                and probe.streams().get('lidar', {}).get('dropped', {}).get('stale')
            ),
            'pairs to be too old',
        )


def test_it_rests_while_it_is_disabled(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        answer = probe.call(SetBool, 'enable', SetBool.Request(data=False))
        assert answer.success
        wait_until(lambda: not probe.images.get_subscription_count(), 'the node to let go')
        assert probe.call(SetBool, 'enable', SetBool.Request(data=True)).success
        probe.wait_for_node()
        feed_until(probe, lambda: probe.centers, 'centres')


def test_it_goes_on_with_the_lidar_when_the_camera_falls_silent(tmp_path):
    with probed(small_bundle(tmp_path), '-p', 'pairing.dropout_after_s:=0.1') as probe:
        probe.wait_for_node()
        feed_until(probe, lambda: probe.centers, 'centres')
        before = len(probe.centers)
        feed_until(
            probe, lambda: len(probe.centers) > before + 2, 'centres of the LiDAR', camera=False
        )

        def modes():
            return {v.key: v.value for s in probe.diagnostics[-1:] for v in s.values}

        wait_until(lambda: int(modes().get('modes.lidar_only', 0)) > 0, 'the mode to be told')
