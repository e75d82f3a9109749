"""An evaluation breaks a build when it is worse than a limit or than an earlier one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from fusion_perception import cli
from fusion_perception.learning.evaluation import EvaluateSettings
from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.gates import (
    Baseline,
    GateSettings,
    as_fraction,
    as_hits,
    broken_limits,
    check_takes_baseline,
    read_baseline,
)
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Prediction
from fusion_perception.sensing.rig import TASK_CLASSES, Rig

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A data folder and a bundle that is some 5 m off there, with its report."""
    path = tmp_path_factory.mktemp('gates')
    simulate(SimulateSettings(out=path / 'data', count=8))
    torch.manual_seed(0)
    model = build('rgb', {'channels': (4, 4), 'hidden': (16,)})
    save_bundle(path / 'rgb.safetensors', model, 'rgb', Rig(), UniformGrid().lidar(), {})
    assert run(path)() == 0
    return path


def run(path):
    def evaluate(*flags):
        sources = ('--bundle', path / 'rgb.safetensors', '--data', path / 'data')
        given = (*sources, '--out', path / 'out', '--device', 'cpu', *flags)
        return cli.main(['evaluate', *map(str, given)])

    return evaluate


@pytest.fixture
def evaluate(folder):
    return run(folder)


@pytest.fixture
def baseline(folder, tmp_path):
    """Write the folder's own report, changed, as a baseline."""

    def write(change=lambda report: None):
        said = json.loads((folder / 'out' / 'report.json').read_text())
        change(said)
        path = tmp_path / 'baseline.json'
        path.write_text(json.dumps(said))
        return path

    return write


@pytest.fixture
def broken():
    """Return the limits that 4 centres break, 0.2, 0.4, 0.6 and 0.8 m off."""
    away = torch.tensor([[0.2, 0.4], [0.6, 0.8]])
    truth = torch.zeros(2, 2, 3)
    centers = torch.stack((away, 0 * away, 0 * away), dim=-1)
    prediction = Prediction(centers, None, ('cube', 'ball'), ('fusion', 'fusion'))
    evidence = Evidence('somewhere', prediction, truth, {}, {}, {}, 2, [1.0])
    reached = Baseline(
        path=Path('old.json'),
        scenes=2,
        classes=('cube', 'ball'),
        errors={'mean': 0.5, 'median': 0.5, 'p95': 0.77},
        hit_rate={'0.25': 0.25, '0.5': 0.5},
    )

    def limits(before=None, **given):
        beside = None if before is None else replace(reached, **before)
        return broken_limits(GateSettings.read(given), evidence, beside)

    return limits


def the_line(capsys):
    """Return the one line about broken limits."""
    lines = [line for line in capsys.readouterr().out.splitlines() if 'Limits broken' in line]
    assert len(lines) == 1
    return lines[0]


def test_limits_that_are_kept_break_nothing(broken):
    assert broken({}, max_error=0.5001, min_hit_rate=('0.25:0.25', '0.7:0.75', '1:1')) == []


def test_the_mean_error_is_limited_and_not_the_median():
    centers = torch.zeros(4, 1, 3)
    centers[3, 0, 0] = 2.0
    prediction = Prediction(centers, None, ('ball',), ('fusion',) * 4)
    evidence = Evidence('somewhere', prediction, torch.zeros(4, 1, 3), {}, {}, {}, 4, [1.0])
    (said,) = broken_limits(GateSettings(max_error=0.4), evidence, None)
    assert said == 'mean error 0.5 m is more than --max-error 0.4 m'
    assert broken_limits(GateSettings(max_error=0.5), evidence, None) == []
    # No error at all may be asked for as well.
    (said,) = broken_limits(GateSettings(max_error=0), evidence, None)
    assert said == 'mean error 0.5 m is more than --max-error 0 m'


def test_a_broken_limit_exits_with_three_and_is_named_with_the_number(evaluate, folder, capsys):
    assert evaluate('--max-error', 0.5) == 3
    said = the_line(capsys)
    found = json.loads((folder / 'out' / 'report.json').read_text())
    assert f'mean error {found["error_m"]["mean"]:.5g} m is more than --max-error 0.5 m' in said
    assert len(found['broken_limits']) == 1
    assert 'Limits broken' in (folder / 'out' / 'report.html').read_text()


def test_any_radius_has_a_hit_rate_and_each_may_have_a_limit(broken):
    said = broken(min_hit_rate=('0.3:0.9', '1000:1', '0.7:0.8'))
    assert said == [
        'hit rate within 0.3 m 0.25 is less than --min-hit-rate 0.3:0.9',
        'hit rate within 0.7 m 0.75 is less than --min-hit-rate 0.7:0.8',
    ]


