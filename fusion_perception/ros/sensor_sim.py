"""Publish what a camera and a LiDAR see of a smoothly moving scene, and the truth beside it.

With faults, where they are wanted: those of the parameters, or of a scenario file.
"""

from __future__ import annotations

import heapq
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from pydantic import Field
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from fusion_perception.ros.faults import Faults, Outlet, Scenario
from fusion_perception.ros.messages import (
    NANOSECONDS,
    camera_info_message,
    centers_message,
    header_message,
    image_message,
    range_message,
)
from fusion_perception.ros.parameters import Parameters, leaves
from fusion_perception.ros.process import Startable
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import TASK_CLASSES, Rig
from fusion_perception.simulation.motion import LiveSettings, MovingScene
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import Frames, render
from fusion_perception.simulation.topics import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.simulation.trigger import Instant, Trigger

WARN_EVERY_S = 10.0
# Small frames cost by the operation, not by the pixel: four at once take little more than one.
_FRAMES_AT_ONCE = 4
_PIXELS_AT_ONCE = 2**16


class SensorSimSettings(LiveSettings):
    """What the simulated sensor publishes, and how often."""

    range_noise: float = Field(
        0.0, ge=0, le=10, description='Standard deviation of a range, metres'
    )
    dropout: float = Field(0.0, ge=0, le=1, description='Fraction of beams without return')
    image_width: int = Field(64, gt=0, le=8192, description='Columns of the camera image')
    image_height: int = Field(64, gt=0, le=8192, description='Rows of the camera image')
    camera_frame: str = Field('camera', description='frame_id of the image and its camera_info')
    lidar_frame: str = Field('lidar', description='frame_id of the range image and the truth')
    scenario: str = Field(
        '', description='YAML file of faults over time, as config/chaos.yaml; empty: none'
    )
    faults: Faults = Field(Faults(), description='What is wrong while no scenario says otherwise')


LIVE = frozenset(f'faults.{name}' for name in Faults.model_fields)
READ_ONLY = frozenset(leaf.name for leaf in leaves(SensorSimSettings)) - LIVE


class _Due(NamedTuple):
    """The frame of an instant: one of those that are rendered, or being rendered, together."""

    instant: Instant
    rendered: Future[Frames]
    place: int

    def frame(self) -> Frames:
        """Return the frame once it is there."""
        return self.rendered.result()[self.place : self.place + 1]


