"""Several processes pack a data folder to the same bytes as one, whatever becomes of them."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fusion_perception.learning import packing_crew
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.learning.plain_packing import Places, PlainPacking
from fusion_perception.learning.simulate import SimulateSettings, simulate

COUNT = 24


@pytest.fixture(scope='module')
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('crew') / 'shapes'
    simulate(SimulateSettings(out=folder, count=COUNT, seed=11))
    return folder


@pytest.fixture
def folder(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / 'data'))


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> list[packing_crew._Helper]:
    """Call two helpers for a few scenes, and note which there were."""
    seen: list[packing_crew._Helper] = []
    begin = packing_crew._Helper.__init__

    def noted(self: packing_crew._Helper, places: Places) -> None:
        begin(self, places)
        seen.append(self)

    monkeypatch.setattr(packing_crew._Helper, '__init__', noted)
    monkeypatch.setattr(packing_crew, '_WORTH_HELP', 2)
    monkeypatch.setattr(packing_crew, '_CHUNK', 3)
    monkeypatch.setattr(packing_crew.os, 'cpu_count', lambda: 3)
    return seen


def packed(folder: Path) -> bytes:
    (folder / PACKED).unlink(missing_ok=True)
    read_folder(folder)
    return (folder / PACKED).read_bytes()


def alone(folder: Path) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_crew, '_WORTH_HELP', 10**6)
        return packed(folder)


def ended(helper: packing_crew._Helper) -> bool:
    return helper._process.poll() is not None


def test_helpers_pack_the_same_bytes_and_end(folder: Path, helpers: list) -> None:
    assert packed(folder) == alone(folder)
    assert len(helpers) == 2
    assert all(map(ended, helpers))


def test_a_helper_does_what_it_is_asked(folder: Path, tmp_path: Path) -> None:
    size, sides = 64 * 64 * 4, ((64, 64), (64, 64))
    names = [(f'{index:04d}.png', f'{index:04d}.npy') for index in range(COUNT)]
    written = []
    for way in (packing_crew._Helper, PlainPacking):
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


def test_files_that_are_not_plain_are_packed_all_the_same(folder: Path, helpers: list) -> None:
    extra = PngImagePlugin.PngInfo()
    extra.add_text('a', 'b')
    for index in (0, 7, COUNT - 1):
        path = folder / f'rgb/{index:04d}.png'
        with Image.open(path) as image:
            image.convert('RGBA').save(path, pnginfo=extra)
        scan = folder / f'lidar/{index:04d}.npy'
        np.save(scan, np.load(scan).astype(np.float64))
    together = packed(folder)
    assert len(helpers) == 2
    assert together == alone(folder)


def test_helpers_that_die_at_once_leave_their_share_to_this_process(
    folder: Path, helpers: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(folder)
    monkeypatch.setattr(sys, 'executable', shutil.which('false'))
    assert packed(folder) == expected
    assert len(helpers) == 2


def test_without_an_interpreter_to_start_this_process_does_all(
    folder: Path, helpers: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(folder)
    monkeypatch.setattr(sys, 'executable', str(folder / 'nothing'))
    assert packed(folder) == expected
    assert not helpers


def test_a_helper_killed_half_way_leaves_its_share_to_this_process(
    folder: Path, helpers: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, ask = alone(folder), packing_crew._Helper.pack

    def killed(self: packing_crew._Helper, first: int, names: object) -> list[int]:
        self._process.kill()
        self._process.wait()
        return ask(self, first, names)

    monkeypatch.setattr(packing_crew._Helper, 'pack', killed)
    assert packed(folder) == expected
    assert len(helpers) == 2


@pytest.mark.parametrize('index', [0, 11, COUNT - 1])
def test_a_torn_file_is_named_and_no_process_stays(
    folder: Path, helpers: list, index: int
) -> None:
    path = folder / f'lidar/{index:04d}.npy'
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf'{index:04d}\.npy is torn'):
        read_folder(folder)
    assert len(helpers) == 2
    assert all(map(ended, helpers))
    assert not list(folder.glob('.packing-*'))
    assert not (folder / PACKED).exists()
