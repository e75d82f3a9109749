"""Every engine says what eager torch says, or is refused and another one taken."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_bundles import GRID, small_bundle

from fusion_perception import engines
from fusion_perception.engines.base import TorchEngine
from fusion_perception.engines.choice import ALLOWED_M, compare, try_engine
from fusion_perception.engines.onnx_graph import (
    KINDS,
    export,
    export_frame,
    graph_of,
    keep,
    kept_graph,
)
from fusion_perception.models import MODELS
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.examples import made_up_examples
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.observation import Camera, Observation
from fusion_perception.sensing.rig import Rig

CPU = torch.device('cpu')
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU on this machine')

pytestmark = pytest.mark.usefixtures('one_thread', 'private_cache')


def saved(folder, name='dense_fusion', seed=1, examples=True):
    scenes = made_up_examples(Rig().camera, GRID) if examples else None
    return load_bundle(small_bundle(folder, name, seed, scenes))


@pytest.fixture
def bundle(tmp_path):
    return saved(tmp_path)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Return a bundle with its graphs beside it, for tests that leave both as they are."""
    bundle = saved(tmp_path_factory.mktemp('exported'))
    for kind in KINDS:
        graph_of(bundle, kind)
    return bundle


def frames(bundle, count):
    ready, scenes = Runtime(bundle, 'cpu'), made_up_examples(bundle.rig.camera, bundle.lidar)
    some = range(count)
    return Observation.of(
        [ready.observe(scenes.images[i].numpy(), scenes.ranges[i].numpy()) for i in some]
    )


@pytest.mark.parametrize('name', sorted(MODELS))
def test_onnxruntime_agrees_with_eager_torch_in_every_mode(tmp_path, name):
    bundle = saved(tmp_path, name)
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU))
    assert trial.fault == ''
    assert trial.apart_m < ALLOWED_M
    assert trial.time_ms > 0


@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_batch_of_any_size_agrees(exported, count):
    seen = frames(exported, count)
    ready, eager = Runtime(exported, 'cpu', engine='onnxruntime'), Runtime(exported, 'cpu')
    assert (ready.engine, eager.engine) == ('onnxruntime', 'torch')
    for observation in (seen, seen.without('camera'), seen.without('lidar')):
        found, expected = ready.predict(observation), eager.predict(observation)
        torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-3, rtol=1e-2)
        assert found.mode == expected.mode


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('engine', ['torch', 'onnxruntime'])
def test_frames_are_predicted_together_as_one_by_one(exported, engine, channels):
    scenes = exported.examples
    images, ranges = scenes.images[:3, ..., :channels].numpy(), scenes.ranges[:3].numpy()
    large = images.repeat(2, 1).repeat(2, 2)
    elsewhere = Camera(fx=80.0, cy=30.0)
    ready, eager = Runtime(exported, 'cpu', engine=engine), Runtime(exported, 'cpu')
    for frames in ((images, ranges), (None, ranges), (images, None), (large[..., ::-1], ranges)):
        together = ready.predict_frames(*frames, elsewhere)
        assert len(together.centers) == len(together.mode) == 3
        for index in range(3):
            frame = (None if part is None else part[index] for part in frames)
            alone = eager.predict_frame(*frame, elsewhere)
            torch.testing.assert_close(
                together.centers[index], alone.centers[0], atol=1e-3, rtol=0
            )
            assert together.mode[index] == alone.mode[0]


def test_a_frame_is_predicted_like_its_observation(exported):
    scenes = exported.examples
    image, ranges = scenes.images[0].numpy(), scenes.ranges[0].numpy()
    for engine in ('torch', 'onnxruntime'):
        ready = Runtime(exported, 'cpu', engine=engine)
        for frame in ((image, ranges), (None, ranges), (image[..., :3], None)):
            direct, observed = ready.predict_frame(*frame), ready.predict(ready.observe(*frame))
            torch.testing.assert_close(direct.centers, observed.centers, atol=1e-4, rtol=0)
            assert direct.mode == observed.mode


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_frames_by_onnxruntime_are_those_of_torch_whatever_the_image_and_the_camera(
    exported, channels
):
    image = exported.examples.images[0, ..., :channels].numpy()
    ranges = exported.examples.ranges[0].numpy().copy()
    ranges[::5, ::3] = np.nan
    ranges[1::5, ::3] = np.inf
    large = image.repeat(2, 0).repeat(2, 1)
    elsewhere = Camera(fx=80.0, cy=30.0)
    twice = Camera(width=128, height=128, fx=160.0, fy=150.0, cx=63.5, cy=60.0)
    frames = [
        (image, ranges, None),
        (image[:, ::-1], ranges, None),
        (image, ranges[::-1], elsewhere),
        (image, None, elsewhere),
        (None, ranges, None),
        (large, ranges, twice),
        (image.repeat(2, 1), ranges, None),
    ]
    ready, eager = Runtime(exported, 'cpu', engine='onnxruntime'), Runtime(exported, 'cpu')
    for frame in frames:
        found, expected = ready.predict_frame(*frame), eager.predict_frame(*frame)
        torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-3, rtol=1e-2)


