"""What `fusion evaluate` says of a bundle on a data folder."""

import json
import re
from dataclasses import replace

import pytest
import torch
from odd_files import no_file_larger_than
from small_bundles import small_bundle
from training_runs import tiny_recipe

from fusion_perception import cli
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.evidence.of_folder import as_seen_by, learned_from
from fusion_perception.learning.metrics import score
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.training import train
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.ledger import CAUSES
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import TASK_CLASSES, Rig

RIG = Rig()
TINY = {'channels': (4, 4), 'hidden': (16,)}
SMALL_DENSE = {'lidar_widths': (8, 8), 'camera_widths': (8, 8)}


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture
def bundle(tmp_path):
    def make(model='early_fusion', config=TINY, rig=RIG, **grid):
        path = tmp_path / f'{model}.safetensors'
        torch.manual_seed(0)
        save_bundle(path, build(model, config), model, rig, UniformGrid(**grid).lidar(), {})
        return path

    return make


@pytest.fixture
def report(scenes, tmp_path):
    def make(bundle, **changes):
        values = {'bundle': bundle, 'data': scenes, 'out': tmp_path / 'report', 'device': 'cpu'}
        evaluate(EvaluateSettings.read({**values, 'bundle': str(bundle), **changes}))
        return json.loads((tmp_path / 'report' / 'report.json').read_text())

    return make


def test_the_report_s_figures_are_those_of_the_runtime(bundle, scenes, report):
    said = report(bundle())
    runtime = Runtime(load_bundle(bundle()), 'cpu')
    observation, truth = read_folder(scenes).batch(slice(None))
    wanted = score(runtime.predict(observation).centers, truth, TASK_CLASSES['shapes'])
    assert said['mse'] == pytest.approx(wanted.mse, rel=1e-5)
    assert said['error_m']['mean'] == pytest.approx(wanted.error_m.mean, rel=1e-5)
    assert list(said['error_m']['per_class']) == ['cube', 'sphere', 'torus']


def test_the_report_has_the_agreed_keys(bundle, report):
    said = report(bundle())
    assert {'scenes', 'mse', 'error_m', 'hit_rate', 'modes', 'streams', 'pairs'} <= set(said)
    assert {'latency_ms', 'bundle', 'device', 'versions'} <= set(said)
    assert set(said['error_m']) == {'mean', 'median', 'p95', 'max', 'per_class'}
    assert set(said['hit_rate']) == {'0.1', '0.25', '0.5'}
    assert set(said['latency_ms']) == {'p50', 'p95', 'p99', 'max'}
    nothing = dict.fromkeys(CAUSES, 0)
    everything = {'received': 12, 'used': 12, 'pending': 0, 'dropped': nothing}
    assert said['streams'] == {'camera': everything, 'lidar': everything}
    assert said['scenes'] == said['pairs'] == 12
    assert said['modes'] == {'fusion': 12}
    assert set(said['bundle']) == {'path', 'model', 'weights_sha256', 'package_version'}


@pytest.mark.parametrize(
    ('model', 'config', 'modes', 'measured'),
    [
        ('rgb', TINY, {'camera_only'}, {'camera_only': 12}),
        ('early_fusion', TINY, {'fusion'}, {'fusion': 12}),
        ('dense_fusion', SMALL_DENSE, {'fusion', 'camera_only', 'lidar_only'}, {'fusion': 12}),
    ],
)
def test_each_mode_that_a_model_serves_is_scored(bundle, report, model, config, modes, measured):
    said = report(bundle(model, config))
    assert set(said['by_mode']) == modes
    assert said['modes'] == measured
    assert ('calibration' in said) == (model == 'dense_fusion')
    assert said['by_mode'][next(iter(measured))]['mse'] == said['mse']


def test_where_the_page_finds_no_room_no_report_passes_for_a_complete_one(
    bundle, report, tmp_path
):
    given = bundle()
    report(given)
    # The page is the larger one.
    with no_file_larger_than(20_000), pytest.raises(OSError) as fault:
        report(given)
    assert fault.value.filename == str(tmp_path / 'report' / 'report.html')
    assert list((tmp_path / 'report').iterdir()) == []


def test_only_the_last_scenes_are_evaluated_when_asked(bundle, report):
    for last in (5, 12):
        assert report(bundle(), last=last)['scenes'] == last


def test_scenes_are_seen_at_the_size_of_the_images_that_the_bundle_learned_from(scenes, tmp_path):
    wide = load_bundle(small_bundle(tmp_path, rig=Rig(camera=Rig().camera.resized(48, 32))))
    seen = as_seen_by(wide, read_folder(scenes), scenes).rig.camera
    assert (seen.width, seen.height) == (48, 32)


@pytest.mark.parametrize('data', [5, None, 'x', [1]])
def test_a_bundle_that_says_nothing_of_what_it_learned_from_is_judged(scenes, data):
    bundle = load_bundle('shapes')
    manifest = bundle.manifest.model_copy(update={'training': {'data': data}})
    assert (
        learned_from(replace(bundle, manifest=manifest), read_folder(scenes), scenes, None) == []
    )


