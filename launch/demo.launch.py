"""Start a simulated camera and LiDAR, the fusion node on their topics, and RViz where wanted."""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
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
# Topics of the simulated sensor, by the fusion node's names for them.
TOPICS = {
    'image': 'camera/image_raw',
    'camera_info': 'camera/camera_info',
    'range_image': 'lidar/range_image',
}


# Arguments of the simulated sensor that are numbers.
NUMBERS = {
    'seed': int,
    'camera_hz': float,
    'lidar_hz': float,
    'image_width': int,
    'image_height': int,
}


def check(context: LaunchContext) -> None:
    """Refuse what cannot be, by its name: launch would leave behind what runs by then."""
    for name, kind in NUMBERS.items():
        value = LaunchConfiguration(name).perform(context)
        try:
            kind(value)
        except ValueError:
            wanted = 'a whole number' if kind is int else 'a number'
            raise ValueError(f'{name}:={value} is not {wanted}.') from None
    file = LaunchConfiguration('params_file').perform(context)
    if not Path(file).is_file():
        raise FileNotFoundError(f'No parameter file at {file!r}. Check params_file:=PATH.')


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start both nodes."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'task',
                default_value='shapes',
                choices=['shapes', 'cubes'],
                description='Objects of the simulated scene',
            ),
            DeclareLaunchArgument(
                'bundle',
                default_value=LaunchConfiguration('task'),
                description="A bundle file, or the name of one that ships; the task's own",
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution([SHARE, 'config', 'fusion.yaml']),
                description="The fusion node's parameters, under /**: in YAML",
            ),
            DeclareLaunchArgument(
                'seed', default_value='0', description='Seed of the simulated scene'
            ),
            DeclareLaunchArgument(
                'camera_hz', default_value='20.0', description='Images per second'
            ),
            DeclareLaunchArgument(
                'lidar_hz', default_value='10.0', description='Range images per second'
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='Namespace of both nodes'
            ),
            DeclareLaunchArgument(
                'rviz',
                default_value='true',
                choices=BOOLEAN,
                description='Start RViz with image, ranges, centres, names and the truth',
            ),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
                description='How much the nodes log',
            ),
            DeclareLaunchArgument(
                'image_width', default_value='64', description='Columns of the camera image'
            ),
            DeclareLaunchArgument(
                'image_height', default_value='64', description='Rows of the camera image'
            ),
            DeclareLaunchArgument(
                'large_images',
                default_value='false',
                choices=BOOLEAN,
                description='Give Fast DDS the room that images above 0.5 MB need'
                '; for sensor and node alike',
            ),
            SetEnvironmentVariable(
                PROFILES_FILE,
                PathJoinSubstitution([SHARE, 'config', 'fastdds_large_images.xml']),
                condition=IfCondition(LaunchConfiguration('large_images')),
            ),
            OpaqueFunction(function=check),
            Node(
                package='fusion_perception',
                executable='sensor_sim',
                namespace=LaunchConfiguration('namespace'),
                parameters=[
                    {
                        'task': LaunchConfiguration('task'),
                        **{
                            name: ParameterValue(LaunchConfiguration(name), value_type=kind)
                            for name, kind in NUMBERS.items()
                        },
                    }
                ],
                arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
                output='screen',
                emulate_tty=True,
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'fusion.launch.py'])
                ),
                launch_arguments={
                    'bundle': LaunchConfiguration('bundle'),
                    'params_file': LaunchConfiguration('params_file'),
                    'namespace': LaunchConfiguration('namespace'),
                    'rviz': LaunchConfiguration('rviz'),
                    'log_level': LaunchConfiguration('log_level'),
                    'large_images': LaunchConfiguration('large_images'),
                    # A robot's file may say otherwise; the simulated sensor has no other clock.
                    'use_sim_time': 'false',
                    **TOPICS,
                }.items(),
            ),
        ]
    )
