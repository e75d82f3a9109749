"""What was packed counts as fresh until any file changes, by whatever means, and no longer."""

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion_perception.learning.data.freshness import (
    FolderState,
    folder_state,
    is_untouched,
    span_of,
)
from fusion_perception.learning.dataset import PACKED, read_folder

COUNT = 8

pytestmark = pytest.mark.usefixtures('private_cache')
needs_find = pytest.mark.skipif(shutil.which('find') is None, reason='needs the command find')


def write_in_place(folder: Path) -> None:
    with (folder / 'lidar/0001.npy').open('r+b') as file:
        file.seek(200)
        file.write(b'\1')


def write_and_restore_the_date(folder: Path) -> None:
    seen = (folder / 'rgb/0002.png').stat()
    (folder / 'rgb/0002.png').write_bytes(bytes(seen.st_size))
    os.utime(folder / 'rgb/0002.png', ns=(seen.st_atime_ns, seen.st_mtime_ns))


def replace_by_an_older_file(folder: Path) -> None:
    (folder / 'lidar/0000.npy').rename(folder / 'lidar/0003.npy')


def add(folder: Path) -> None:
    shutil.copy2(folder / 'rgb/0000.png', folder / f'rgb/{COUNT:04}.png')


def remove(folder: Path) -> None:
    (folder / 'rgb/0005.png').unlink()


def exchange_a_whole_folder(folder: Path) -> None:
    shutil.copytree(folder / 'lidar', folder / 'other')
    (folder / 'lidar').rename(folder / 'before')
    (folder / 'other').rename(folder / 'lidar')


def remove_a_whole_folder(folder: Path) -> None:
    shutil.rmtree(folder / 'lidar')


def describe_another_rig(folder: Path) -> None:
    with (folder / 'sensor.yaml').open('a') as file:
        file.write('# Checked.\n')


def make_read_only(folder: Path) -> None:
    (folder / 'rgb/0000.png').chmod(stat.S_IRUSR)


