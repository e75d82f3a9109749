"""Folders, files, globs and links lead to recordings, once to each."""

import shutil
from pathlib import Path

import pytest
from recordings import record

from fusion_perception.sensing.recording_files import find_recordings


def file_of(bag):
    return next(bag.glob('*.mcap'))


def test_folders_globs_and_files_lead_to_recordings_once_each(tmp_path):
    for name in ('b', 'a', 'deep/c'):
        record(tmp_path / name, 1)
    loose = tmp_path / 'loose.mcap'
    shutil.copy(file_of(tmp_path / 'a'), loose)
    (tmp_path / 'notes.txt').write_text('none')
    found = find_recordings([tmp_path])
    assert found == [loose, tmp_path / 'a', tmp_path / 'b', tmp_path / 'deep' / 'c']
    assert find_recordings([tmp_path / 'a', f'{tmp_path}/[ab]']) == [
        tmp_path / 'a',
        tmp_path / 'b',
    ]
    assert find_recordings([loose]) == [loose]


def test_links_lead_to_recordings_and_in_no_circle(tmp_path):
    disk, bags = tmp_path / 'disk', tmp_path / 'bags'
    for name in ('a', 'more/b'):
        record(disk / name, 1)
    bags.mkdir()
    (bags / 'a').symlink_to(disk / 'a')
    (bags / 'more').symlink_to(disk / 'more')
    (disk / 'more' / 'circle').symlink_to(bags)
    (bags / 'nowhere').symlink_to(tmp_path / 'missing')
    assert find_recordings([bags]) == [bags / 'a', bags / 'more' / 'b']
    shutil.copy(file_of(disk / 'a'), disk / 'loose.mcap')
    (bags / 'linked.mcap').symlink_to(disk / 'loose.mcap')
    assert bags / 'linked.mcap' in find_recordings([bags])


def test_a_recording_counts_once_whatever_ways_lead_to_it(tmp_path, monkeypatch):
    bag = record(tmp_path / 'bags' / 'bag', 1)
    (tmp_path / 'link').symlink_to(bag)
    monkeypatch.chdir(tmp_path / 'bags')
    ways = ['bag', str(bag), 'bag/metadata.yaml', '../link', '../bags', '../bags/b*']
    assert find_recordings(ways) == [Path('bag')]
    assert find_recordings(['../link', bag]) == [Path('../link')]


@pytest.mark.parametrize(
    ('name', 'complaint'),
    [('nowhere', 'No recording at'), ('empty', 'There is no recording'), ('*', 'is no recording')],
)
def test_a_path_that_leads_to_no_recording_is_refused(tmp_path, name, complaint):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=complaint):
        find_recordings([tmp_path / name])
