"""A bundle is one file that rebuilds a model, and that is refused when it is not whole."""

import hashlib
import json
import resource
import stat
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_bundles import CONFIGS, small_bundle

from fusion_perception.models import build
from fusion_perception.models.bundle import _fingerprint as fingerprint
from fusion_perception.models.bundle import (
    explain_difference,
    load_bundle,
    name_anywhere,
    save_bundle,
)
from fusion_perception.models.examples import made_up_examples
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

CONFIG = {'channels': (2, 4, 4), 'hidden': (8, 8)}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(7)
    model = build('early_fusion', CONFIG)
    path = tmp_path / 'bundle.safetensors'
    save_bundle(path, model, 'early_fusion', Rig(), UniformGrid().lidar(), {'seed': 7})
    return path, model


def test_a_bundle_is_named_so_that_it_is_found_from_any_folder(saved, tmp_path, monkeypatch):
    path, _ = saved
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'cubes').mkdir()
    assert name_anywhere('bundle.safetensors') == str(path)
    assert name_anywhere('.') == str(tmp_path)
    # One that ships has its name everywhere, and what is nowhere keeps the one it was given.
    assert (name_anywhere('cubes'), name_anywhere('nowhere')) == ('cubes', 'nowhere')


def test_a_loaded_bundle_has_the_weights_config_tables_and_training_it_was_saved_with(saved):
    path, model = saved
    bundle = load_bundle(path)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(bundle.model.state_dict()[key], value, atol=0, rtol=0)
    assert bundle.model.config == model.config
    assert bundle.lidar.fingerprint() == UniformGrid().lidar().fingerprint()
    assert bundle.manifest.training == {'seed': 7}
    assert not bundle.model.training


def test_a_folder_that_holds_a_bundle_will_do(saved):
    assert load_bundle(saved[0].parent).path == saved[0]


def test_a_bundle_in_the_home_folder_is_found(saved, monkeypatch):
    monkeypatch.setenv('HOME', str(saved[0].parent))
    assert load_bundle('~/bundle.safetensors').path == saved[0]


def test_the_rig_of_a_bundle_tells_of_the_lidar_it_was_saved_with(tmp_path):
    lidar = UniformGrid(projection='notebook', max_range=80).lidar()
    path = tmp_path / 'bundle.safetensors'
    save_bundle(path, build('early_fusion', CONFIG), 'early_fusion', Rig(), lidar, {})
    bundle = load_bundle(path)
    assert (bundle.rig.projection, bundle.rig.max_range) == ('notebook', 80)
    assert bundle.lidar.fingerprint() == lidar.fingerprint()


def test_a_missing_bundle_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match='fusion train'):
        load_bundle(tmp_path / 'nowhere.safetensors')


def test_only_a_bare_name_is_that_of_a_bundle_that_ships():
    assert load_bundle('shapes').path.parent.name == 'bundles'
    with pytest.raises(FileNotFoundError, match=r'No bundle at \.\./bundles/shapes'):
        load_bundle('../bundles/shapes')


def test_a_bundle_in_the_home_of_nobody_is_missing_as_any_other():
    with pytest.raises(FileNotFoundError, match=r'No bundle at ~nobody-of-that-name/x\. Train'):
        load_bundle('~nobody-of-that-name/x')


def test_of_a_folder_without_a_bundle_it_is_said_what_it_lacks_and_what_it_holds(saved, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'checkpoint.safetensors').touch()
    lack = rf'^{run} is a folder without a bundle\.safetensors\. A bundle is that file, .*'
    with pytest.raises(FileNotFoundError, match=lack + r'folder of a run, or one that ships \('):
        load_bundle(run)
    saved[0].rename(run / 'mine.safetensors')
    with pytest.raises(FileNotFoundError, match=lack + r'that you mean: mine\.safetensors\.$'):
        load_bundle(run)


def test_an_empty_name_is_no_bundle_even_in_a_folder_that_holds_one(saved, monkeypatch):
    monkeypatch.chdir(saved[0].parent)
    with pytest.raises(FileNotFoundError, match=r'No bundle is named\. Train'):
        load_bundle('')


def test_saving_leaves_no_draft_behind(saved):
    assert [file.name for file in saved[0].parent.iterdir()] == ['bundle.safetensors']


def test_a_bundle_can_be_read_by_other_users(saved):
    assert stat.filemode(saved[0].stat().st_mode) == '-rw-r--r--'


