"""Publish a recording with its clock, where there is no `ros2 bag play`: `fusion replay`."""

from __future__ import annotations

import importlib
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import rclpy
import tyro
from pydantic import Field
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from fusion_perception.ros.joining import join
from fusion_perception.ros.messages import NANOSECONDS, stamp_message
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.recordings.recorded import Recorded
from fusion_perception.sensing.recordings.recording import Recording, Topic
from fusion_perception.sensing.settings import Settings, closest

LOGGER = logging.getLogger(__name__)
# Reliable publishers reach reliable and best-effort subscribers alike, and those that were
# transient local will reach late ones as well.
QOS = QoSProfile(depth=20)
CLOCK_PERIOD_S = 0.01
# Subscribers count as complete when none has come for so long.
SETTLED_S = 0.5
# Between two rounds of a loop: the first message of the next would take the place of the last one
# in subscribers that keep just the newest, as nodes of perception do.
PAUSE_S = 0.1
# Messages older than the newest by less than this are merely out of order.
BACK_S = 0.5


class ReplaySettings(Settings):
    """What to publish, and how fast."""

    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='BAG')] = Field(
        description='Recording (rosbag2): a folder, or one .mcap or .db3 file'
    )
    rate: float = Field(1.0, ge=0.001, le=1000, description='Speed; 2 is twice as fast')
    loop: bool = Field(False, description='Begin anew at the end, until Ctrl-C')
    topics: tuple[str, ...] = Field((), description='Only these; all where left out')
    wait_s: float = Field(
        5.0, ge=0, description='Longest wait for subscribers before the first message, seconds'
    )


class Player(Node):
    """Publishes recorded messages as they are, without deserialising them, and /clock."""

    def __init__(self, recording: Recording, settings: ReplaySettings) -> None:
        super().__init__('replay')
        self._recording, self._settings = recording, settings
        self._ticks = self.create_publisher(Clock, '/clock', QOS)
        self._publishers_of: dict[str, Publisher] = {}
        for name in settings.topics:
            if _absolute(name) not in recording.topics:
                known = closest(_absolute(name), list(recording.topics))
                raise ValueError(f"{recording.path} has no topic '{name}'. {known}")
        wanted = {_absolute(name) for name in settings.topics} or set(recording.topics)
        for topic in recording.topics.values():
            # The recorded clock would contradict the one that is published here.
            if topic.name not in wanted or topic.name == '/clock' or not topic.count:
                continue
            message_type = _message_type(topic.type)
            if message_type is None:
                package = topic.type.split('/')[0]
                LOGGER.warning('%s is left out: %s is not installed here.', topic.name, package)
            else:
                self._publishers_of[topic.name] = self.create_publisher(
                    message_type, topic.name, _qos(topic)
                )
        if not self._publishers_of:
            raise ValueError(
                f'{recording.path} holds no message of a type installed here'
                f'{" but those of /clock, which is made anew" if "/clock" in wanted else ""}.'
            )
        self.sent = 0

    def wait_for_subscribers(self) -> None:
        """Return when subscribers have matched and no more come, or when the wait is over."""
        end = time.monotonic() + self._settings.wait_s
        matched, since = 0, time.monotonic()
        while (now := time.monotonic()) < end:
            publishers = self._publishers_of.values()
            before, matched = matched, sum(p.get_subscription_count() for p in publishers)
            known = sum(self.count_subscribers(name) for name in self._publishers_of)
            if matched != before:
                since = now
            if matched and matched >= known and now - since >= SETTLED_S:
                return
            time.sleep(0.02)
        if not matched:
            LOGGER.warning(
                'Nobody listens to %s; publishing all the same.', ', '.join(self._publishers_of)
            )

    def play(self) -> None:
        """Publish everything once, at the times of the recording divided by the rate.

        Where these go back, as in files that were recorded side by side, the clock does too, but
        not for a message that is merely out of order.
        """
        began = time.monotonic()
        first_ns: int | None = None
        last_ns = 0
        for recorded in self._messages():
            if first_ns is None or last_ns - recorded.log_ns > BACK_S * NANOSECONDS:
                began, first_ns, last_ns = time.monotonic(), recorded.log_ns, recorded.log_ns
            last_ns = max(last_ns, recorded.log_ns)
            self._wait_until(began, first_ns, last_ns)
            self._publishers_of[recorded.topic].publish(bytes(recorded.data))
            self.sent += 1
        if self._settings.loop and first_ns is not None:
            pause_ns = round(PAUSE_S * self._settings.rate * NANOSECONDS)
            self._wait_until(began, first_ns, last_ns + pause_ns)

    def finish(self) -> None:
        """Give reliable subscribers the time to take the last messages."""
        for publisher in self._publishers_of.values():
            publisher.wait_for_all_acked(Duration(seconds=1.0))

    def _messages(self) -> Iterator[Recorded]:
        total = sum(self._recording.topics[name].count for name in self._publishers_of)
        messages = self._recording.messages(self._publishers_of)
        name = self._recording.path.name
        yield from tqdm(messages, name, total, unit=' messages', leave=False, disable=None)

    def _wait_until(self, began: float, first_ns: int, log_ns: int) -> None:
        """Let /clock run up to the time of a message."""
        due = began + (log_ns - first_ns) / NANOSECONDS / self._settings.rate
        while (left := due - time.monotonic()) > 0:
            now_ns = log_ns - round(left * self._settings.rate * NANOSECONDS)
            self._ticks.publish(Clock(clock=stamp_message(now_ns)))
            time.sleep(min(left, CLOCK_PERIOD_S))
        self._ticks.publish(Clock(clock=stamp_message(log_ns)))


def replay(settings: ReplaySettings) -> str:
    """Publish a recording until its end or Ctrl-C, and say how much that was.

    Raises FileNotFoundError or ValueError when it cannot be read, or nothing in it published.
    """
    with Recording(settings.bag) as recording, _interruptible():
        try:
            join()
            player = Player(recording, settings)
            stopped = ''
            try:
                player.wait_for_subscribers()
                player.play()
                while settings.loop and player.sent:
                    player.play()
                player.finish()
            except KeyboardInterrupt:
                stopped = ' Stopped.'
            sent = player.sent
            player.destroy_node()
        finally:
            rclpy.try_shutdown()
        return '\n'.join(
            (
                f'{counted(sent, "message")} of {settings.bag} published.{stopped}',
                *recording.unread,
            )
        )


def _qos(topic: Topic) -> QoSProfile:
    if not topic.latched:
        return QOS
    depth = min(topic.latched, topic.count)
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _message_type(name: str) -> Any:
    package, _, message = name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), message, None)
    except ImportError:
        return None


def _absolute(name: str) -> str:
    return name if name.startswith('/') else f'/{name}'


@contextmanager
def _interruptible() -> Iterator[None]:
    """End on Ctrl-C also where a shell in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
