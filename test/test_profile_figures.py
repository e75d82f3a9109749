"""The figures of a profile, and what its command line hands to the nodes."""

import time

import pytest
import yaml
from odd_files import no_file_larger_than

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.child import parameters
from fusion_perception.ros.profile import (
    ProfileSettings,
    Stopwatch,
    _accounted,
    _summary,
    as_markdown,
    keep,
)


def counts(received=10, used=6, pending=0, **dropped):
    return {'received': received, 'used': used, 'pending': pending, 'dropped': dropped}


RUN = {
    'executor': 'multi',
    'threads': 2,
    'predictions_per_s': 59.5,
    'cpu_cores': 0.75,
    'latency_ms': {'p50': 1.0, 'p95': 2.0, 'p99': 3.0, 'max': 4.0},
    'streams': {'camera': counts(stale=4)},
    'stages': {'publish': {'calls': 7, 'p50_ms': 5.0, 'p95_ms': 6.0, 'per_prediction_ms': 8}},
}


def test_a_stage_is_summed_up_by_its_calls_and_per_prediction():
    found = _summary([float(ms) for ms in range(1, 102)], predictions=50)
    assert found['calls'] == 101
    assert (found['p50_ms'], found['p95_ms']) == (51.0, 96.0)
    assert found['per_prediction_ms'] == pytest.approx(101 * 51 / 50)


@pytest.mark.parametrize(
    ('told', 'good'),
    [
        (counts(stale=3, no_partner=1), True),
        (counts(stale=3), False),
        (counts(stale=5), False),
        (counts(received=11, stale=3, no_partner=1, pending=1), False),
        (counts(stale=3, no_partner=1, pending=1), False),
    ],
)
def test_every_message_was_used_or_dropped_and_none_waits_once_the_node_has_ended(told, good):
    assert _accounted(told) == good


def test_a_stopwatch_counts_milliseconds_also_of_calls_that_fail():
    def busy(seconds, fails):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        if fails:
            raise ValueError('as asked')
        return 'done'

    stopwatch = Stopwatch()
    timed = stopwatch.around('work', busy)
    began = time.perf_counter()
    assert timed(0.02, fails=False) == 'done'
    with pytest.raises(ValueError, match='as asked'):
        timed(0.01, fails=True)
    whole_ms = 1000 * (time.perf_counter() - began)
    first_ms, second_ms = stopwatch.times_ms['work']
    assert first_ms >= 20 and second_ms >= 10 and first_ms + second_ms <= whole_ms


def test_the_tables_hold_each_figure_under_its_heading(tmp_path):
    text = as_markdown(ProfileSettings(out=tmp_path, hz=30, seconds=4), [RUN])
    assert text.startswith('Both sensors at 30 Hz') and '4 s each.' in text
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|') and '---' not in line
    ]
    heads, figures, stage_heads, stage = rows
    told = dict(zip(heads, figures, strict=True))
    assert (told['executor'], told['threads'], told['predictions/s']) == ('multi', '2', '59.5')
    latencies = [told[key].split()[0] for key in ('latency p50', 'p95', 'p99', 'max')]
    assert latencies == ['1.00', '2.00', '3.00', '4.00']
    assert told['cores'] == '0.75'
    assert told['messages'] == 'camera: 10 received = 6 used, 4 stale'
    of_stage = dict(zip(stage_heads, stage, strict=True))
    assert (of_stage['stage'], of_stage['calls']) == ('publish', '7')
    assert [of_stage[key].split()[0] for key in ('p50', 'p95')] == ['5.000', '6.000']
    assert of_stage['per prediction'] == '8.000 ms'


def test_a_profile_that_finds_no_room_leaves_the_one_before(tmp_path):
    settings = ProfileSettings(out=tmp_path)
    keep(settings, [RUN])
    before = (tmp_path / 'profile.json').read_bytes()
    with no_file_larger_than(100), pytest.raises(OSError, match=r'profile\.json'):
        keep(settings, [RUN, RUN])
    assert (tmp_path / 'profile.json').read_bytes() == before


def test_a_string_stays_one_whatever_it_looks_like_and_a_number_is_one():
    given = {'bundle': '1e3', 'out': 'a: b', 'off': 'no', 'hz': 5.5, 'threads': 2}
    arguments = parameters(given)
    assert arguments[::2] == ['-p'] * 5
    pairs = [argument.split(':=', 1) for argument in arguments[1::2]]
    assert {name: yaml.safe_load(value) for name, value in pairs} == given