def test_a_bundle_for_which_there_is_no_room_leaves_the_one_before(saved):
    path, model = saved
    before = path.read_bytes()
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, most))
    try:
        with pytest.raises(OSError, match='Make room'):
            save_bundle(path, model, 'early_fusion', Rig(), UniformGrid().lidar(), {'seed': 8})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.99])
def test_a_bundle_cut_short_is_refused(saved, share):
    path = saved[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match='torn'):
        load_bundle(path)


def test_a_bundle_with_any_changed_byte_is_refused(saved):
    path = saved[0]
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], 'little')
    # Trailing blanks that pad the header carry nothing; every other byte counts.
    used = 8 + len(whole[8 : 8 + header].rstrip())
    places = [*range(0, used, 37), *range(8 + header, len(whole), 4001)]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=str(path)):
            load_bundle(path)


def altered(path, change):
    with safe_open(path, framework='pt') as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(metadata, tensors)
    save_file(tensors, path, metadata)


def test_weights_of_somebody_else_are_refused(saved):
    altered(saved[0], lambda _, tensors: tensors['model.net.layers.0.bias'].add_(1))
    with pytest.raises(ValueError, match='weights differ from their sha256'):
        load_bundle(saved[0])


def test_numbers_of_another_type_are_other_weights(saved):
    key = 'model.net.layers.0.bias'
    altered(saved[0], lambda _, tensors: tensors.update({key: tensors[key].view(torch.int32)}))
    with pytest.raises(ValueError, match='weights differ from their sha256'):
        load_bundle(saved[0])


def test_a_changed_manifest_is_refused(saved):
    def further(metadata, _):
        manifest = json.loads(metadata['manifest'])
        manifest['rig']['max_range'] = 60.0
        metadata['manifest'] = json.dumps(manifest)

    altered(saved[0], further)
    with pytest.raises(ValueError, match='manifest differs from its sha256'):
        load_bundle(saved[0])


def test_weights_of_another_version_s_model_are_named_in_a_line(tmp_path):
    path = tmp_path / 'bundle.safetensors'
    model = build('early_fusion', CONFIG)
    save_bundle(path, model, 'rgb', Rig(), UniformGrid().lidar(), {})
    with pytest.raises(ValueError, match='2x8x3x3 and should be 2x4x3x3') as raised:
        load_bundle(path)
    model.net.layers[0] = torch.nn.Identity()
    save_bundle(path, model, 'early_fusion', Rig(), UniformGrid().lidar(), {})
    with pytest.raises(ValueError, match=r'missing and should be 2x8x3x3, and 1 more differs'):
        load_bundle(path)
    model = build('early_fusion', CONFIG)
    model.net.norm = torch.nn.LayerNorm(5)
    save_bundle(path, model, 'early_fusion', Rig(), UniformGrid().lidar(), {})
    with pytest.raises(
        ValueError, match=r'net\.norm\.\w+ is 5 and should be missing, and 1 more differs'
    ):
        load_bundle(path)
    assert len(str(raised.value)) < len(str(path)) + 200