def test_scenes_that_the_bundle_learned_from_are_told_from_others(scenes, tmp_path):
    recipe = tiny_recipe(scenes, tmp_path / 'run', epochs=1)
    train(recipe)
    learned = {'bundle': str(recipe.out / 'bundle.safetensors'), 'data': scenes}

    def said(**changes):
        return evaluate(EvaluateSettings(**{**learned, 'out': tmp_path / 'report', **changes}))[0]

    assert 'learned from' in said() and '--last 1' in said()
    assert 'learned from' in (tmp_path / 'report' / 'report.html').read_text()
    assert 'learned from' not in said(last=1)
    assert said(last=1).count('the best epoch of') == 1 and 'covariances' not in said(last=1)
    assert 'the best epoch of' in (tmp_path / 'report' / 'report.html').read_text()
    assert 'learned from' not in said(bundle='shapes')
    # What it was trained on before counts as well.
    simulate(SimulateSettings(out=tmp_path / 'other', count=12, seed=9))
    tuned = tiny_recipe(tmp_path / 'other', tmp_path / 'tuned', start_from=learned['bundle'])
    train(tuned)
    assert 'learned from' in said(bundle=str(tuned.out))


def test_of_a_bundle_without_a_finished_epoch_no_scenes_have_chosen_one(scenes, tmp_path):
    recipe = tiny_recipe(scenes, tmp_path / 'run', epochs=1)
    train(recipe)
    bundle = load_bundle(recipe.out)
    untold = {k: v for k, v in bundle.manifest.training.items() if k != 'metrics'}
    stopped, silent = (
        replace(bundle, manifest=bundle.manifest.model_copy(update={'training': told}))
        for told in ({**untold, 'metrics': None}, untold)
    )

    def said(of, last):
        return learned_from(of, read_folder(scenes), scenes, last)

    assert said(bundle, 1) and said(stopped, 1) == []
    # One that says nothing of its end may have come to it.
    assert said(silent, 1) == said(bundle, 1)
    assert 'learned from' in said(stopped, None)[0]


def test_calibration_on_the_scenes_that_it_was_fitted_on_is_said_to_prove_nothing(
    scenes, tmp_path
):
    small = {'lidar_widths': [8, 8], 'camera_widths': [8, 8]}
    train(tiny_recipe(scenes, tmp_path / 'run', model='dense_fusion', architecture=small))
    given = {'bundle': str(tmp_path / 'run'), 'data': scenes, 'last': 1, 'device': 'cpu'}
    said, _ = evaluate(EvaluateSettings(**given, out=tmp_path / 'report'))
    assert said.count('covariances were fitted') == 1
    assert 'learned from' not in said


def test_a_mean_error_beyond_the_limit_exits_with_three(bundle, scenes, tmp_path, capsys):
    flags = ['evaluate', '--bundle', str(bundle()), '--data', str(scenes)]
    flags += ['--out', str(tmp_path / 'out'), '--device', 'cpu', '--max-error']
    assert cli.main([*flags, '0.001']) == 3
    assert cli.main([*flags, '1000']) == 0
    assert 'more than --max-error 0.001 m' in capsys.readouterr().out


def test_the_page_holds_the_figures_and_needs_no_network(bundle, report, tmp_path):
    said = report(bundle())
    page = (tmp_path / 'report' / 'report.html').read_text()
    page = re.sub(r'base64,[^"]+', '', page)
    assert f'{said["error_m"]["mean"]:.3f}' in page and 'torus' in page
    assert not re.search(r'(src|href)\s*=\s*"(?!data:|#)', page)
    assert 'http' not in page


@pytest.mark.parametrize(
    ('changed', 'named'),
    [
        ({'rig': Rig(classes=TASK_CLASSES['cubes'])}, 'classes'),
        ({'rows': 32}, 'LiDAR rows and columns'),
        ({'azimuth_first_deg': -15.0}, 'LiDAR tables'),
        ({'projection': 'notebook'}, 'projection'),
        ({'max_range': 60.0}, 'max_range'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_data_of_another_sensor_is_refused_by_the_entry_that_differs(
    bundle, report, changed, named
):
    with pytest.raises(ValueError, match=rf'does not fit .*: {named}'):
        report(bundle(**changed))


def test_without_a_sensor_yaml_the_bundle_says_how_ranges_become_points(
    bundle, report, scenes, tmp_path
):
    original = tmp_path / 'original'
    original.mkdir()
    for item in scenes.iterdir():
        if item.name != 'sensor.yaml':
            (original / item.name).symlink_to(item)
    said = [
        report(bundle(projection=projection), data=folder)['mse']
        for projection, folder in (('notebook', original), ('spherical', scenes))
    ]
    assert said[0] != pytest.approx(said[1]), 'the tables mean other directions'


def test_a_missing_bundle_is_one_sentence_and_exit_code_two(scenes, tmp_path, capsys):
    flags = ['--bundle', 'nowhere.safetensors', '--data', str(scenes), '--out', str(tmp_path)]
    assert cli.main(['evaluate', *flags]) == 2
    assert capsys.readouterr().err.startswith('No bundle at nowhere.safetensors.')


def test_asked_for_noise_makes_the_scenes_harder_and_the_same_each_time(bundle, report):
    model = bundle('dense_fusion', SMALL_DENSE)
    clean = report(model)
    noisy, again = (report(model, range_noise=0.3, dropout=0.3) for _ in range(2))
    assert noisy['by_mode']['camera_only'] == clean['by_mode']['camera_only']
    assert noisy['by_mode']['lidar_only'] != clean['by_mode']['lidar_only']
    assert noisy['by_mode'] == again['by_mode']


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--dropout', '0.1'], 'a recording has its own'),
        (['--last', '5'], 'a recording is evaluated whole'),
    ],
)
def test_what_is_for_data_folders_is_refused_for_recordings(bundle, tmp_path, capsys, flags, said):
    call = ['evaluate', '--bundle', str(bundle()), '--bag', str(tmp_path)]
    assert cli.main([*call, '--out', str(tmp_path / 'out'), *flags]) == 2
    assert said in capsys.readouterr().err
