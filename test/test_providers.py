"""What ONNX Runtime computes with is what was asked for, in float32 as it was asked for."""

import onnxruntime
import pytest
import torch
from small_bundles import small_bundle

from fusion_perception.engines import choice
from fusion_perception.engines.base import TorchEngine, UnavailableError
from fusion_perception.engines.choice import try_engine
from fusion_perception.engines.onnx_graph import export_frame, graph_of, keep
from fusion_perception.engines.onnx_runtime import OnnxEngine, TensorRTEngine, open_session
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime

# Exporting takes half a second each time.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread', 'private_cache')]


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(small_bundle(tmp_path, 'lidar'))


@pytest.mark.skipif(
    'CUDAExecutionProvider' in onnxruntime.get_available_providers(),
    reason='asks what happens where a provider is missing',
)
@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_provider_that_cannot_be_loaded_is_not_replaced_by_the_next_one(bundle):
    providers = [('CUDAExecutionProvider', {'use_tf32': '0'}), ('CPUExecutionProvider', {})]
    with pytest.raises(UnavailableError, match='cannot be loaded here; it took CPUExecution'):
        open_session(graph_of(bundle, 'frame'), providers, threads=1)


def test_an_engine_that_fails_is_refused_by_name_and_passed_over_otherwise(bundle):
    graph = keep(bundle, 'frame', b'no graph')
    with pytest.raises(ValueError, match=f'failed here: InvalidProtobuf.*remove {graph}'):
        Runtime(bundle, 'cpu', engine='onnxruntime')
    assert Runtime(bundle, 'cpu', engine='auto').engine == 'torch'


def test_an_engine_computes_with_the_threads_of_torch_and_rests_between_two_calls(bundle):
    torch.set_num_threads(2)
    try:
        options = OnnxEngine(bundle, torch.device('cpu'))._frame._session.get_session_options()
    finally:
        torch.set_num_threads(1)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry('session.force_spinning_stop') == '1'
    assert int(options.get_session_config_entry('session.intra_op.spin_duration_us')) <= 100


class OnTheCpu(TensorRTEngine):
    """Take what would be asked of TensorRT to the CPU."""

    providers = staticmethod(OnnxEngine.providers)


@pytest.mark.parametrize(
    ('override', 'advice'), [(None, 'NVIDIA_TF32_OVERRIDE=0'), ('0', 'Remove')]
)
def test_tensorrt_that_is_refused_is_told_of_the_rounding_first(
    bundle, monkeypatch, override, advice
):
    moved = load_bundle(bundle.path)
    with torch.no_grad():
        moved.model.net.layers[-1].bias.add_(0.01)
    keep(bundle, 'frame', export_frame(moved))
    monkeypatch.setitem(choice.ENGINES, 'tensorrt', OnTheCpu)
    monkeypatch.delenv('NVIDIA_TF32_OVERRIDE', raising=False)
    if override is not None:
        monkeypatch.setenv('NVIDIA_TF32_OVERRIDE', override)
    trial = try_engine('tensorrt', bundle, TorchEngine(bundle, torch.device('cpu')))
    assert 'tensorrt is refused' in trial.fault and advice in trial.remedy
