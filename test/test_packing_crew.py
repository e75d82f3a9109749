"""Several processes pack a data folder to the same bytes as one, whatever becomes of them."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.data.packing import Packing
from fusion_perception.learning.data.packing_crew import _Helper, pack_scenes
from fusion_perception.learning.data.plain_packing import Places, PlainPacking
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate

COUNT, CHUNK = 24, 3


@pytest.fixture(scope='module')
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('crew') / 'shapes'
    simulate(SimulateSettings(out=folder, count=COUNT, seed=11))
    return folder


@pytest.fixture
def folder(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / 'data'))


@pytest.fixture
def odd_folder(folder: Path) -> Path:
    """Return a folder in which each chunk begins with files that are not plain."""
    extra = PngImagePlugin.PngInfo()
    extra.add_text('a', 'b')
    for index in range(0, COUNT, CHUNK):
        path = folder / f'rgb/{index:04d}.png'
        with Image.open(path) as image:
            image.convert('RGBA').save(path, pnginfo=extra)
        scan = folder / f'lidar/{index:04d}.npy'
        np.save(scan, np.load(scan).astype(np.float64))
    return folder


def packed(folder: Path, helpers: int, at_odd: Callable[[], object] = lambda: None) -> bytes:
    """Return the packed file of a folder; `at_odd` is called at every file that is not plain."""
    data, file = DataFolder.open(folder), folder.parent / 'packed'
    images, ranges = data.shapes()
    layout = {'images': (np.uint8, images), 'ranges': (np.float32, ranges)}
    with Packing(file, layout, {}) as packing:

        def put_scene(index: int) -> None:
            at_odd()
            image, scan = data.read_scene(index)
            packing.put('images', image, index)
            packing.put('ranges', scan, index)

        places = Places(
            str(file),
            (str(data.images.folder), str(data.ranges.folder)),
            (images[1:3], ranges[1:]),
            (packing.begin_of('images'), packing.begin_of('ranges')),
        )
        names = tuple(zip(data.images.names, data.ranges.names, strict=True))
        pack_scenes(places, names, put_scene, helpers, CHUNK)
    return file.read_bytes()


def living() -> set[int]:
    """Return the helpers of this process (Linux); one that has ended has no command line."""
    threads = Path('/proc/self/task').glob('*/children')
    children = {int(child) for thread in threads for child in thread.read_text().split()}
    files = {child: Path(f'/proc/{child}/cmdline') for child in children}
    return {child for child, file in files.items() if b'plain_packing' in file.read_bytes()}


def test_helpers_pack_the_same_bytes_and_end(odd_folder: Path) -> None:
    seen: set[int] = set()
    assert packed(odd_folder, 2, lambda: seen.update(living())) == packed(odd_folder, 0)
    assert len(seen) == 2
    assert not living()


def test_a_folder_is_read_as_its_files_say(odd_folder: Path) -> None:
    scenes, data = read_folder(odd_folder), DataFolder.open(odd_folder)
    for index in range(COUNT):
        image, scan = data.read_scene(index)
        assert np.array_equal(scenes.images[index], image)
        assert np.array_equal(scenes.ranges[index], scan)


def test_a_helper_does_what_it_is_asked(folder: Path, tmp_path: Path) -> None:
    size, sides = 64 * 64 * 4, ((64, 64), (64, 64))
    names = [(f'{index:04d}.png', f'{index:04d}.npy') for index in range(COUNT)]
    written = []
    for way in (_Helper, PlainPacking):
        file = tmp_path / way.__name__
        file.write_bytes(bytes(2 * COUNT * size))
        folders = (str(folder / 'rgb'), str(folder / 'lidar'))
        with way(Places(str(file), folders, sides, (0, COUNT * size))) as packing:
            assert packing.pack(5, names[5:9]) == []
            assert packing.pack(0, [('missing.png', '0000.npy')]) == [0]
        written.append(file.read_bytes())
    assert written[0] == written[1]
    expected = np.load(folder / 'lidar/0007.npy').tobytes()
    assert written[0][(COUNT + 7) * size : (COUNT + 8) * size] == expected


def test_helpers_that_die_at_once_leave_their_share_to_this_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(folder, 0)
    monkeypatch.setattr(sys, 'executable', shutil.which('false'))
    assert packed(folder, 2) == expected


def test_without_an_interpreter_to_start_this_process_does_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(folder, 0)
    monkeypatch.setattr(sys, 'executable', str(folder / 'nothing'))
    assert packed(folder, 2) == expected


def test_helpers_killed_at_work_leave_their_share_to_this_process(odd_folder: Path) -> None:
    killed: set[int] = set()

    def kill() -> None:
        for helper in living():
            os.kill(helper, signal.SIGKILL)
            killed.add(helper)

    assert packed(odd_folder, 2, kill) == packed(odd_folder, 0)
    assert len(killed) == 2


@pytest.mark.parametrize('index', [0, 11, COUNT - 1])
def test_a_torn_file_is_named_and_no_process_stays(folder: Path, index: int) -> None:
    path = folder / f'lidar/{index:04d}.npy'
    path.write_bytes(path.read_bytes()[:-5])
    seen: set[int] = set()
    with pytest.raises(ValueError, match=rf'{index:04d}\.npy is torn'):
        packed(folder, 2, lambda: seen.update(living()))
    assert len(seen) == 2
    assert not living()
    with pytest.raises(ValueError, match=rf'{index:04d}\.npy is torn'):
        read_folder(folder)
    assert not list(folder.glob('.packing-*'))
    assert not (folder / PACKED).exists()
