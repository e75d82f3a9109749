"""A bundle's graph is kept beside it, and made again when it is torn or no longer its own."""

import os
import resource
import shutil
import stat
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import pytest
import torch
from small_bundles import small_bundle

import fusion_perception
from fusion_perception.engines import onnx_graph
from fusion_perception.engines.onnx_graph import KINDS, graph_of, keep, kept_graph
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime

# Exporting takes half a second each time.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread', 'private_cache')]


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(small_bundle(tmp_path))


def graphs(folder):
    return sorted(file.name for file in folder.rglob('*.onnx'))


def test_a_graph_is_kept_beside_its_bundle_and_used_again(bundle):
    content = graph_of(bundle, 'frame')
    file = kept_graph(bundle, 'frame')
    assert file.parent == bundle.path.parent
    assert stat.filemode(file.stat().st_mode) == '-rw-r--r--'
    written = file.stat().st_mtime_ns
    assert graph_of(bundle, 'frame') == content
    assert (file.stat().st_mtime_ns, graphs(file.parent)) == (written, [file.name])


def test_what_goes_in_and_comes_out_of_a_graph_bears_its_name(bundle):
    graph = onnx.load_from_string(onnx_graph.export(bundle, batch=1)).graph
    assert [given.name for given in graph.input] == list(onnx_graph.INPUTS)
    assert [made.name for made in graph.output] == ['centers', 'covariance']


@pytest.mark.parametrize(
    ('owner', 'name', 'other'),
    [
        (onnx_graph, 'EXPORT_VERSION', onnx_graph.EXPORT_VERSION + 1),
        (onnx_graph, 'OPSET', onnx_graph.OPSET - 1),
        (onnx_graph, '_SOURCES', onnx_graph._SOURCES[1:]),
        (torch, '__version__', '1.0'),
    ],
)
def test_the_name_of_a_kept_graph_depends_on_what_exports_it(
    bundle, monkeypatch, owner, name, other
):
    keep(bundle, 'frame', b'graph')
    assert kept_graph(bundle, 'frame')
    assert kept_graph(bundle, 'observation') is None
    monkeypatch.setattr(owner, name, other)
    assert kept_graph(bundle, 'frame') is None


def test_other_code_makes_another_graph(bundle, tmp_path, monkeypatch):
    (source := tmp_path / 'model.py').write_text('return x')
    monkeypatch.setattr(onnx_graph, '_SOURCES', (source,))
    keep(bundle, 'frame', b'graph')
    assert kept_graph(bundle, 'frame')
    source.write_text('return y')
    assert kept_graph(bundle, 'frame') is None


@pytest.mark.parametrize('export', [partial(onnx_graph.export, batch=1), onnx_graph.export_frame])
def test_all_code_that_becomes_part_of_a_graph_is_what_its_name_depends_on(bundle, export):
    ran = set()
    sys.setprofile(lambda frame, *_: ran.add(frame.f_code.co_filename))
    try:
        export(bundle)
    finally:
        sys.setprofile(None)
    package = Path(fusion_perception.__file__).parent
    ours = {Path(name) for name in ran if Path(name).is_relative_to(package)}
    assert ours - {Path(onnx_graph.__file__)} <= set(onnx_graph._SOURCES)


@pytest.mark.parametrize('stem', ['best', 'best (2)'])
def test_stale_graphs_go_and_files_of_other_names_and_what_cannot_go_stay(bundle, stem):
    bundle = replace(bundle, path=bundle.path.rename(bundle.path.with_stem(stem)))
    digits = 16 * 'a'
    stale = bundle.path.with_name(f'{stem}.{digits}.{digits}.onnx')
    others = [
        stale.with_name(f'{name}.{digits}.{digits}.onnx') for name in (f'my_{stem}', f'{stem}.2')
    ]
    for file in (stale, *others):
        file.touch()
    # As one of another user in a folder like /tmp.
    (lasting := stale.with_name(f'{stem}.{16 * "b"}.{digits}.onnx')).mkdir()
    assert keep(bundle, 'frame', b'graph') == kept_graph(bundle, 'frame')
    assert not stale.exists() and all(file.exists() for file in (*others, lasting))


