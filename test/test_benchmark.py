"""The benchmark measures all stages both ways, says where, and compares with its records."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from benchmark_results import machine, result

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmark import BenchmarkSettings, benchmark, keep_result
from fusion_perception.learning.benchmarks.bar import epochs_needed
from fusion_perception.learning.benchmarks.floor import Cost, Rates, cost_of, in_words, rates_of
from fusion_perception.learning.benchmarks.result import Result, Spread
from fusion_perception.learning.benchmarks.settings import USUAL, Bench, linked, prepared
from fusion_perception.learning.benchmarks.table import GOALS, TITLES, as_markdown, slower_than
from fusion_perception.learning.benchmarks.timing import Measured, alternate
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def quick(forty_scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp('benchmark')
    settings = BenchmarkSettings(out=out, data=forty_scenes, quick=True, rounds=2, device='cpu')
    return out, benchmark(settings)


@pytest.mark.slow
def test_every_stage_is_measured_both_ways_in_every_round(quick):
    out, _ = quick
    found = Result.read_json(out / 'benchmark.json')
    # What is quick does not compile.
    assert {row.stage for row in found.stages} == set(GOALS) - {'time_to_mse', 'training_compiled'}
    for row in found.stages:
        assert len(row.ours.rounds) == 2
        assert row.notebook is not None or row.stage == 'simulator'


@pytest.mark.slow
def test_the_table_names_machine_versions_and_each_stage(quick):
    out, said = quick
    table = (out / 'benchmark.md').read_text()
    found = Result.read_json(out / 'benchmark.json')
    assert table.strip() in said
    for word in (found.machine.cpu, torch.__version__, 'mean nothing', 'quartiles'):
        assert word in table
    for row in found.stages:
        assert f'| {TITLES[row.stage]} |' in table


@pytest.mark.slow
def test_nothing_is_left_behind_but_the_results(quick, forty_scenes):
    out, _ = quick
    assert {path.name for path in out.iterdir()} == {'benchmark.json', 'benchmark.md'}
    assert not (forty_scenes / PACKED).exists()


def test_the_usual_stages_take_no_hours():
    assert 'time_to_mse' not in USUAL
    assert 'growth' not in USUAL


def test_ways_take_turns_and_the_first_round_does_not_count():
    turns = []
    figures = alternate(
        2, {name: lambda name=name: turns.append(name) or len(turns) for name in 'ab'}
    )
    assert ''.join(turns) == 'ababab'
    assert figures == {'a': (3, 5), 'b': (4, 6)}


@pytest.mark.parametrize(('unit', 'ratio'), [('s', 2.0), ('ms', 2.0), ('scenes/s', 0.5)])
def test_a_ratio_above_one_is_better_whatever_the_unit(unit, ratio):
    assert Measured('xyza', unit, (1, 1, 9), (2, 2, 9), '').ratio == ratio


def test_a_spread_holds_quartiles_and_every_round():
    spread = Spread.of([4, 1, 2, 3, 5])
    assert (spread.p25, spread.median, spread.p75) == (2, 3, 4)
    assert spread.rounds == (4, 1, 2, 3, 5)


def test_machines_of_one_class_have_one_name_and_others_another():
    assert (
        machine().kind == machine(memory_gib=9, threads=1).kind == 'fast-cpu-3-ghz-2-cores-no-gpu'
    )
    assert len({machine(**c).kind for c in ({}, {'cores': 4}, {'gpu': 'H200'}, {'cpu': 'A'})}) == 4


def test_slower_beyond_the_rounds_spread_is_said_and_noise_is_not():
    recorded = result(1.0, 1.1, 1.2)
    assert slower_than(recorded, result(1.5, 1.6, 1.7)) != []
    assert slower_than(recorded, result(0.9, 1.3, 2.0)) == []
    assert slower_than(recorded, result(0.5, 0.5, 0.5)) == []
    rates = result(100, 110, 120, unit='scenes/s', stage='simulator')
    assert slower_than(rates, result(50, 51, 52, unit='scenes/s', stage='simulator')) != []
    assert slower_than(rates, result(200, 210, 220, unit='scenes/s', stage='simulator')) == []


@pytest.mark.parametrize(
    ('stage', 'changes', 'compared'),
    [
        ('loading_first', {'scenes': 50}, False),
        ('inference', {'bundle': 'cubes'}, False),
        ('inference', {'precision': 'bfloat16'}, False),
        ('throughput', {'engine': 'torch'}, False),
        ('time_to_mse', {'mse': 2.0}, False),
        ('training', {'bundle': 'cubes', 'engine': 'torch', 'steps': 3}, True),
        ('simulator', {'scenes': 50}, True),
    ],
)
def test_stages_are_compared_on_the_same_terms_alone(tmp_path, stage, changes, compared):
    terms = {'scenes': 9999, 'bundle': 'shapes', 'precision': 'float32', 'engine': 'auto'}
    before = result(1.0, stage=stage).model_copy(update={'settings': {**terms, 'mse': 1.31}})
    after = before.model_copy(update={'settings': {**before.settings, **changes}})
    settings = BenchmarkSettings(out=tmp_path, records=tmp_path)
    for said in (keep_result(after, before, settings), keep_result(before, after, settings)):
        assert ('against before' in said) == compared
        assert ('Compared with the record of today: nothing became slower.' in said) == compared
        assert (f'Not compared with the record of today: {TITLES[stage]} (' in said) != compared


def test_a_record_that_does_not_tell_its_terms_is_not_compared(tmp_path):
    before = result(1.0, stage='xyza')
    after = before.model_copy(update={'settings': {'scenes': 40}})
    said = keep_result(after, before, BenchmarkSettings(out=tmp_path, records=tmp_path))
    assert '(scenes not noted, now 40)' in said


def test_stages_that_a_new_record_no_longer_holds_are_named(tmp_path):
    settings = BenchmarkSettings(out=tmp_path, records=tmp_path / 'records', record=True)
    settings.records.mkdir()
    before = result(1.0, 1.1, 1.2)
    after = result(200, 210, 220, unit='scenes/s', stage='simulator')
    said = keep_result(after, before, settings)
    assert said.endswith(f'It holds no longer what was not measured: {before.stages[0].stage}.')
    assert 'no longer' not in keep_result(after, after, settings)


@pytest.mark.slow
def test_a_result_is_compared_with_the_record_of_its_class(forty_scenes, tmp_path, quick):
    out, _ = quick
    kind = Result.read_json(out / 'benchmark.json').machine.kind
    settings = BenchmarkSettings(
        out=tmp_path / 'out', data=forty_scenes, stages=('xyza',), quick=True, rounds=1,
        device='cpu', records=tmp_path / 'records',
    )  # fmt: skip
    assert f'({kind})' in benchmark(settings)
    (tmp_path / 'records').mkdir()
    record = tmp_path / 'records' / f'{kind}.json'
    record.write_text((out / 'benchmark.json').read_text())
    assert '| before | against before |' in benchmark(settings)
    real = Result.read_json(record).model_copy(update={'quick': False})
    real.write(record)
    said = benchmark(settings)
    assert 'against before' not in said
    assert f'Not compared with the record of {real.when}: one of them is quick.' in said
    record.write_text('{}')
    with pytest.raises(ValueError, match=f'{kind}.json'):
        benchmark(settings)


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'record': True}, 'add --records'),
        ({'record': True, 'records': Path('x'), 'quick': True}, 'mean nothing'),
        ({'data': Path('nowhere')}, 'fusion simulate'),
    ],
)
def test_what_cannot_be_measured_or_recorded_is_refused(tmp_path, changes, complaint):
    settings = BenchmarkSettings(out=tmp_path / 'out', **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        benchmark(settings)


def test_a_place_that_takes_no_record_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / 'records').write_text('a file')
    settings = BenchmarkSettings(
        out=tmp_path / 'out', stages=('xyza',), records=tmp_path / 'records', record=True
    )
    with pytest.raises(FileExistsError):
        benchmark(settings)
    assert not list((tmp_path / 'out').iterdir())


def test_what_is_no_data_folder_is_told_by_the_path_that_was_given(tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=f'^{empty} is empty'):
        benchmark(BenchmarkSettings(out=tmp_path / 'out', data=empty))


def test_the_working_copy_holds_the_same_scenes_and_no_packed_file(forty_scenes, tmp_path):
    (forty_scenes / PACKED).touch()
    copy = linked(DataFolder.open(forty_scenes), tmp_path / 'copy')
    (forty_scenes / PACKED).unlink()
    assert not (copy / PACKED).exists()
    assert len(read_folder(copy)) == 40
    assert not (forty_scenes / PACKED).exists()


def test_the_working_copy_names_scenes_as_the_notebook_does(forty_scenes, tmp_path):
    given = Path(shutil.copytree(forty_scenes, tmp_path / 'given'))
    for kind in ('rgb', 'lidar', 'distance'):
        for file in (given / kind).iterdir():
            file.rename(file.with_name(f'0{file.name}'))
    (given / 'lidar' / 'average.npy').write_bytes(b'')  # It is no scene.
    settings = BenchmarkSettings(out=tmp_path / 'out', data=given, quick=True, device='cpu')
    with prepared(settings, CPU) as bench:
        assert bench.scenes == 40
        theirs = notebook.NotebookData(bench.folder, CPU, 0, bench.scenes)
        ours = read_folder(bench.folder)
        assert torch.equal(theirs.lidar[39], ours.ranges[39])
    assert torch.equal(ours.ranges, read_folder(forty_scenes).ranges)


def run_of(tmp_path, head: list[float], phases=('rgb', 'lidar')) -> Path:
    rows = [{'stage': phase, 'epoch': n, 'mse': 5.0} for phase in phases for n in (1, 2, 3)]
    rows += [{'stage': 'late_fusion', 'epoch': n, 'mse': mse} for n, mse in enumerate(head, 1)]
    (tmp_path / 'metrics.json').write_text(json.dumps({'epochs': rows}))
    return tmp_path


def needed(bench: Bench, run: Path | None):
    settings = bench.settings.model_copy(update={'baseline_run': run})
    return epochs_needed(Bench(settings, bench.folder, 40, CPU, bench.scratch))


def test_a_recorded_run_says_how_many_epochs_the_notebook_needs(bench, tmp_path):
    epochs, reached, _ = needed(bench, run_of(tmp_path, [2.0, 1.3, 1.2]))
    assert (epochs, reached) == ({'rgb': 3, 'lidar': 3, 'late_fusion': 2}, True)
    epochs, reached, _ = needed(bench, run_of(tmp_path, [2.0, 1.5]))
    assert (epochs['late_fusion'], reached) == (2, False)
    assert needed(bench, None)[:2] == (dict.fromkeys(('rgb', 'lidar', 'late_fusion'), 20), False)


def test_an_error_as_small_as_the_bar_reaches_it(bench, tmp_path):
    assert needed(bench, run_of(tmp_path, [2.0, bench.settings.mse]))[1]


def test_of_a_run_short_of_the_bar_the_best_epoch_is_told(bench, tmp_path):
    whence = needed(bench, run_of(tmp_path, [1.6, 1.5, 1.7]))[2]
    assert 'at best at MSE 1.500 without reaching 1.31' in whence


def test_a_run_without_the_three_trainings_is_refused(bench, tmp_path):
    with pytest.raises(ValueError, match='--model late_fusion'):
        needed(bench, run_of(tmp_path, [1.0], phases=('rgb',)))
    with pytest.raises(ValueError, match=r'metrics\.json'):
        needed(bench, tmp_path / 'nothing')


@pytest.mark.slow
def test_the_time_to_a_small_error_is_marked_as_extrapolated(forty_scenes, tmp_path):
    said = benchmark(
        BenchmarkSettings(
            out=tmp_path,
            data=forty_scenes,
            stages=('time_to_mse',),
            quick=True,
            rounds=1,
            device='cpu',
        )
    )
    assert 'EXTRAPOLATED' in said


def test_a_table_without_records_has_no_column_for_them():
    assert 'before' not in as_markdown(result(1.0)).split('\n')[3]


def test_the_operations_of_the_notebook_s_network_are_those_of_its_layers(tmp_path):
    path = tmp_path / 'rgb.safetensors'
    save_bundle(path, build('rgb'), 'rgb', Rig(), UniformGrid().lidar(), {})
    bundle = load_bundle(path)
    convolutions = 64**2 * 4 * 50 + 32**2 * 50 * 100 + 16**2 * 100 * 200
    linear = 12800 * 1000 + 1000 * 100 + 100 * 9
    cost = cost_of(bundle)
    assert cost.operations == 2 * (9 * convolutions + linear)
    assert cost.weights >= 4 * 13_129_159
    assert (cost.frame, cost.answer) == (2 * 64 * 64 * 4, 9 * 4)


def test_the_floor_is_the_longer_of_computing_and_moving_and_the_way_there():
    cost = Cost(operations=3_000, weights=900, frame=80, answer=20)
    assert Rates(1_000, 1_000, 0.0).floor(cost) == 3
    assert Rates(1_000_000, 500, 0.25).floor(cost) == 2.25
    text, numbers = in_words(cost, Rates(1_000, 1_000, 0.5), 7_000)
    assert 'takes 2.0 times that' in text
    assert numbers['floor_ms'] == 3_500


@pytest.mark.slow
def test_the_rates_of_this_machine_are_measured(bench):
    rates = rates_of(bench, Cost(1, 1, 10, 10))
    assert rates.operations > 1e6
    assert rates.bytes > 1e6
    assert rates.round_trip == 0
