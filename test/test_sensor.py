"""Whose camera and LiDAR a data folder is for, and how far that LiDAR reaches, all the way."""

import json

import numpy as np
import pytest
import torch
import yaml
from small_bundles import CONFIGS, small_bundle
from training_runs import tiny_recipe

from fusion_perception import cli
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.sensor import SensorSettings, sensor_of
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import ToBagSettings, to_bag
from fusion_perception.learning.training import train
from fusion_perception.models.bundle import explain_difference, load_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.rig import ORIGINAL_LIDAR_POSE, Rig

GRID = UniformGrid().lidar()


@pytest.fixture
def ouster(tmp_path):
    path = tmp_path / 'metadata.json'
    beams = {
        'beam_altitude_angles': np.linspace(11, -11, 32).tolist(),
        'beam_azimuth_angles': [0.0] * 32,
        'lidar_origin_to_beam_origin_mm': 15.8,
        'data_format': {'columns_per_frame': 512, 'pixel_shift_by_row': [0] * 32},
    }
    path.write_text(json.dumps(beams), encoding='utf-8')
    return path


def tables(folder, rig=None):
    """Write the original's tables, and a sensor.yaml where there is a rig."""
    folder.mkdir()
    np.save(folder / 'azimuth.npy', GRID.azimuth.numpy())
    np.save(folder / 'zenith.npy', GRID.zenith.numpy())
    if rig is not None:
        rig.write_yaml(folder / 'sensor.yaml')
    return folder


def described(kind, folder, ouster):
    if kind == 'nothing':
        return None
    if kind == 'Ouster':
        return ouster
    if kind == 'bundle':
        return small_bundle(folder)
    if kind.endswith('rings'):
        path = folder / 'rings.yml'
        says = 'max_range: 100\n' if kind == 'telling rings' else ''
        path.write_text(f'elevations_deg: [2.0, -8.5]\ncolumns: 16\n{says}')
        return path
    rig = {'tables': None, 'told tables': Rig(max_range=80.0)}[kind]
    return tables(folder / 'tables', rig)


@pytest.mark.parametrize(
    ('kind', 'own', 'shape'),
    [
        ('nothing', 50.0, (64, 64)),
        ('tables', 50.0, (64, 64)),
        ('told tables', 80.0, (64, 64)),
        ('bundle', 50.0, (64, 64)),
        ('Ouster', 120.0, (32, 512)),
        ('rings', 120.0, (2, 16)),
        ('telling rings', 100.0, (2, 16)),
    ],
)
@pytest.mark.parametrize('asked', [None, 65.0])
def test_a_lidar_reaches_as_far_as_asked_else_as_described_else_as_its_kind(
    tmp_path, ouster, kind, own, shape, asked
):
    path = described(kind, tmp_path, ouster)
    rig, lidar = sensor_of(SensorSettings(tables=path, max_range=asked))
    assert (rig.max_range, lidar.max_range) == (asked or own,) * 2
    assert lidar.shape == shape


@pytest.mark.parametrize('name', ['nothere', 'rings.txt'])
def test_what_is_no_sensor_is_told_what_would_be_one(tmp_path, name):
    (tmp_path / 'rings.txt').write_text('elevations_deg: [2.0]\ncolumns: 16\n')
    fault = rf'{name} is no LiDAR and no bundle\. Give a folder.*rings.*, or a bundle'
    with pytest.raises(FileNotFoundError, match=fault):
        sensor_of(SensorSettings(tables=tmp_path / name))


def test_a_torn_bundle_is_called_so(tmp_path):
    path = small_bundle(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match='is torn or no bundle'):
        sensor_of(SensorSettings(tables=path))


def test_folder_training_and_bundle_agree_on_how_far_an_ouster_sees(tmp_path, ouster):
    out = tmp_path / 'scenes'
    simulate(SimulateSettings(out=out, count=24, tables=ouster, dropout=0.1))
    assert yaml.safe_load((out / 'sensor.yaml').read_text())['max_range'] == 120
    scenes = read_folder(out)
    assert scenes.ranges.max() == 120
    # Lost rays read like those that met nothing, and nothing else lies beyond the objects.
    assert scenes.ranges[scenes.ranges < 120].max() < 40
    assert DataFolder.open(out).scene(0).distance.max() == 120
    network = {'model': 'dense_fusion', 'architecture': CONFIGS['dense_fusion']}
    train(tiny_recipe(out, tmp_path / 'run', epochs=1, validation=2, **network))
    bundle = load_bundle(tmp_path / 'run')
    assert (bundle.rig.max_range, bundle.lidar.max_range) == (120, 120)
    assert explain_difference(bundle, scenes.rig, scenes.lidar) is None


