"""A report of recordings has a row for each, and names those that cannot be read."""

import json
import os
import re
from pathlib import Path

import pytest
from recordings import record
from training_runs import tiny_recipe

from fusion_perception import cli
from fusion_perception.learning.bag import outcome_of
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.timeline import MOST_BINS, Timeline
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.to_bag import IMAGE, TRUTH
from fusion_perception.learning.training import train
from fusion_perception.sensing.ledger import CAUSES, Ledger

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture
def report(tmp_path, bundle):
    def make(*bags, **settings):
        out = tmp_path / 'report'
        values = {'bundle': str(bundle), 'bag': tuple(map(str, bags)), 'out': out, 'jobs': 1}
        said = evaluate(EvaluateSettings.read({**values, 'device': 'cpu', **settings}))
        return json.loads((out / 'report.json').read_text()), said

    return make


def no_truth(events):
    return [event for event in events if event.topic != TRUTH]


def test_two_runs_differ_in_their_times_only(tmp_path, report):
    bag = record(tmp_path / 'bag', 6)
    reports = [report(bag)[0] for _ in range(2)]
    for said in reports:
        del said['latency_ms'], said['time']
    assert json.dumps(reports[0]) == json.dumps(reports[1])


def test_a_bag_that_is_read_stays_as_it_is(tmp_path, report):
    bag = record(tmp_path / 'bag', 3, storage='sqlite3')
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in bag.iterdir()}
    report(bag)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in bag.iterdir()} == before


def test_what_became_of_the_messages_is_said_beside_the_scores(tmp_path, report):
    def without_some(events):
        return [event for event in events if event.topic != IMAGE or event.index != 2]

    _, (said, _) = report(record(tmp_path / 'bag', 5, edit=without_some))
    assert 'camera: 4 received = 4 used; lidar: 5 received = 4 used, 1 no_partner.' in said


def test_several_bags_have_a_row_each_and_a_total(tmp_path, report):
    record(tmp_path / 'bags' / 'one', 5)
    record(tmp_path / 'bags' / 'two', 7)
    said, (_, code) = report(tmp_path / 'bags')
    assert [row['pairs'] for row in said['bags']] == [5, 7]
    assert said['pairs'] == said['scenes'] == 12
    rows = [row['error_m']['mean'] * row['scenes'] for row in said['bags']]
    assert said['error_m']['mean'] == pytest.approx(sum(rows) / 12)
    for counts in (said, *said['bags']):
        camera = counts['streams']['camera']
        assert camera['received'] == camera['used'] == counts['pairs']
        assert camera['dropped'] == dict.fromkeys(CAUSES, 0)
    assert code == 0
    lines = (tmp_path / 'report' / 'predictions.csv').read_text().splitlines()
    assert len(lines) == 13
    page = (tmp_path / 'report' / 'report.html').read_text()
    assert re.search('Total</th><td>12</td><td>12</td>', page)


def test_parallel_processes_say_the_same(tmp_path, report):
    def late_once(events):
        late = next(event for event in events if event.topic == TRUTH)
        return [e.stamped(e.stamp_ns + 4_000_000) if e is late else e for e in events]

    bags = [record(tmp_path / name, 4, edit=late_once) for name in 'ab']
    alone, _ = report(*bags, jobs=1, truth_slop=0.003)
    table = (tmp_path / 'report' / 'predictions.csv').read_text()
    together, _ = report(*bags, jobs=2, truth_slop=0.003)
    assert alone['scenes'] == together['scenes'] == 6
    assert alone['error_m'] == together['error_m']
    assert table == (tmp_path / 'report' / 'predictions.csv').read_text()


def test_a_recording_whose_name_is_no_utf_8_is_named_as_far_as_that_goes(tmp_path, report):
    bag = record(tmp_path / 'bag', 2)
    odd = bag.rename(tmp_path / os.fsdecode(b'h\xf6he'))
    said, _ = report(odd)
    assert said['bags'][0]['source'] == str(odd)
    for name in ('report.html', 'predictions.csv'):
        assert r'h\udcf6he' in (tmp_path / 'report' / name).read_text(encoding='utf-8')


