"""What engines keep from call to call, and what of the process they leave as it was."""

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from interleaving import before_each_line
from small_bundles import small_bundle

from fusion_perception.engines.base import Engine, TorchEngine, kept_by_size, whole_float32
from fusion_perception.engines.onnx_graph import export, keep, kept_graph
from fusion_perception.engines.onnx_runtime import OnnxEngine
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.examples import made_up_examples
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import Rig

CPU = torch.device('cpu')

pytestmark = pytest.mark.usefixtures('one_thread', 'private_cache')


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(small_bundle(tmp_path))


def seen(bundle, count):
    scenes = made_up_examples(bundle.rig.camera, bundle.lidar)
    return TorchEngine(bundle, CPU).observe(
        scenes.images[:count].numpy(), scenes.ranges[:count].numpy()
    )


@pytest.mark.parametrize('before', [True, False])
def test_threads_that_need_whole_float32_at_once_have_it_and_leave_the_switch_as_it_was(
    monkeypatch, before
):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', before)
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with whole_float32():
            first_in.set()
            assert second_in.wait(10)
        first_out.set()

    def second():
        assert first_in.wait(10)
        with whole_float32():
            second_in.set()
            assert first_out.wait(10)
            return torch.backends.cudnn.allow_tf32

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        one.result()
        assert other.result() is False, 'the second thread is still inside'
    assert torch.backends.cudnn.allow_tf32 is before


def test_whole_float32_within_whole_float32_and_after_a_fault_leaves_the_switch_as_it_was():
    assert torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), whole_float32(), whole_float32():
        raise KeyError
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize('known', [True, False], ids=['known', 'new'])
def test_a_thread_has_the_camera_that_it_gave_whatever_another_gives_meanwhile(bundle, known):
    engine, own, other = TorchEngine(bundle, CPU), Camera(fx=80.0), Camera(fx=90.0)
    scan = np.full((1, *bundle.lidar.shape), 24.0, np.float32)
    if known:
        engine.observe(None, scan, own)

    def ask_for_another():
        pool.submit(engine.observe, None, scan, other).result()

    with ThreadPoolExecutor(1) as pool, before_each_line(Engine._view_of, ask_for_another):
        seen = engine.observe(None, scan, own)
    assert float(seen.intrinsics[0, 0, 0]) == own.fx


def test_an_engine_that_is_let_go_is_freed_at_once(bundle):
    engine = OnnxEngine(bundle, CPU)
    for count in (1, 2):
        engine.estimate(seen(bundle, count))
    gone = weakref.ref(engine)
    gc.disable()  # Without the cycle collector.
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_a_batch_of_another_size_leaves_the_graph_of_the_first_one_as_it_was(bundle):
    engine = OnnxEngine(bundle, CPU)
    before = engine.estimate(seen(bundle, 1)).centers
    # Another model in the place that the graph of one observation was read from.
    moved = load_bundle(bundle.path)
    with torch.no_grad():
        moved.model.prior_center.add_(10.0)
    kept_graph(bundle, 'observation').unlink()
    keep(bundle, 'observation', export(moved, batch=1))
    engine.estimate(seen(bundle, 2))
    assert torch.equal(engine.estimate(seen(bundle, 1)).centers, before)
    anew = OnnxEngine(bundle, CPU).estimate(seen(bundle, 1)).centers
    assert not torch.allclose(anew, before, atol=0.1), 'the other model is what a new engine reads'


def test_an_engine_leaves_the_model_of_its_bundle_to_others(bundle):
    before = copy.deepcopy(bundle.model)
    engine, observation = TorchEngine(bundle, CPU), seen(bundle, 1)
    expected = engine.estimate(observation).centers
    for given, left in zip(before.parameters(), bundle.model.parameters(), strict=True):
        assert (given.stride(), given.device) == (left.stride(), left.device)
        left.data.zero_()
    assert torch.equal(engine.estimate(observation).centers, expected)


@pytest.mark.slow
def test_rows_and_columns_of_images_that_are_no_squares_are_told_apart(tmp_path):
    rig = Rig()
    wide = rig.model_copy(update={'camera': rig.camera.resized(80, 48)})
    bundle = load_bundle(small_bundle(tmp_path, rig=wide))
    scan = np.full(bundle.lidar.shape, 24.0, np.float32)
    upright = np.random.default_rng(0).integers(0, 256, (80, 48, 3), np.uint8)
    given = Camera(width=48, height=80, fx=60.0, fy=90.0, cx=23.5, cy=39.5)
    eager, ready = (Runtime(bundle, 'cpu', engine=each) for each in ('torch', 'onnxruntime'))
    seen = eager.observe(upright, scan, given)
    assert seen.rgba.shape == (1, 4, 48, 80)
    sized = torch.tensor([[100.0, 0, 39.5], [0, 54.0, 23.5], [0, 0, 1]])
    torch.testing.assert_close(seen.intrinsics[0], sized)
    for image in (upright, np.ascontiguousarray(upright.transpose(1, 0, 2))):
        found, expected = (each.predict_frame(image, scan, given) for each in (ready, eager))
        torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)


def test_an_observation_of_other_sizes_is_refused_with_both(bundle):
    larger = replace(seen(bundle, 1), rgba=torch.zeros(1, 4, 96, 32))
    engine = OnnxEngine(bundle, CPU)
    with pytest.raises(ValueError, match=r'of \(96, 32\) pixels and .* takes \(64, 64\) and'):
        engine.estimate(larger)


def test_the_graphs_of_eight_sizes_stay_in_memory_and_no_more():
    made = []
    graph_for = kept_by_size(lambda count: made.append(count) or count)
    assert [graph_for(count) for count in (*range(8), 0, 8, 0, 1)][-3:] == [8, 0, 1]
    assert made == [*range(8), 8, 1]
