"""The table tells figures, verdicts and what became slower; the floor tells where speed ends."""

from pathlib import Path

import pytest
import torch
from benchmark_results import machine, result
from torch.utils.flop_counter import FlopCounterMode

from fusion_perception.learning.benchmarks.floor import (
    Cost,
    Rates,
    best_rates,
    cost_of,
    in_words,
    probes_of,
)
from fusion_perception.learning.benchmarks.machine import cpu_model, describe
from fusion_perception.learning.benchmarks.result import Result
from fusion_perception.learning.benchmarks.table import (
    TITLES,
    as_markdown,
    goal_of,
    notebook_against,
    on_the_same_terms,
    short,
    slower_than,
)
from fusion_perception.learning.benchmarks.timing import Measured
from fusion_perception.learning.run.memory import memory_bytes
from fusion_perception.models.bundle import load_bundle

COST = Cost(operations=3_000_000, weights=4_000_000, frame=600_000, answer=400_000)


def together(*results: Result) -> Result:
    """Return one result with the stages of several."""
    stages = tuple(row for one in results for row in one.stages)
    return results[0].model_copy(update={'stages': stages})


def cells_of(table: str, stage: str) -> list[str]:
    (line,) = [line for line in table.split('\n') if line.startswith(f'| {TITLES[stage]} |')]
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_a_row_tells_both_medians_with_quartiles_and_how_many_times_better_ours_is():
    found = result(1, 2, 3, 4, 50, notebook=(10, 20, 60, 80, 900), stage='xyza', unit='ms', goal=5)
    _, ours, notebook, times, _ = cells_of(as_markdown(found), 'xyza')
    assert ours == '3 ms (2 to 4)'
    assert notebook == '60 ms (20 to 80)'
    assert times == '20'


@pytest.mark.parametrize(
    ('goal', 'verdict'), [(20, '20x reached'), (20.1, '20.1x missed'), (4, '4x reached')]
)
def test_a_goal_is_a_ratio_where_two_ways_are_compared(goal, verdict):
    found = result(3, notebook=(60,), stage='xyza', unit='ms', goal=goal)
    assert cells_of(as_markdown(found), 'xyza')[-1] == verdict


@pytest.mark.parametrize(('goal', 'verdict'), [(2000, 'reached'), (2001, 'missed')])
def test_a_goal_is_a_figure_where_nothing_is_compared(goal, verdict):
    found = result(2000, stage='simulator', unit='scenes/s', goal=goal)
    assert cells_of(as_markdown(found), 'simulator')[3:] == ['', f'{goal:,} scenes/s {verdict}']


def test_a_gpu_has_goals_of_its_own():
    assert goal_of('xyza', 'cuda') > goal_of('xyza', 'cpu')
    assert goal_of('simulator', 'cuda') > goal_of('simulator', 'cpu')


def test_the_ratio_of_a_round_is_that_of_its_own_two_figures():
    judged = Measured('xyza', 'ms', (1, 2, 4), (8, 8, 8), '', {'engine': 'torch'}).judged(1)
    assert judged.ratio_by_round.rounds == (8, 4, 2)
    assert judged.notebook.rounds == (8, 8, 8)
    assert judged.details == {'engine': 'torch'}


@pytest.mark.parametrize(
    ('unit', 'stage', 'against'), [('s', 'training', '2.00'), ('scenes/s', 'simulator', '0.50')]
)
def test_each_stage_stands_beside_its_own_record(unit, stage, against):
    other = result(7.0, stage='xyza')
    before = together(other, result(4.0, stage=stage, unit=unit))
    now = together(result(2.0, stage=stage, unit=unit), other)
    assert cells_of(as_markdown(now, before), stage)[-2:] == [f'4 {unit} (4 to 4)', against]
    assert cells_of(as_markdown(now, before), 'xyza')[-1] == '1.00'


def test_a_stage_without_a_record_stands_beside_nothing():
    now = together(result(2.0, stage='training'), result(7.0, stage='xyza'))
    assert cells_of(as_markdown(now, result(7.0, stage='xyza')), 'training')[-2:] == ['', '']


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.012345, '0.0123'), (99.4, '99.4'), (100, '100'), (1234.5, '1,234'), (123456, '123,456')],
)
def test_a_figure_has_three_digits_that_count(value, text):
    assert short(value) == text


def test_the_table_says_how_many_rounds_there_were_and_whether_they_mean_anything():
    found = result(1.0)
    assert 'Medians of 3 rounds' in as_markdown(found)
    assert 'mean nothing' not in as_markdown(found)
    assert 'mean nothing' in as_markdown(found.model_copy(update={'quick': True}))


