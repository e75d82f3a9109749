"""Each stage turns the time of its work into the figure that it names, whatever the time was.

The stopwatch is replaced: seconds that a test can foretell pass, and the work is done for real.
"""

import json
from dataclasses import replace
from functools import partial
from itertools import count, cycle

import pytest
import torch
from training_runs import rows_of

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks import bar, stages, timing
from fusion_perception.learning.benchmarks.floor import cost_of
from fusion_perception.learning.benchmarks.settings import Bench, BenchmarkSettings
from fusion_perception.learning.benchmarks.training import (
    Theirs,
    how_far_apart,
    our_ways,
    training,
)
from fusion_perception.learning.dataset import PACKED
from fusion_perception.models.bundle import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]
CPU = torch.device('cpu')


class Clock:
    """A stopwatch that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float):
        """Return work that takes so many seconds, one call after another."""
        left = cycle(seconds)

        def work() -> None:
            self.now += next(left)

        return work


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, 'perf_counter', clock)
    monkeypatch.setattr(timing, 'sleep', lambda _: None)
    return clock


def take_a_second_each(patch: pytest.MonkeyPatch) -> None:
    """Let whatever is timed at a stretch take one second."""
    patch.setattr(timing, 'perf_counter', partial(next, count()))
    patch.setattr(timing, 'sleep', lambda _: None)


@pytest.fixture
def a_second_each(monkeypatch):
    take_a_second_each(monkeypatch)


def in_rounds(bench: Bench, rounds: int, **changes) -> Bench:
    changes = {'rounds': rounds, **changes}
    return replace(bench, settings=bench.settings.model_copy(update=changes))


def test_the_time_of_a_call_is_the_mean_of_all_calls(clock):
    assert timing.seconds_of(clock.work(5, 1, 1, 1), CPU, calls=4) == 2


def test_an_epoch_is_told_from_some_of_its_steps_and_a_validation(clock):
    def step(number: int) -> None:
        clock.now += 5 * number

    assert timing.epoch_seconds(step, 2, 30, clock.work(7), CPU) == 5 * 30 + 7


def test_both_ways_are_timed_in_milliseconds_from_their_second_call_on(bench, clock):
    ours, theirs = clock.work(9, 1, 3), clock.work(9, 4, 6)
    figures = stages._timed(in_rounds(bench, 3), 2, ours, theirs)
    assert figures == ((2000.0,) * 3, (5000.0,) * 3)


def test_a_folder_is_packed_in_the_first_loading_alone(bench, monkeypatch):
    began = count()
    packed = bench.folder / PACKED
    # A second between two looks at the clock, and ten more while the packed file is written.
    monkeypatch.setattr(timing, 'perf_counter', lambda: next(began) + 10 * packed.exists())
    monkeypatch.setattr(timing, 'sleep', lambda _: None)
    first, second = stages.loading(in_rounds(bench, 2))
    packed.unlink()
    assert (first.ours, first.notebook) == ((11, 11), (1, 1))
    assert (second.ours, second.notebook) == ((1, 1), (1, 1))
    assert second.details == {'seconds_with_every_value_read': (1, 1)}


def test_xyza_is_told_in_milliseconds_of_one_batch(bench, a_second_each):
    (measured,) = stages.xyza(in_rounds(bench, 2))
    assert measured.unit == 'ms'
    assert measured.what == 'batch of 32, mean of 2 calls'
    assert measured.ours == measured.notebook == (500, 500)


def test_inference_is_told_in_milliseconds_of_one_scene(bench, bundle, a_second_each):
    (measured,) = stages.inference(in_rounds(bench, 2, bundle=str(bundle), engine='torch'))
    assert measured.unit == 'ms'
    assert 'one scene, mean of 2;' in measured.what
    assert measured.ours == measured.notebook == (500, 500)


def test_the_floor_is_compared_with_the_time_of_one_scene(bench, bundle, a_second_each):
    (measured,) = stages.inference(in_rounds(bench, 1, bundle=str(bundle), engine='torch'))
    details, cost = measured.details, cost_of(load_bundle(str(bundle)))
    assert details['operations'] == cost.operations
    assert details['over_floor'] == pytest.approx(500 / details['floor_ms'])


def test_inference_and_throughput_predict_as_the_settings_say(bench, bundle, a_second_each):
    bench = in_rounds(bench, 1, bundle=str(bundle), engine='torch', precision='bfloat16')
    for measured in (*stages.inference(bench), *stages.throughput(bench)):
        assert measured.details['engine'] == 'torch'
        assert measured.details['precision'] == 'bfloat16'


def test_throughput_is_told_in_scenes_a_second(bench, bundle, a_second_each):
    (measured,) = stages.throughput(in_rounds(bench, 2, bundle=str(bundle), engine='torch'))
    assert measured.unit == 'scenes/s'
    assert measured.ours == measured.notebook == (4, 4)


def test_the_simulator_is_told_in_scenes_a_second(bench, a_second_each):
    (measured,) = stages.simulator(in_rounds(bench, 2))
    assert (measured.unit, measured.ours, measured.notebook) == ('scenes/s', (8, 8), ())


def test_a_size_is_the_usual_one_but_in_a_quick_run(bench):
    assert in_rounds(bench, 1, quick=False).size(1000, 8) == 1000
    assert bench.size(1000, 8) == 8
    assert bench.size(5, 8) == 5


def test_each_way_to_train_is_told_beside_the_notebook(bench, clock, monkeypatch):
    began, train_epoch = count(), notebook.train_epoch

    def ten_seconds_longer(*args):
        clock.now += 10
        return train_epoch(*args)

    monkeypatch.setattr(timing, 'perf_counter', lambda: next(began) + clock.now)
    monkeypatch.setattr(notebook, 'train_epoch', ten_seconds_longer)
    bench = in_rounds(bench, 1, loss_steps=1)
    for measured, way in zip(training(bench), our_ways(bench), strict=True):
        assert measured.ours == (2,)
        assert measured.notebook == (12,)
        assert '1 of 1 steps' in measured.what
        losses = measured.details['validation_mse']
        assert measured.what.endswith(how_far_apart(losses, way.name))


@pytest.fixture(scope='module')
def timed_to_the_bar(forty_scenes, tmp_path_factory):
    """Time the way to a bar that takes two epochs; return the measured and our last training."""
    out = tmp_path_factory.mktemp('bar')
    phases = ['rgb'] * 2 + ['lidar'] * 3 + ['late_fusion'] * 4
    rows = [{'stage': phase, 'epoch': 1, 'mse': 999.0} for phase in phases]
    (out / 'metrics.json').write_text(json.dumps({'epochs': rows}))
    settings = BenchmarkSettings(out=out, device='cpu', rounds=1, baseline_run=out)
    bench = Bench(settings, forty_scenes, 40, CPU, out)
    bench = in_rounds(bench, 1, mse=mse_after(bench, 2))
    with pytest.MonkeyPatch.context() as patch:
        take_a_second_each(patch)
        (measured,) = bar.time_to_mse(bench)
    return measured, rows_of(out / 'dense_fusion')


def test_the_time_to_a_small_error_is_that_of_a_training_which_reaches_it(timed_to_the_bar):
    measured, rows = timed_to_the_bar
    assert measured.ours == (1,)
    assert len(rows) == 2
    assert '(2 epochs), until' in measured.what


def test_the_notebook_s_time_to_it_counts_the_epochs_of_each_training(timed_to_the_bar):
    measured, _ = timed_to_the_bar
    assert measured.notebook == ((2 + 3 + 4) * (1 + 1),)
    assert measured.details == {
        'notebook_epochs': {'rgb': 2, 'lidar': 3, 'late_fusion': 4},
        'notebook_reached_the_bar': False,
    }


def test_the_notebook_trains_and_validates_with_as_many_scenes_as_we_do(bench):
    for ways in (Theirs(bench), bar.LateFusionRecipe(bench)):
        assert (len(ways.train.dataset), len(ways.valid.dataset)) == (36, 4)


def mse_after(bench: Bench, epochs: int) -> float:
    bar.train_dense_fusion(bench, epochs)
    rows = rows_of(bench.scratch / 'dense_fusion')
    assert len(rows) == epochs
    return min(row['mse'] for row in rows)


def test_every_round_trains_from_the_start(bench):
    assert mse_after(bench, 2) < mse_after(bench, 1)


def test_as_many_epochs_are_given_as_the_bar_needs(bench):
    one, two = mse_after(bench, 1), mse_after(bench, 2)
    assert two < one
    tried = partial(in_rounds, bench, 1, quick=False)
    assert bar.enough_epochs(tried(mse=one)) == 1
    assert bar.enough_epochs(tried(mse=two)) == 2


def test_a_bar_that_no_attempt_reaches_is_told(bench, monkeypatch):
    monkeypatch.setattr(bar, 'ATTEMPTS', (1,))
    with pytest.raises(ValueError, match='did not reach an MSE of 1e-06 on 40 scenes in 1 epoch'):
        bar.enough_epochs(in_rounds(bench, 1, quick=False, mse=1e-6))