def test_an_evaluation_leaves_no_results_of_an_earlier_one(tmp_path, report, simulated):
    report(record(tmp_path / 'bag', 2))
    out = tmp_path / 'report'
    (out / 'notes.csv').write_text('mine')
    said, _ = report(data=simulated, bag=(), jobs=0)
    assert said['source'] == str(simulated)
    assert {file.name for file in out.iterdir()} == {'report.json', 'report.html', 'notes.csv'}
    (out / 'predictions.csv').write_text('scene,x\n')
    report(data=simulated, bag=(), jobs=0)
    assert (out / 'predictions.csv').read_text() == 'scene,x\n'


def test_an_evaluation_that_comes_to_nothing_leaves_the_earlier_results(tmp_path, report):
    report(record(tmp_path / 'bag', 2))
    before = {file: file.read_bytes() for file in (tmp_path / 'report').iterdir()}
    with pytest.raises(ValueError, match='needs ground truth'):
        report(record(tmp_path / 'other', 2, edit=no_truth), max_error=1)
    assert {file: file.read_bytes() for file in (tmp_path / 'report').iterdir()} == before


def test_a_bag_that_cannot_be_read_is_named_beside_the_others(tmp_path, report):
    good = record(tmp_path / 'good', 4)
    bad = tmp_path / 'bad.mcap'
    bad.write_bytes(bytes(1000))
    said, (text, code) = report(good, bad, write_baseline=tmp_path / 'baseline.json')
    assert code == 2
    assert not (tmp_path / 'baseline.json').exists()
    assert said['pairs'] == 4
    assert list(said['failed']) == [str(bad)]
    assert 'does not begin as an .mcap file' in text
    assert f'{tmp_path / "baseline.json"} was not written: a recording could not be' in text


def test_nothing_is_written_into_a_recording_that_is_read(tmp_path, bundle, capsys):
    bag, elsewhere = record(tmp_path / 'bag', 2), tmp_path / 'elsewhere'
    link = tmp_path / 'link'
    link.symlink_to(bag)
    file = next(bag.glob('*.mcap'))
    before = {path: path.read_bytes() for path in bag.iterdir()}
    evaluation = ['evaluate', '--bundle', str(bundle), '--device', 'cpu', '--bag']
    for call in (
        [*evaluation, str(bag), '--out', str(bag)],
        [*evaluation, str(tmp_path), '--out', str(link / 'deep' / 'out')],
        [*evaluation, str(file), '--out', str(bag / 'out')],
        [*evaluation, str(bag), '--out', str(elsewhere), '--write-baseline', str(bag / 'b.json')],
        [*evaluation, str(file), '--out', str(elsewhere), '--write-baseline', str(file)],
        ['from-bag', str(bag), '--out', str(bag / 'data')],
    ):
        assert cli.main(call) == 2
        assert 'lies in the recording' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in bag.iterdir()} == before
    assert not elsewhere.exists()