def test_weights_without_a_manifest_are_no_bundle(tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_file({'weight': torch.zeros(3)}, path)
    with pytest.raises(ValueError, match='no manifest'):
        load_bundle(path)


def with_manifest(path, text):
    """Put another manifest into a bundle, with the sha256 that belongs to it."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    altered(path, lambda said, _: said.update(manifest=text, manifest_sha256=sha256))


@pytest.mark.parametrize(
    'text',
    ['', '[]', 'null', '3', '"x"', '{', '[' * 100_000, '9' * 5000, '{}', '"' + 'x' * 5000 + '"'],
    ids=lambda text: text[:9],
)
def test_a_manifest_that_is_none_is_refused_by_its_path(saved, text):
    path, _ = saved
    with_manifest(path, text)
    with pytest.raises(
        ValueError, match=rf'{path}.*(Copy it again|Install the version)'
    ) as caught:
        load_bundle(path)
    assert len(str(caught.value)) < len(str(path)) + 500


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'rig': {'classes': ['cube', 'sphere']}}, 'predicts 3 objects and names 2 classes'),
        ({'rig': {'classes': [*'abcd']}}, 'predicts 3 objects and names 4 classes'),
        ({'config': {'covariance_scale': [-1, 1, 1]}}, r'covariance_scale\.0 = -1'),
        ({'config': {'covariance_scale': [1, 0, 1]}}, r'covariance_scale\.1 = 0'),
        ({'config': {'covariance_scale': [1, 1, 1e300]}}, r'covariance_scale\.2 = 1e\+300'),
    ],
)
def test_a_manifest_that_contradicts_its_model_is_refused(tmp_path, change, said):
    path = small_bundle(tmp_path)
    manifest = json.loads(json.dumps(load_bundle(path).manifest.model_dump(mode='json')))
    for part, values in change.items():
        manifest[part].update(values)
    with_manifest(path, json.dumps(manifest))
    with pytest.raises(ValueError, match=rf'{path} does not fit this package: .*{said}'):
        load_bundle(path)


def test_a_manifest_of_another_lidar_than_its_tables_is_refused(tmp_path):
    path = small_bundle(tmp_path)
    manifest = json.loads(json.dumps(load_bundle(path).manifest.model_dump(mode='json')))
    manifest['rig']['max_range'] = 60.0
    with_manifest(path, json.dumps(manifest))
    with pytest.raises(ValueError, match='lidar_fingerprint does not fit the tables'):
        load_bundle(path)


def test_a_model_that_made_no_error_when_it_was_calibrated_is_loaded(tmp_path):
    lidar, model = UniformGrid().lidar(), build('dense_fusion', CONFIGS['dense_fusion']).eval()
    scenes = made_up_examples(Rig().camera, lidar).seen_by('fusion', Rig().camera, lidar)
    nothing = scenes.without('camera').without('lidar')
    with torch.no_grad():
        model.calibrate([(nothing, model(nothing).centers)])
    save_bundle(tmp_path / 'b.safetensors', model, 'dense_fusion', Rig(), lidar, {})
    assert min(load_bundle(tmp_path / 'b.safetensors').model.config.covariance_scale) > 0


def test_a_bundle_without_a_single_beam_is_refused(tmp_path):
    path = small_bundle(tmp_path)
    altered(path, lambda _, tensors: tensors.update({'lidar.azimuth': torch.zeros(0)}))
    with safe_open(path, framework='pt') as file:
        manifest = json.loads(file.metadata()['manifest'])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    with_manifest(path, json.dumps({**manifest, 'weights_sha256': fingerprint(tensors)}))
    with pytest.raises(ValueError, match=rf'{path} .*angle tables are empty'):
        load_bundle(path)


@pytest.mark.parametrize(
    ('rig', 'grid', 'entry'),
    [
        (Rig(classes=('a', 'b', 'c')), UniformGrid(), 'classes'),
        (Rig(), UniformGrid(rows=32), 'LiDAR rows and columns'),
        (Rig(), UniformGrid(projection='notebook'), 'projection'),
        (Rig(), UniformGrid(max_range=80), 'max_range'),
        (Rig(), UniformGrid(azimuth_step_deg=0.4), 'LiDAR tables'),
        # A milliradian at the border.
        (Rig(), UniformGrid(azimuth_step_deg=0.502), 'LiDAR tables'),
    ],
)
def test_a_sensor_that_does_not_fit_is_told_which_entry_differs(saved, rig, grid, entry):
    assert explain_difference(load_bundle(saved[0]), rig, grid.lidar()).startswith(entry)


def test_the_sensor_it_was_trained_for_fits(saved):
    assert explain_difference(load_bundle(saved[0]), Rig(), UniformGrid().lidar()) is None


def test_a_bundle_knows_where_the_beams_begin(tmp_path):
    plain = UniformGrid(rows=8, columns=8).lidar()
    lidar = replace(plain, offsets=torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(1)))
    model = build('lidar', CONFIG)
    save_bundle(tmp_path / 'b.safetensors', model, 'lidar', Rig(), lidar, {})
    bundle = load_bundle(tmp_path / 'b.safetensors')
    assert torch.equal(bundle.lidar.offsets, lidar.offsets)
    assert explain_difference(bundle, bundle.rig, lidar) is None
    assert 'begin up to' in explain_difference(bundle, bundle.rig, plain)
    for aside, told in ((1e-6, False), (1e-3, True)):
        moved = replace(lidar, offsets=lidar.offsets + aside)
        assert (explain_difference(bundle, bundle.rig, moved) is not None) == told