def test_threads_that_share_onnxruntime_get_the_answers_to_their_own_frames(exported):
    scenes = made_up_examples(exported.rig.camera, exported.lidar)
    frames = []
    for image, ranges in zip(scenes.images.numpy(), scenes.ranges.numpy(), strict=True):
        frames += [(image, ranges), (None, ranges), (image[..., :3], None)]
    ready, eager = Runtime(exported, 'cpu', engine='onnxruntime'), Runtime(exported, 'cpu')
    expected = [eager.predict_frame(*frame).centers for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda frame: ready.predict_frame(*frame).centers, 5 * frames))
    for one, other in zip(found, 5 * expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_a_frame_that_does_not_fit_is_refused_alike_by_every_engine(exported):
    image, ranges = exported.examples.images[0].numpy(), exported.examples.ranges[0].numpy()
    for engine in ('torch', 'onnxruntime'):
        ready = Runtime(exported, 'cpu', engine=engine)
        for frame in (
            (image, ranges[:10]),
            (image, ranges[None]),
            (image, (1000 * ranges).astype(np.uint16)),
            (image.astype(np.float32), ranges),
            (image[:0], ranges),
        ):
            with pytest.raises(ValueError, match=r'[Rr]ange image|uint8|Nothing is in'):
                ready.predict_frame(*frame)
        with pytest.raises(ValueError, match='1 image came with 2 range images'):
            ready.predict_frames(image[None], np.stack((ranges, ranges)))
        with pytest.raises(ValueError, match='Neither an image nor a range image'):
            ready.predict_frames(None, None)


def test_auto_takes_one_that_agrees(exported):
    ready = Runtime(exported, 'cpu', engine='auto')
    assert ready.engine in ('torch', 'onnxruntime')
    assert compare(ready._engine, TorchEngine(exported, CPU), exported)[0] < ALLOWED_M


def shift_votes(model, metres):
    """Move what each LiDAR point votes for, in x, y and z."""
    votes = model.lidar_votes
    votes.ballot.bias[votes.objects :] += metres / model.config.reach


def test_a_graph_that_is_a_centimetre_off_is_refused_and_the_next_taken(bundle):
    moved = load_bundle(bundle.path)
    with torch.no_grad():
        shift_votes(moved.model, 0.01)
        moved.model.prior_center.add_(0.01)
    keep(bundle, 'frame', export_frame(moved))
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU))
    assert 0.005 < trial.apart_m < 0.03
    assert 'mm' in trial.fault
    assert str(kept_graph(bundle, 'frame')) in trial.remedy
    for choice in ('onnxruntime', 'auto'):
        assert Runtime(bundle, 'cpu', engine=choice).engine == 'torch'


def test_a_graph_of_observations_is_held_to_the_same(bundle):
    moved = load_bundle(bundle.path)
    with torch.no_grad():
        moved.model.prior_center.add_(0.01)
        shift_votes(moved.model, 0.01)
    keep(bundle, 'observation', export(moved, batch=1))
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU))
    assert trial.apart_m > 0.005
    assert str(kept_graph(bundle, 'observation')) in trial.remedy


def test_covariances_that_differ_are_refused_although_the_centres_agree(bundle):
    bolder = load_bundle(bundle.path)
    bolder.model.config = bolder.model.config.model_copy(
        update={'covariance_scale': (1.5, 1.5, 1.5)}
    )
    keep(bundle, 'frame', export_frame(bolder))
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU))
    assert trial.apart_m < ALLOWED_M
    assert 'standard deviations' in trial.fault


def test_a_bundle_without_examples_is_compared_on_made_up_ones(tmp_path):
    bundle = saved(tmp_path, examples=False)
    assert bundle.examples is None
    assert Runtime(bundle, 'cpu', engine='onnxruntime').engine == 'onnxruntime'


def test_an_engine_that_cannot_be_had_says_why(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ValueError, match='pip install'):
        Runtime(bundle, 'cpu', engine='onnxruntime')
    assert Runtime(bundle, 'cpu', engine='auto').engine == 'torch'


@pytest.mark.parametrize('engine', ['cuda_graph', 'tensorrt'])
def test_an_engine_of_the_gpu_is_refused_on_the_cpu(bundle, engine):
    with pytest.raises(ValueError, match='needs a CUDA GPU'):
        Runtime(bundle, 'cpu', engine=engine)


def test_bfloat16_belongs_to_torch(bundle):
    assert Runtime(bundle, 'cpu', 'bfloat16', 'auto').engine == 'torch'
    with pytest.raises(ValueError, match='float32'):
        Runtime(bundle, 'cpu', 'bfloat16', 'onnxruntime')


