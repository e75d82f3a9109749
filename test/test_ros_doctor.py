"""`fusion doctor --live` names what is wrong in a running graph."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseArray
from live_sensors import PERIOD_S, Sensors, examined, examined_beside
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_graph import Probe, ended, probed, ros, spinning, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from small_bundles import small_bundle
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from fusion_perception.doctor import DoctorSettings, _of_live, doctor, report
from fusion_perception.ros import examination
from fusion_perception.ros.clouds import cloud_message
from fusion_perception.ros.examination import Examined
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.node_status import as_the_node_hears, camera_facts, scan_facts
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.decode import Decoder
from fusion_perception.sensing.findings.facts import Facts, InputFacts, ScanFacts, Source
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.findings.watch import Watch
from fusion_perception.sensing.pairing import PairingSettings

pytestmark = pytest.mark.ros
WATCH = Watch(PairingSettings(), Decoder())


@pytest.fixture
def graph(tmp_path):
    with probed(small_bundle(tmp_path)) as probe:
        probe.wait_for_node()
        yield probe


def examined_alone(*parameters):
    """Examine a node with these parameters that nobody sends anything."""
    with ros(*(part for parameter in parameters for part in ('-p', parameter))):
        node = FusionNode()
        node.start()
        with ended(node), spinning(node):
            said = examined()
    return said


def test_a_graph_that_works_is_found_well(graph):
    with Sensors(graph):
        text, code = examined()
    assert code == 0, text
    assert '/fusion_node is there: active' in text
    assert 'rgb8 64x64' in text
    assert '32FC1 64x64' in text


def test_pairs_are_counted_once_although_node_and_doctor_see_them(graph):
    with Sensors(graph, paired=2):
        text, code = examined()
    assert code == 1, text
    (few,) = (line for line in text.splitlines() if 'form a pair' in line)
    assert few.startswith('ERROR')  # It is what the doctor counts, and not the word of the node.
    counts = re.search(r'(\d+) images.* (\d+) scans only (\d+)', few).groups()
    images, scans, pairs = map(int, counts)
    assert pairs / min(images, scans) == pytest.approx(0.4, abs=0.1)


def test_a_node_that_was_started_twice_is_named_and_no_sensor_blamed(graph):
    namesake = FusionNode()
    namesake.start()
    with ended(namesake), spinning(namesake), Sensors(graph):
        text, code = examined()
    assert code == 1, text
    assert '2 nodes are called /fusion_node' in text
    assert 'repeat' not in text
    assert '/image: ' in text


@pytest.mark.parametrize(
    ('name', 'value'),
    [('invalid_values', [25_000]), ('range_scale', 0.01)],
    ids=['invalid', 'scale'],
)
def test_range_images_are_read_as_the_node_was_told_to(graph, name, value):
    with Sensors(graph, count=25_000):
        text, code = examined()
        assert code == 0, text
        # No return at all; and 250 m, which is farther than the LiDAR sees.
        assert graph.set(name, value).successful
        text, code = examined()
    assert code == 1, text
    assert 'The scene is empty' in text
    assert '16UC1 64x64' in text


def test_scans_are_looked_into_though_the_node_does_not_listen_yet(graph):
    assert graph.change_state('deactivate')
    with Sensors(graph, count=65_535):  # No return.
        text, _ = examined()
    assert 'The node is inactive' in text and 'The scene is empty' in text, text


def test_clouds_and_compressed_images_are_expected_where_the_node_is_set_to_them(tmp_path):
    kinds = ('-p', 'image_type:=compressed', '-p', 'lidar_type:=points')
    with probed(small_bundle(tmp_path), *kinds) as probe:
        scans = probe.create_publisher(PointCloud2, 'points', qos_profile_sensor_data)
        cloud = cloud_message(Header(), np.zeros((4, 64, 64), np.float32))

        def tick():
            cloud.header.stamp = probe.get_clock().now().to_msg()
            scans.publish(cloud)

        ticking = probe.create_timer(PERIOD_S, tick)
        text, _ = examined()
        assert 'Nothing arrives on /image/compressed: nobody publishes' in text
        assert 'cloud of 64x64 points' in text
        # A node that does not listen has no subscription that could tell what it needs.
        assert probe.change_state('deactivate')
        cloud.fields[0].name = 'depth'
        text, _ = examined()
        assert 'Nothing arrives on /image/compressed: nobody publishes' in text
        assert "refused (bad_encoding): a point cloud has no field 'x'" in text
        ticking.cancel()


def test_a_node_whose_model_needs_one_sensor_misses_no_other(tmp_path):
    with probed(small_bundle(tmp_path, 'rgb')) as probe:
        wait_until(probe.images.get_subscription_count, 'the node to subscribe')
        probe.withdraw(probe.ranges)
        with Sensors(probe, camera=True):
            wait_until(lambda: len(probe.centers) > 30, 'two seconds of output')
            text, code = examined()
        assert code == 0, text
        assert probe.diagnostics[-1].level == b'\0', probe.diagnostics[-1].message


def test_what_a_node_heard_before_the_doctor_came_is_silent_and_not_unknown():
    nothing = InputFacts('lidar', [Source('/range_image', 'sensor_msgs/msg/Image')])
    told = {'lidar.received': '30', 'lidar.age_s': '6.700'}
    assert as_the_node_hears(nothing, told, told).silent_s == 6.7
    never = {'lidar.received': '0', 'lidar.age_s': 'nan'}
    assert as_the_node_hears(nothing, never, never) == nothing


def test_what_a_node_of_another_version_leaves_out_is_not_known():
    info = Source('/camera_info', 'sensor_msgs/msg/CameraInfo')
    told = {'trained_image_size': '64x64', 'camera_info.size': '640x480', 'returns': '0.5'}
    camera = camera_facts(told, info)
    assert (camera.told, camera.distortion, camera.returns) == ((640, 480), None, 0)
    assert scan_facts({**told, 'points_outside': '3'}) == ScanFacts(0.5)
    assert camera_facts({}, info) is None and scan_facts({}) is None


def test_without_any_fusion_node_it_says_where_it_looked():
    text, code = examined()
    assert code == 1, text
    assert 'ROS_DOMAIN_ID' in text


def test_another_name_than_the_nodes_is_bad_usage(graph):
    with pytest.raises(ValueError, match='/fusion_node'):
        examined(node='perception')


def test_topics_on_which_nobody_publishes_are_named(graph):
    graph.withdraw(graph.images)
    text, code = examined(node='fusion_node')
    assert code == 1, text
    assert 'Nothing arrives on /image: nobody publishes' in text
    assert '/range_image: /probe publishes there' in text


def test_zero_stamps_are_named_on_each_topic(graph):
    with Sensors(graph, zero=True):
        text, code = examined()
    assert code == 1, text
    assert text.count('their stamp is zero') == 2


def test_shifted_stamps_are_measured(graph):
    with Sensors(graph, shift_s=0.25):
        text, code = examined()
    assert code == 1, text
    assert "camera's stamps lie 0.250 s behind the LiDAR's" in text
    assert 'pairing.camera_offset_s to 0.250' in text


def test_the_offset_that_is_proposed_goes_with_the_one_that_the_lidar_has(graph):
    assert graph.set('pairing.lidar_offset_s', 0.06).successful
    # Together one period and a half: the next scan is no partner, however busy the machine.
    with Sensors(graph, shift_s=0.05):
        text, _ = examined()
    assert 'pairing.camera_offset_s to 0.110' in text, text


def test_a_listener_whose_qos_does_not_match_is_named_with_the_policy(graph):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.create_subscription(PoseArray, '/fusion_node/centers', lambda message: None, latched)
    with Sensors(graph):
        text, code = examined()
    assert code == 1, text
    assert '/probe hears nothing on /fusion_node/centers' in text
    assert 'DURABILITY' in text


def test_a_publisher_whose_qos_offers_less_than_the_node_asks_for_is_named():
    with ros():
        node, probe = LifecycleNode('demanding'), Probe()
        node.create_service(SetBool, '~/enable', lambda request, response: response)
        node.create_subscription(Image, 'image', lambda message: None, QoSProfile(depth=1))
        assert qos_profile_sensor_data.reliability != QoSProfile(depth=1).reliability
        with ended(node, probe), spinning(node, probe):
            text, code = examined()
    assert code == 1, text
    assert 'the QoS of /probe does not match (RELIABILITY' in text


def test_a_node_that_was_not_activated_is_told_how(tmp_path):
    text, code = examined_alone('bundle:=nowhere.safetensors')
    assert code == 1, text
    assert 'nowhere.safetensors' in text
    assert 'configure' in text


def test_a_node_that_was_disabled_is_told_how_to_enable_it(graph):
    assert graph.call(SetBool, 'enable', SetBool.Request(data=False)).success
    wait_until(
        lambda: any('Disabled' in status.message for status in graph.diagnostics), 'its word'
    )
    text, code = doctor(DoctorSettings(live=True, seconds=0.5))
    assert code == 1, text
    assert 'The node is disabled' in text and 'data: true' in text


def test_a_node_that_hangs_is_said_not_to_answer(monkeypatch):
    monkeypatch.setattr(examination, 'ANSWER_S', 0.1)
    with ros(), ended(FusionNode()):  # Nobody spins it.
        text, code = doctor(DoctorSettings(live=True, seconds=0.5))
    assert code == 1, text
    assert '/fusion_node does not answer' in text


def test_a_node_that_is_not_there_yet_is_asked_again():
    with ros():
        probe = Probe()
        with ended(probe), examination.examiner() as examiner, ThreadPoolExecutor() as pool:
            examined = pool.submit(examiner.examine, '/late', 0.1)
            wait_until(lambda: probe.count_clients('/late/get_state'), 'the first request')
            node = LifecycleNode('late')
            with ended(node), spinning(node):
                found = examined.result()
    assert found.facts.lifecycle == 'unconfigured'
    assert not found.findings


def test_a_node_whose_diagnostics_are_remapped_is_heard_all_the_same(tmp_path):
    remapped = ('-r', '/diagnostics:=/robot/diagnostics')
    text, code = examined_beside(small_bundle(tmp_path), *remapped)
    assert code == 0, text
    assert '/image: ' in text and '/range_image: ' in text


def test_why_nothing_comes_out_stands_before_what_makes_it_no_better(graph, monkeypatch):
    def fail(*frame):
        raise RuntimeError('The device is full. Free some of its memory.')

    monkeypatch.setattr(Runtime, 'predict_frame', fail)
    infos = graph.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
    ticking = graph.create_timer(PERIOD_S, lambda: infos.publish(CameraInfo()))
    with Sensors(graph):
        text, code = examined()
    ticking.cancel()
    assert code == 1, text
    wrong = [line for line in text.splitlines() if line.startswith(('WARN', 'ERROR'))]
    assert re.match(r'ERROR  \d+ camera messages were lost in inference: .*is full', wrong[0]), (
        text
    )
    assert any('/camera_info cannot be used' in line for line in wrong[1:]), text


@pytest.mark.parametrize(
    ('level', 'added'),
    [(b'\0', []), (b'\1', []), (b'\2', ['ERROR  The node says: No output for 5.0 s.'])],
)
def test_what_the_node_says_is_added_where_it_is_worse_than_what_was_found(level, added):
    status = DiagnosticStatus(level=level, message='No output for 5.0 s.')
    findings = [Finding('WARN', 'The camera shows nothing', '', 'Look at it.')]
    facts = Facts([], lifecycle='active')
    text = report(_of_live(Examined('/n', facts, WATCH, findings, status)), terminal=False)
    wrong = [line for line in text.splitlines() if line.startswith(('WARN', 'ERROR'))]
    assert wrong == [*added, 'WARN   The camera shows nothing.']


@pytest.mark.parametrize('level', ['OK', 'WARN'])
def test_how_long_outputs_take_is_said_of_a_node_that_has_nothing_wrong(level):
    told = {'mode': 'fusion', 'pairs': '30', 'latency_ms.p50': '12.3', 'latency_ms.p95': '56.8'}
    status = DiagnosticStatus(values=[KeyValue(key=key, value=told[key]) for key in told])
    findings = [Finding(level, 'The camera is new')]
    examined = Examined('/n', Facts([], lifecycle='active'), WATCH, findings, status)
    said = 'OK     Output: fusion, 30 so far, from stamp to output p50 12.3 ms, p95 56.8 ms.'
    lines = report(_of_live(examined), terminal=False).splitlines()
    assert (said in lines) == (level == 'OK')


def test_settings_that_contradict_each_other_are_what_the_node_says_of_them(tmp_path):
    text, code = examined_alone(f'bundle:={small_bundle(tmp_path)}', 'pairing.slop_s:=0.6')
    assert code == 1, text
    assert 'The node could not be configured: pairing: a dropout_after_s of 0.5' in text