def test_every_broken_limit_stands_in_the_one_line(evaluate, baseline, capsys):
    def halve(report):
        report['error_m']['mean'] /= 2
        report['error_m']['p95'] /= 2

    flags = (
        '--max-error',
        0.5,
        '--min-hit-rate',
        '0.25:1',
        '0.3:1',
        '--baseline',
        baseline(halve),
    )
    assert evaluate(*flags) == 3
    said = the_line(capsys)
    assert said.count(';') == 4
    assert '95 % of errors below' in said and 'median' not in said


@pytest.mark.parametrize('key', ['mean', 'median', 'p95'])
def test_a_baseline_is_held_within_its_tolerance(broken, key):
    reached = {'mean': 0.5, 'median': 0.5, 'p95': 0.77}
    before = {'errors': {**reached, key: 0.94 * reached[key]}}
    said = broken(before)
    assert len(said) == 1 and said[0].endswith('m + 5%')
    assert broken(before, tolerance='7%') == []


def test_fewer_hits_than_the_baseline_break_it(broken):
    said = broken({'hit_rate': {'0.5': 0.53}})
    assert said == ['hit rate within 0.5 m 0.5 is less than --baseline 0.53 - 5%']
    assert broken({'hit_rate': {'0.5': 0.52}}) == []


def test_a_slower_machine_and_a_lone_outlier_break_nothing(evaluate, baseline):
    def faster(report):
        report['latency_ms'] = dict.fromkeys(report['latency_ms'], 0.001)
        report['error_m']['max'] = 0.001
        report['mse'] = 0.001

    assert evaluate('--baseline', baseline(faster), '--tolerance', '0%') == 0


def test_a_baseline_of_other_scenes_is_said(evaluate, baseline, capsys):
    assert evaluate('--baseline', baseline(lambda said: said.update(scenes=99))) == 0
    assert 'was measured on 99 scenes, this on 8' in capsys.readouterr().out


def test_a_written_baseline_holds_for_the_same_and_knows_no_paths(evaluate, folder, tmp_path):
    path = tmp_path / 'new' / 'baseline.json'
    assert evaluate('--write-baseline', path) == 0
    first = path.read_bytes()
    assert evaluate('--baseline', path, '--tolerance', '0%', '--write-baseline', path) == 0
    assert path.read_bytes() == first
    assert str(folder / 'rgb.safetensors') not in path.read_text()


def test_what_broke_a_limit_is_no_baseline_and_that_is_said(evaluate, tmp_path, capsys):
    path = tmp_path / 'baseline.json'
    assert evaluate('--max-error', 0.5, '--write-baseline', path) == 3
    assert not path.exists()
    said = capsys.readouterr().out
    assert f'{path} was not written: a limit is broken. Correct what broke it, or' in said
    assert evaluate('--write-baseline', path) == 0
    assert 'not written' not in capsys.readouterr().out


def test_a_baseline_overwrites_nothing_but_a_baseline(evaluate, folder, capsys):
    for path in (folder / 'data' / 'positions.csv', folder / 'rgb.safetensors'):
        before = path.read_bytes()
        assert evaluate('--write-baseline', path) == 2
        assert f'{path} is no baseline, and would be overwritten.' in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_baseline_behind_a_link_needs_room_where_that_leads(tmp_path):
    (tmp_path / 'baseline.json').write_text('{"error_m": null}')
    with (tmp_path / 'baseline.json').open() as file:
        # A link in a folder that takes no other file.
        check_takes_baseline(Path(f'/proc/self/fd/{file.fileno()}'), ())