@pytest.mark.parametrize('relative', [True, False])
def test_a_bundle_that_changed_gets_another_graph_and_the_old_one_goes(
    tmp_path, monkeypatch, relative
):
    monkeypatch.chdir(tmp_path)
    place = Path() if relative else tmp_path
    before = load_bundle(small_bundle(place))
    graph_of(before, 'frame')
    old = graphs(tmp_path)
    after = load_bundle(small_bundle(place, seed=2))
    assert kept_graph(after, 'frame') is None
    assert Runtime(after, 'cpu', engine='onnxruntime').engine == 'onnxruntime'
    assert len(graphs(tmp_path)) == len(KINDS)
    assert not set(graphs(tmp_path)) & set(old)


@pytest.mark.parametrize('left', [0.0, 0.5, 0.99])
def test_a_torn_graph_is_made_again(bundle, left):
    whole = graph_of(bundle, 'frame')
    kept_graph(bundle, 'frame').write_bytes(whole[: int(left * len(whole))])
    assert Runtime(bundle, 'cpu', engine='onnxruntime').engine == 'onnxruntime'
    assert graph_of(bundle, 'frame') == kept_graph(bundle, 'frame').read_bytes()


def test_a_graph_that_another_start_has_just_removed_is_made_again(bundle):
    listed = keep(bundle, 'frame', b'graph')
    listed.unlink()
    listed.symlink_to('nowhere')
    assert graph_of(bundle, 'frame') != b'graph'


def test_where_the_folder_is_read_only_the_users_cache_serves(bundle, tmp_path, monkeypatch):
    elsewhere = tmp_path / 'sys'
    elsewhere.mkdir()
    moved = replace(bundle, path=elsewhere / 'b.safetensors')
    shutil.copy(bundle.path, moved.path)
    elsewhere.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(elsewhere, os.W_OK):  # Root may write anywhere, but not into a file.
        moved = replace(bundle, path=bundle.path / 'b.safetensors')
    assert graph_of(moved, 'frame')
    assert kept_graph(moved, 'frame').parent == tmp_path / 'cache' / 'fusion_perception'
    elsewhere.chmod(stat.S_IRWXU)


def test_in_the_users_cache_two_bundles_of_one_name_keep_their_graphs(tmp_path):
    bundles = []
    for seed in (1, 2):
        (folder := tmp_path / f'{seed}').mkdir()
        bundle = load_bundle(small_bundle(folder, seed=seed))
        # Nobody may write into a file.
        bundles.append(replace(bundle, path=bundle.path / 'b.safetensors'))
    kept = [keep(bundle, 'frame', b'graph') for bundle in bundles]
    assert [kept_graph(bundle, 'frame') for bundle in bundles] == kept
    assert len(set(kept)) == 2


def test_bundles_behind_links_of_one_name_keep_their_graphs(tmp_path):
    kept = []
    for name in ('left', 'right'):
        (folder := tmp_path / name).mkdir()
        file = small_bundle(folder, seed=len(kept)).rename(tmp_path / f'{name}.safetensors')
        (link := folder / 'newest.safetensors').symlink_to(file)
        kept.append(keep(load_bundle(link), 'frame', b'graph'))
    assert [file.exists() for file in kept] == [True, True] and len(set(kept)) == 2


def test_where_there_is_no_room_for_a_graph_nothing_is_left_of_it(bundle, tmp_path):
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        assert keep(bundle, 'frame', bytes(10_000)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    assert [file for file in tmp_path.rglob('*') if file.is_file()] == [bundle.path]


def test_a_graph_that_cannot_be_written_to_its_end_beside_the_bundle_goes_into_the_cache(
    bundle, tmp_path
):
    beside = keep(bundle, 'frame', b'graph')
    beside.unlink()
    beside.mkdir()  # No file takes the place of a folder.
    kept = keep(bundle, 'frame', b'graph')
    assert kept == tmp_path / 'cache' / 'fusion_perception' / beside.name
    assert {file for file in tmp_path.rglob('*') if file.is_file()} == {bundle.path, kept}


def test_where_no_folder_takes_it_the_graph_is_made_each_time(bundle, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    moved = replace(bundle, path=bundle.path / 'b.safetensors')
    assert Runtime(moved, 'cpu', engine='onnxruntime').engine == 'onnxruntime'
    assert kept_graph(moved, 'frame') is None
