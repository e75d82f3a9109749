"""The runtime turns sensor arrays into centres, the same way for every caller."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_bundles import small_bundle
from torch import nn
from torch.nn.functional import interpolate

from fusion_perception.models import MODELS
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.early_fusion import EarlyFusion
from fusion_perception.runtime import Runtime, choose_device
from fusion_perception.sensing.assembly import observe, resize
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera

RANGES = np.full((64, 64), 24.0, np.float32)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def runtime(tmp_path, name='dense_fusion'):
    return Runtime(load_bundle(small_bundle(tmp_path, name)), device='cpu')


def test_centres_come_in_class_order_with_the_mode_they_were_predicted_in(tmp_path):
    ready = runtime(tmp_path)
    prediction = ready.predict(ready.observe(IMAGE, RANGES))
    assert prediction.centers.shape == (1, 3, 3)
    assert prediction.covariance.shape == (1, 3, 3, 3)
    assert prediction.classes == ('cube', 'sphere', 'torus')
    assert prediction.mode == ('fusion',)


class Constant(EarlyFusion):
    """Gives out its parameter as it is."""

    def __init__(self, config):
        super().__init__(config)
        self.middle = nn.Parameter(torch.ones(1, 3, 3))

    def forward(self, observation):
        return Estimate(self.middle.expand(len(observation.rgba), -1, -1))


def test_what_a_model_gives_out_of_its_parameters_asks_for_no_gradient(tmp_path):
    bundle = load_bundle(small_bundle(tmp_path, 'early_fusion'))
    ready = Runtime(replace(bundle, model=Constant(bundle.model.config)), device='cpu')
    assert ready.predict(ready.observe(IMAGE, RANGES)).centers.numpy().tolist() == [[[1] * 3] * 3]


def test_a_silent_sensor_shows_in_the_mode(tmp_path):
    ready = runtime(tmp_path)
    assert ready.predict(ready.observe(None, RANGES)).mode == ('lidar_only',)
    assert ready.predict(ready.observe(IMAGE, None)).mode == ('camera_only',)


def test_a_camera_model_says_camera_only_even_when_the_lidar_speaks(tmp_path):
    ready = runtime(tmp_path, 'rgb')
    assert ready.predict(ready.observe(IMAGE, RANGES)).mode == ('camera_only',)


def test_a_model_that_needs_both_sensors_says_which_is_missing(tmp_path):
    ready = runtime(tmp_path, 'early_fusion')
    with pytest.raises(ValueError, match='cannot predict without the LiDAR'):
        ready.predict(ready.observe(IMAGE, None))


def test_a_range_image_of_another_shape_is_refused_with_both_shapes(tmp_path):
    with pytest.raises(ValueError, match=r'\(32, 64\).*\(64, 64\)'):
        runtime(tmp_path).observe(IMAGE, RANGES[:32])


def test_a_read_only_bgr_view_is_read_like_its_rgb_copy(tmp_path):
    ready = runtime(tmp_path)
    bgr = np.ascontiguousarray(IMAGE[..., ::-1])
    bgr.flags.writeable = False
    there = ready.observe(bgr[..., ::-1], RANGES).rgba
    torch.testing.assert_close(there, ready.observe(IMAGE, RANGES).rgba)


@pytest.mark.filterwarnings('error')
def test_read_only_arrays_are_read_without_a_word(tmp_path):
    image, ranges = IMAGE.copy(), RANGES.copy()
    image.flags.writeable = ranges.flags.writeable = False
    assert runtime(tmp_path).predict_frame(image, ranges).centers.isfinite().all()


def test_a_frame_without_a_camera_is_the_bundles_own_whichever_came_before(tmp_path):
    ready = runtime(tmp_path)
    own = ready.observe(IMAGE, RANGES).intrinsics
    assert not torch.equal(ready.observe(IMAGE, RANGES, Camera(fx=80.0)).intrinsics, own)
    assert torch.equal(ready.observe(IMAGE, RANGES).intrinsics, own)


def test_bad_ranges_and_a_black_image_never_become_nan(tmp_path):
    ready = runtime(tmp_path)
    black = np.zeros_like(IMAGE)
    for reading in (np.nan, np.inf, -np.inf, 0.0, 50.0):
        prediction = ready.predict(ready.observe(black, np.full_like(RANGES, reading)))
        assert prediction.centers.isfinite().all()
        assert prediction.covariance.isfinite().all()


@torch.no_grad()
def test_one_coordinate_that_is_not_finite_is_an_error_too(tmp_path):
    bundle = load_bundle(small_bundle(tmp_path, 'rgb'))
    bundle.model.net.layers[-1].bias[4] = torch.inf
    with pytest.raises(ValueError, match='not finite'):
        Runtime(bundle, device='cpu').predict_frame(IMAGE, RANGES)


def test_a_frame_is_predicted_with_the_camera_it_came_with(tmp_path):
    ready, elsewhere = runtime(tmp_path), Camera(fx=80.0, cy=30.0)
    found = ready.predict_frame(IMAGE, RANGES, elsewhere).centers
    assert torch.equal(found, ready.predict(ready.observe(IMAGE, RANGES, elsewhere)).centers)
    assert not torch.equal(found, ready.predict_frame(IMAGE, RANGES).centers)


def test_weights_that_became_nan_are_an_error_not_a_centre(tmp_path):
    bundle = load_bundle(small_bundle(tmp_path, 'rgb'))
    next(bundle.model.parameters()).data.fill_(torch.nan)
    ready = Runtime(bundle, device='cpu')
    with pytest.raises(ValueError, match='not finite'):
        ready.predict(ready.observe(IMAGE, RANGES))


def test_warming_up_serves_every_mode(tmp_path):
    for name in sorted(MODELS):
        runtime(tmp_path, name).warm_up(frames=1)
    ready, seen = runtime(tmp_path), []
    ready._engine._model.register_forward_pre_hook(lambda _, given: seen.append(given[0].modes()))
    ready.warm_up(frames=2)
    assert sorted(seen) == [(mode,) for mode in sorted(2 * [*ready.bundle.model.modes])]


@pytest.mark.skipif(torch.cuda.is_available(), reason='asks what happens without CUDA')
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match='no CUDA GPU'):
        choose_device('cuda')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU on this machine')
def test_cuda_and_cpu_agree(tmp_path):
    on_cpu = runtime(tmp_path)
    expected = on_cpu.predict(on_cpu.observe(IMAGE, RANGES)).centers
    on_gpu = Runtime(load_bundle(tmp_path / 'dense_fusion.safetensors'), device='cuda')
    found = on_gpu.predict(on_gpu.observe(IMAGE, RANGES)).centers
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-3)


def test_a_silent_sensor_is_zeros_and_absent():
    lidar = UniformGrid().lidar()
    seen = observe(None, torch.from_numpy(RANGES)[None], Camera(), lidar)
    assert seen.lidar.all()
    assert not seen.camera.any()
    assert not seen.rgba.any()


def test_neither_sensor_is_an_error():
    with pytest.raises(ValueError, match='Neither'):
        observe(None, None, Camera(), UniformGrid().lidar())


def test_mono_is_grey_and_alpha_is_full():
    grey = torch.full((1, 64, 64, 1), 51, dtype=torch.uint8)
    rgba = observe(grey, None, Camera(), UniformGrid().lidar()).rgba
    torch.testing.assert_close(rgba[:, :3], torch.full((1, 3, 64, 64), 0.2))
    torch.testing.assert_close(rgba[:, 3], torch.ones(1, 64, 64))


def test_a_larger_image_is_resized_with_its_intrinsics(tmp_path):
    ready = runtime(tmp_path)
    camera = Camera(width=640, height=320, fx=700.0, fy=350.0, cx=319.5, cy=159.5)
    seen = ready.observe(np.zeros((320, 640, 3), np.uint8), RANGES, camera)
    assert seen.rgba.shape == (1, 4, 64, 64)
    torch.testing.assert_close(
        seen.intrinsics[0], torch.tensor([[70.0, 0, 31.5], [0, 70.0, 31.5], [0, 0, 1]])
    )


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['torch', 'onnxruntime'])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_large_image_read_backwards_read_only_or_in_part_is_as_good_as_its_copy(
    tmp_path, engine, channels
):
    runtime(tmp_path)
    ready = Runtime(
        load_bundle(tmp_path / 'dense_fusion.safetensors'), device='cpu', engine=engine
    )
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (120, 200, channels), np.uint8)
    expected = ready.predict_frame(image, RANGES).centers
    padded = np.zeros((120, 230, channels), np.uint8)
    padded[:, :200] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    for same in (image[..., ::-1].copy()[..., ::-1], padded[:, :200], read_only):
        assert torch.equal(ready.predict_frame(same, RANGES).centers, expected)
    eager = runtime(tmp_path).predict_frame(image, RANGES).centers
    torch.testing.assert_close(expected, eager, atol=1e-3, rtol=0)


def test_resizing_changes_no_pixel_by_more_than_one_of_255():
    smooth = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 255
    large = interpolate(smooth, (240, 320), mode='bicubic').clamp(0, 255).byte()
    exact = interpolate(large.float(), (64, 64), mode='bilinear', antialias=True)
    sized = resize(large.permute(0, 2, 3, 1), 64, 64)
    assert sized.dtype == torch.uint8
    assert (sized.permute(0, 3, 1, 2).float() - exact).abs().max() <= 1.001


def test_a_graph_refuses_observations_of_other_sizes_than_it_was_made_for(tmp_path):
    bundle = load_bundle(small_bundle(tmp_path, 'dense_fusion'))
    camera = bundle.rig.camera.resized(128, 128)
    image, ranges = torch.zeros(1, 128, 128, 4, dtype=torch.uint8), torch.from_numpy(RANGES)[None]
    seen = observe(image, ranges, camera, bundle.lidar)
    assert Runtime(bundle, 'cpu', engine='torch').predict(seen).centers.isfinite().all()
    with pytest.raises(ValueError, match=r'\(128, 128\) pixels .* takes \(64, 64\)'):
        Runtime(bundle, 'cpu', engine='onnxruntime').predict(seen)
    half = replace(seen, rgba=seen.rgba[..., :64, :64], xyza=seen.xyza[..., :32, :])
    with pytest.raises(ValueError, match=r'\(32, 64\) beams .* and \(64, 64\)'):
        Runtime(bundle, 'cpu', engine='onnxruntime').predict(half)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['>f4', '>f8', 'longdouble'])
@pytest.mark.parametrize('engine', ['torch', 'onnxruntime'])
def test_numbers_of_another_byte_order_or_width_are_the_same_to_every_engine(
    tmp_path, private_cache, engine, kind
):
    ready = Runtime(load_bundle(small_bundle(tmp_path)), 'cpu', engine=engine)
    ranges = RANGES.astype(kind)
    expected = ready.predict_frame(IMAGE, RANGES).centers
    assert torch.equal(ready.predict_frame(IMAGE, ranges).centers, expected)
    assert torch.equal(ready.predict_frames(IMAGE[None], ranges[None]).centers, expected)
    assert torch.equal(ready.observe(IMAGE, ranges).xyza, ready.observe(IMAGE, RANGES).xyza)


def test_tensors_are_taken_for_arrays(tmp_path):
    ready = runtime(tmp_path)
    found = ready.predict_frame(torch.from_numpy(IMAGE), torch.from_numpy(RANGES))
    assert torch.equal(found.centers, ready.predict_frame(IMAGE, RANGES).centers)


@pytest.mark.parametrize(
    ('image', 'ranges', 'said'),
    [
        (
            IMAGE.tolist(),
            RANGES,
            r'A list came where images .* numpy\.array\(\.\.\., numpy\.uint8',
        ),
        (IMAGE, RANGES.tolist(), r'A list came where ranges .* numpy\.float32'),
        ('left.png', None, 'A str came where images are needed'),
    ],
)
@pytest.mark.parametrize('call', ['predict_frame', 'predict_frames', 'observe'])
def test_what_is_no_array_is_refused_with_what_makes_one(tmp_path, image, ranges, said, call):
    with pytest.raises(ValueError, match=said):
        getattr(runtime(tmp_path), call)(image, ranges)