def test_twins_say_the_same(exported):
    ready, seen = Runtime(exported, 'cpu', engine='onnxruntime'), frames(exported, 1)
    twin = ready.twin()
    assert twin.engine == 'onnxruntime'
    assert torch.equal(twin.predict(seen).centers, ready.predict(seen).centers)


@NO_CUDA
def test_a_cuda_graph_agrees_frame_after_frame_whatever_came_before(tmp_path):
    bundle = saved(tmp_path)
    graph = Runtime(bundle, 'cuda', engine='cuda_graph')
    eager = Runtime(bundle, 'cuda')
    assert graph.engine == 'cuda_graph'
    scenes = made_up_examples(bundle.rig.camera, bundle.lidar)
    frames = []
    for image, ranges in zip(scenes.images.numpy(), scenes.ranges.numpy(), strict=True):
        frames += [(image, ranges), (None, ranges), (image[..., :3], None)]
    for runtime in (graph, graph.twin()):
        for frame in frames:
            found, expected = runtime.predict_frame(*frame), eager.predict_frame(*frame)
            torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
            assert found.mode == expected.mode


@NO_CUDA
def test_a_cuda_graph_takes_images_of_another_size(tmp_path):
    bundle = saved(tmp_path)
    image, ranges = np.full((128, 128, 3), 99, np.uint8), np.full((64, 64), 24.0, np.float32)
    expected = Runtime(bundle, 'cuda').predict_frame(image, ranges)
    found = Runtime(bundle, 'cuda', engine='cuda_graph').predict_frame(image, ranges)
    torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)


@NO_CUDA
@pytest.mark.parametrize('name', sorted(MODELS))
def test_a_cuda_graph_agrees_in_every_mode_of_every_model(tmp_path, name):
    bundle = saved(tmp_path, name)
    trial = try_engine('cuda_graph', bundle, TorchEngine(bundle, torch.device('cuda')))
    assert trial.fault == ''
    assert trial.apart_m < ALLOWED_M


@NO_CUDA
def test_a_cuda_graph_agrees_in_batches_of_any_size_whatever_came_before(tmp_path):
    bundle = saved(tmp_path)
    graph, eager = Runtime(bundle, 'cuda', engine='cuda_graph'), Runtime(bundle, 'cpu')
    for count in (3, 1, 3, 2, 1):
        seen = frames(bundle, count)
        for observation in (seen, seen.without('camera'), seen.without('lidar')):
            found, expected = graph.predict(observation), eager.predict(observation)
            torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
            torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-3, rtol=1e-2)


@NO_CUDA
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_a_cuda_graph_agrees_on_frames_together_whatever_came_before(tmp_path, channels):
    bundle = saved(tmp_path)
    graph, eager = Runtime(bundle, 'cuda', engine='cuda_graph'), Runtime(bundle, 'cpu')
    scenes = bundle.examples
    images, ranges = scenes.images[..., :channels].numpy(), scenes.ranges.numpy()
    elsewhere = Camera(fx=80.0, cy=30.0)
    for count in (3, 1, 3, 2):
        for camera in (None, elsewhere):
            for frames in ((images, ranges), (None, ranges), (images, None)):
                some = [None if part is None else part[:count] for part in frames]
                found = graph.predict_frames(*some, camera)
                expected = eager.predict_frames(*some, camera)
                torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
                torch.testing.assert_close(
                    found.covariance, expected.covariance, atol=1e-3, rtol=1e-2
                )


@NO_CUDA
@pytest.mark.parametrize('missing', ['fused_dense_fusion', 'pinned'])
def test_without_its_own_kernels_a_cuda_graph_takes_the_model_as_it_is(
    tmp_path, monkeypatch, missing
):
    bundle = saved(tmp_path)
    monkeypatch.setitem(sys.modules, f'fusion_perception.engines.{missing}', None)
    monkeypatch.delattr(engines, missing, raising=False)
    graph = Runtime(bundle, 'cuda', engine='cuda_graph')
    assert graph.engine == 'cuda_graph'
    assert type(graph._engine._way.of_batch) is type(bundle.model)


@NO_CUDA
def test_where_kernels_cannot_be_merged_a_cuda_graph_leaves_them_apart(tmp_path, monkeypatch):
    bundle = saved(tmp_path)

    def no_compiler(*args, **settings):
        raise RuntimeError('no C compiler')

    monkeypatch.setattr(torch, 'compile', lambda work, **settings: no_compiler)
    graph, eager = Runtime(bundle, 'cuda', engine='cuda_graph'), Runtime(bundle, 'cpu')
    seen = frames(bundle, 1)
    assert type(graph._engine._way.of_batch).__name__ == 'FusedDenseFusion'
    found, expected = graph.predict(seen), eager.predict(seen)
    torch.testing.assert_close(found.centers, expected.centers, atol=1e-3, rtol=0)