def test_the_stage_that_became_slower_is_named_with_its_speed():
    before = together(result(4.0, stage='xyza'), result(1.0, stage='training'))
    now = together(result(4.0, stage='xyza'), result(2.0, stage='training'))
    assert slower_than(before, now) == ['training, one epoch runs at 0.50 of the recorded speed']


@pytest.mark.parametrize(('seconds', 'slower'), [(1.05, False), (1.09, False), (1.2, True)])
def test_a_tenth_is_tolerated_even_where_the_rounds_agree(seconds, slower):
    assert bool(slower_than(result(1.0, 1.0, 1.0), result(seconds, seconds, seconds))) == slower


@pytest.mark.parametrize('unit', ['s', 'scenes/s'])
def test_rounds_that_overlap_with_the_record_tell_of_no_slowness(unit):
    slow, quick = (1.0, 1.1, 2.0, 2.1, 2.1), (1.0, 1.1, 1.1, 2.0, 2.1)
    before, now = (quick, slow) if unit == 's' else (slow, quick)
    assert slower_than(result(*before, unit=unit), result(*now, unit=unit)) == []


def test_narrow_rounds_beyond_a_wide_record_tell_of_slowness():
    assert slower_than(result(1.0, 1.1, 1.3, 1.6, 1.9), result(1.7, 1.8, 1.9, 2.0, 9.0)) != []
    rates = [result(*figures, unit='scenes/s') for figures in ((5, 6, 7, 8, 9), (1, 3, 4, 5, 9))]
    assert slower_than(*rates) != []


@pytest.mark.parametrize(
    ('ours', 'notebook', 'slower'),
    [
        (2.0, 10.0, True),  # Ours alone: 5 times the notebook's way, where it was 10 times.
        (2.0, 20.0, False),  # The machine is half as fast.
        (2.0, 18.5, False),  # ... and a tenth is tolerated.
        (4.0, 20.0, True),  # The machine is, and ours besides.
        (1.0, 5.0, False),  # The notebook's way became faster, not ours slower.
    ],
)
def test_a_machine_that_became_slower_makes_no_stage_slower(ours, notebook, slower):
    before, now = (
        result(figure, figure, figure, notebook=(other, other, other))
        for figure, other in ((1.0, 10.0), (ours, notebook))
    )
    assert bool(slower_than(before, now)) == slower


def test_a_stage_that_became_slower_beside_the_notebook_s_way_says_both_ratios():
    before, now = (result(figure, notebook=(10.0,)) for figure in (1.0, 2.0))
    assert slower_than(before, now) == [
        "training, one epoch runs at 0.50 of the recorded speed, 5 times the notebook's way and "
        'not 10'
    ]


def test_ratios_that_overlap_with_the_record_tell_of_no_slowness():
    before = result(1.0, 1.0, 1.0, notebook=(3.0, 10.0, 20.0))
    now = result(2.0, 2.0, 2.0, notebook=(8.0, 12.0, 16.0))
    assert slower_than(before, now) == []
    assert slower_than(result(1.0), now) != []  # A record without the notebook's way.


def test_the_speed_of_the_machine_is_told_by_the_notebook_s_way():
    before = together(
        result(1.0, notebook=(10.0,)), result(1.0, notebook=(4.0,), stage='xyza'),
        result(100.0, notebook=(10.0,), stage='throughput', unit='scenes/s'),
        result(5.0, stage='simulator'),
    )  # fmt: skip
    now = together(
        result(1.0, notebook=(20.0,)), result(1.0, notebook=(5.0,), stage='xyza'),
        result(100.0, notebook=(7.0,), stage='throughput', unit='scenes/s'),
        result(5.0, notebook=(1.0,), stage='simulator'),
    )  # fmt: skip
    said = notebook_against(before, now)
    assert said == "The notebook's way runs at 0.50 to 0.80 of its recorded speed."
    alone = notebook_against(before.model_copy(update={'stages': before.stages[:1]}), now)
    assert alone == "The notebook's way runs at 0.50 of its recorded speed."
    assert notebook_against(result(1.0), now) == ''


def test_what_was_measured_twice_is_compared_and_the_rest_is_left_out():
    before = together(
        result(1.0, stage='training'), result(2.0, stage='simulator'), result(3.0, stage='xyza')
    )
    now = result(1.0, stage='xyza')
    before = before.model_copy(update={'settings': {'scenes': 40}})
    alike, apart = on_the_same_terms(before, now.model_copy(update={'settings': {'scenes': 40}}))
    assert [row.stage for row in alike.stages] == ['xyza']
    assert apart == []


