"""Time the functions that every frame passes: `pytest test/benchmarks --benchmark-only`.

Nothing is asserted of the times. In an ordinary run each function is called once, so that this
file stays right.
"""

import array
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fusion_perception.learning.metrics import score
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.decode import decode_image, decode_range
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.pairing import Pairer, PairingSettings
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

pytest.importorskip('pytest_benchmark')
pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def benchmark(benchmark, request):
    benchmark.disabled = not request.config.getoption('--benchmark-only')
    return benchmark


@pytest.fixture(scope='module')
def scenes():
    return sample_scenes(32, SceneSettings(), torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def frames(scenes):
    return render(scenes, Rig(), UniformGrid().lidar())


@pytest.fixture(scope='module')
def runtime():
    runtime = Runtime(load_bundle('shapes'), 'cpu')
    runtime.warm_up()
    return runtime


def message(pixels: np.ndarray, encoding: str) -> SimpleNamespace:
    """Return an image as rclpy hands it over."""
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id='sensor'),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=array.array('B', pixels.tobytes()),
    )


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_decoding_a_full_hd_image(benchmark, encoding):
    image = message(np.zeros((1080, 1920, 3), np.uint8), encoding)
    assert benchmark(decode_image, image).shape == (1080, 1920, 3)


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
def test_decoding_a_large_range_image(benchmark, encoding):
    kind = {'32FC1': np.float32, '16UC1': np.uint16}[encoding]
    scan = message(np.ones((128, 2048), kind), encoding)
    assert benchmark(decode_range, scan).shape == (128, 2048)


def test_pairing_two_streams_of_a_hundred_messages(benchmark):
    def pair() -> int:
        pairer = Pairer(PairingSettings())
        count = 0
        for index in range(1, 101):
            stamp_ns = index * 50_000_000
            count += len(pairer.add('camera', stamp_ns, index))
            count += len(pairer.add('lidar', stamp_ns + 3_000_000, index))
        return count + len(pairer.flush())

    assert benchmark(pair) == 100


@pytest.mark.parametrize('count', [1, 32])
def test_ranges_to_xyza(benchmark, frames, count):
    lidar = UniformGrid().lidar()
    assert benchmark(lidar.xyza, frames.ranges[:count]).shape == (count, 4, 64, 64)


def test_observing_one_scene(benchmark, frames, runtime):
    image, ranges = frames.images[0].numpy(), frames.ranges[0].numpy()
    assert len(benchmark(runtime.observe, image, ranges)) == 1


@pytest.mark.parametrize('order', [1, -1], ids=['rgb', 'bgr'])
def test_observing_a_full_hd_image(benchmark, frames, runtime, order):
    image = np.zeros((1080, 1920, 3), np.uint8)[..., ::order]
    assert len(benchmark(runtime.observe, image, frames.ranges[0].numpy())) == 1


def test_predicting_one_scene(benchmark, frames, runtime):
    observation = runtime.observe(frames.images[0].numpy(), frames.ranges[0].numpy())
    assert benchmark(runtime.predict, observation).centers.shape == (1, 3, 3)


def test_rendering_32_scenes(benchmark, scenes):
    assert len(benchmark(render, scenes, Rig(), UniformGrid().lidar())) == 32


def test_scoring_ten_thousand_predictions(benchmark):
    truth = torch.randn(10_000, 3, 3)
    covariance = torch.eye(3).expand(10_000, 3, 3, 3)
    scores = benchmark(score, truth + 0.1, truth, ('cube', 'sphere', 'torus'), covariance)
    assert scores.scenes == 10_000
