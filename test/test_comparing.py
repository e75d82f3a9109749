"""Several models are trained alike and stand in one table, or none is where one cannot be."""

import json

import pytest
from training_runs import tiny_recipe

from fusion_perception.learning.compare import (
    CompareSettings,
    as_markdown,
    compare,
    recipe_of,
    trained_within,
)
from fusion_perception.learning.training import train
from fusion_perception.models.bundle import load_bundle

TINY = {'channels': (4, 4), 'hidden': (16,)}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture
def comparison(scenes, tmp_path):
    """Return settings that train tiny models for one epoch into tmp_path / 'both'."""

    def make(*models, **changes):
        values = {'epochs': 1, 'batch_size': 4, 'device': 'cpu', 'architecture': TINY, **changes}
        return CompareSettings(data=scenes, models=models, out=tmp_path / 'both', **values)

    return make


def test_compared_models_stand_in_one_table_and_one_chart(comparison, tmp_path):
    settings = comparison('rgb', 'late_fusion')
    said = compare(settings)
    table = json.loads((tmp_path / 'both' / 'table.json').read_text())['models']
    assert [row['model'] for row in table] == ['rgb', 'late_fusion']
    assert all(row['parameters'] > 0 and row['latency_ms']['p50'] > 0 for row in table)
    assert '| late_fusion |' in said
    assert said.startswith((tmp_path / 'both' / 'table.md').read_text())
    assert (tmp_path / 'both' / 'losses.png').read_bytes().startswith(b'\x89PNG')
    trained = (tmp_path / 'both' / 'late_fusion' / 'metrics.json').stat().st_mtime_ns
    compare(settings)
    assert (tmp_path / 'both' / 'late_fusion' / 'metrics.json').stat().st_mtime_ns == trained


def test_a_model_that_late_fusion_trains_is_not_trained_twice(comparison, tmp_path):
    settings = comparison('late_fusion', 'lidar')
    compare(settings)
    late, lidar = json.loads((tmp_path / 'both' / 'table.json').read_text())['models']
    assert not (tmp_path / 'both' / 'lidar').exists()
    epochs = json.loads((tmp_path / 'both' / 'late_fusion' / 'metrics.json').read_text())['epochs']
    figures = ('mse', 'error_mean_m', 'error_median_m', 'error_p95_m')
    for row, epoch in ((lidar, epochs[1]), (late, epochs[2])):
        assert [row[name] for name in figures] == [epoch[name] for name in figures]
    assert lidar['parameters'] < late['parameters']
    assert lidar['seconds'] < late['seconds'] == sum(row['seconds'] for row in epochs)


def test_each_figure_of_a_row_stands_under_its_head():
    row = {
        'model': 'rgb',
        'parameters': 12345,
        'best_epoch': 7,
        'seconds': 61.6,
        'mse': 0.1,
        'error_mean_m': 0.2,
        'error_median_m': 0.3,
        'error_p95_m': 0.4,
        'latency_ms': {'p50': 0.5, 'p99': 9.0},
    }
    head, _, figures = (line.strip('| ').split(' | ') for line in as_markdown([row]).split('\n'))
    assert dict(zip(head, figures, strict=True)) == {
        'model': 'rgb',
        'parameters': '12,345',
        'training': '62 s',
        'best epoch': '7',
        'MSE': '0.100 m²',
        'mean error': '0.200 m',
        'median': '0.300 m',
        '95 % below': '0.400 m',
        'latency, batch 1': '0.5 ms',
    }


def test_a_model_with_a_recipe_of_its_own_is_trained_by_itself(comparison):
    settings = comparison('late_fusion', 'lidar', 'rgb')
    runs = {name: recipe_of(name, settings) for name in settings.models}
    for own, hosted in (((), ('lidar', 'rgb')), (('lidar',), ('rgb',)), (('late_fusion',), ())):
        hosts = trained_within(runs, set(own))
        assert [name for name, host in hosts.items() if host != name] == list(hosted)


def test_a_model_may_have_its_own_in_the_recipe(comparison, tmp_path):
    settings = comparison('rgb', 'early_fusion', own={'early_fusion': {'epochs': 2}})
    compare(settings)
    rows = [
        json.loads((tmp_path / 'both' / name / 'metrics.json').read_text())['epochs']
        for name in settings.models
    ]
    assert [len(epochs) for epochs in rows] == [1, 2]