def test_results_that_have_no_place_are_said_before_anything_is_read(tmp_path, bundle, capsys):
    taken, unread = tmp_path / 'report', tmp_path / 'bad.mcap'
    taken.write_text('mine')
    unread.write_bytes(bytes(1000))
    flags = ['evaluate', '--bundle', str(bundle), '--bag', str(unread), '--out']
    assert cli.main([*flags, str(taken)]) == 2
    assert capsys.readouterr().err == f'{taken} is a file. Choose a folder for the report.\n'
    assert taken.read_text() == 'mine'
    assert cli.main([*flags, '/proc/self']) == 2
    assert capsys.readouterr().err.startswith('Nothing can be written into /proc/self (')
    assert cli.main([*flags, str(tmp_path / 'out'), '--write-baseline', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f'{tmp_path} is a folder.')
    for place in (taken / 'baseline.json', Path('/proc/self/new/baseline.json')):
        assert cli.main([*flags, str(tmp_path / 'out'), '--write-baseline', str(place)]) == 2
        said = f'No baseline can be written to {place} ('
        assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('fault', 'said'),
    [
        (ZeroDivisionError('by zero'), '{} cannot be evaluated (ZeroDivisionError: by zero).'),
        (OSError('The disk is full.'), '{}: The disk is full.'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_fault_a_recording_meets_is_said_of_it_and_ends_no_other(
    tmp_path, runtime, fault, said
):
    bag = record(tmp_path / 'bag', 2)

    def fails(read, total):
        raise fault

    outcome = outcome_of(runtime, bag, BagSettings(), 4, fails)
    assert outcome == said.format(bag)


@pytest.mark.parametrize('content', [b'', bytes(5000), b'\x89MCAP0\r\n'])
def test_nothing_to_read_is_one_sentence_and_exit_code_two(tmp_path, bundle, content, capsys):
    bag = tmp_path / 'bad.mcap'
    bag.write_bytes(content)
    flags = ['--bundle', str(bundle), '--bag', str(bag), '--out', str(tmp_path / 'out')]
    assert cli.main(['evaluate', *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f'Nothing in {bag} can be read') and '\n' not in said
    assert not (tmp_path / 'out').exists()


def test_without_truth_there_are_predictions_but_no_scores(tmp_path, report):
    bag = record(tmp_path / 'bag', 4, edit=no_truth)
    said, (text, code) = report(bag)
    assert (said['scenes'], said['error_m'], said['pairs'], code) == (0, None, 4, 0)
    assert 'no truth to score by' in text
    with pytest.raises(ValueError, match='--max-error needs ground truth'):
        report(bag, max_error=1.0)


def test_a_timeline_has_a_bounded_number_of_bins():
    timeline = Timeline()
    for second in range(5000):
        timeline.count(second, 'seconds')
    said = timeline.as_json()
    assert len(said['time_s']) <= MOST_BINS
    assert sum(said['counts']['seconds']) == 5000
    assert said['bin_s'] == 32


def test_what_was_counted_stays_at_its_time_when_the_bins_widen():
    timeline = Timeline()
    for second in (0, 1, 2, 3, 239, 240):
        timeline.count(second, 'seconds')
    said = timeline.as_json()
    counted = zip(said['time_s'], said['counts']['seconds'], strict=True)
    assert {time_s: count for time_s, count in counted if count} == {0: 2, 2: 2, 238: 1, 240: 1}


def test_a_loss_is_counted_in_the_bin_in_which_it_was_noticed_and_in_no_other():
    timeline, ledger = Timeline(), Ledger()
    for time_s, cause in ((0.5, 'stale'), (1.5, 'duplicate')):
        ledger.receive('lidar')
        ledger.drop('lidar', cause)
        timeline.counters(time_s, ledger.counters())
    assert timeline.as_json()['counts'] == {
        'lidar.dropped.duplicate': [0, 1],
        'lidar.dropped.stale': [1, 0],
        'lidar.received': [1, 1],
    }


@pytest.mark.parametrize(
    ('fresh', 'words'),
    [(None, 'learned from {} itself'), (8, 'By scenes of {} the best epoch of')],
)
def test_a_recording_that_the_bundle_learned_from_is_told_from_others_wherever_it_lies(
    tmp_path, report, fresh, words
):
    drive = record(tmp_path / 'drive', 12)
    from_bag(FromBagSettings(bag=drive, out=tmp_path / 'scenes'))
    train(tiny_recipe(tmp_path / 'scenes', tmp_path / 'run', epochs=1, fresh_scenes=fresh))
    moved, other = drive.rename(tmp_path / 'moved'), record(tmp_path / 'other', 9)
    said, (text, _) = report(moved, other, bundle=str(tmp_path / 'run'))
    [warning] = said['warnings']
    assert words.format(moved) in warning and warning in text
    assert words.format(moved) in (tmp_path / 'report' / 'report.html').read_text()
    assert 'warnings' not in report(other, bundle=str(tmp_path / 'run'))[0]
    assert 'warnings' not in report(moved)[0]


def test_times_in_one_bin_of_a_timeline_are_not_parted():
    timeline = Timeline()
    assert not timeline.parts(0.1, 0.9)
    assert timeline.parts(0.9, 1.1)
    timeline.count(240, 'seconds')
    assert not timeline.parts(0.9, 1.1)
