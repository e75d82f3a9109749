"""Data folders become recordings and come back: nothing is lost but what the documents say."""

import shlex
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from recordings import at, frames, record

from fusion_perception import cli
from fusion_perception.learning.bags.writing import SECOND
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import (
    BEGIN_NS,
    CAMERA_INFO,
    IMAGE,
    RANGES,
    TRUTH,
    ToBagSettings,
    to_bag,
)
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.rig import Rig


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'scenes'
    simulate(SimulateSettings(out=folder, count=6, seed=5))
    return folder


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != 'scenes.packed'
    }


def round_trip(data, folder, **settings):
    to_bag(ToBagSettings(data=data, out=folder / 'bag', **settings))
    back = folder / 'back'
    from_bag(FromBagSettings(bag=folder / 'bag', out=back, tables=str(data)))
    return back


@pytest.mark.parametrize(
    ('storage', 'compression', 'stored'),
    [
        ('mcap', 'none', 'bag.mcap'),
        ('sqlite3', 'none', 'bag.db3'),
        ('sqlite3', 'file', 'bag.db3.zstd'),
    ],
)
def test_a_round_trip_loses_the_distance_images_alone(
    data, tmp_path, storage, compression, stored
):
    back = round_trip(data, tmp_path, storage=storage, compression=compression)
    before, after = files(data), files(back)
    assert files(tmp_path / 'bag').keys() == {stored, 'metadata.yaml'}
    assert after.pop('recording.yaml')
    lost = set(before) - set(after)
    assert lost == {f'distance/{index:04d}.npy' for index in range(6)}
    assert after == {name: content for name, content in before.items() if name not in lost}


def save_images(folder, pixels):
    (folder / 'rgb').mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / 'rgb' / f'{index:04d}.png')


def test_each_camera_info_is_of_the_size_of_its_image(data, tmp_path):
    # As the original data has no sensor.yaml, and its camera.
    small = tmp_path / 'small'
    shutil.copytree(data, small, ignore=lambda *_: ['rgb', 'sensor.yaml', 'scenes.packed'])
    save_images(small, np.full((6, 40, 48, 4), 255, np.uint8))
    to_bag(ToBagSettings(data=small, out=tmp_path / 'bag'))
    with Recording(tmp_path / 'bag') as recording:
        infos = [recording.read(m) for m in recording.messages([CAMERA_INFO])]
    sizes = {(info.width, info.height, info.k[0]) for info in infos}
    assert sizes == {(48, 40, Rig().camera.resized(48, 40).fx)}


def test_another_sensor_and_transparent_images_make_the_round_trip(data, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    for item in ('azimuth.npy', 'zenith.npy', 'positions.csv', 'lidar'):
        (other / item).symlink_to(data / item)
    rig = yaml.safe_load((data / 'sensor.yaml').read_text())
    rig['camera'] |= {'width': 48, 'height': 40, 'fx': 51.25, 'cx': 23.1, 'cy': 19.7}
    rig['camera']['T_camera_lidar'][0][3] = 0.12
    (other / 'sensor.yaml').write_text(yaml.safe_dump(rig, sort_keys=False))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 4), np.uint8)
    save_images(other, pixels)
    back = round_trip(other, tmp_path)
    assert (back / 'sensor.yaml').read_text() == (other / 'sensor.yaml').read_text()
    assert (read_folder(back).images.numpy() == pixels).all()


@pytest.mark.parametrize('rate', [4, 3])
def test_stamps_follow_the_rate_and_each_scene_has_all_four_messages(data, tmp_path, rate):
    bag = tmp_path / 'bag'
    said = to_bag(ToBagSettings(data=data, out=bag, rate=rate))
    assert f'6 scenes of {data} are in {bag}: {6 / rate:g} s at {rate} Hz.' in said
    with Recording(bag) as recording:
        assert {t.name: t.count for t in recording.topics.values()} == dict.fromkeys(
            (IMAGE, CAMERA_INFO, RANGES, TRUTH), 6
        )
        stamps = [stamp_ns(recording.read(m)) for m in recording.messages([RANGES])]
    assert [stamp - stamps[0] for stamp in stamps] == [round(i * 1e9 / rate) for i in range(6)]
    assert stamps[0] > 0


def test_a_rate_whose_stamps_no_message_can_hold_is_refused_and_the_one_advised_serves(tmp_path):
    data, bag = tmp_path / 'data', tmp_path / 'bag'
    simulate(SimulateSettings(out=data, count=12))
    longest_s = 2**31 - 1 - BEGIN_NS // SECOND
    with pytest.raises(ValueError, match='after 2038') as refusal:
        to_bag(ToBagSettings(data=data, out=bag, rate=11 / (longest_s + 1)))
    assert not bag.exists()
    advised = float(str(refusal.value).split('Give ')[1].split()[0])
    for number, rate in enumerate((11 / longest_s, advised)):
        to_bag(ToBagSettings(data=data, out=tmp_path / f'{number}', rate=rate))


def test_the_same_data_makes_the_same_bytes(data, tmp_path):
    for name in 'ab':
        to_bag(ToBagSettings(data=data, out=tmp_path / name / 'bag'))
    assert files(tmp_path / 'a') == files(tmp_path / 'b')


