"""Sensors that publish on the wrong terms, and the doctor that looks at them."""

import itertools
import threading

import numpy as np
from ros_graph import probed

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.ros.messages import as_data, header_message, range_message

PERIOD_S = 0.07


def counts_message(stamp, count):
    """Return a range image that holds one 16-bit count everywhere."""
    counts = np.full((64, 64), count, np.uint16)
    message = range_message(header_message(stamp, 'lidar'), np.zeros((64, 64), np.float32))
    message.encoding, message.step, message.data = '16UC1', 128, as_data(counts)
    return message


class Sensors:
    """Publishes pairs on a thread until the end of the block, the camera's stamps shifted.

    Of five images in a row so many as `paired` says have the stamp of a scan.
    """

    def __init__(self, probe, shift_s=0.0, zero=False, count=None, paired=5, **streams):
        self.count, self.paired = count, paired
        self.probe, self.shift_ns, self.zero = probe, round(shift_s * 1e9), zero
        self.streams = streams or {'camera': True, 'lidar': True}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.publish)

    def publish(self):
        for number in itertools.count():
            if self.ended.wait(PERIOD_S):
                return
            stamp = 0 if self.zero else self.probe.get_clock().now().nanoseconds
            if self.count is not None:
                self.probe.ranges.publish(counts_message(stamp, self.count))
            elif 'lidar' in self.streams:
                self.probe.publish(stamp, camera=False)
            if 'camera' in self.streams:
                alone_ns = 0 if number % 5 < self.paired else round(PERIOD_S / 2 * 1e9)
                shifted = 0 if self.zero else stamp - self.shift_ns - alone_ns
                self.probe.publish(shifted, lidar=False)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def examined(**settings):
    return doctor(DoctorSettings(live=True, seconds=2.0, **settings))


def examined_beside(bundle, *arguments, shift_s=0.0):
    """Examine a node with that bundle and those arguments beside both sensors."""
    with probed(bundle, *arguments) as probe:
        probe.wait_for_node()
        with Sensors(probe, shift_s=shift_s):
            return examined()
