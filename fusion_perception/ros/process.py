"""Run a node as a process that ends cleanly on SIGINT and SIGTERM, from its first moment on.

Imports neither ROS nor torch itself: importing them takes seconds, in which a launch that is
interrupted should not end in tracebacks.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from fusion_perception.ros.usage import USAGE
from fusion_perception.standard_streams import open_closed_streams

NODES = {
    'fusion_node': ('fusion_perception.ros.fusion_node', 'FusionNode'),
    'sensor_sim': ('fusion_perception.ros.sensor_sim', 'SensorSim'),
}


class Startable:
    """A node with something to do before its first callback and after its last.

    `owns_process` is for whoever runs it in a process of its own, as `run` does.
    """

    owns_process = False

    def start(self) -> None:
        """Begin; runs on the executor's thread."""

    def finish(self) -> None:
        """Say goodbye; runs after the last callback. The context may be shut down already."""

    def keep_loaded(self) -> None:
        """Keep what is loaded by now from the garbage collector, where the process is ours.

        A collection that walks through all of it takes a quarter of a second, and some prediction
        would have to wait for it. What a host holds beside the node is not ours to keep.
        """
        if self.owns_process:
            gc.collect()
            gc.freeze()

    def free_loaded(self) -> None:
        """Leave to the garbage collector again what was kept from it, and let it collect."""
        if self.owns_process:
            gc.unfreeze()
        gc.collect()


def run(name: str, args: list[str] | None = None) -> int:
    """Run one of NODES until SIGINT or SIGTERM, and return exit code 0; say its usage for --help.

    What ROS cannot begin with, and a node that cannot be created (ValueError, OSError), end with a
    sentence in the log and exit code 2.
    The main thread only waits for signals, so that no KeyboardInterrupt hits a callback half-way;
    rclpy's own handlers would invalidate the context before the node could say goodbye.
    A fault in a callback ends the process with its traceback.
    """
    open_closed_streams()
    given = sys.argv[1:] if args is None else args
    if not {'-h', '--help'}.isdisjoint(given):
        sys.stdout.write(USAGE[name])
        return 0
    _on_signals(_leave)
    # Threads that wait for the next tensor would spin, on cores that the other nodes need. OpenMP
    # reads this when torch loads.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    module, create = NODES[name]
    node_class = getattr(importlib.import_module(module), create)
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.logging import get_logger

    from fusion_perception.ros.given_files import passed_over
    from fusion_perception.ros.joining import join

    ended, awake = threading.Event(), _Alarm()
    try:
        join(given)
        node = node_class()
        node.owns_process = True
        for sentence in passed_over(given, node.get_fully_qualified_name()):
            node.get_logger().warning(sentence)
    except (ValueError, OSError, ParameterException) as fault:
        # The last is of what ROS declares itself, as `use_sim_time`, before ours can be patient.
        get_logger(name).fatal(str(fault))
        rclpy.try_shutdown()
        return 2
    # At a mere wake-up the executor would wait on, as for a clock that nobody publishes.
    leaving = node.create_guard_condition(lambda: None)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    faults: list[BaseException] = []

    def spin() -> None:
        try:
            node.start()
            while not ended.is_set():
                executor.spin_once()
        except BaseException as fault:
            faults.append(fault)
        finally:
            awake.ring()

    thread = threading.Thread(target=spin, name='executor')
    thread.start()
    try:
        awake.wait()
        ended.set()
        leaving.trigger()
        thread.join()
        node.finish()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    if faults:
        raise faults[0]
    return 0


class _Alarm:
    """Wakes the main thread on SIGINT and SIGTERM, or when somebody rings.

    A handler in Python can be interrupted by the next signal's: an Event that both would set
    has a lock, for which the second would wait for ever. Here Python's own handler writes to a
    pipe.
    """

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        _on_signals(lambda number, frame: None)

    def wait(self) -> None:
        """Return once a signal has come, or somebody has rung: also long ago."""
        os.read(self._reads, 1)

    def ring(self) -> None:
        """Wake who waits; any thread may."""
        with suppress(BlockingIOError):  # Full of signals.
            os.write(self._writes, b'\0')


def fusion_node() -> NoReturn:
    """Run the fusion node: the executable of this name."""
    _exit(run('fusion_node'))


def sensor_sim() -> NoReturn:
    """Run the simulated sensor: the executable of this name."""
    _exit(run('sensor_sim'))


def main() -> NoReturn:
    """Run the node that the first argument names."""
    _exit(run(sys.argv.pop(1)))


def _exit(code: int) -> NoReturn:
    # All of ours is released by now, and taking torch apart would keep a busy robot waiting for
    # seconds: longer than `ros2 launch` is patient.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # An import that is under way may swallow an exception, and go on half done.
    os._exit(0)


if __name__ == '__main__':
    # `python -m fusion_perception.ros.process NODE --ros-args ...`
    main()
