"""The node hears camera_info however it is published, and says what it took from it."""

import contextlib
from functools import partial
from itertools import count

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_graph import Probe, ended, ros, spinning, wait_until
from sensor_msgs.msg import CameraInfo
from small_bundles import small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.listening import CameraInfoInput
from fusion_perception.ros.messages import camera_info_message, header_message
from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.ros
RELIABLE = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BENT = Lens(coefficients=(-0.3, 0.1, 0.0, 0.0, 0.0))
MOVED = 'The lens moves parts of the 64x64 image by up to '
OTHER = 'Parts of the 64x64 image are up to '
CAMERA = Camera(width=640, height=360, fx=700.0, fy=700.0, cx=320.0, cy=180.0)


@pytest.fixture
def probe(tmp_path, request):
    lens, *values = getattr(request, 'param', (Lens(),))
    bundle = small_bundle(tmp_path, rig=Rig(camera=Camera(lens=lens)))
    settings = [part for value in values for part in ('-p', value)]
    with ros('-p', f'bundle:={bundle}', '-p', 'device:=cpu', *settings):
        probe = Probe()
        yield probe
        probe.destroy_node()


@contextlib.contextmanager
def listening(probe):
    """Run a fusion node, and spin it and the probe."""
    node = FusionNode()
    node.start()
    try:
        with spinning(node, probe):
            yield node
        node.finish()
    finally:
        node.destroy_node()


def info(camera=CAMERA, number=1):
    return camera_info_message(header_message(number, 'camera'), camera)


def sees(node, camera=CAMERA):
    seen = node._pipeline.calibration.camera
    return seen is not None and seen.fx == camera.fx


def test_a_camera_info_that_was_latched_before_the_node_began_is_heard(probe):
    probe.create_publisher(CameraInfo, 'camera_info', LATCHED).publish(info())
    with listening(probe) as node:
        wait_until(lambda: sees(node), 'the camera')
        # Whoever listens anew begins anew.
        node._pipeline.calibration.camera = None
        assert probe.change_state('deactivate') and probe.change_state('activate')
        wait_until(lambda: sees(node), 'the camera again')


def test_a_camera_info_that_is_latched_once_after_the_node_began_is_heard(probe):
    with listening(probe) as node:
        probe.wait_for_node()
        probe.create_publisher(CameraInfo, 'camera_info', LATCHED).publish(info())
        wait_until(lambda: sees(node), 'the camera')


def test_a_camera_info_is_taken_when_it_differs_and_not_for_its_stamp_alone():
    with ros():
        node, numbers, came, taken = Node('node'), count(1), [], []
        infos = node.create_publisher(CameraInfo, 'camera_info', RELIABLE)
        heard = CameraInfoInput(node, 'camera_info', taken.append)
        node.create_subscription(CameraInfo, 'camera_info', came.append, RELIABLE)

        def told(camera, times):
            infos.publish(info(camera, next(numbers)))
            return len(came) > times and taken and taken[-1].k[0] == camera.fx

        with spinning(node):
            wait_until(lambda: told(CAMERA, times=5), 'the same camera again and again')
            wait_until(lambda: told(Camera(), times=0), 'another one')
        heard.close()
        node.destroy_node()
    assert [message.k[0] for message in taken] == [CAMERA.fx, Camera().fx]


@pytest.mark.parametrize('qos', [RELIABLE, qos_profile_sensor_data], ids=['reliable', 'sensor'])
def test_a_camera_info_beside_every_image_is_heard_beside_a_latched_one(probe, qos):
    probe.create_publisher(CameraInfo, 'camera_info', LATCHED).publish(info())
    other, number = CAMERA.model_copy(update={'fx': 800.0}), count()
    with listening(probe) as node:
        wait_until(lambda: sees(node), 'the latched camera')
        infos = probe.create_publisher(CameraInfo, 'camera_info', qos)

        def heard():
            infos.publish(info(other, next(number)))
            return sees(node, other)

        wait_until(heard, 'the other camera')