def test_what_is_in_doubt_of_any_model_is_told_once_and_before_the_first_is_trained(
    comparison, caplog
):
    caplog.set_level('INFO', 'fusion_perception')
    compare(comparison('rgb', 'lidar', own={'lidar': {'architecture': {'origin': [0, 90, 0]}}}))
    said = caplog.messages
    trained = [at for at, one in enumerate(said) if one.startswith('rgb 1/1: ')]
    for doubt in ('lidar looks around (0, 90, 0)', 'scenes validate, not 320'):
        [told] = [at for at, one in enumerate(said) if doubt in one]
        assert told < trained[0]


def test_a_comparison_that_starts_from_a_bundle_goes_on_with_its_architecture(
    comparison, scenes, tmp_path
):
    elsewhere = {**TINY, 'origin': [0.0, 20.0, 0.0]}
    train(tiny_recipe(scenes, tmp_path / 'base', batch_size=4, architecture=elsewhere))
    start = {'start_from': str(tmp_path / 'base'), 'architecture': {}}
    compare(comparison('rgb', **start))
    compare(comparison('rgb', **start, epochs=2))
    bundle = load_bundle(tmp_path / 'both' / 'rgb')
    assert bundle.model.config.origin == (0.0, 20.0, 0.0)
    assert bundle.manifest.training['settings']['epochs'] == 2


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'models': ('rgb', 'lidra')}, "Did you mean 'lidar'"),
        ({'own': {'lidra': {'epochs': 2}}}, "Did you mean 'lidar'"),
        ({'data': None}, 'compare needs --data'),
        ({'devices': 2}, 'on one device'),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_is_trained(scenes, tmp_path, changes, said):
    values = {'data': scenes, 'models': ('rgb',), 'out': tmp_path / 'both', **changes}
    with pytest.raises(ValueError, match=said):
        compare(CompareSettings(**values))
    assert not (tmp_path / 'both').exists()


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'own': {'lidar': {'drop_camera': 0.2}}}, 'LidarOnly predicts only in mode'),
        ({'own': {'lidar': {'lerning_rate': 1.0}}}, r"own\.lidar: .*Did you mean 'learning_rate'"),
        ({'own': {'lidar': {'learning_rate': -1.0}}}, r'own\.lidar: learning_rate = -1\.0'),
        ({'own': {'lidar': {'architecture': {'widht': 1}}}}, "has no 'widht'"),
        ({'own': {'lidar': {'start_from': 'cubes'}}}, 'are those of dense_fusion'),
        ({'own': {'lidar': {'start_from': 'nowhere'}}}, 'no bundle at nowhere'),
        ({'own': {'lidar': {'architecture': {**TINY, 'size': 32}}}}, 'The input is'),
        ({'own': {'lidar': {'architecture': {**TINY, 'objects': 2}}}}, 'has 3 objects'),
        ({'own': {'lidar': {'batch_size': 12}}}, 'do not fill one batch of 12'),
    ],
)
def test_a_recipe_that_fits_not_every_model_is_refused_before_any_is_trained(
    comparison, tmp_path, changes, said
):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        compare(comparison('early_fusion', 'lidar', **changes))
    assert not (tmp_path / 'both').exists()


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'epochs': 1}, 'both/rgb cannot be resumed: 2 epochs are finished, more than the 1'),
        ({'learning_rate': 1.0}, 'both/rgb cannot be resumed: learning_rate was'),
        ({'data': 'simulated'}, 'both/rgb cannot be resumed: .*data fingerprint was'),
    ],
)
def test_what_would_alter_a_run_is_refused_before_another_model_is_trained(
    comparison, tmp_path, changes, said, request
):
    compare(comparison('rgb', epochs=2))
    if 'data' in changes:
        changes = {'data': request.getfixturevalue(changes['data'])}
    with pytest.raises(ValueError, match=said):
        compare(comparison('lidar', 'rgb', epochs=2).model_copy(update=changes))
    assert not (tmp_path / 'both' / 'lidar').exists()


def test_a_model_that_failed_in_its_first_epoch_is_begun_anew_by_what_is_corrected(
    comparison, tmp_path
):
    with pytest.raises(ValueError, match='Lower --learning-rate'):
        compare(comparison('rgb', learning_rate=1e30))
    compare(comparison('rgb'))
    assert (tmp_path / 'both' / 'table.md').is_file()


@pytest.mark.parametrize('what', ['data', 'out', 'model', 'resume', 'device'])
def test_what_compared_models_share_is_refused_as_one_model_s_own(comparison, tmp_path, what):
    settings = comparison('rgb', own={'rgb': {what: 'else'}})
    with pytest.raises(ValueError, match=f'own.rgb sets {what}, which all models share'):
        compare(settings)
    assert not (tmp_path / 'both').exists()