@pytest.mark.parametrize('quick', [False, True])
def test_tiny_sizes_are_compared_with_tiny_sizes_alone(quick):
    now = result(1.0, stage='simulator').model_copy(update={'quick': quick})
    other = now.model_copy(update={'quick': not quick})
    assert on_the_same_terms(now, now) == (now, [])
    assert on_the_same_terms(other, now) == (None, ['one of them is quick'])


def test_stages_on_other_terms_leave_the_comparison():
    both = together(result(1.0, stage='training'), result(2.0, stage='simulator'))
    before = both.model_copy(update={'settings': {'scenes': 40}})
    now = both.model_copy(update={'settings': {'scenes': 50}})
    alike, apart = on_the_same_terms(before, now)
    assert [row.stage for row in alike.stages] == ['simulator']
    assert apart == ['training, one epoch (scenes 40, now 50)']


def test_a_result_gives_the_stage_that_is_asked_for():
    found = together(result(2.0, stage='training_bfloat16'), result(1.0, stage='training'))
    assert found.of('training').ours.median == 1.0
    assert found.of('xyza') is None


def test_the_machine_is_described_as_it_is():
    found = describe(torch.device('cpu'))
    assert found.memory_gib == round(memory_bytes() / 2**30, 1)
    assert found.threads == torch.get_num_threads()
    assert (found.gpu, found.cuda, found.device) == (None, None, 'cpu')
    assert {'torch', 'numpy'} <= set(found.versions)


def test_the_processor_is_called_what_the_system_calls_it():
    told = Path('/proc/cpuinfo').read_text()
    if 'model name' in told:
        assert f': {cpu_model()}\n' in told


def test_a_gpu_is_named_in_the_table():
    found = result(1.0).model_copy(update={'machine': machine(gpu='H200', cuda='12.4')})
    assert ', H200 (CUDA 12.4); on' in as_markdown(found)


@pytest.mark.parametrize('name', ['matrices', 'convolutions'])
def test_the_operations_of_a_probe_are_those_that_torch_counts(bench, name):
    probe = probes_of(bench, COST)[name]
    with FlopCounterMode(display=False) as counter:
        probe.work()
    assert probe.amount == counter.get_total_flops()


def test_a_copy_reads_and_writes_its_bytes(bench):
    probe = probes_of(bench, COST)['copies']
    assert probe.amount == 2 * probe.work().nbytes


def test_the_way_to_a_gpu_and_back_is_no_probe_of_a_cpu(bench):
    assert set(probes_of(bench, COST)) == {'matrices', 'convolutions', 'copies'}


def test_a_rate_is_that_of_the_quickest_round_of_the_quickest_work():
    amounts = {'matrices': 100, 'convolutions': 100, 'copies': 60, 'round_trip': 7}
    figures = {
        'matrices': (5.0, 4.0),
        'convolutions': (2.0, 9.0),
        'copies': (6.0, 3.0),
        'round_trip': (0.5, 0.25),
    }
    assert best_rates(amounts, figures) == Rates(operations=50, bytes=20, round_trip=0.25)


def test_a_cpu_needs_no_way_there_and_back():
    names = ('matrices', 'convolutions', 'copies')
    rates = best_rates(dict.fromkeys(names, 10), dict.fromkeys(names, (1.0,)))
    assert rates == Rates(operations=10, bytes=10, round_trip=0.0)


def test_all_that_is_moved_counts_once():
    assert COST.moved == 5_000_000


def test_an_answer_holds_centres_and_covariances():
    objects = 3
    assert cost_of(load_bundle('shapes')).answer == 4 * objects * (3 + 3 * 3)


def test_buffers_are_read_as_weights_are():
    bundle = load_bundle('shapes')
    tensors = bundle.model.state_dict().values()
    assert cost_of(bundle).weights >= sum(tensor.nbytes for tensor in tensors)


def test_the_floor_is_told_in_milliseconds_with_what_it_stands_on():
    # 3 million operations take 1 ms, 5 MB take 2.5 ms, and 0.5 ms go for the way.
    text, numbers = in_words(COST, Rates(3e9, 2e9, 0.0005), 9.0)
    assert text == (
        'the floor is 3.000 ms, 3 million operations at 3 billion/s, 5.0 MB at 2 GB/s and '
        '0.500 ms there and back: inference takes 3.0 times that'
    )
    told = ('bytes_per_s', 'operations_per_s', 'round_trip_ms', 'floor_ms', 'over_floor')
    assert [numbers[name] for name in told] == pytest.approx([2e9, 3e9, 0.5, 3.0, 3.0])
