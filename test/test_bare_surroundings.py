"""In a container without a home, an output or a temporary folder everything else works."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_bundles import small_bundle

import fusion_perception
from fusion_perception.engines.onnx_graph import export_frame, graph_of, kept_graph
from fusion_perception.learning.data import packing_crew
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.models.bundle import load_bundle
from fusion_perception.own_modules import as_main
from fusion_perception.runtime import Runtime
from fusion_perception.user_cache import user_cache

pytestmark = pytest.mark.usefixtures('one_thread')
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(Path(fusion_perception.__file__).parents[1])}
FUSION = [sys.executable, '-m', 'fusion_perception.cli']


@pytest.fixture
def homeless(monkeypatch):
    """Be a user that the system does not know, as `docker run --user 12345` makes one."""

    def unknown(number):
        raise KeyError(f'getpwuid(): uid not found: {number}')

    monkeypatch.delenv('HOME', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', unknown)


@pytest.mark.parametrize('given', ['', '/some/cache'])
def test_the_cache_is_where_the_environment_says_or_in_the_home(monkeypatch, tmp_path, given):
    monkeypatch.setenv('XDG_CACHE_HOME', given)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert user_cache() == Path(given or tmp_path / '.cache') / 'fusion_perception'


def test_a_user_without_a_home_has_no_cache(homeless):
    assert user_cache() is None


@pytest.mark.slow
def test_without_a_home_graphs_are_kept_beside_the_bundle_or_made_each_time(homeless, tmp_path):
    bundle = load_bundle(small_bundle(tmp_path))
    assert Runtime(bundle, 'cpu', engine='onnxruntime').engine == 'onnxruntime'
    assert kept_graph(bundle, 'frame').parent == tmp_path


def test_without_a_home_a_data_folder_is_read(homeless, forty_scenes):
    assert len(read_folder(forty_scenes)) == 40


@pytest.mark.slow
def test_a_graph_is_exported_without_a_temporary_folder(tmp_path, monkeypatch):
    bundle = load_bundle(small_bundle(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'missing'))
    assert len(export_frame(bundle)) > 1000


@pytest.mark.slow
@pytest.mark.usefixtures('private_cache')
def test_links_of_one_name_to_bundles_in_one_folder_keep_their_own_graphs(tmp_path):
    links = []
    for seed in (1, 2):
        place = tmp_path / str(seed)
        place.mkdir()
        stored = small_bundle(place, seed=seed).rename(tmp_path / f'{seed}.safetensors')
        links.append(place / 'bundle.safetensors')
        links[-1].symlink_to(stored)
    kept = []
    for link in (*links, *links):
        graph_of(load_bundle(link), 'frame')
        kept.append(kept_graph(load_bundle(link), 'frame'))
    assert kept[:2] == kept[2:] and all(file.is_file() for file in kept)


@pytest.mark.slow
def test_onnx_runtime_leaves_nothing_in_the_home_of_the_user(tmp_path):
    bundle = small_bundle(tmp_path)
    home = tmp_path / 'home'
    home.mkdir()
    environment = {**ENVIRONMENT, 'HOME': str(home)}
    environment.pop('XDG_CACHE_HOME', None)
    environment.pop('ORT_DISABLE_TELEMETRY', None)
    command = [*FUSION, 'doctor', '--bundle', str(bundle)]
    ended = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert 'onnxruntime' in ended.stdout
    assert [file for file in home.rglob('*') if file.is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize('closed', ['>&-', '>&- 2>&-', '<&- >&- 2>&-'])
def test_a_closed_output_does_not_change_how_a_command_ends(tmp_path, closed):
    out = tmp_path / 'scenes'
    command = f'"$0" -m fusion_perception.cli simulate "$1" --count 2 {closed}'
    ended = subprocess.run(
        ['sh', '-c', command, sys.executable, out], env=ENVIRONMENT, check=False, timeout=120
    )
    assert ended.returncode == 0
    assert len([*(out / 'rgb').iterdir()]) == 2


def test_an_output_that_is_full_is_one_sentence():
    if not Path('/dev/full').exists():
        pytest.skip('this system has no /dev/full')
    with Path('/dev/full').open('w') as full:
        ended = subprocess.run(
            [*FUSION, '--version'], env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == 'The output cannot be written: No space left on device.\n'


def test_a_module_of_ours_runs_whatever_lies_in_the_folder(tmp_path):
    for name in ('json.py', 'queue.py', 'numpy.py', 'runpy.py', 'importlib.py'):
        (tmp_path / name).write_text('raise SystemExit("not this one")')
    (tmp_path / 'fusion_perception').mkdir()
    (tmp_path / 'fusion_perception' / '__init__.py').write_text('raise SystemExit("nor this")')
    ended = subprocess.run(
        [sys.executable, *as_main('cli'), '--version'],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == (
        f'fusion_perception {fusion_perception.__version__}\n',
        '',
    )


def test_who_helps_to_pack_is_no_file_of_the_folder(tmp_path, monkeypatch, forty_scenes):
    (tmp_path / 'json.py').write_text('open("run", "w")\nraise SystemExit')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packing_crew, '_WORTH_HELP', 1)
    monkeypatch.setattr(packing_crew, 'usable_cores', lambda: 2)
    scenes = shutil.copytree(forty_scenes, tmp_path / 'scenes')
    (scenes / PACKED).unlink(missing_ok=True)
    assert len(read_folder(scenes)) == 40
    assert not (tmp_path / 'run').exists()
