"""The fusion node computes with the engine that it is told to, and says which."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from ros_graph import probed, wait_until
from small_bundles import small_bundle

from fusion_perception.engines.onnx_graph import KINDS

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('one_thread')]


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def test_an_engine_that_cannot_be_had_is_answered_and_another_one_taken(tmp_path):
    arguments = ['-p', 'device:=cpu', '-p', 'engine:=cuda_graph']
    with probed(small_bundle(tmp_path), *arguments) as probe:
        wait_until(lambda: any('needs a CUDA GPU' in s.message for s in probe.diagnostics), 'why')
        assert probe.state() == 'unconfigured'
        for engine in ('onnxruntime', 'torch'):
            assert probe.set('engine', engine).successful
            assert probe.change_state('configure')
            said = {'engine': engine, 'device': 'cpu'}.items()
            wait_until(
                lambda said=said: said <= values_of(probe.diagnostics[-1]).items(),
                'its engine',
            )
            assert probe.change_state('cleanup')
    assert len(list(tmp_path.glob('*.onnx'))) == len(KINDS)
