"""How cost grows is fitted to the larger sizes, and said in a table and a chart."""

import json

import pytest
import torch

from fusion_perception.learning.benchmark import keep_growth
from fusion_perception.learning.benchmarks import growth, timing
from fusion_perception.learning.benchmarks.growth_curve import (
    Curve,
    Point,
    as_markdown,
    chart,
    exponent,
)
from fusion_perception.learning.benchmarks.machine import describe
from fusion_perception.learning.benchmarks.settings import Bench, BenchmarkSettings
from fusion_perception.learning.data.scene_copies import repeated
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]
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


def test_the_larger_half_of_the_sizes_is_fitted():
    costs = (9.0, 9.0, 9.0, 8.0, 16.0, 32.0, 64.0)
    assert exponent(list(zip(SIZES, costs, strict=True))) == pytest.approx(1.0)
    assert exponent([(1, 9.0), (2, 2.0), (4, 4.0), (8, 8.0)]) == pytest.approx(1.0)
    assert exponent([(1, 1.0), (2, 2.0), (4, 16.0)]) == pytest.approx(2.0)


def test_up_to_a_little_above_one_is_linear():
    assert curve(1.1).worse_than_linear() == []
    assert curve(1.2).worse_than_linear() == ['time']
    assert curve(1.0, memory=1.2).worse_than_linear() == ['memory']


def test_memory_that_cannot_be_told_at_some_sizes_is_fitted_to_the_others():
    small = [Point(size=n, seconds=1.0, memory_bytes=held) for n, held in ((1, None), (2, 7))]
    large = [Point(size=n, seconds=1.0, memory_bytes=2**20 * n) for n in (4, 8, 16)]
    found = Curve(name='work', variable='batch', points=(*small, *large))
    assert found.memory_exponent == pytest.approx(1.0)


def test_the_table_tells_what_the_smallest_and_the_largest_size_cost():
    row = as_markdown([curve(1.0, memory=0.5)]).split('\n')[2]
    assert row == ('| work | batch | 1 | 64 | 1 to 64 ms | n^1.00 | 4.0 to 32.0 MiB | n^0.50 |')


def test_memory_that_is_not_known_is_not_told():
    points = tuple(Point(size=n, seconds=0.5, memory_bytes=None) for n in SIZES)
    row = as_markdown([Curve(name='work', variable='batch', points=points)]).split('\n')[2]
    assert row.endswith('| ? to ? MiB | not fitted |')


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


@pytest.mark.parametrize(
    ('curves', 'sizes'),
    [
        (growth.with_batch, [1, 2, 4, 8]),
        (growth.with_pixels, [64**2, 96**2, 128**2]),
        (growth.with_objects, [3, 6]),
    ],
)
def test_a_point_stands_at_the_size_that_it_was_measured_with(bench, monkeypatch, curves, sizes):
    taken = []
    scenes_of = growth._scenes

    def noted(bench, count, edge, objects):
        taken.append({'batch': count, 'pixels': edge * edge, 'objects': objects})
        return scenes_of(bench, count, edge, objects)

    monkeypatch.setattr(growth, '_scenes', noted)
    for curve in curves(bench):
        assert [point.size for point in curve.points] == sizes
        assert [made[curve.variable] for made in taken] == sizes
        taken.clear()


def test_gradients_count_in_their_own_curve_alone(bench, monkeypatch):
    now, learning = [0.0], growth._learning

    def ten_seconds_longer(*seen):
        work = learning(*seen)

        def slow() -> None:
            now[0] += 10
            work()

        return slow

    monkeypatch.setattr(timing, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(growth, '_learning', ten_seconds_longer)
    predict, learn = growth.with_batch(bench)
    assert {point.seconds for point in predict.points} == {0.0}
    assert {point.seconds for point in learn.points} == {10.0}


def test_a_batch_larger_than_what_is_rendered_repeats_its_scenes(bench):
    observation, centers = growth._seen(bench, 20, 64, 3)
    assert len(observation) == len(centers) == 20
    assert torch.equal(centers[:8], centers[8:16])


def test_the_field_of_view_stays_while_pixels_grow(bench):
    fields = [
        lidar.azimuth.max() - lidar.azimuth.min() + (lidar.azimuth[0] - lidar.azimuth[1]).abs()
        for lidar in (growth._scenes(bench, 1, edge, 3)[2] for edge in (64, 128))
    ]
    torch.testing.assert_close(*fields)


def test_loss_and_gradients_are_found_and_a_prediction_has_none(bench):
    model = growth.build(growth.MODEL)
    seen = growth._seen(bench, 2, 64, 3)
    growth._predicting(model, *seen)()
    assert all(parameter.grad is None for parameter in model.parameters())
    growth._learning(model, *seen)()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_a_first_call_and_one_that_memory_is_seen_in_surround_the_rounds(bench):
    held = []
    # So much comes from the system each time, and not from what was freed before.
    point = growth._point(bench, 7, lambda: held.append(torch.ones(2**24)))
    assert point.size == 7
    assert len(held) == 3
    assert point.memory_bytes is None or point.memory_bytes >= 2**25


def test_objects_and_pixels_grow_in_scene_and_sensors(bench):
    observation, centers = growth._seen(bench, 2, 96, 6)
    assert observation.rgba.shape == observation.xyza.shape == (2, 4, 96, 96)
    assert centers.shape == (2, 6, 3)
    assert observation.xyza[:, 3].sum() > 0


def test_the_chart_shows_milliseconds_above_and_mib_below():
    above, below = chart([curve(1.0, memory=1.0)]).axes
    for panel, first in ((above, 1.0), (below, 4.0)):
        drawn = panel.lines[0]
        assert drawn.get_xdata().tolist() == list(SIZES)
        assert drawn.get_ydata().tolist() == pytest.approx([first * n for n in SIZES])
    assert (above.get_ylabel(), below.get_ylabel()) == ('time [ms]', 'memory [MiB]')


def test_each_size_that_grows_has_a_column_of_its_own_curves():
    other = curve(2.0).model_copy(update={'variable': 'pixels', 'name': 'render'})
    columns = chart([curve(1.0), other]).axes[:2]
    labels = [panel.get_legend_handles_labels()[1] for panel in columns]
    assert labels == [['work: n^1.00', 'linear'], ['render: n^2.00', 'linear']]
    assert [panel.get_xlabel() for panel in columns] == ['batch', 'pixels']


def test_curves_are_kept_as_values_table_and_chart(tmp_path):
    said = keep_growth([curve(1.0), curve(0.5, memory=1.0)], describe(CPU), tmp_path)
    kept = json.loads((tmp_path / 'growth.json').read_text())
    assert kept['curves'][0]['time_exponent'] == pytest.approx(1.0)
    assert (tmp_path / 'growth.md').read_text().strip() in said
    assert (tmp_path / 'growth.png').read_bytes().startswith(b'\x89PNG')


def test_scenes_are_repeated_whatever_empty_lines_their_labels_have(folder, tmp_path):
    first, *others = (folder / 'positions.csv').read_text().splitlines()
    (folder / 'positions.csv').write_text('\n'.join((first, '', *others, '', '')))
    once, twice = read_folder(folder), read_folder(repeated(folder, tmp_path / 'twice', 16))
    for name in ('images', 'ranges', 'centers'):
        assert torch.equal(getattr(twice, name), torch.cat([getattr(once, name)] * 2))
