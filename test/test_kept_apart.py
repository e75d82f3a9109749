"""Results go into no data folder, and the refusal comes before anything is written."""

import pytest
from training_runs import TINY

from fusion_perception import cli
from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.learning.simulate import SimulateSettings, simulate

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def data(tmp_path):
    simulate(SimulateSettings(out=tmp_path / 'data', count=20))
    return tmp_path / 'data'


@pytest.mark.parametrize(
    'command',
    [
        'train --data {data} --model rgb --epochs 1 --batch-size 4 --config {recipe}',
        'train --model rgb --epochs 1 --batch-size 4 --fresh-scenes 4 --config {recipe}',
        'compare --data {data} --models lidar --epochs 1 --batch-size 4 --config {recipe}',
        'evaluate --bundle shapes --data {data}',
        'benchmark --quick --data {data} --stages xyza',
        'to-bag {data}',
    ],
)
@pytest.mark.parametrize('within', ['', 'lidar/new'])
def test_a_data_folder_is_no_place_for_results(data, tmp_path, capsys, command, within):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(f'architecture: {TINY}')
    before = sorted(data.rglob('*'))
    given = command.format(data=data, recipe=recipe).split()
    assert cli.main([*given, '--out', str(data / within)]) == 2
    said = capsys.readouterr().err
    assert 'which stays as it is. Choose another --out for the' in said and 'Traceback' not in said
    assert sorted(data.rglob('*')) == before


def test_a_folder_of_its_own_within_a_data_folder_or_beside_it_is_a_place_for_results(data):
    for place in (data / 'runs' / 'lidar', data.parent / 'lidar', data.parent):
        check_is_apart(place, 'the run')
