"""How cost grows is fitted to the larger sizes, and said in a table and a chart."""

import json

import pytest
import torch

from fusion_perception.learning.benchmark import keep_growth
from fusion_perception.learning.benchmarks import growth
from fusion_perception.learning.benchmarks.growth_curve import Curve, Point, as_markdown, exponent
from fusion_perception.learning.benchmarks.machine import describe
from fusion_perception.learning.benchmarks.settings import Bench, BenchmarkSettings
from fusion_perception.learning.simulate import SimulateSettings, simulate

pytestmark = pytest.mark.usefixtures('one_thread')
CPU = torch.device('cpu')
SIZES = (1, 2, 4, 8, 16, 32, 64)


def curve(power: float, memory: float = 0.0, fixed: float = 0.0) -> Curve:
    points = tuple(
        Point(size=n, seconds=fixed + 0.001 * n**power, memory_bytes=int(2**22 * n**memory))
        for n in SIZES
    )
    return Curve(name='work', variable='batch', points=points)


@pytest.mark.parametrize('power', [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    assert curve(power).time_exponent == pytest.approx(power)
    assert curve(1.0, memory=power).memory_exponent == pytest.approx(power, abs=1e-3)


def test_a_fixed_cost_does_not_hide_how_the_rest_grows():
    assert exponent([(n, 0.005 + 0.001 * n**2) for n in SIZES]) > 1.8


def test_two_points_are_not_fitted():
    assert exponent([(1, 1.0), (2, 2.0)]) is None


def test_memory_too_small_to_tell_is_not_fitted():
    points = tuple(Point(size=n, seconds=1.0, memory_bytes=1000 * n) for n in SIZES)
    assert Curve(name='work', variable='batch', points=points).memory_exponent is None


def test_what_grows_worse_than_linearly_is_named():
    table = as_markdown([curve(1.0), curve(1.5, memory=2.0)])
    assert 'Worse than linear: work against batch (time, memory).' in table
    assert 'Nothing grows worse' in as_markdown([curve(1.0, memory=1.0)])


def test_sizes_rise_to_the_largest():
    assert growth.sizes_up_to(256, 1, 2) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert growth.sizes_up_to(512, 64, 2**0.5, multiple=16)[::2] == [64, 128, 256, 512]
    assert growth.sizes_up_to(24, 3, 2**0.5, multiple=3) == [3, 6, 9, 12, 18, 24]
    assert growth.sizes_up_to(100_000, 1000, 10**0.5) == [1000, 3162, 10_000, 31_623, 100_000]


@pytest.fixture
def bench(tmp_path):
    simulate(SimulateSettings(out=tmp_path / 'data', count=12))
    settings = BenchmarkSettings(out=tmp_path, quick=True, device='cpu', largest_scenes=16)
    return Bench(settings, tmp_path / 'data', 12, CPU, tmp_path / 'scratch')


def test_folders_of_each_size_are_loaded_twice_and_give_batches(bench):
    curves = list(growth.with_scenes(bench))
    assert [curve.name for curve in curves] == ['load, first time', 'load again', 'first batches']
    for curve in curves:
        assert [point.size for point in curve.points] == [8, 16]
        assert all(point.seconds > 0 for point in curve.points)
    assert not list(bench.scratch.iterdir())


def test_what_takes_no_step_is_not_called_one(bench):
    assert [curve.name for curve in growth.with_batch(bench)] == ['predict', 'loss and gradients']


def test_objects_and_pixels_grow_in_scene_and_sensors(bench):
    observation, centers = growth._seen(bench, 2, 96, 6)
    assert observation.rgba.shape == observation.xyza.shape == (2, 4, 96, 96)
    assert centers.shape == (2, 6, 3)
    assert observation.xyza[:, 3].sum() > 0


def test_curves_are_kept_as_values_table_and_chart(tmp_path):
    said = keep_growth([curve(1.0), curve(0.5, memory=1.0)], describe(CPU), tmp_path)
    kept = json.loads((tmp_path / 'growth.json').read_text())
    assert kept['curves'][0]['time_exponent'] == pytest.approx(1.0)
    assert (tmp_path / 'growth.md').read_text().strip() in said
    assert (tmp_path / 'growth.png').read_bytes().startswith(b'\x89PNG')
