"""Play a recording to the fusion node: with `ros2 bag play`, or `fusion replay` without it."""

import math
import shutil
import signal
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
    TimerAction,
)
from launch.conditions import IfCondition
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

SHARE = FindPackageShare('fusion_perception')
# Both are common in launch files that include this one.
BOOLEAN = ['true', 'false', 'True', 'False']
# Exit codes of a player that came to the end, or that Ctrl-C reached before launch.
FINE = (0, 130, -signal.SIGINT)
# By the fusion node's names: topics of `fusion to-bag`, and where drivers publish clouds.
TOPICS = {
    'image': '/camera/image_raw',
    'camera_info': '/camera/camera_info',
    'range_image': '/lidar/range_image',
    'points': '/lidar/points',
}
# Arguments of fusion.launch.py that are handed on; the time is always that of the recording.
HANDED_ON = (
    'bundle',
    'params_file',
    'namespace',
    *TOPICS,
    'image_type',
    'lidar_type',
    'camera_pose',
    'autostart',
    'log_level',
    'rviz',
    'rviz_frame',
    'large_images',
)


def has_ros2_bag(context: LaunchContext) -> bool:
    """Say whether this machine has `ros2 bag play`."""
    try:
        FindPackagePrefix('ros2bag').perform(context)
    except LookupError:
        return False
    return shutil.which('ros2') is not None


def check(context: LaunchContext) -> None:
    """Refuse what the player would, before anything starts."""
    bag = LaunchConfiguration('bag').perform(context)
    if not Path(bag).exists():
        raise FileNotFoundError(f'No recording at {bag!r}. Check bag:=PATH.')
    # Over a delay that is none TimerAction fails unheard, and launch then never ends.
    for name, wanted in (('rate', 'a number above 0'), ('delay', 'a number of seconds')):
        value = LaunchConfiguration(name).perform(context)
        try:
            fits = float(value) > 0 if name == 'rate' else 0 <= float(value) < math.inf
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f'{name}:={value} is not {wanted}.')


def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch with the player, and as a failure where it failed."""
    if event.returncode not in FINE and not context.is_shutdown:
        raise RuntimeError(f'The recording was not played: exit code {event.returncode}.')
    return [Shutdown(reason='The recording has ended')]


def player(context: LaunchContext) -> list[Action]:
    """Return the process that plays the recording; the launch ends with it."""
    bag = LaunchConfiguration('bag').perform(context)
    rate = LaunchConfiguration('rate').perform(context)
    loop = ['--loop'] if IfCondition(LaunchConfiguration('loop')).evaluate(context) else []
    by_ros2 = has_ros2_bag(context)
    if by_ros2:
        command = ['ros2', 'bag', 'play', bag, '--clock', '100', '--rate', rate, *loop]
    else:
        prefix = FindPackagePrefix('fusion_perception').perform(context)
        fusion = f'{prefix}/lib/fusion_perception/fusion'
        # It begins when somebody listens.
        command = [fusion, 'replay', bag, '--rate', rate, '--wait-s', '60', *loop]
    play = ExecuteProcess(cmd=command, output='screen', emulate_tty=True, on_exit=ended)
    return [TimerAction(period=LaunchConfiguration('delay'), actions=[play]) if by_ros2 else play]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start node and player, on the time of the recording."""
    topics = [
        DeclareLaunchArgument(
            name, default_value=topic, description=f'The recorded topic for {name}'
        )
        for name, topic in TOPICS.items()
    ]
    defaults = PathJoinSubstitution([SHARE, 'config', 'fusion.yaml'])
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='The recording: folder, .mcap or .db3 file'),
            DeclareLaunchArgument('rate', default_value='1.0', description='Speed of the replay'),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                choices=BOOLEAN,
                description='Begin anew at the end',
            ),
            DeclareLaunchArgument(
                'delay',
                default_value='8.0',
                description='Seconds that `ros2 bag play` leaves the node to get ready',
            ),
            DeclareLaunchArgument(
                'bundle',
                default_value='',
                description='A bundle file, or the name of one that ships (shapes, cubes); '
                'empty: the one that params_file names',
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value=defaults,
                description="The node's parameters, under /**: in YAML",
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='Namespace of the node'
            ),
            DeclareLaunchArgument(
                'image_type',
                default_value='',
                choices=['', 'raw', 'compressed'],
                description='How the camera was recorded: Image on the topic given as image, or '
                'CompressedImage on TOPIC/compressed; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'lidar_type',
                default_value='',
                choices=['', 'range_image', 'points'],
                description='How the LiDAR was recorded: Image on the topic given as range_image, '
                'or PointCloud2 on the one given as points; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'camera_pose',
                default_value='',
                description="Where the camera was: bundle, tf, or 'x y z qx qy qz qw' of its "
                "optical frame in the LiDAR's; empty: as params_file says",
            ),
            DeclareLaunchArgument(
                'autostart',
                default_value='',
                choices=['', *BOOLEAN],
                description='Configure and activate at the start; false waits for lifecycle '
                'calls; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'rviz',
                default_value='false',
                choices=BOOLEAN,
                description='Start RViz with image, ranges, centres and names',
            ),
            DeclareLaunchArgument(
                'rviz_frame',
                default_value='lidar',
                description="Fixed frame of RViz: the frame_id of the LiDAR's messages, or the "
                "node's target_frame",
            ),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
                description='How much the node logs',
            ),
            DeclareLaunchArgument(
                'large_images',
                default_value='false',
                choices=BOOLEAN,
                description='Give Fast DDS the room that images above 0.5 MB need',
            ),
            *topics,
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'fusion.launch.py'])
                ),
                launch_arguments={
                    'use_sim_time': 'true',
                    **{name: LaunchConfiguration(name) for name in HANDED_ON},
                }.items(),
            ),
            OpaqueFunction(function=player),
        ]
    )