class SensorSim(Startable, Node):
    """A camera and a LiDAR on one trigger: whichever is due at an instant sees the same scene.

    Each frame is rendered ahead of its instant, so that a stamp is the time at which the message
    leaves, and the truth is exact for it, whatever faults befall the other messages. An instant
    for which a busy machine has no time is left out, as a sensor would leave it out.
    What is wrong at present is told on /diagnostics whenever it changes. `options` are those of
    rclpy's Node: namespace, parameter_overrides, context, ...
    """

    def __init__(self, node_name: str = 'sensor_sim', **options: Any) -> None:
        super().__init__(node_name, **options)
        declared = Parameters(
            self, SensorSimSettings, live=LIVE, read_only=READ_ONLY, changed=self._on_changed
        )
        self.settings = settings = declared.read()
        self._scenario = Scenario()
        if settings.scenario:
            self._scenario = Scenario.read_yaml(Path(settings.scenario))
        camera = Rig().camera.resized(settings.image_width, settings.image_height)
        self._rig = Rig(classes=TASK_CLASSES[settings.task], camera=camera)
        self._lidar = UniformGrid().lidar()
        self._scene = MovingScene(settings.task, settings.seed, rig=self._rig)
        self._noise = NoiseSettings(
            range_noise_m=(settings.range_noise,) * 2, lost_rays=(settings.dropout,) * 2
        )
        self._generator = torch.Generator().manual_seed(settings.seed)
        qos = qos_profile_sensor_data
        # Relative, so that a namespace counts.
        self._images = self.create_publisher(Image, IMAGE.lstrip('/'), qos)
        self._infos = self.create_publisher(CameraInfo, CAMERA_INFO.lstrip('/'), qos)
        self._ranges = self.create_publisher(Image, RANGES.lstrip('/'), qos)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._truth = self.create_publisher(PoseArray, TRUTH.lstrip('/'), 10)
        self._rates_hz: dict[Stream, float] = {
            'camera': settings.camera_hz,
            'lidar': settings.lidar_hz,
        }
        self._trigger = Trigger(self._rates_hz, 0)
        pixels = settings.image_width * settings.image_height
        self._at_once = max(1, min(_FRAMES_AT_ONCE, _PIXELS_AT_ONCE // pixels))
        self._due: deque[_Due] = deque()
        self._all_late = False  # So were all that were rendered together.
        # On a thread of its own: what is being rendered delays nothing that is due.
        self._renderer = ThreadPoolExecutor(1, 'render')
        self._render_ns = self._wake_ns = 0
        self._timer = self.create_timer(3600.0, self._on_timer)
        self._outlets = {stream: Outlet(stream, settings.seed) for stream in STREAMS}
        self._late: list[tuple[float, int, Stream, Image]] = []
        self._late_timer = self.create_timer(3600.0, self._on_late)
        self._began = time.monotonic()
        self._sent, self._skipped, self._told = 0, 0, ''

    def start(self) -> None:
        """Begin to publish."""
        torch.set_num_threads(1)  # One small scene gains nothing from more.
        self._begin()  # The first call is slow; it must not make the first frames late.
        self._began = time.monotonic()
        self._begin()

    def finish(self) -> None:
        """Stop publishing."""
        self._timer.cancel()
        self._late_timer.cancel()
        self._renderer.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        self._trigger = Trigger(self._rates_hz, self.get_clock().now().nanoseconds)
        self._skipped = 0
        self._due.clear()
        self._render_ahead()
        self._due[0].frame()

    def _on_timer(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        late_ns = now_ns - self._wake_ns
        if not -NANOSECONDS < late_ns < NANOSECONDS:
            # Simulated time started, a bag looped, or others held the cores: begin anew from now.
            self.get_logger().warning(
                f'{late_ns / NANOSECONDS:.3f} s from its plan: the clock jumped, or the machine '
                'is too busy. It begins anew.'
            )
            self._begin()
        elif self._due and now_ns >= self._due[0].instant.stamp_ns:
            self._publish_first()
        else:
            self._render_ahead()

    def _publish_first(self) -> None:
        """Publish what is due first of all that it is not too late for."""
        due = self._first_in_time()
        now_ns = self.get_clock().now().nanoseconds
        self._all_late = due is None
        if due is None:
            self._tell_skipped()
            self._render_ahead()
            return
        self._publish(due.instant, due.frame())
        self._tell_skipped()
        next_ns = self._due[0].instant.stamp_ns if self._due else self._trigger.next_ns()
        if len(self._due) < self._at_once:
            # Whoever predicts from what has just left shall have the cores first.
            half_ns = (now_ns + next_ns) // 2
            next_ns = half_ns if self._due else min(half_ns, next_ns - 2 * self._render_ns)
        self._wake_at(next_ns)

    def _first_in_time(self) -> _Due | None:
        """Take what is due up to the first that it is not too late for, and return that."""
        while self._due:
            due = self._due.popleft()
            due.frame()
            # Where rendering takes longer the last of a batch may be late, and where even that is
            # not enough it leaves every other time.
            is_last = not self._due
            allowed_ns = self._render_ns if is_last else 0
            now_ns = self.get_clock().now().nanoseconds
            if (is_last and self._all_late) or not self._trigger.gives_up(
                due.instant.stamp_ns, now_ns, allowed_ns
            ):
                return due
        return None

    def _wake_at(self, time_ns: int) -> None:
        self._wake_ns = time_ns
        wait_ns = time_ns - self.get_clock().now().nanoseconds
        self._timer.timer_period_ns = max(1, wait_ns)
        self._timer.reset()

    def _render_ahead(self) -> None:
        """Begin to render the next frames, of instants for which they will be ready in time."""
        if len(self._due) < self._at_once:
            ready_ns = self.get_clock().now().nanoseconds + self._render_ns
            instants = self._trigger.after(ready_ns, self._at_once)
            rendered = self._renderer.submit(self._render, instants, self._trigger.begin_ns)
            self._due.extend(_Due(instant, rendered, i) for i, instant in enumerate(instants))
        self._wake_at(self._due[0].instant.stamp_ns)

    def _render(self, instants: Sequence[Instant], begin_ns: int) -> Frames:
        began_ns = time.monotonic_ns()
        times_ns = [instant.stamp_ns - begin_ns for instant in instants]
        scenes = self._scene.at(torch.tensor(times_ns, dtype=torch.float64) / NANOSECONDS)
        frames = render(scenes, self._rig, self._lidar)
        frames = add_noise(frames, self._noise, self._generator, self._lidar.max_range)
        self._render_ns = time.monotonic_ns() - began_ns
        return frames

    def _publish(self, instant: Instant, frames: Frames) -> None:
        faults = self._scenario.at(time.monotonic() - self._began) or self.settings.faults
        self._tell(faults)
        if faults.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        header = header_message(instant.stamp_ns, self.settings.lidar_frame)
        if 'lidar' in instant.streams:
            self._send('lidar', range_message(header, frames.ranges[0].numpy()), faults)
        if 'camera' in instant.streams:
            of_camera = header_message(instant.stamp_ns, self.settings.camera_frame)
            self._send('camera', image_message(of_camera, frames.images[0].numpy()), faults)
        if 'lidar' in instant.streams:  # Last: nothing waits for it.
            self._truth.publish(centers_message(header, frames.centers[0].numpy()))

    def _send(self, stream: Stream, message: Image, faults: Faults) -> None:
        for delay_s, leaving in self._outlets[stream].departures(message, faults):
            self._sent += 1
            if delay_s == 0:
                self._leave(stream, leaving)
            else:
                # Of two that are due at once the one that was sent first leaves first.
                due = time.monotonic() + delay_s
                heapq.heappush(self._late, (due, self._sent, stream, leaving))
        self._await_late()

    def _on_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, stream, message = heapq.heappop(self._late)
            self._leave(stream, message)
        self._await_late()

    def _await_late(self) -> None:
        wait_s = self._late[0][0] - time.monotonic() if self._late else 3600.0
        self._late_timer.timer_period_ns = max(1, round(wait_s * NANOSECONDS))
        self._late_timer.reset()

    def _leave(self, stream: Stream, message: Image) -> None:
        if stream == 'camera':
            self._images.publish(message)
            self._infos.publish(camera_info_message(message.header, self._rig.camera))
        else:
            self._ranges.publish(message)

    def _tell_skipped(self) -> None:
        skipped = self._trigger.skipped
        if skipped > self._skipped:
            self._skipped = skipped
            self.get_logger().warning(
                f'Instants left out so far: {skipped}. The machine was busy, or is too slow for '
                'these rates.',
                throttle_duration_sec=WARN_EVERY_S,
            )

    def _tell(self, faults: Faults) -> None:
        words = faults.words()
        if words == self._told:
            return
        self._told = words
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if words else DiagnosticStatus.OK,
            name=self.get_fully_qualified_name(),
            message=words or 'No fault is simulated.',
        )
        header = header_message(self.get_clock().now().nanoseconds, '')
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))
        self.get_logger().info(status.message)

    def _on_changed(self, settings: SensorSimSettings) -> None:
        self.settings = settings
