"""A number stands before words that fit it."""

import pytest

from fusion_perception import cli
from fusion_perception.sensing.counted import counted


@pytest.mark.parametrize(
    ('count', 'words', 'said'),
    [
        (1, ('scene',), '1 scene'),
        (0, ('scene',), '0 scenes'),
        (9999, ('scene',), '9,999 scenes'),
        (1, ('class', 'classes'), '1 class'),
        (2, ('pair has', 'pairs have'), '2 pairs have'),
    ],
)
def test_one_of_a_kind_is_singular_and_all_other_numbers_are_plural(count, words, said):
    assert counted(count, *words) == said


@pytest.mark.slow
def test_a_folder_of_one_scene_is_told_of_as_one(tmp_path, capsys):
    data, bag, back = (str(tmp_path / name) for name in ('data', 'bag', 'back'))
    assert cli.main(['simulate', data, '--count', '1']) == 0
    assert capsys.readouterr().out.startswith('1 scene of shapes (seed 0) is in ')
    assert cli.main(['to-bag', data, '--out', bag]) == 0
    assert capsys.readouterr().out.startswith(f'1 scene of {data} is in {bag}: ')
    assert cli.main(['from-bag', bag, '--out', back]) == 0
    assert capsys.readouterr().out.startswith(f'1 scene of {bag} is in {back}. ')
    assert cli.main(['evaluate', '--bundle', 'shapes', '--data', data, '--out', back + '2']) == 0
    assert 'on 1 scene of ' in capsys.readouterr().out
    page = (tmp_path / 'back2' / 'report.html').read_text()
    assert 'scene scored' in page and '1 frame one by one' in page
    assert cli.main(['train', '--data', data, '--model', 'rgb', '--out', str(tmp_path / 'x')]) == 2
    assert '1 scene cannot be split' in capsys.readouterr().err
