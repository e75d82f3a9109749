"""The launch files, run with the real launch where it is installed."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')
# The folder launch/ of a checkout would pass for the package launch.
pytest.importorskip('launch_ros.actions', reason='needs launch_ros, of a ROS installation')

from rcl_interfaces.srv import GetParameters
from rclpy.serialization import serialize_message
from recordings import at, record
from ros_graph import PATIENCE_S, probing, wait_until
from sensor_msgs.msg import CompressedImage
from small_bundles import small_bundle

from fusion_perception.ros.clouds import cloud_message
from fusion_perception.ros.messages import header_message
from fusion_perception.ros.witness import Bag
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.observation import Camera

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[1]
RUN = """
import sys
from contextlib import suppress
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

file, *arguments = sys.argv[1:]
service = LaunchService(argv=[])
source = AnyLaunchDescriptionSource(file)
pairs = [argument.split(':=', 1) for argument in arguments]
included = IncludeLaunchDescription(source, launch_arguments=pairs)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.fixture
def prefix(tmp_path):
    """Install the package as colcon would, by links."""
    prefix = tmp_path / 'prefix'
    share, lib = prefix / 'share' / 'fusion_perception', prefix / 'lib' / 'fusion_perception'
    index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages'
    for folder in (share, lib, index):
        folder.mkdir(parents=True)
    (index / 'fusion_perception').touch()
    for folder in ('launch', 'config', 'rviz'):
        (share / folder).symlink_to(ROOT / folder)
    for name in ('fusion_node', 'sensor_sim'):
        script = lib / name
        script.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m fusion_perception.ros.process {name} "$@"\n'
        )
        script.chmod(0o755)
    fusion = lib / 'fusion'
    fusion.write_text(f'#!/bin/sh\nexec {sys.executable} -m fusion_perception.cli "$@"\n')
    fusion.chmod(0o755)
    return prefix


