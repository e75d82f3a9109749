"""What the tests of nodes share: a probe, and nodes that run in processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from fusion_perception.ros.diagnostics import streams_of
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.messages import header_message, image_message, range_message
from fusion_perception.ros.process import Startable

PATIENCE_S = 30.0
# Within this a service that is there is discovered.
MATCHED_S = 5.0


def wait_until(condition, what, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < end, f'waited {patience_s} s in vain for {what}'
        time.sleep(0.005)
    return result


class Probe(Node):
    """A camera and a LiDAR on one side of the node under test, a listener on the other."""

    def __init__(self, node='/fusion_node', namespace=''):
        super().__init__('probe', namespace=namespace)
        self.node, self.centers, self.diagnostics = node, [], []
        self.images = self.create_publisher(Image, 'image', qos_profile_sensor_data)
        self.ranges = self.create_publisher(Image, 'range_image', qos_profile_sensor_data)
        self.create_subscription(PoseArray, f'{node}/centers', self.centers.append, 100)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)
        self.callers = {}

    def _on_diagnostics(self, message):
        self.diagnostics += [s for s in message.status if s.name == self.node]

    def call(self, kind, service, request):
        client = self.callers.get(service) or self.create_client(kind, f'{self.node}/{service}')
        self.callers[service] = client
        # Where the graph lost one end of the service it is never ready, and answers all the same.
        with contextlib.suppress(AssertionError):
            wait_until(client.service_is_ready, f'service {service}', MATCHED_S)
        future = client.call_async(request)
        wait_until(future.done, f'an answer of {service}')
        return future.result()

    def change_state(self, transition):
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(ChangeState, 'change_state', request).success

    def state(self):
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def set(self, name, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, 'set_parameters', request).results[0]

    def withdraw(self, publisher):
        """Destroy a publisher on the thread that spins: a wait beside it may fail on Jazzy."""
        gone = self.executor.create_task(self.destroy_publisher, publisher)
        wait_until(gone.done, 'the publisher to be destroyed')

    def wait_for_node(self):
        wait_until(
            lambda: self.images.get_subscription_count() and self.ranges.get_subscription_count(),
            'the node to subscribe',
        )

    def publish(self, stamp_ns, frame_id='lidar', camera=True, lidar=True):
        if camera:
            pixels = np.random.default_rng(stamp_ns).integers(0, 256, (64, 64, 3), np.uint8)
            self.images.publish(image_message(header_message(stamp_ns, 'camera'), pixels))
        if lidar:
            self.ranges.publish(range_message(header_message(stamp_ns, frame_id), RANGES))

    def streams(self):
        """Return the counters of the newest diagnostics, once every one so far was checked."""
        for status in self.diagnostics:
            for name, counts in streams_of(status.values).items():
                told = counts['used'] + counts['pending'] + sum(counts['dropped'].values())
                assert counts['received'] == told, (name, counts)
        return streams_of(self.diagnostics[-1].values) if self.diagnostics else {}


RANGES = np.full((64, 64), 50.0, np.float32)
RANGES[20:40, 20:40] = 24.0


@contextlib.contextmanager
def meanwhile(act):
    """Act again and again on a thread of its own."""
    ended = threading.Event()

    def go_on():
        while not ended.is_set():
            act()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def spinning(*nodes):
    """Spin nodes on a thread of their own while the test talks to them."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        with meanwhile(lambda: executor.spin_once(timeout_sec=0.1)):
            yield
    finally:
        executor.shutdown()


@contextlib.contextmanager
def ended(*nodes):
    """End nodes with the block, whatever fails in it; ours say goodbye before."""
    try:
        yield
    finally:
        for node in nodes:
            if isinstance(node, Startable):
                node.finish()
            node.destroy_node()


@contextlib.contextmanager
def ros(*arguments):
    rclpy.init(args=['--ros-args', *arguments] if arguments else [])
    try:
        yield
    finally:
        rclpy.try_shutdown()


@contextlib.contextmanager
def probing(node='/fusion_node'):
    """Give a probe, which spins, for a node that runs elsewhere."""
    with ros():
        probe = Probe(node)
        with ended(probe), spinning(probe):
            yield probe


@contextlib.contextmanager
def probed(bundle, *arguments):
    """Start a fusion node with that bundle beside a probe, which is given; both spin."""
    with ros('-p', f'bundle:={bundle}', *arguments):
        node, probe = FusionNode(), Probe()
        node.start()
        with ended(node, probe), spinning(node, probe):
            yield probe


def impatient(bundle, *arguments):
    """Start them with a node that says at once why nothing comes out."""
    return probed(bundle, '-p', 'diagnostics.error_silence_s:=0.1', *arguments)


def said(probe, *words):
    """Return what the node said last, if it has these words."""
    message = probe.diagnostics[-1].message if probe.diagnostics else ''
    return message if all(word in message for word in words) else ''


def text_of(probe):
    """Return all that the node said last."""
    return ' '.join(value.value for status in probe.diagnostics[-1:] for value in status.values)


class RosProcess:
    """One of the package's nodes in a process, as its executable starts it."""

    def __init__(self, node, log, *arguments):
        self.log = log
        command = [sys.executable, '-m', 'fusion_perception.ros.process', node]
        ros_arguments = ['--ros-args', *arguments] if arguments else []
        with log.open('w') as output:
            self.process = subprocess.Popen(
                [*command, *ros_arguments], stdout=output, stderr=output, env=dict(os.environ)
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self, by=signal.SIGINT):
        self.process.send_signal(by)
        return self.process.wait(PATIENCE_S)

    def output(self):
        return self.log.read_text()