def test_a_folder_that_lacks_distance_images_makes_a_recording(data, tmp_path):
    lacking = shutil.copytree(data, tmp_path / 'lacking')
    (lacking / 'distance' / '0005.npy').unlink()
    for folder, name in ((data, 'a'), (lacking, 'b')):
        to_bag(ToBagSettings(data=folder, out=tmp_path / name / 'bag'))
    assert files(tmp_path / 'a') == files(tmp_path / 'b')
    with pytest.raises(FileNotFoundError, match=r'No distance image at .*/distance/0005\.npy'):
        DataFolder.open(lacking).scene(5)


def test_pairs_without_truth_are_left_out_and_said(tmp_path):
    def edit(events):
        # Within 5 ms it counts.
        return [
            event.stamped(event.stamp_ns + 4_000_000) if event.topic == TRUTH else event
            for event in events
            if event.topic != TRUTH or event.index < 5
        ]

    said = from_bag(FromBagSettings(bag=record(tmp_path / 'bag', edit=edit), out=tmp_path / 'out'))
    scenes = read_folder(tmp_path / 'out')
    assert len(scenes) == 5
    assert '3 pairs have no ground truth within 0.005 s' in said
    np.testing.assert_allclose(scenes.centers, frames(8, 10).centers[:5], atol=1e-5)
    assert at(0) > 0


@pytest.mark.parametrize('name', ['', 'a,b', 'a\nb'])
def test_names_that_no_labels_can_have_are_refused_before_anything_is_read(tmp_path, name):
    settings = FromBagSettings(bag=tmp_path / 'none', out=tmp_path / 'out', classes=('a', name))
    with pytest.raises(ValueError, match=r'--classes: classes = .*give names without'):
        from_bag(settings)
    assert not (tmp_path / 'out').exists()


def test_classes_can_be_named(tmp_path):
    bag = record(tmp_path / 'bag', 3)
    from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out', classes=('a', 'b', 'c')))
    assert read_folder(tmp_path / 'out').rig.classes == ('a', 'b', 'c')


def test_the_size_of_the_objects_can_be_told_and_is_no_part_of_the_rig_of_a_bundle(tmp_path):
    bag = record(tmp_path / 'bag', 3)
    from_bag(
        FromBagSettings(bag=bag, out=tmp_path / 'out', object_size_m=8.0, classes=tuple('abc'))
    )
    told = DataFolder.open(tmp_path / 'out').rig
    assert told.object_size_m == 8
    assert told.model_dump_json() == read_folder(tmp_path / 'out').rig.model_dump_json()
    assert 'object_size_m' not in told.model_dump()
    # It is handed on to the next folder with the tables.
    tables = {'tables': str(tmp_path / 'out')}
    from_bag(FromBagSettings(bag=bag, out=tmp_path / 'next', **tables))
    assert DataFolder.open(tmp_path / 'next').rig.object_size_m == 8


@pytest.mark.parametrize('verb', ['to-bag', 'from-bag'])
def test_what_is_there_already_is_not_overwritten(data, tmp_path, verb, capsys):
    bag = record(tmp_path / 'bag', 2)
    given = {'to-bag': [str(data), '--out', str(bag)], 'from-bag': [str(bag), '--out', str(data)]}
    before = files(data), files(bag)
    assert cli.main([verb, *given[verb]]) == 2
    assert (files(data), files(bag)) == before
    assert 'delete it' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('topic', 'complaint'),
    [(IMAGE, 'no camera images'), (RANGES, 'no range images'), (TRUTH, 'no ground truth')],
)
def test_a_recording_that_lacks_something_makes_no_folder(tmp_path, topic, complaint):
    bag = record(tmp_path / 'bag', 3, edit=lambda events: [e for e in events if e.topic != topic])
    with pytest.raises(ValueError, match=complaint):
        from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


def test_tables_of_another_lidar_are_refused(data, tmp_path):
    bag, tables = record(tmp_path / 'bag', 3), tmp_path / 'tables'
    tables.mkdir()
    for name in ('azimuth.npy', 'zenith.npy'):
        np.save(tables / name, np.load(data / name)[:32])
    with pytest.raises(ValueError, match=r'No scene comes of .*\(64, 64\).*\(32, 32\).*--tables'):
        from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out', tables=str(tables)))


def test_tables_that_are_nowhere_are_told_what_would_do(tmp_path):
    bag = record(tmp_path / 'bag', 3)
    with pytest.raises(FileNotFoundError, match='nowhere is no LiDAR and no bundle'):
        from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out', tables=str(tmp_path / 'nowhere')))


def test_what_a_command_advises_can_be_pasted_whatever_the_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def advised(*arguments):
        assert cli.main(list(arguments)) == 0
        command = shlex.split(capsys.readouterr().out.rpartition(': fusion ')[2])
        return command[0], command[1]

    assert cli.main(['view', 'my scenes']) == 2
    assert "`fusion simulate 'my scenes' --task" in capsys.readouterr().err
    assert advised('simulate', 'my scenes', '--count', '2') == ('view', 'my scenes')
    assert advised('to-bag', 'my scenes', '--out', "Bo's drive") == ('replay', "Bo's drive")
    assert advised('from-bag', "Bo's drive", '--out', 'the same') == ('view', 'the same')