@pytest.mark.parametrize('name', ['report.json', 'report.html', 'predictions.csv'])
def test_a_baseline_is_no_part_of_the_report(evaluate, folder, name, capsys):
    path = folder / 'out' / name
    before = path.read_bytes() if path.exists() else None
    assert evaluate('--write-baseline', path) == 2
    assert f'{path} is a part of the report.' in capsys.readouterr().err
    assert before == (path.read_bytes() if path.exists() else None)


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        (('--min-hit-rate', '0.25'), "'0.25' is no radius with a share"),
        (('--min-hit-rate', '0.25:0.9', 'x:2'), "'x:2' is no radius"),
        (('--min-hit-rate', '0.25:95'), 'a share from 0 to 1'),
        (('--tolerance', '5'), "'5' is no percentage"),
        (('--tolerance', '-5%'), 'no percentage'),
        (('--max-error', '-1'), 'greater than or equal to 0'),
        (('--baseline', 'nowhere.json'), 'No baseline at nowhere.json. Write one'),
        (('--slop-s', '0.1'), '--slop-s 0.1 is for --bag'),
        (('--no-allow-single',), '--no-allow-single is for --bag'),
        (('--truth-slop', '1'), '--truth-slop 1.0 is for --bag'),
        (('--jobs', '2'), '--jobs is for --bag'),
        (('--tolerance', '1%'), '--tolerance is for --baseline'),
    ],
)
def test_a_limit_of_another_form_is_refused_before_anything_runs(
    evaluate, flags, complaint, capsys
):
    assert evaluate(*flags) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and '\n' not in said


@pytest.mark.parametrize(
    ('content', 'complaint'),
    [
        ('{"scenes": 3', 'is no JSON'),
        ('[' * 100_000, 'is no JSON'),
        ('{"scenes": ' + '9' * 5000 + '}', 'is no JSON'),
        ('[]', "it has no 'scenes'"),
        ('{"scenes": 3, "error_m": {"mean": 1}, "hit_rate": {}}', "it has no 'source'"),
        ('{"scenes": 0, "error_m": null, "hit_rate": null, "source": ""}', 'has no scores'),
        ('{"scenes": 3, "error_m": {}, "hit_rate": {}, "source": ""}', "has no 'error_m'"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_report_is_no_baseline(evaluate, tmp_path, content, complaint, capsys):
    path = tmp_path / 'odd.json'
    path.write_text(content)
    assert evaluate('--baseline', path) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and '\n' not in said


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (lambda said: said['error_m'].pop('p95'), "'p95' is missing"),
        (lambda said: said['error_m'].update(mean='much'), "'mean' is 'much', not a number"),
        (lambda said: said['error_m'].update(mean=float('nan')), "'mean' is nan"),
        (lambda said: said['error_m'].update(mean=10**400), "'mean' is 1000"),
        (lambda said: said['hit_rate'].update(near=1.0), "has 'near' for a radius"),
        (
            lambda said: said['error_m'].update(per_class={'cone': 1.0}),
            'is about cone, the bundle',
        ),
    ],
)
def test_a_report_with_odd_figures_is_no_baseline(evaluate, baseline, change, complaint, capsys):
    assert evaluate('--baseline', baseline(change)) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and '\n' not in said


def test_a_report_is_not_held_to_the_one_that_it_overwrites(evaluate, folder, capsys):
    report = folder / 'out' / 'report.json'
    before = report.read_bytes()
    assert evaluate('--baseline', report) == 2
    assert f'The baseline {report} would be overwritten' in capsys.readouterr().err
    assert report.read_bytes() == before


def test_a_folder_is_no_baseline(evaluate, tmp_path, capsys):
    assert evaluate('--baseline', tmp_path) == 2
    assert 'is a folder. It has no report.json.' in capsys.readouterr().err


def test_limits_are_read_as_they_are_written():
    assert as_hits('0.25:0.95') == (0.25, 0.95)
    assert as_fraction('5%') == pytest.approx(0.05)
    assert as_fraction('0%') == 0


def test_the_example_workflow_gives_flags_and_goals_that_exist():
    workflow = yaml.safe_load((ROOT / 'docs' / 'examples' / 'evaluate.yml').read_text())
    commands = ' '.join(
        step.get('run', '') for job in workflow['jobs'].values() for step in job['steps']
    )
    flags = re.findall(r'--([a-z-]+)', commands)
    assert {'max-error', 'min-hit-rate', 'baseline', 'tolerance'} <= set(flags)
    assert {flag.replace('-', '_') for flag in flags} <= set(EvaluateSettings.model_fields)
    goals = re.findall(r'make -C \S+ (\w+)', commands)
    assert goals == ['eval']
    assert re.search(r'^eval\b.*:', (ROOT / 'Makefile').read_text(), re.MULTILINE)


@pytest.mark.parametrize('task', TASK_CLASSES)
def test_the_bundles_that_ship_have_a_baseline_of_their_own(task):
    path = ROOT / 'test' / 'baselines' / f'{task}.json'
    read_baseline(path, TASK_CLASSES[task])
    measured = json.loads(path.read_text())['bundle']['weights_sha256']
    shipped = load_bundle(task).manifest.weights_sha256
    assert measured == shipped, f'{path} is of another bundle. After `make baseline` commit it.'
