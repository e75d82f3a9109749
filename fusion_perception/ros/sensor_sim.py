"""Publish what a camera and a LiDAR see of a smoothly moving scene, and the truth beside it."""

from __future__ import annotations

import torch
from geometry_msgs.msg import PoseArray
from pydantic import Field
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from fusion_perception.ros.messages import (
    NANOSECONDS,
    camera_info_message,
    centers_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.parameters import Parameters
from fusion_perception.ros.process import Startable
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import TASK_CLASSES, Rig, Task
from fusion_perception.sensing.settings import Settings
from fusion_perception.simulation.motion import MovingScene
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import Frames, render


class SensorSimSettings(Settings):
    """What the simulated sensor publishes, and how often."""

    task: Task = Field('shapes', description='Objects of the scene: shapes or cubes')
    seed: int = Field(0, ge=0, description='Seed of the scene and of the noise')
    camera_hz: float = Field(20.0, gt=0, le=1000, description='Images per second')
    lidar_hz: float = Field(10.0, gt=0, le=1000, description='Range images per second')
    range_noise: float = Field(
        0.0, ge=0, le=10, description='Standard deviation of a range, metres'
    )
    dropout: float = Field(0.0, ge=0, le=1, description='Fraction of beams without return')
    image_width: int = Field(64, gt=0, le=8192, description='Columns of the camera image')
    image_height: int = Field(64, gt=0, le=8192, description='Rows of the camera image')
    camera_frame: str = Field('camera', description='frame_id of the image and its camera_info')
    lidar_frame: str = Field('lidar', description='frame_id of the range image and the truth')


class SensorSim(Startable, Node):
    """A camera and a LiDAR on one trigger: whichever is due at an instant sees the same scene.

    Each frame is rendered ahead of its instant, so that a stamp is the time at which the message
    leaves, and the truth is exact for it.
    """

    def __init__(self) -> None:
        super().__init__('sensor_sim')
        self.settings = settings = Parameters(self, SensorSimSettings).read()
        camera = Rig().camera.resized(settings.image_width, settings.image_height)
        self._rig = Rig(classes=TASK_CLASSES[settings.task], camera=camera)
        self._lidar = UniformGrid().lidar()
        self._scene = MovingScene(settings.task, settings.seed, rig=self._rig)
        self._noise = NoiseSettings(
            range_noise_m=(settings.range_noise,) * 2, lost_rays=(settings.dropout,) * 2
        )
        self._generator = torch.Generator().manual_seed(settings.seed)
        qos = qos_profile_sensor_data
        self._images = self.create_publisher(Image, 'camera/image_raw', qos)
        self._infos = self.create_publisher(CameraInfo, 'camera/camera_info', qos)
        self._ranges = self.create_publisher(Image, 'lidar/range_image', qos)
        self._truth = self.create_publisher(PoseArray, 'ground_truth/centers', 10)
        self._periods_ns = {
            'camera': round(NANOSECONDS / settings.camera_hz),
            'lidar': round(NANOSECONDS / settings.lidar_hz),
        }
        self._begin_ns = 0
        self._ticks = {'camera': 0, 'lidar': 0}
        self._due: tuple[int, list[str], Frames] | None = None
        self._timer = self.create_timer(3600.0, self._on_timer)

    def start(self) -> None:
        """Begin to publish."""
        torch.set_num_threads(1)  # One small scene gains nothing from more.
        self._render_next()  # The first call is slow; it must not make the first frames late.
        self._begin()

    def finish(self) -> None:
        """Stop publishing."""
        self._timer.cancel()

    def _begin(self) -> None:
        self._begin_ns = self.get_clock().now().nanoseconds
        self._ticks = dict.fromkeys(self._ticks, 0)
        self._render_next()

    def _on_timer(self) -> None:
        assert self._due is not None
        stamp_ns, streams, frames = self._due
        late_ns = self.get_clock().now().nanoseconds - stamp_ns
        if not -NANOSECONDS < late_ns < NANOSECONDS:
            # The clock jumped (simulated time started, a bag looped): begin anew from its time.
            self.get_logger().warning(f'The clock jumped by {late_ns / NANOSECONDS:.3f} s.')
            self._begin()
            return
        self._publish(stamp_ns, streams, frames)
        self._render_next()

    def _render_next(self) -> None:
        times = {
            stream: self._begin_ns + tick * self._periods_ns[stream]
            for stream, tick in self._ticks.items()
        }
        stamp_ns = min(times.values())
        # Rates with a common multiple meet at the same instant, up to rounding.
        streams = [stream for stream, time in times.items() if time - stamp_ns < 1000]
        for stream in streams:
            self._ticks[stream] += 1
        scenes = self._scene.at((stamp_ns - self._begin_ns) / NANOSECONDS)
        frames = render(scenes, self._rig, self._lidar)
        frames = add_noise(frames, self._noise, self._generator, self._lidar.max_range)
        self._due = (stamp_ns, streams, frames)
        wait_ns = stamp_ns - self.get_clock().now().nanoseconds
        self._timer.timer_period_ns = max(1, wait_ns)
        self._timer.reset()

    def _publish(self, stamp_ns: int, streams: list[str], frames: Frames) -> None:
        if 'camera' in streams:
            header = header_message(stamp_ns, self.settings.camera_frame)
            self._images.publish(image_message(header, frames.images[0].numpy()))
            self._infos.publish(camera_info_message(header, self._rig.camera))
        if 'lidar' in streams:
            header = header_message(stamp_ns, self.settings.lidar_frame)
            self._ranges.publish(range_message(header, frames.ranges[0].numpy()))
            self._truth.publish(centers_message(header, frames.centers[0].numpy()))
