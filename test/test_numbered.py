"""Files beside those that a data folder reads are named where some are missing."""

import numpy as np
import pytest

from fusion_perception.learning.data.folder import IMAGES, RANGES, DataFolder
from fusion_perception.learning.data.numbered import Numbered


@pytest.fixture
def data(tmp_path):
    """Make a data folder of three scenes, as far as names go."""
    for kind, suffix in (IMAGES, RANGES):
        (tmp_path / kind).mkdir()
        for number in range(3):
            (tmp_path / kind / f'{number:04d}{suffix}').touch()
    np.savetxt(
        tmp_path / 'positions.csv',
        np.zeros((3, 3)),
        delimiter=',',
        header='a_x,a_y,a_z',
        comments='',
    )
    return tmp_path


def rename(folder, ending):
    for path in folder.iterdir():
        path.rename(path.with_name(f'{path.stem}{ending}'))


@pytest.mark.parametrize('ending', ['.jpg', '.PNG', '_left.png'])
def test_files_of_another_ending_than_the_one_that_is_read_are_named(data, ending):
    rename(data / 'rgb', ending)
    with pytest.raises(ValueError, match='holds 0 images in rgb') as fault:
        DataFolder.open(data)
    named = f'in rgb 3 others, such as 0000{ending}, are not read: PNG images named 0000.png'
    assert named in str(fault.value)


def test_the_last_scene_by_another_name_is_named(data):
    (data / 'lidar/0002.npy').rename(data / 'lidar/0002.csv')
    with pytest.raises(ValueError, match=r'3 rows in .*; in lidar 0002\.csv is not read'):
        DataFolder.open(data)


def test_a_gap_names_what_may_have_been_meant(data):
    (data / 'lidar/0001.npy').rename(data / 'lidar/1.csv')
    with pytest.raises(FileNotFoundError, match=r'0001\.npy is missing .* in lidar 1\.csv is not'):
        Numbered.among(data, *RANGES)


def test_other_files_do_no_harm_where_nothing_is_missing(data):
    for name in ('Thumbs.db', '.DS_Store', 'notes.txt'):
        (data / 'rgb' / name).touch()
    assert len(Numbered.among(data, *IMAGES)) == 3


def test_hidden_files_are_nothing_that_was_meant(data):
    (data / 'rgb/.DS_Store').touch()
    (data / 'rgb/0002.png').unlink()
    with pytest.raises(ValueError, match=r'3 rows in positions\.csv\. Give one of each'):
        DataFolder.open(data)