def test_a_recording_becomes_a_folder_that_reaches_as_far_as_is_asked(tmp_path, ouster):
    bag = tmp_path / 'bag'
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=3, tables=ouster))
    to_bag(ToBagSettings(data=tmp_path / 'scenes', out=bag))
    masks = []
    for asked, reached in ((None, 120), (65.0, 65)):
        out = tmp_path / str(reached)
        from_bag(FromBagSettings(bag=bag, out=out, tables=ouster, max_range=asked))
        scenes = read_folder(out)
        assert (scenes.rig.max_range, scenes.lidar.max_range) == (reached, reached)
        masks.append(scenes.lidar.xyza(scenes.ranges)[:, 3])
    # The rays that met nothing, recorded as 120 m, are known as such in both.
    assert torch.equal(*masks) and 0 < masks[0].mean() < 0.5


def farther(metres):
    """Return the original LiDAR's pose, `metres` farther from the objects."""
    across, along, *rest = ORIGINAL_LIDAR_POSE
    return (across, (*along[:3], along[3] + metres), *rest)


def test_objects_beyond_the_original_range_are_seen_by_who_sees_farther(tmp_path):
    lidar = tables(tmp_path / 'lidar', Rig(T_label_lidar=farther(45), max_range=90.0))
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=8, tables=lidar))
    scenes = read_folder(tmp_path / 'scenes')
    returns = scenes.ranges[scenes.ranges < 90]
    assert len(returns) and returns.min() > 60 and returns.max() < 80


def test_a_sensor_yaml_beside_the_tables_counts_for_simulated_and_for_recorded_scenes(tmp_path):
    camera = Camera(width=48, height=40, fx=60.0, lens=Lens(coefficients=(-0.2, 0, 0, 0, 0)))
    rig = Rig(
        classes=('a', 'b', 'c'),
        camera=camera,
        T_label_lidar=farther(3),
        projection='notebook',
        max_range=70.0,
    )
    lidar = tables(tmp_path / 'lidar', rig)
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=4, tables=lidar))
    simulated = read_folder(tmp_path / 'scenes')
    # But for the names of what is simulated, and a lens that no image was taken through.
    assert simulated.rig == rig.model_copy(
        update={'classes': Rig().classes, 'camera': camera.model_copy(update={'lens': Lens()})}
    )
    assert simulated.images.shape[1:] == (40, 48, 4) and simulated.ranges.max() == 70
    to_bag(ToBagSettings(data=tmp_path / 'scenes', out=tmp_path / 'bag'))
    from_bag(FromBagSettings(bag=tmp_path / 'bag', out=tmp_path / 'back', tables=lidar))
    back = read_folder(tmp_path / 'back')
    assert back.rig == simulated.rig.model_copy(update={'classes': rig.classes})
    assert back.lidar.fingerprint() == simulated.lidar.fingerprint()


def test_scenes_are_simulated_for_the_sensors_of_a_bundle(tmp_path):
    bundle = small_bundle(tmp_path, rig=Rig(camera=Camera(width=32, fx=36.0, cx=15.5)))
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=2, tables=bundle, task='cubes'))
    scenes = read_folder(tmp_path / 'scenes')
    assert scenes.images.shape[1:] == (64, 32, 4)
    assert scenes.rig.classes == ('cube1', 'cube2', 'cube3')


@pytest.mark.parametrize('verb', ['simulate', 'from-bag'])
@pytest.mark.parametrize(
    ('asked', 'fault'),
    [('0', 'equal to 0.001'), ('-5', 'equal to 0.001'), ('inf', 'finite'), ('1e300', 'less than')],
)
def test_a_range_that_is_none_is_refused(tmp_path, capsys, verb, asked, fault):
    out = tmp_path / 'out'
    places = [str(out)] if verb == 'simulate' else [str(tmp_path / 'bag'), '--out', str(out)]
    assert cli.main([verb, *places, '--max-range', asked]) == 2
    said = capsys.readouterr().err
    assert f'max_range = {float(asked)}' in said and fault in said
    assert not out.exists()


def test_a_lidar_that_would_see_no_object_is_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / 'out'
    assert cli.main(['simulate', str(out), '--count', '2', '--max-range', '20']) == 2
    said = capsys.readouterr().err
    assert 'max_range of 20 m' in said and '20 to 30.8 m away. Give a larger --max-range' in said
    assert not out.exists()
    assert cli.main(['simulate', str(out), '--count', '2', '--max-range', '31']) == 0
