"""Folders, files, globs and links lead to recordings, once to each."""

import shutil
from pathlib import Path

import pytest
from recordings import record

from fusion_perception.sensing.recordings.damaged_sqlite import DamagedSqlite
from fusion_perception.sensing.recordings.files import (
    check_is_outside,
    files_of,
    find_recordings,
    fingerprint_of,
)
from fusion_perception.sensing.recordings.recording import Recording


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


def test_a_recording_counts_once_where_its_files_are_named_beside_its_folder(tmp_path):
    bag, other = record(tmp_path / 'drive', 1), record(tmp_path / 'other', 1)
    (tmp_path / 'link.mcap').symlink_to(file_of(bag))
    assert find_recordings([bag, file_of(bag)]) == [bag]
    assert find_recordings([file_of(bag), other, bag]) == [other, bag]
    assert find_recordings([tmp_path]) == [bag, other]
    assert find_recordings([file_of(bag), other]) == [file_of(bag), other]
    parts = tmp_path / 'parts'
    parts.mkdir()
    for name in ('a_0.mcap', 'a_1.mcap', 'a_1.mcap.zstd'):
        shutil.copy(file_of(bag), parts / name)
    assert find_recordings([parts, *sorted(parts.iterdir())]) == [parts]


def test_a_file_that_its_folder_does_not_list_is_a_recording_of_its_own(tmp_path):
    bag = record(tmp_path / 'drive', 1)
    stray = bag / 'stray.mcap'
    shutil.copy(file_of(bag), stray)
    assert find_recordings([bag, stray]) == [bag, stray]


def test_a_file_and_its_packed_twin_are_one_recording_of_a_folder_of_several(tmp_path):
    bag = record(tmp_path / 'bags' / 'drive', 1)
    for name in ('one.mcap', 'one.mcap.zstd', 'two.mcap'):
        shutil.copy(file_of(bag), tmp_path / 'bags' / name)
    bags = tmp_path / 'bags'
    assert find_recordings([bags]) == [bags / 'one.mcap', bags / 'two.mcap', bag]


@pytest.mark.parametrize(
    ('name', 'complaint'),
    [('nowhere', 'No recording at'), ('empty', 'There is no recording'), ('*', 'is no recording')],
)
def test_a_path_that_leads_to_no_recording_is_refused(tmp_path, name, complaint):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=complaint):
        find_recordings([tmp_path / name])


@pytest.mark.parametrize('look', [Recording, lambda path: find_recordings([path])])
def test_a_data_folder_given_as_a_recording_is_told_what_makes_one(simulated, look):
    with pytest.raises(ValueError, match=r'is a data folder\. .* to-bag .* --data'):
        look(simulated)


def test_a_recording_is_told_from_others_wherever_it_lies(tmp_path):
    one, other = (record(tmp_path / name, count) for name, count in (('one', 2), ('other', 3)))
    known = fingerprint_of(one)
    assert fingerprint_of(other) != known
    assert fingerprint_of(one.rename(tmp_path / 'moved')) == known


def test_a_folder_of_recordings_names_them_where_one_is_wanted(tmp_path):
    for name in ('a', 'b'):
        record(tmp_path / name, 2)
    names = f'{tmp_path / "a"}, {tmp_path / "b"}'
    with pytest.raises(ValueError, match=rf'recordings \({names}\)\. Give one of them'):
        Recording(tmp_path)


def test_what_is_damaged_beyond_use_comes_with_the_next_step(tmp_path):
    (tmp_path / 'bag.mcap').write_bytes(b'')
    with pytest.raises(ValueError, match=r'missing: .*; .*\. Copy it anew, or record it again\.$'):
        Recording(tmp_path)


def test_a_database_that_cannot_be_opened_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.db3'):
        DamagedSqlite(tmp_path / 'gone.db3')


def test_recordings_below_the_home_folder_are_found_by_its_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    bag = record(tmp_path / 'drive', 1)
    assert find_recordings(['~/drive', '~/dri*']) == [bag]
    with pytest.raises(ValueError, match='lies in the recording'):
        check_is_outside(Path('~/drive/report'), [bag])


def test_beside_a_recording_that_is_a_file_alone_results_have_a_place(tmp_path):
    loose = tmp_path / 'loose.mcap'
    loose.write_bytes(b'')
    check_is_outside(tmp_path / 'report', [loose])
    with pytest.raises(ValueError, match='lies in the recording'):
        check_is_outside(loose, [loose])


def test_a_pattern_leads_past_what_is_no_recording(tmp_path):
    bag = record(tmp_path / 'drive', 1)
    (tmp_path / 'drive.txt').write_text('none')
    assert find_recordings([f'{tmp_path}/drive*']) == [bag]


@pytest.mark.parametrize('at', [0, -1])
def test_recordings_that_differ_at_the_begin_or_the_end_alone_are_told_apart(tmp_path, at):
    content = bytearray(1 << 18)
    (tmp_path / 'one.mcap').write_bytes(content)
    content[at] = 1
    (tmp_path / 'other.mcap').write_bytes(content)
    assert fingerprint_of(tmp_path / 'one.mcap') != fingerprint_of(tmp_path / 'other.mcap')


def test_recordings_of_different_sizes_are_told_apart(tmp_path):
    for name, size in (('one.mcap', 1 << 18), ('other.mcap', 1 << 19)):
        (tmp_path / name).write_bytes(bytes(size))
    assert fingerprint_of(tmp_path / 'one.mcap') != fingerprint_of(tmp_path / 'other.mcap')


def test_the_tenth_part_comes_after_the_second(tmp_path):
    for name in ('drive_10.mcap', 'drive_2.mcap'):
        (tmp_path / name).write_bytes(b'')
    names = [file.name for file in files_of(tmp_path, lambda _: None).files]
    assert names == ['drive_2.mcap', 'drive_10.mcap']


def test_files_of_one_name_and_two_kinds_without_a_number_are_two_recordings(tmp_path):
    for name in ('drive.mcap', 'drive.db3', 'drive_1.mcap'):
        (tmp_path / name).write_bytes(b'')
    assert len(find_recordings([tmp_path])) == 3


def test_a_file_beside_those_that_the_metadata_list_is_named_and_not_read(tmp_path):
    bag, notes = record(tmp_path / 'drive', 1), []
    shutil.copy(file_of(bag), bag / 'stray.mcap')
    assert files_of(bag, notes.append).files == (bag / 'drive.mcap',)
    assert notes == ['stray.mcap is not listed in metadata.yaml and was not read.']
