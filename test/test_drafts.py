"""What a killed packing left is cleared away, and what a living one holds is not."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusion_perception.learning.data.drafts import draft_in
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate

pytest.importorskip('fcntl', reason='needs file locks, of Linux or macOS')

HOLD_A_DRAFT = """
import sys
from pathlib import Path
from fusion_perception.learning.data.drafts import draft_in
with draft_in(Path(sys.argv[1])) as draft:
    (draft / 'scenes.packed').write_bytes(bytes(1000))
    print(draft, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope='module')
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'shapes'
    simulate(SimulateSettings(out=out, count=4))
    return out


@pytest.fixture
def folder(simulated: Path) -> Iterator[Path]:
    """Return a data folder that is not packed."""
    (simulated / PACKED).unlink(missing_ok=True)
    yield simulated
    assert not list(simulated.glob('.packing-*'))


def test_what_a_killed_packing_left_is_removed_by_the_next_and_not_before(folder: Path) -> None:
    command = [sys.executable, '-c', HOLD_A_DRAFT, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as packing:
        assert packing.stdout is not None
        draft = Path(packing.stdout.readline().strip())
        before = sorted(path.name for path in draft.iterdir())
        assert PACKED in before
        read_folder(folder)
        assert sorted(path.name for path in draft.iterdir()) == before
        packing.kill()
    assert draft.is_dir()
    (folder / PACKED).unlink()
    assert len(read_folder(folder)) == 4
    assert not draft.exists()


def test_a_draft_without_a_lock_is_left_alone_for_a_day(folder: Path) -> None:
    draft = folder / '.packing-of_another_version'
    draft.mkdir()
    file = draft / PACKED
    file.write_bytes(bytes(1000))
    yesterday = time.time() - 25 * 3600
    os.utime(draft, (yesterday, yesterday))
    with draft_in(folder):
        assert file.is_file()  # Someone still writes into it.
    os.utime(file, (yesterday, yesterday))
    with draft_in(folder):
        assert not draft.exists()