def exchanged(path: Path, copied_from: Path) -> None:
    """Do as `rsync -t` does: write beside it, give it its date, rename it over the former."""
    seen, beside = path.stat(), path.with_name('.beside')
    shutil.copyfile(copied_from, beside)
    assert beside.stat().st_size == seen.st_size
    os.utime(beside, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    beside.rename(path)


def exchange_a_scan(folder: Path) -> None:
    exchanged(folder / 'lidar/0000.npy', folder / 'lidar/0003.npy')


def exchange_the_labels(folder: Path) -> None:
    other = folder.parent / 'other.csv'
    header, *rows = (folder / 'positions.csv').read_text().splitlines()
    other.write_text('\n'.join((header, *reversed(rows), '')))
    exchanged(folder / 'positions.csv', other)


def swap_two_scans_of_one_date(folder: Path) -> None:
    one, other, aside = (folder / f'lidar/{name}' for name in ('0000.npy', '0003.npy', 'aside'))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


EVERY_CHANGE = [
    write_in_place,
    write_and_restore_the_date,
    replace_by_an_older_file,
    add,
    remove,
    exchange_a_whole_folder,
    remove_a_whole_folder,
    describe_another_rig,
    make_read_only,
    exchange_a_scan,
    exchange_the_labels,
    swap_two_scans_of_one_date,
]


@needs_find
def test_a_folder_that_nobody_touched_is_known_at_a_glance(folder: Path) -> None:
    state = folder_state(folder)
    assert is_untouched(folder, state)
    assert is_untouched(folder, FolderState.from_text(state.as_text()))


@needs_find
def test_packing_a_folder_does_not_touch_it(folder: Path) -> None:
    state = folder_state(folder)
    read_folder(folder)
    assert (folder / PACKED).is_file()
    assert is_untouched(folder, state)


@pytest.mark.parametrize('change', EVERY_CHANGE)
def test_a_change_at_once_after_the_look_is_seen(folder: Path, change) -> None:
    state = folder_state(folder)
    change(folder)
    assert not is_untouched(folder, state)


@pytest.mark.parametrize(
    'change', [write_in_place, exchange_a_scan, swap_two_scans_of_one_date, exchange_the_labels]
)
@pytest.mark.parametrize('with_find', [True, False])
def test_scenes_are_never_those_of_files_that_were_exchanged_for_others_of_their_size_and_date(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change, with_find: bool
) -> None:
    for path in (folder / 'lidar').iterdir():
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    before = read_folder(folder)
    before = before.ranges.clone(), before.centers.clone()
    change(folder)
    if not with_find:
        monkeypatch.setenv('PATH', '')
    try:
        scenes = read_folder(folder)
    except ValueError as fault:  # Labels of other scenes do not fit the scans.
        assert change == exchange_the_labels, fault
        return
    scans = np.stack([np.load(path) for path in sorted((folder / 'lidar').iterdir())])
    np.testing.assert_array_equal(scenes.ranges.numpy(), scans)
    assert not (scenes.ranges.equal(before[0]) and scenes.centers.equal(before[1]))


def test_a_copied_folder_gives_its_own_scenes_whatever_packed_file_came_along(
    folder: Path,
) -> None:
    before = read_folder(folder).ranges.clone()
    copy = Path(shutil.copytree(folder, folder.parent / 'copy'))
    assert (copy / PACKED).is_file()
    assert read_folder(copy).ranges.equal(before)
    other = Path(shutil.copytree(folder, folder.parent / 'other'))
    exchange_a_scan(other)
    assert np.array_equal(read_folder(other).ranges[0], np.load(other / 'lidar/0000.npy'))
    assert read_folder(folder).ranges.equal(before)


def test_a_file_that_a_link_stands_for_is_looked_at(folder: Path) -> None:
    there = folder.parent / 'elsewhere.npy'
    (folder / 'lidar/0001.npy').rename(there)
    (folder / 'lidar/0001.npy').symlink_to(there)
    state = folder_state(folder)
    scan = np.load(there)
    scan[0, 0] = 49.0
    there.write_bytes(there.read_bytes()[: -scan.nbytes] + scan.tobytes())
    assert not is_untouched(folder, state)


@pytest.mark.parametrize('target', ['nothing', '0001.npy'], ids=['nowhere', 'itself'])
def test_a_link_that_leads_nowhere_is_named_with_what_to_do(folder: Path, target: str) -> None:
    (folder / 'lidar/0001.npy').unlink()
    (folder / 'lidar/0001.npy').symlink_to(folder / 'lidar' / target)
    with pytest.raises(FileNotFoundError, match=r'lidar/0001.npy leads nowhere .*Restore what it'):
        read_folder(folder)


@needs_find
def test_a_change_by_a_clock_that_was_set_back_is_seen(folder: Path) -> None:
    state = folder_state(folder)
    an_hour = 3600 * 10**9
    # As if the files had been noted an hour later than they now are.
    later = replace(state, first_ns=state.first_ns + an_hour, last_ns=state.last_ns + an_hour)
    assert is_untouched(folder, state)
    assert not is_untouched(folder, later)


@needs_find
def test_a_folder_whose_name_looks_like_a_flag_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(folder.parent / '-delete')
    monkeypatch.chdir(folder.parent)
    path = Path('-delete')
    state = folder_state(path)
    assert is_untouched(path, state)
    assert len(list((path / 'rgb').iterdir())) == COUNT


def test_without_find_every_file_is_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = read_folder(folder)
    packed = (folder / PACKED).stat().st_mtime_ns
    (tmp_path / 'no commands').mkdir()
    monkeypatch.setenv('PATH', str(tmp_path / 'no commands'))
    assert not is_untouched(folder, folder_state(folder))
    assert read_folder(folder).ranges.equal(first.ranges)
    assert (folder / PACKED).stat().st_mtime_ns == packed
    write_in_place(folder)
    assert not read_folder(folder).ranges.equal(first.ranges)
    assert (folder / PACKED).stat().st_mtime_ns != packed


def test_a_find_that_knows_no_change_times_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/find').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'bin/find').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=os.pathsep)
    assert not is_untouched(folder, folder_state(folder))


def test_a_folder_without_scenes_is_never_known_at_a_glance(tmp_path: Path) -> None:
    assert not is_untouched(tmp_path, folder_state(tmp_path))
    assert not is_untouched(tmp_path / 'missing', folder_state(tmp_path / 'missing'))


def test_times_of_whole_seconds_prove_nothing(folder: Path) -> None:
    assert span_of([3 * 10**9 + 1, 2 * 10**9]) == (2 * 10**9, 3 * 10**9 + 1)
    coarse = span_of([3 * 10**9, 2 * 10**9])
    assert coarse == span_of([]) == (0, 0)
    unknown = replace(folder_state(folder), first_ns=coarse[0], last_ns=coarse[1])
    assert not is_untouched(folder, unknown)
