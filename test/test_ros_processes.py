"""Sensor and node as processes: they talk, and end with code 0 whenever a signal comes."""

import re
import signal
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from ros_graph import PATIENCE_S, Probe, RosProcess, ros, spinning, wait_until
from small_bundles import small_bundle

from fusion_perception.ros.joining import join
from fusion_perception.ros.process import run
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.rep103 import centers_of

pytestmark = pytest.mark.ros
LINKS = (
    *('-r', 'image:=camera/image_raw'),
    *('-r', 'camera_info:=camera/camera_info'),
    *('-r', 'range_image:=lidar/range_image'),
)


def matched(centers, truth):
    stamps = {stamp_ns(message) for message in truth}
    return [message for message in centers if stamp_ns(message) in stamps]


@pytest.mark.parametrize('by', [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_sensor_and_node_work_together_and_end_cleanly(tmp_path, by):
    bundle = small_bundle(tmp_path)
    truth = []
    with (
        RosProcess('sensor_sim', tmp_path / 'sensor.log', '-p', 'lidar_hz:=20') as sensor,
        RosProcess(
            'fusion_node', tmp_path / 'node.log', '-p', f'bundle:={bundle}', *LINKS
        ) as node,
        ros(),
    ):
        probe = Probe()
        probe.create_subscription(PoseArray, 'ground_truth/centers', truth.append, 100)
        with spinning(probe):
            wait_until(
                lambda: len(matched(probe.centers, truth)) >= 5,
                'centres beside the truth',
                2 * PATIENCE_S,
            )
            wait_until(lambda: probe.diagnostics, 'diagnostics')
            assert node.end(by) == 0, node.output()
            assert sensor.end(by) == 0, sensor.output()
            # DDS may match this listener only after the first centres.
            wait_until(
                lambda: (
                    probe.streams()['lidar']['used'] >= len(probe.centers)
                    and probe.diagnostics[-1].message == 'Ended.'
                ),
                'the last word on the counters',
            )
            assert probe.streams()['lidar']['pending'] == 0
            last = probe.diagnostics[-1]
            assert (last.level, last.message) == (DiagnosticStatus.OK, 'Ended.')
            values = {pair.key: pair.value for pair in last.values}
            assert (values['lifecycle'], values['mode']) == ('finalized', 'none')
            assert int(values['modes.fusion']) > 0
    assert 'Traceback' not in node.output() + sensor.output()
    assert all(message.header.frame_id == 'lidar' for message in probe.centers)
    # The scene lies around (0, 25, 0) in the package's axes, within 5 m.
    assert abs(centers_of(truth[0]) - [0, 25, 0]).max() <= 5


@pytest.mark.parametrize('name', ['sensor_sim', 'fusion_node'])
def test_a_signal_during_the_start_ends_it_just_as_cleanly(tmp_path, name):
    with RosProcess(name, tmp_path / 'log') as process:
        # Python catches SIGINT from its first moment, SIGTERM only when we ask for it. What is
        # imported after that takes far longer than a signal to arrive.
        wait_until(lambda: handles(process.process.pid, signal.SIGTERM), 'our signal handlers')
        assert process.end() == 0
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize('name', ['sensor_sim', 'fusion_node'])
@pytest.mark.parametrize('times', [1, 25], ids=['one signal', 'many signals'])
def test_a_node_without_a_clock_or_any_message_ends_as_well(tmp_path, name, times):
    # A supervisor may signal a process, and its whole group right after it.
    with RosProcess(name, tmp_path / 'log', '-p', 'use_sim_time:=true') as process, ros():
        parameters = AsyncParameterClient(rclpy.create_node('asking'), name)
        # Who answers waits for events, and then nothing comes any more.
        assert parameters.wait_for_services(PATIENCE_S)
        answer = parameters.get_parameters(['use_sim_time'])
        rclpy.spin_until_future_complete(parameters.node, answer, timeout_sec=PATIENCE_S)
        assert answer.result().values[0].bool_value
        parameters.node.destroy_node()
        for number in (signal.SIGINT, signal.SIGTERM)[:times] * times:
            process.process.send_signal(number)
        assert process.process.wait(PATIENCE_S) == 0
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize(('given', 'read'), [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_that_wait_leave_the_cores_to_others_unless_told_otherwise(
    tmp_path, monkeypatch, given, read
):
    monkeypatch.setenv('OMP_DISPLAY_ENV', 'TRUE')  # OpenMP itself says what it read.
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    if given is not None:
        monkeypatch.setenv('OMP_WAIT_POLICY', given)
    with RosProcess('sensor_sim', tmp_path / 'log', '-p', 'task:=spheres') as process:
        assert process.process.wait(PATIENCE_S) == 2
    (line,) = {line for line in process.output().splitlines() if 'OMP_WAIT_POLICY' in line}
    assert read in line


@pytest.mark.parametrize(
    ('given', 'named'),
    [
        ('task:=spheres', 'spheres'),
        ('task=cubes', 'task=cubes'),
        ('scenario:=nowhere.yaml', 'nowhere.yaml'),
        ('scenario:=/proc/self/mem', 'Input/output error'),  # A file that cannot be read.
    ],
    ids=['a wrong setting', 'no setting for ROS', 'a missing file', 'an unreadable file'],
)
def test_what_a_sensor_cannot_start_with_is_said_in_one_sentence(tmp_path, given, named):
    with RosProcess('sensor_sim', tmp_path / 'log', '-p', given) as process:
        assert process.process.wait(PATIENCE_S) == 2
    assert named in process.output()
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize('name', ['fusion_node', 'sensor_sim'])
def test_a_wrong_type_of_what_ros_declares_itself_is_said_in_one_sentence(tmp_path, name):
    with RosProcess(name, tmp_path / 'log', '-p', 'use_sim_time:=1') as process:
        assert process.process.wait(PATIENCE_S) == 2
    assert "'use_sim_time' to '1' of type 'INTEGER', expecting type 'BOOL'" in process.output()
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize('flag', ['-h', '--help'])
@pytest.mark.parametrize(
    ('name', 'topics'),
    [
        ('fusion_node', ['image', 'range_image', 'camera_info']),
        ('sensor_sim', ['camera/image_raw', 'lidar/range_image', 'ground_truth/centers']),
    ],
)
def test_who_asks_for_help_gets_the_topics_and_an_example(capfd, name, topics, flag):
    assert run(name, [flag]) == 0
    said, faults = capfd.readouterr()
    assert all(topic in said for topic in topics)
    assert f'  {name} --ros-args -p ' in said and 'docs/parameters.md' in said
    assert faults == ''


@pytest.mark.parametrize(
    ('arguments', 'remedy'),
    [
        # ROS itself passes over these two, and the scene would be of shapes.
        (('--task', 'cubes'), '--ros-args -p NAME:=VALUE'),
        (('-p', 'task:=cubes'), '--ros-args -p NAME:=VALUE'),
        (('--ros-args', '-p', 'task=cubes'), '-p NAME:=VALUE'),
        (('--ros-args', '-r', 'image=camera'), '-r FROM:=TO'),
        (('--ros-args', '-r', '__ns:=robot'), 'A namespace begins with a slash'),
        (('--ros-args', '-r', '__node:=my-node'), 'letters, digits and underscores'),
        (('--ros-args', '--params-file', 'nowhere.yaml'), 'Check the path'),
        (('--ros-args', '--log-level', 'loud'), 'debug, info'),
        (('--ros-args', '--parameters', 'nowhere.yaml'), 'Leave it out'),
    ],
)
def test_arguments_that_are_not_ros_s_are_refused_with_a_remedy(arguments, remedy):
    with pytest.raises(ValueError, match=re.escape(remedy)) as fault:
        join(arguments, Context())
    # Where in the sources of ROS it was found tells a user nothing.
    assert '.c:' not in str(fault.value)


@pytest.mark.parametrize(
    ('variable', 'value', 'remedy'),
    [
        ('ROS_DOMAIN_ID', 'mine', 'number from 0 to 101'),
        ('ROS_DOMAIN_ID', '233', 'number from 0 to 101'),
        # Where the home directory is missing or cannot be written, as in many containers.
        ('ROS_LOG_DIR', '/dev/null/log', 'Set ROS_LOG_DIR'),
    ],
)
def test_a_wrong_environment_is_named_with_a_remedy(monkeypatch, variable, value, remedy):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=remedy):
        join(context=Context())


def test_the_first_argument_that_is_not_ros_s_is_the_one_that_is_named():
    with pytest.raises(ValueError, match="Unknown argument '--task'"):
        join(('--task', 'cubes'), Context())


def test_who_joins_does_so_in_the_context_and_with_the_arguments_that_are_given(monkeypatch):
    # The last domain whose ports there are.
    monkeypatch.setenv('ROS_DOMAIN_ID', '232')
    context = Context()
    join(('--ros-args', '-r', '__ns:=/left'), context)
    assert context.ok() and not rclpy.ok()
    assert context.get_domain_id() == 232
    node = Node('node', context=context)
    assert node.get_fully_qualified_name() == '/left/node'
    node.destroy_node()
    context.shutdown()


def handles(pid, number):
    """Say whether a process catches a signal itself (Linux)."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith('SigCgt'))
    return mask >> (number - 1) & 1