@pytest.fixture
def launch(prefix, tmp_path):
    """Run a launch file, and end it as Ctrl-C would."""
    started = []

    def launch(name, *arguments):
        paths = [str(prefix), os.environ.get('AMENT_PREFIX_PATH', '')]
        environment = {**os.environ, 'AMENT_PREFIX_PATH': os.pathsep.join(filter(None, paths))}
        with (tmp_path / 'launch.log').open('w') as output:
            process = subprocess.Popen(
                [sys.executable, '-c', RUN, str(ROOT / 'launch' / name), *arguments],
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            press_ctrl_c(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        with suppress(ProcessLookupError):  # Nothing of it may live on, whatever failed.
            os.killpg(process.pid, signal.SIGKILL)


def press_ctrl_c(process):
    """Interrupt the whole group, as a terminal does: launch counts on it, and tells no process."""
    os.killpg(process.pid, signal.SIGINT)


def descriptions(name):
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    source = AnyLaunchDescriptionSource(str(ROOT / 'launch' / name))
    description = source.try_get_launch_description_without_context()
    # get_launch_arguments() adds those of included files where a workspace is sourced.
    declared = [a for a in description.entities if isinstance(a, DeclareLaunchArgument)]
    return {argument.name: argument.description for argument in declared}


@pytest.mark.parametrize('name', ['fusion.launch.py', 'demo.launch.py', 'replay.launch.py'])
def test_each_argument_explains_itself(name):
    told = descriptions(name)
    assert told
    assert all(len(description) > 10 for description in told.values())


def test_the_robot_s_launch_file_has_the_arguments_of_the_documentation():
    assert set(descriptions('fusion.launch.py')) == {
        'bundle', 'params_file', 'namespace', 'image', 'camera_info', 'range_image',
        'points', 'image_type', 'lidar_type', 'camera_pose', 'use_sim_time', 'log_level',
        'autostart', 'respawn', 'rviz', 'rviz_frame', 'large_images',
    }  # fmt: skip


def test_a_replay_takes_what_the_robot_s_launch_file_takes():
    # The time is always that of the recording, and a node that fails there is to be seen.
    wanted = set(descriptions('fusion.launch.py')) - {'use_sim_time', 'respawn'}
    assert set(descriptions('replay.launch.py')) == wanted | {'bag', 'rate', 'loop', 'delay'}


def test_the_demo_runs_in_a_namespace_and_ends_cleanly(tmp_path, launch):
    bundle = f'bundle:={small_bundle(tmp_path)}'
    process = launch('demo.launch.py', bundle, 'namespace:=robot', 'rviz:=false')
    with probing('/robot/fusion_node') as probe:
        wait_until(lambda: probe.centers, 'centres', 2 * PATIENCE_S)
    press_ctrl_c(process)
    assert process.wait(PATIENCE_S) == 0
    log = (tmp_path / 'launch.log').read_text()
    # After 5 s launch would try SIGTERM.
    assert 'process has died' not in log and 'escalating' not in log


@pytest.mark.parametrize(
    ('name', 'argument'),
    [
        ('fusion.launch.py', 'params_file:=missing'),
        ('demo.launch.py', 'params_file:=missing'),
        ('replay.launch.py', 'bag:=missing'),
    ],
)
def test_an_argument_that_cannot_be_ends_the_launch_before_it_begins(
    tmp_path, launch, name, argument
):
    bag = () if argument.startswith('bag') else (f'bag:={tmp_path}',)
    process = launch(name, argument, *bag)
    assert process.wait(PATIENCE_S) == 1
    log = (tmp_path / 'launch.log').read_text()
    assert argument.split(':=')[1] in log and 'process started' not in log


@pytest.mark.parametrize(
    ('name', 'argument', 'wanted'),
    [
        ('demo.launch.py', 'seed:=abc', 'a whole number'),
        ('demo.launch.py', 'image_width:=64.5', 'a whole number'),
        ('demo.launch.py', 'camera_hz:=fast', 'a number'),
        ('replay.launch.py', 'delay:=soon', 'a number of seconds'),
        ('replay.launch.py', 'delay:=-1', 'a number of seconds'),
        ('replay.launch.py', 'rate:=fast', 'a number above 0'),
        ('replay.launch.py', 'rate:=0', 'a number above 0'),
    ],
)
def test_an_argument_that_is_no_such_number_is_named_with_what_is_wanted(
    tmp_path, launch, name, argument, wanted
):
    process = launch(name, argument, f'bag:={tmp_path}')
    assert process.wait(PATIENCE_S) == 1
    log = (tmp_path / 'launch.log').read_text()
    assert f'{argument} is not {wanted}.' in log and 'process started' not in log


def test_without_autostart_the_node_waits_to_be_configured(tmp_path, launch):
    bundle = f'bundle:={small_bundle(tmp_path)}'
    launch('fusion.launch.py', bundle, 'autostart:=false', 'image:=image')
    with probing() as probe:
        wait_until(lambda: probe.diagnostics, 'the node', 2 * PATIENCE_S)
        assert probe.state() == 'unconfigured'
        assert probe.change_state('configure')
        assert probe.change_state('activate')
        probe.wait_for_node()


def test_a_node_that_was_killed_comes_back_where_it_shall(tmp_path, launch):
    launch('fusion.launch.py', f'bundle:={small_bundle(tmp_path)}', 'respawn:=true')
    with probing() as probe:
        wait_until(lambda: probe.diagnostics, 'the node', 2 * PATIENCE_S)
        (node,) = started(tmp_path)
        os.kill(node, signal.SIGKILL)
        wait_until(lambda: started(tmp_path)[1:], 'another process')
        probe.diagnostics.clear()
        wait_until(lambda: probe.diagnostics, 'the node again', 2 * PATIENCE_S)
        probe.wait_for_node()


def started(tmp_path):
    """Return the process ids that launch has told of."""
    log = (tmp_path / 'launch.log').read_text()
    return [int(pid) for pid in re.findall(r'process started with pid \[(\d+)]', log)]


@pytest.mark.parametrize(
    ('arguments', 'autostart', 'use_sim_time'),
    [
        ((), False, True),
        (('autostart:=true', 'use_sim_time:=false'), True, False),
        (('autostart:=True', 'use_sim_time:=False'), True, False),
    ],
    ids=['the file alone', 'arguments as well', "arguments in Python's words"],
)
def test_the_parameter_file_counts_where_no_argument_says_otherwise(
    tmp_path, launch, arguments, autostart, use_sim_time
):
    params = tmp_path / 'params.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n'
        f'    bundle: "{small_bundle(tmp_path)}"\n'
        '    autostart: false\n'
        '    use_sim_time: true\n'
    )
    launch('fusion.launch.py', f'params_file:={params}', *arguments)
    with probing() as probe:
        wait_until(lambda: probe.diagnostics, 'the node', 2 * PATIENCE_S)
        request = GetParameters.Request(names=['autostart', 'use_sim_time'])
        told = probe.call(GetParameters, 'get_parameters', request).values
        assert [value.bool_value for value in told] == [autostart, use_sim_time]
        if autostart:
            probe.wait_for_node()
        assert probe.state() == ('active' if autostart else 'unconfigured')


def test_large_images_reach_the_node_with_the_profile(tmp_path, launch):
    size = ('image_width:=640', 'image_height:=480', 'camera_hz:=5.0', 'lidar_hz:=5.0')
    bundle = f'bundle:={small_bundle(tmp_path)}'
    launch('demo.launch.py', bundle, 'large_images:=true', 'rviz:=false', *size)
    with probing() as probe:
        wait_until(
            lambda: probe.streams().get('camera', {}).get('used', 0) > 5,
            'images in use',
            2 * PATIENCE_S,
        )


def test_a_recording_is_played_to_the_node_and_ends_the_launch(tmp_path, launch):
    bag = record(tmp_path / 'bag', 20)
    bundle = f'bundle:={small_bundle(tmp_path)}'
    process = launch('replay.launch.py', f'bag:={bag}', bundle, 'rviz:=false')
    with probing() as probe:
        assert process.wait(3 * PATIENCE_S) == 0, (tmp_path / 'launch.log').read_text()
    log = (tmp_path / 'launch.log').read_text()
    assert '80 messages' in log and 'process has died' not in log
    assert probe.centers


def test_a_recording_that_cannot_be_played_is_a_failure_of_the_launch(tmp_path, launch):
    (tmp_path / 'bag').mkdir()
    process = launch('replay.launch.py', f'bag:={tmp_path / "bag"}', 'autostart:=False')
    assert process.wait(PATIENCE_S) == 1
    log = (tmp_path / 'launch.log').read_text()
    assert 'The recording was not played: exit code 2.' in log


def test_a_replay_that_is_interrupted_has_not_failed(tmp_path, launch):
    bag = record(tmp_path / 'bag', 20)
    bundle = f'bundle:={small_bundle(tmp_path)}'
    process = launch('replay.launch.py', f'bag:={bag}', bundle, 'loop:=True')
    with probing() as probe:
        wait_until(lambda: probe.centers, 'centres', 2 * PATIENCE_S)
    press_ctrl_c(process)
    assert process.wait(PATIENCE_S) == 0, (tmp_path / 'launch.log').read_text()


def test_a_recording_of_clouds_and_compressed_images_is_played_to_the_node(tmp_path, launch):
    bag = record_as_clouds(tmp_path / 'bag')
    params = tmp_path / 'params.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n'
        f'    bundle: "{small_bundle(tmp_path)}"\n'
        '    image_type: "compressed"\n'
    )
    arguments = ('points:=/velodyne_points', 'lidar_type:=points', f'params_file:={params}')
    process = launch('replay.launch.py', f'bag:={bag}', *arguments)
    with probing() as probe:
        assert process.wait(3 * PATIENCE_S) == 0, (tmp_path / 'launch.log').read_text()
    assert probe.centers
    assert probe.streams()['lidar']['used'] > 0


