"""More than the node can bear, and for long: it skips to the newest pair, and does not grow."""

import contextlib
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import torch
from geometry_msgs.msg import PoseArray
from ros_graph import Probe, RosProcess, probing, ros, spinning, wait_until
from small_bundles import small_bundle

from fusion_perception.models import build
from fusion_perception.models.bundle import save_bundle
from fusion_perception.ros.diagnostics import group
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.alone]
OVERLOAD_S = 6.0
WINDOW_S, WINDOWS, TRIES = 2.5, 3, 3


class Listener(Probe):
    """A probe that notes how old each prediction is when it comes."""

    def __init__(self):
        super().__init__()
        self.ages_s = []
        self.create_subscription(PoseArray, f'{self.node}/centers', self._note_age, 100)

    def _note_age(self, message):
        self.ages_s.append((self.get_clock().now().nanoseconds - stamp_ns(message)) / 1e9)


def slow_bundle(folder):
    """Return a bundle that takes some ten milliseconds for a pair, far more than its messages."""
    torch.manual_seed(1)
    path = folder / 'slow.safetensors'
    config = {'lidar_widths': (64, 96, 128), 'camera_widths': (64, 96, 128)}
    model = build('dense_fusion', config)
    save_bundle(path, model, 'dense_fusion', Rig(), UniformGrid().lidar(), {})
    return path


def feed(probe, period_s, seconds):
    """Publish pairs at a steady rate."""
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        probe.publish(probe.get_clock().now().nanoseconds)
        count += 1
        time.sleep(max(0.0, began + count * period_s - time.monotonic()))


def newest(probe):
    return probe.diagnostics[-1].values


def p99_ms(probe, period_s):
    """Feed at a steady rate for a while; return the p99 latency of what came out."""
    before = len(probe.ages_s)
    feed(probe, period_s, WINDOW_S)
    return 1e3 * np.percentile(probe.ages_s[before:], 99)


def inference_s(probe):
    feed(probe, 0.1, 3.0)
    times = wait_until(lambda: group(newest(probe), 'inference_ms'), 'the time of an inference')
    return times['p50'] / 1e3


@contextlib.contextmanager
def slow_node(tmp_path):
    node = RosProcess(
        *('fusion_node', tmp_path / 'node.log', '-p', f'bundle:={slow_bundle(tmp_path)}'),
        *('-p', 'threads:=1', '-p', 'pairing.allow_single:=false'),
    )
    with node, ros():
        probe = Listener()
        with spinning(probe):
            probe.wait_for_node()
            yield probe


def test_at_three_times_the_bearable_rate_p99_stays_within_twice_the_unloaded_one(tmp_path):
    with slow_node(tmp_path) as probe:
        bearable_s = inference_s(probe)
        tried = []
        for _ in range(TRIES):
            # Turn by turn, and the median of several: what else the machine does hits both alike.
            windows = [
                (p99_ms(probe, 2 * bearable_s), p99_ms(probe, bearable_s / 3))
                for _ in range(WINDOWS)
            ]
            unloaded, loaded = (statistics.median(p99s) for p99s in zip(*windows, strict=True))
            tried.append((round(unloaded, 1), round(loaded, 1)))
            if loaded <= 2 * unloaded:
                break
        else:
            pytest.fail(f'p99 in ms, unloaded and at three times the bearable rate: {tried}')
        told = len(probe.diagnostics)
        wait_until(lambda: len(probe.diagnostics) > told, 'the counters after it')
        for counts in probe.streams().values():  # It checks that they add up.
            assert counts['dropped']['superseded'] > counts['used'] / 4
            lost = sum(counts['dropped'].values()) - counts['dropped']['superseded']
            assert lost < counts['received'] / 10


def test_latency_does_not_grow_while_the_overload_lasts(tmp_path):
    with slow_node(tmp_path) as probe:
        bearable_s = inference_s(probe)
        before = len(probe.ages_s)
        feed(probe, bearable_s / 3, OVERLOAD_S)
        assert len(probe.ages_s) - before > OVERLOAD_S / (4 * bearable_s)
        # A queue would have added two thirds of the time that the overload lasts.
        assert max(probe.ages_s) < OVERLOAD_S / 4


def test_what_is_older_than_max_age_s_is_not_predicted(tmp_path):
    with slow_node(tmp_path) as probe:
        feed(probe, 0.1, 1.0)
        assert probe.set('max_age_s', 1e-6).successful
        feed(probe, 0.05, 0.5)
        stale = len(probe.ages_s)
        assert stale
        feed(probe, 0.05, 1.5)
        assert len(probe.ages_s) == stale
        wait_until(lambda: probe.streams()['lidar']['dropped']['stale'], 'stale pairs')


def test_memory_does_not_grow_with_the_frames(tmp_path):
    bundle = small_bundle(tmp_path)
    node = RosProcess('fusion_node', tmp_path / 'node.log', '-p', f'bundle:={bundle}')
    with node, probing() as probe:
        probe.wait_for_node()
        feed(probe, 0.005, 3.0)
        before, kilobytes = len(probe.centers), anonymous_kilobytes(node)
        received = probe.streams()['lidar']['received']

        def frames():
            feed(probe, 0.005, 1.0)
            return probe.streams()['lidar']['received'] - received

        wait_until(lambda: frames() >= 4000, '4,000 frames', 240)
        assert len(probe.centers) > before + 200
        # Five megabytes in ten thousand frames.
        assert anonymous_kilobytes(node) - kilobytes < 5 * 1024 * 0.4


def anonymous_kilobytes(node):
    """Return the memory of a process that is no file's (Linux)."""
    lines = Path(f'/proc/{node.process.pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('RssAnon'))
