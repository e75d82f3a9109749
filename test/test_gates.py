"""An evaluation breaks a build when it is worse than a limit or than an earlier one."""

import json

import pytest
import torch

from fusion_perception import cli
from fusion_perception.learning.gates import as_fraction, as_hits
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.models import build
from fusion_perception.models.bundle import save_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A data folder, a bundle, and what it scores there: some 5 m off, no hit within 0.1 m."""
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


def broken(capsys):
    """Return the one line about broken limits."""
    lines = [line for line in capsys.readouterr().out.splitlines() if 'Limits broken' in line]
    assert len(lines) == 1
    return lines[0]


def test_limits_that_are_kept_exit_with_zero(evaluate, baseline, capsys):
    flags = ('--max-error', 1000, '--min-hit-rate', '1000:1', '0.1:0', '--baseline', baseline())
    assert evaluate(*flags) == 0
    assert 'broken' not in capsys.readouterr().out


def test_a_mean_error_beyond_its_limit_is_named_with_it(evaluate, capsys, folder):
    assert evaluate('--max-error', 0.5) == 3
    said = broken(capsys)
    assert 'more than --max-error 0.5 m' in said
    found = json.loads((folder / 'out' / 'report.json').read_text())
    assert f'mean error {found["error_m"]["mean"]:.5g} m' in said
    assert len(found['broken_limits']) == 1
    assert 'Limits broken' in (folder / 'out' / 'report.html').read_text()


def test_any_radius_has_a_hit_rate_and_each_may_have_a_limit(evaluate, capsys):
    assert evaluate('--min-hit-rate', '0.3:0.9', '1000:1', '0.7:0.8') == 3
    said = broken(capsys)
    assert 'within 0.3 m' in said and 'within 0.7 m' in said
    assert 'within 1000 m' not in said


def test_every_broken_limit_stands_in_the_one_line(evaluate, baseline, capsys):
    def halve(report):
        report['error_m']['mean'] /= 2
        report['error_m']['p95'] /= 2

    flags = ('--max-error', 0.5, '--min-hit-rate', '0.25:1', '--baseline', baseline(halve))
    assert evaluate(*flags) == 3
    said = broken(capsys)
    assert said.count(';') == 3
    assert '95 % of errors below' in said and 'median' not in said


@pytest.mark.parametrize(('before', 'code'), [(0.97, 0), (0.94, 3)])
def test_a_baseline_is_held_within_its_tolerance(evaluate, baseline, before, code):
    def shrink(report):
        report['error_m']['mean'] *= before

    assert evaluate('--baseline', baseline(shrink)) == code
    assert evaluate('--baseline', baseline(shrink), '--tolerance', '7%') == 0


def test_fewer_hits_than_the_baseline_break_it(evaluate, baseline, capsys):
    assert (
        evaluate('--baseline', baseline(lambda said: said['hit_rate'].update({'0.5': 1.0}))) == 3
    )
    assert 'hit rate within 0.5 m' in broken(capsys)


def test_a_slower_machine_and_a_lone_outlier_break_nothing(evaluate, baseline):
    def faster(report):
        report['latency_ms'] = dict.fromkeys(report['latency_ms'], 0.001)
        report['error_m']['max'] = 0.001
        report['mse'] = 0.001

    assert evaluate('--baseline', baseline(faster)) == 0


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


def test_what_broke_a_limit_is_no_baseline(evaluate, tmp_path):
    path = tmp_path / 'baseline.json'
    assert evaluate('--max-error', 0.5, '--write-baseline', path) == 3
    assert not path.exists()


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        (('--min-hit-rate', '0.25'), "'0.25' is no radius with a share"),
        (('--min-hit-rate', '0.25:0.9', 'x:2'), "'x:2' is no radius"),
        (('--min-hit-rate', '0.25:95'), 'a share from 0 to 1'),
        (('--tolerance', '5'), "'5' is no percentage"),
        (('--tolerance', '-5%'), 'no percentage'),
        (('--max-error', '0'), 'greater than 0'),
        (('--baseline', 'nowhere.json'), 'No baseline at nowhere.json. Write one'),
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
        ('[]', "it has no 'scenes'"),
        ('{"scenes": 3, "error_m": {"mean": 1}, "hit_rate": {}}', "it has no 'source'"),
        ('{"scenes": 0, "error_m": null, "hit_rate": null, "source": ""}', 'has no scores'),
        ('{"scenes": 3, "error_m": {}, "hit_rate": {}, "source": ""}', "has no 'error_m'"),
    ],
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


def test_a_folder_is_no_baseline(evaluate, tmp_path, capsys):
    assert evaluate('--baseline', tmp_path) == 2
    assert 'is a folder. Name the report.json in it.' in capsys.readouterr().err


def test_limits_are_read_as_they_are_written():
    assert as_hits('0.25:0.95') == (0.25, 0.95)
    assert as_fraction('5%') == pytest.approx(0.05)
    assert as_fraction('0%') == 0
