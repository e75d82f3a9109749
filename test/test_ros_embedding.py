"""The nodes in a process that is not their own: side by side, with nothing left behind."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import rclpy
from rclpy.context import Context
from rclpy.parameter import Parameter
from ros_graph import PATIENCE_S, RANGES, Probe, ended, ros, spinning, wait_until
from small_bundles import small_bundle

from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.messages import header_message, image_message, range_message
from fusion_perception.ros.sensor_sim import SensorSim

pytestmark = pytest.mark.ros
INSTALL = Path(__file__).parents[1] / 'docs' / 'install.md'
UP_TO = {'unconfigured': 0, 'inactive': 1, 'active': 2, 'finalized': 3}


def brought_to(state, tmp_path):
    """Return a node in a state of its lifecycle."""
    node = FusionNode(parameter_overrides=[Parameter('bundle', value=str(small_bundle(tmp_path)))])
    steps = (node.trigger_configure, node.trigger_activate, node.trigger_shutdown)
    for step in steps[: UP_TO[state]]:
        step()
    return node


def inference_threads():
    return [thread for thread in threading.enumerate() if thread.name == 'inference']


@pytest.mark.parametrize('state', UP_TO)
@pytest.mark.parametrize('by', ['finished', 'destroyed'])
def test_a_node_that_is_destroyed_leaves_nothing_behind(tmp_path, state, by):
    with ros(), ended(probe := Probe()):
        node = brought_to(state, tmp_path)
        assert len(inference_threads()) == (state == 'active')
        if by == 'finished':
            node.finish()
        node.destroy_node()
        assert not inference_threads()
        wait_until(lambda: '/fusion_node' not in probe.get_node_names(), 'the node to be gone')
        kept = weakref.ref(node)
        del node
        gc.collect()
        assert kept() is None


@pytest.mark.parametrize('state', ['unconfigured', 'inactive', 'active'])
@pytest.mark.parametrize('by', ['finished', 'destroyed'])
def test_a_node_ends_without_a_word_after_its_context(tmp_path, state, by):
    with ros():
        node, probe = brought_to(state, tmp_path), Probe()
        with spinning(node, probe):
            if state == 'active':
                probe.wait_for_node()
                wait_until(lambda: published(probe), 'an output')
        # As rclpy's own handler does when Ctrl-C comes.
        rclpy.shutdown()
        if by == 'finished':
            node.finish()
        node.destroy_node()
        assert not inference_threads()


def test_a_context_can_be_shut_down_while_a_prediction_is_under_way(tmp_path):
    with ros():
        node = brought_to('active', tmp_path)
        pipeline, pixels = node._pipeline, np.zeros((64, 64, 3), np.uint8)
        # On Kilted it destroys the node, so waits for the prediction, with the context's lock.
        shutting_down = threading.Thread(target=rclpy.shutdown, daemon=True)
        for stamp_ns in range(10**9, 4 * 10**9, 10**7):
            header = header_message(stamp_ns, '')
            pipeline.take('camera', image_message(header, pixels))
            pipeline.take('lidar', range_message(header, RANGES))
            if stamp_ns == 2 * 10**9:
                shutting_down.start()
        shutting_down.join(PATIENCE_S)
        assert not shutting_down.is_alive()
        node.destroy_node()
        assert not inference_threads()


def published(probe):
    probe.publish(probe.get_clock().now().nanoseconds)
    return probe.centers


def test_what_a_host_holds_is_left_to_its_garbage_collector(tmp_path):
    with ros(), ended(brought_to('active', tmp_path)):
        assert gc.get_freeze_count() == 0


# Its own process is frozen while it is configured, and not any more after its end.
OF_ITS_OWN = """
import gc, os, signal, sys, threading, time
from fusion_perception.ros.process import run

def end_when_frozen():
    while not gc.get_freeze_count():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=end_when_frozen, daemon=True).start()
code = run('fusion_node', ['--ros-args', '-p', f'bundle:={sys.argv[1]}'])
os._exit(code or gc.get_freeze_count())
"""


def test_what_is_loaded_in_its_own_process_is_kept_until_it_is_released(tmp_path):
    command = [sys.executable, '-c', OF_ITS_OWN, str(small_bundle(tmp_path))]
    assert subprocess.run(command, timeout=2 * PATIENCE_S).returncode == 0


def test_two_nodes_and_their_sensors_live_in_one_process(tmp_path):
    bundle = Parameter('bundle', value=str(small_bundle(tmp_path)))
    with ros():
        left = FusionNode(namespace='left', parameter_overrides=[bundle])
        right = FusionNode('seer', namespace='right', parameter_overrides=[bundle])
        sensor = SensorSim('eyes', namespace='left')
        probe = Probe('/right/seer', '/right')
        for node in (left, right):
            node.start()
        with ended(left, right, sensor, probe), spinning(left, right, probe):
            names = [node.get_fully_qualified_name() for node in (left, right, sensor)]
            assert names == ['/left/fusion_node', '/right/seer', '/left/eyes']
            probe.wait_for_node()
            wait_until(lambda: published(probe), 'an output')
            assert sum(left._pipeline.monitor.output()[2].values()) == 0


@pytest.mark.parametrize('by', [signal.SIGINT, signal.SIGTERM])
def test_the_example_of_a_process_of_your_own_runs_until_a_signal_and_says_goodbye(tmp_path, by):
    _, _, section = INSTALL.read_text().partition('## In a process of your own')
    example = re.search(r'```python\n(.*?)```', section, re.DOTALL).group(1)
    command = [sys.executable, '-c', example]
    given = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    with (
        (tmp_path / 'log').open('w') as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=given) as process,
        ros(),
    ):
        probes = [Probe(f'/{side}/fusion_node', f'/{side}') for side in ('left', 'right')]
        try:
            with ended(*probes), spinning(*probes):
                for probe in probes:
                    probe.wait_for_node()
                    wait_until(lambda probe=probe: published(probe), 'an output')
                process.send_signal(by)
                assert process.wait(PATIENCE_S) == 0, (tmp_path / 'log').read_text()
                for probe in probes:
                    wait_until(lambda probe=probe: said_goodbye(probe), 'the last word')
        finally:
            process.kill()
    assert 'Traceback' not in (tmp_path / 'log').read_text()


def said_goodbye(probe):
    return probe.diagnostics and probe.diagnostics[-1].message == 'Ended.'


def test_a_second_that_passes_while_the_context_is_shut_down_is_no_fault_of_the_host():
    context = Context()
    rclpy.init(context=context)
    node = FusionNode(context=context)
    node.start()
    context.try_shutdown()
    node._on_second()
    node.destroy_node()
