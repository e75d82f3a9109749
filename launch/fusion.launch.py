"""Start the fusion node on a robot's camera and LiDAR topics."""

import os
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('fusion_perception')
# Jazzy's Fast DDS knows only the older name.
PROFILES_FILE = (
    'FASTRTPS_DEFAULT_PROFILES_FILE'
    if os.environ.get('ROS_DISTRO') == 'jazzy'
    else 'FASTDDS_DEFAULT_PROFILES_FILE'
)
# Both are common in launch files that include this one.
BOOLEAN = ['true', 'false', 'True', 'False']
# So a node that cannot start leaves the machine some peace.
RESPAWN_DELAY_S = 2.0
LEVELS = ['debug', 'info', 'warn', 'error', 'fatal']
# The node and RViz find the sensors under these names.
TOPICS = ('image', 'camera_info', 'range_image', 'points')
# Arguments that are parameters too. What the file may name as well is handed on only when it is
# given: it comes after the file, and would override it.
PARAMETERS = {
    'bundle': str,
    'image_type': str,
    'lidar_type': str,
    'camera_pose': str,
    'use_sim_time': bool,
    'autostart': bool,
}


def parameters(context: LaunchContext, *names: str) -> list[Any]:
    """Return the parameter file, and these parameters as far as they are given as arguments."""
    file = LaunchConfiguration('params_file').perform(context)
    # launch_ros only warns, and starts the node with the defaults.
    if not Path(file).is_file():
        raise FileNotFoundError(f'No parameter file at {file!r}. Check params_file:=PATH.')
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=PARAMETERS[name])
        for name in names
        if LaunchConfiguration(name).perform(context)
    }
    return [file, *([given] if given else [])]


def fusion_node(context: LaunchContext) -> list[Action]:
    """Return the node."""
    return [
        Node(
            package='fusion_perception',
            executable='fusion_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=parameters(context, *PARAMETERS),
            remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            output='screen',
            emulate_tty=True,
            respawn=LaunchConfiguration('respawn'),
            respawn_delay=RESPAWN_DELAY_S,
        )
    ]


def rviz(context: LaunchContext) -> list[Action]:
    """Return RViz, or a word when it is not installed: the node is worth starting without it."""
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        return [LogInfo(msg='RViz is not installed: sudo apt install ros-$ROS_DISTRO-rviz2')]
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=LaunchConfiguration('namespace'),
            arguments=[
                '-d',
                PathJoinSubstitution([SHARE, 'rviz', 'fusion.rviz']),
                '-f',
                LaunchConfiguration('rviz_frame'),
            ],
            parameters=parameters(context, 'use_sim_time'),  # Of the file it takes no other.
            remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the node."""
    defaults = PathJoinSubstitution([SHARE, 'config', 'fusion.yaml'])
    return LaunchDescription(
        [
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
                'namespace', default_value='', description='Namespace of the node and its topics'
            ),
            DeclareLaunchArgument(
                'image',
                default_value='image',
                description='Topic of the camera (Image); with image_type:=compressed, the topic '
                'that has its CompressedImage on TOPIC/compressed',
            ),
            DeclareLaunchArgument(
                'camera_info',
                default_value='camera_info',
                description="Topic of the camera's intrinsics (CameraInfo); used where present",
            ),
            DeclareLaunchArgument(
                'range_image',
                default_value='range_image',
                description='Topic of the LiDAR (Image of ranges: 32FC1, 16UC1 or mono16)',
            ),
            DeclareLaunchArgument(
                'points',
                default_value='points',
                description='Topic of the LiDAR (PointCloud2), with lidar_type:=points',
            ),
            DeclareLaunchArgument(
                'image_type',
                default_value='',
                choices=['', 'raw', 'compressed'],
                description='How the camera comes; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'lidar_type',
                default_value='',
                choices=['', 'range_image', 'points'],
                description='How the LiDAR comes; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'camera_pose',
                default_value='',
                description="Where the camera is: bundle, tf, or 'x y z qx qy qz qw' of its "
                "optical frame in the LiDAR's; empty: as params_file says",
            ),
            DeclareLaunchArgument(
                'use_sim_time',
                default_value='',
                choices=['', *BOOLEAN],
                description='Take the time from /clock (bags played with --clock, simulators); '
                'empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'autostart',
                default_value='',
                choices=['', *BOOLEAN],
                description='Configure and activate at the start; false waits for lifecycle '
                'calls; empty: as params_file says',
            ),
            DeclareLaunchArgument(
                'respawn',
                default_value='false',
                choices=BOOLEAN,
                description='Start the node again, two seconds later, whenever its process ends',
            ),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                choices=LEVELS,
                description='How much the node logs',
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
                "node's target_frame; in another, without tf between them, it shows nothing",
            ),
            DeclareLaunchArgument(
                'large_images',
                default_value='false',
                choices=BOOLEAN,
                description='Give Fast DDS the room that images above 0.5 MB need'
                '; the driver needs it too',
            ),
            SetEnvironmentVariable(
                PROFILES_FILE,
                PathJoinSubstitution([SHARE, 'config', 'fastdds_large_images.xml']),
                condition=IfCondition(LaunchConfiguration('large_images')),
            ),
            OpaqueFunction(function=fusion_node),
            OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration('rviz'))),
        ]
    )