def test_a_recording_that_begins_anew_keeps_where_its_camera_is(tmp_path, launch):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros, of a ROS installation')
    bag = record(tmp_path / 'bag', 20, mounted=Camera())
    bundle = f'bundle:={small_bundle(tmp_path)}'
    launch('replay.launch.py', f'bag:={bag}', bundle, 'camera_pose:=tf', 'loop:=true')
    with probing() as probe:
        wait_until(lambda: ends(probe, at(19)) > 2, 'the third round', 4 * PATIENCE_S)
    # Nothing orders topics: the first images may come before /tf_static.
    assert probe.streams()['camera']['dropped']['no_transform'] < 5


def ends(probe, last_ns):
    """Count how often the last frame of a recording has led to centres."""
    return sum(stamp_ns(message) == last_ns for message in probe.centers)


def record_as_clouds(path):
    """Write two seconds of a camera that compresses and a LiDAR that sends clouds."""
    buffer = io.BytesIO()
    Image.new('RGB', (64, 64), 'grey').save(buffer, 'PNG')
    points = np.ones((4, 64, 64), np.float32) * np.float32([[[0]], [[20]], [[0]], [[1]]])
    bag = Bag(path)
    for tick in range(20):
        stamp = 1_700_000_000_000_000_000 + tick * 100_000_000
        compressed = CompressedImage(format='png', data=buffer.getvalue())
        compressed.header = header_message(stamp, 'camera')
        cloud = cloud_message(header_message(stamp, 'velodyne'), points)
        for topic, message in (
            ('/camera/image_raw/compressed', compressed),
            ('/velodyne_points', cloud),
        ):
            bag.write(topic, type(message), stamp, serialize_message(message))
    bag.close()
    return path