def test_a_driver_that_does_not_latch_is_not_told_of_a_qos_that_does_not_match(probe):
    clashes = []
    events = PublisherEventCallbacks(incompatible_qos=clashes.append)
    probe.create_publisher(CameraInfo, 'camera_info', RELIABLE, event_callbacks=events)
    with listening(probe):

        def durabilities():
            infos = probe.get_subscriptions_info_by_topic('camera_info')
            return sorted(info.qos_profile.durability.name for info in infos)

        wait_until(lambda: durabilities() == ['VOLATILE'], 'the node to listen')
        wait_until(lambda: len(probe.diagnostics) >= 2, 'the node to look for publishers')
        assert durabilities() == ['VOLATILE'] and not clashes
        latching = probe.create_publisher(CameraInfo, 'camera_info', LATCHED)
        wait_until(lambda: durabilities() == ['TRANSIENT_LOCAL', 'VOLATILE'], 'it to hear that')
        probe.withdraw(latching)
        wait_until(lambda: durabilities() == ['VOLATILE'], 'it to stop listening to that')


def test_the_doctor_knows_a_camera_info_that_the_node_alone_has_heard(probe):
    infos = probe.create_publisher(CameraInfo, 'camera_info', LATCHED)
    infos.publish(info())
    with listening(probe) as node:
        wait_until(lambda: sees(node), 'the camera')
        probe.withdraw(infos)
        wait_until(probe.images.get_subscription_count, 'the node to subscribe')
        probe.create_timer(0.05, lambda: probe.publish(probe.get_clock().now().nanoseconds))
        wait_until(
            lambda: any('640x360' in s.message for s in probe.diagnostics[-1:]), 'the finding'
        )
        text, code = doctor(DoctorSettings(live=True, seconds=1.0))
    assert code == 1
    assert '/camera_info is not of these images: it tells of 640x360 pixels' in text
    assert text.count('/camera_info') == 1, text


def test_two_publishers_of_camera_info_that_differ_are_named_together(tmp_path):
    path = small_bundle(tmp_path)
    with ros('-p', f'bundle:={path}', '-p', 'device:=cpu'):
        node, probe, other = FusionNode(), Probe(), Node('other_camera')
        publishers = [
            each.create_publisher(CameraInfo, 'camera_info', 10) for each in (probe, other)
        ]
        node.start()
        with ended(node, probe, other), spinning(node, probe, other):
            probe.wait_for_node()
            wait_until(lambda: all(p.get_subscription_count() for p in publishers), 'the node')
            # Of two that come at once the node hears the last.
            for publisher, focal, period_s in zip(publishers, (70, 90), (0.1, 0.13), strict=True):
                told = info(Camera(fx=focal))
                probe.create_timer(period_s, partial(publisher.publish, told))
            probe.create_timer(0.05, lambda: probe.publish(probe.get_clock().now().nanoseconds))
            words = 'tells of two cameras by turns: /other_camera and /probe publish there'
            wait_until(
                lambda: any(words in said.message for said in probe.diagnostics), 'the cause'
            )


@pytest.mark.parametrize(
    ('probe', 'taken', 'warning'),
    [
        ((Lens(),), 73.3, MOVED),
        ((Lens(), 'camera_matrix:=p'), 66.0, ''),
        ((BENT,), 73.3, ''),
        ((BENT, 'camera_matrix:=p'), 66.0, OTHER),
    ],
    ids=['as they come', 'rectified', 'as trained', 'rectified unlike the training'],
    indirect=['probe'],
)
def test_node_and_doctor_warn_of_a_lens_that_the_bundle_did_not_learn_with(probe, taken, warning):
    bent = info(Camera(lens=BENT))
    bent.p[0], bent.p[5] = 66.0, 66.0
    probe.create_publisher(CameraInfo, 'camera_info', LATCHED).publish(bent)
    with listening(probe) as node:
        wait_until(lambda: sees(node, Camera(fx=taken)), 'the camera')
        probe.wait_for_node()
        probe.create_timer(0.05, lambda: probe.publish(probe.get_clock().now().nanoseconds))
        seen = ('image_size', '64x64')
        wait_until(
            lambda: seen in [(v.key, v.value) for s in probe.diagnostics[-1:] for v in s.values],
            'the node to know its images',
        )
        text, _ = doctor(DoctorSettings(live=True, seconds=1.0))
        said = probe.diagnostics[-1].message
    for words in (MOVED, OTHER):
        assert (words in said) == (words in text) == (words == warning), (said, text)
