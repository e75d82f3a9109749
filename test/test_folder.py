"""A data folder is written and read in the original layout, and says what is wrong with it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_files import NO_ARRAYS, png_of
from PIL import Image
from recordings import record

from fusion_perception import cli
from fusion_perception.learning.data.folder import DataFolder, read_image, read_ranges
from fusion_perception.learning.data.in_threads import in_threads
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate, write_folder
from fusion_perception.sensing.lidars import UniformGrid, lidar_from_tables
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

COUNT = 8


def test_the_simulator_writes_the_original_layout(simulated: Path) -> None:
    assert {path.name for path in simulated.iterdir()} == {
        *('rgb', 'lidar', 'distance', 'azimuth.npy', 'zenith.npy', 'positions.csv', 'sensor.yaml')
    }
    with Image.open(simulated / 'rgb' / '0000.png') as image:
        assert (image.mode, image.size) == ('RGBA', (64, 64))
    for kind in ('lidar', 'distance'):
        values = np.load(simulated / kind / '0007.npy')
        assert (values.dtype, values.shape, values.max()) == (np.float32, (64, 64), 50)
    header = (simulated / 'positions.csv').read_text().splitlines()[0]
    assert header == 'cube_x,cube_y,cube_z,sphere_x,sphere_y,sphere_z,torus_x,torus_y,torus_z'


def test_scenes_are_simulated_for_another_lidar_and_keep_its_tables(tmp_path: Path) -> None:
    tables = tmp_path / 'tables'
    tables.mkdir()
    lidar = UniformGrid(rows=32, columns=40, azimuth_step_deg=1, zenith_step_deg=0.8).lidar()
    np.save(tables / 'azimuth.npy', lidar.azimuth.numpy())
    np.save(tables / 'zenith.npy', lidar.zenith.numpy())
    np.save(tables / 'offsets.npy', np.full((32, 40, 3), 0.05, np.float32))
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=4, tables=tables))
    for _ in ('from the files', 'from the packed file'):
        scenes = read_folder(tmp_path / 'scenes')
        assert scenes.ranges.shape == (4, 32, 40)
        assert scenes.lidar.fingerprint() == lidar_from_tables(tables, Rig()).fingerprint()
    observation, _ = scenes.batch(slice(0, 1))
    assert torch.equal(observation.xyza, scenes.lidar.xyza(scenes.ranges[:1]))


def test_what_is_read_is_what_was_rendered(tmp_path: Path) -> None:
    rig = Rig(camera=Camera(width=32, height=16, fx=20.0, fy=20.0, cx=15.5, cy=7.5))
    lidar = UniformGrid(rows=24, columns=12, azimuth_step_deg=1.2, zenith_step_deg=2.5).lidar()
    generator = torch.Generator().manual_seed(0)
    frames = render(sample_scenes(6, SceneSettings(), generator, rig=rig), rig, lidar)
    write_folder(tmp_path / 'data', [frames[:4], frames[4:]], rig, lidar)
    scenes = read_folder(tmp_path / 'data')
    assert scenes.rig == rig
    assert scenes.lidar.fingerprint() == lidar.fingerprint()
    assert torch.equal(scenes.images, frames.images)
    assert torch.equal(scenes.ranges, frames.ranges)
    torch.testing.assert_close(scenes.centers, frames.centers, atol=1e-5, rtol=0)


@pytest.mark.parametrize('flags', [{}, {'range_noise': 0.02, 'dropout': 0.1}, {'robust': True}])
def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, flags: dict[str, float]) -> None:
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        simulate(SimulateSettings(out=tmp_path / name, count=3, seed=seed, **flags))
    a, b, c = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob('*.*'))] for name in 'abc'
    )
    assert a == b
    assert a != c


def test_more_scenes_than_fit_into_memory_at_once_are_refused_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['simulate', str(tmp_path / 'out'), '--count', '999999999999']) == 2
    assert 'count = 999999999999' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_lost_rays_and_noise_reach_the_range_images(tmp_path: Path) -> None:
    simulate(SimulateSettings(out=tmp_path / 'clean', count=4))
    simulate(SimulateSettings(out=tmp_path / 'noisy', count=4, range_noise=0.05, dropout=0.25))
    clean = np.stack([np.load(path) for path in sorted((tmp_path / 'clean/lidar').iterdir())])
    noisy = np.stack([np.load(path) for path in sorted((tmp_path / 'noisy/lidar').iterdir())])
    hit = clean < 50
    assert np.mean(noisy[hit] == 50) == pytest.approx(0.25, abs=0.05)
    error = (noisy - clean)[hit & (noisy < 50)]
    assert error.std() == pytest.approx(0.05, rel=0.15)


def test_the_simulator_leaves_a_full_folder_alone(simulated: Path) -> None:
    with pytest.raises(ValueError, match=r'shapes is not empty\. Choose a new folder'):
        simulate(SimulateSettings(out=simulated, count=1))


def test_an_interrupted_simulation_is_recognised(tmp_path: Path) -> None:
    rig, lidar = Rig(), UniformGrid().lidar()

    def interrupted():
        yield render(sample_scenes(2, SceneSettings(), torch.Generator()), rig, lidar)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / 'data', interrupted(), rig, lidar)
    with pytest.raises(FileNotFoundError, match='interrupted `fusion simulate` left this folder'):
        DataFolder.open(tmp_path / 'data')


def test_without_a_rig_the_original_sensor_is_assumed(folder: Path) -> None:
    described = read_folder(folder)
    (folder / 'sensor.yaml').unlink()
    assumed = read_folder(folder)
    assert assumed.rig == described.rig
    assert torch.equal(assumed.centers, described.centers)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_every_8_bit_mode_becomes_rgba(tmp_path: Path, mode: str) -> None:
    path = tmp_path / 'image.png'
    Image.new('RGBA', (5, 3), (200, 200, 200, 255)).convert(mode).save(path)
    expected = 255 if mode == '1' else 200
    assert read_image(path)[2, 4].tolist() == [expected, expected, expected, 255]


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def save_npy(path: Path, values: object) -> None:
    np.save(path, values, allow_pickle=True)


FAULTS = {
    'no image folder': (lambda p: shutil.rmtree(p / 'rgb'), 'no folder rgb'),
    'a missing scene': (lambda p: (p / 'rgb/0003.png').unlink(), 'rgb/0003.png is missing'),
    'a missing last scan': (
        lambda p: (p / 'lidar/0007.npy').unlink(),
        '8 images in rgb, 7 range images in lidar, 8 rows',
    ),
    'a scene twice': (
        lambda p: shutil.copy(p / 'rgb/0003.png', p / 'rgb/3.png'),
        'rgb holds scene 3 twice',
    ),
    'an image cut in half': (lambda p: cut(p / 'rgb/0003.png'), '0003.png is torn'),
    'an image with a wrong byte': (lambda p: flip_a_byte(p / 'rgb/0003.png'), '0003.png is torn'),
    'an empty image': (lambda p: cut(p / 'rgb/0003.png', 0), '0003.png is torn'),
    'an image of another size': (
        lambda p: Image.new('RGB', (32, 48)).save(p / 'rgb/0003.png'),
        '0003.png is 32x48 pixels and 0000.png 64x64',
    ),
    'a huge image': (
        lambda p: (p / 'rgb/0003.png').write_bytes(png_of(12_000, 10_000)),
        '0003.png is 12000x10000 pixels and 0000.png 64x64',
    ),
    'a huge first image': (
        lambda p: (p / 'rgb/0000.png').write_bytes(png_of(12_000, 10_000)),
        '0000.png is 12000x10000 pixels, and at most 67,108,864 in all can be read',
    ),
    'an image of another kind': (
        lambda p: Image.new('RGB', (64, 64)).save(p / 'rgb/0003.png', 'JPEG'),
        '0003.png is torn or no PNG',
    ),
    'a 16-bit image': (
        lambda p: Image.fromarray(np.zeros((64, 64), np.uint16)).save(p / 'rgb/0003.png'),
        'pixel mode I',  # Pillow calls it I;16 from version 11 on.
    ),
    'a scan cut in half': (lambda p: cut(p / 'lidar/0003.npy'), '0003.npy is torn'),
    'an empty scan': (lambda p: cut(p / 'lidar/0003.npy', 0), '0003.npy is torn'),
    'a pickled scan': (
        lambda p: save_npy(p / 'lidar/0003.npy', np.array([{}], dtype=object)),
        '0003.npy is torn or no plain .npy file',
    ),
    'a scan in millimetres': (
        lambda p: save_npy(p / 'lidar/0003.npy', np.zeros((64, 64), np.uint16)),
        'holds uint16 of shape',
    ),
    'a scan of another shape': (
        lambda p: save_npy(p / 'lidar/0003.npy', np.zeros((64, 32), np.float32)),
        '0003.npy is 64x32, but azimuth.npy and zenith.npy describe 64x64',
    ),
    'no angle table': (lambda p: (p / 'zenith.npy').unlink(), 'No angle table at'),
    'a short angle table': (
        lambda p: save_npy(p / 'zenith.npy', np.zeros(32, np.float32)),
        'is 64x64, but azimuth.npy and zenith.npy describe 64x32',
    ),
    'no labels': (lambda p: (p / 'positions.csv').unlink(), 'No positions.csv in'),
    'a wrong header': (
        lambda p: edit(p / 'positions.csv', 'cube_y', 'cube_q'),
        'Give a header of <object>_x,<object>_y,<object>_z',
    ),
    'labels without header': (
        lambda p: edit(p / 'positions.csv', p.joinpath('positions.csv').read_text()[:74], ''),
        'Give a header of',
    ),
    'NaN in a label': (
        lambda p: (p / 'positions.csv').write_text(
            (p / 'positions.csv').read_text().rsplit(',', 1)[0] + ',nan\n'
        ),
        "line 9: 'nan' is no finite number",
    ),
    'a row too short': (
        lambda p: (p / 'positions.csv').write_text(
            (p / 'positions.csv').read_text().rsplit(',', 1)[0] + '\n'
        ),
        'line 9: 8 values under a header of 9',
    ),
    'a row too many': (
        lambda p: (p / 'positions.csv').write_text(
            (p / 'positions.csv').read_text() + ','.join('123456789') + '\n'
        ),
        '8 range images in lidar, 9 rows in positions.csv',
    ),
    'a binary file for labels': (
        lambda p: shutil.copy(p / 'rgb/0000.png', p / 'positions.csv'),
        'is no text file',
    ),
    'another camera in sensor.yaml': (
        lambda p: edit(p / 'sensor.yaml', 'width: 64', 'width: 128'),
        'describes a camera of 128x64 pixels, but',
    ),
    'other objects in sensor.yaml': (
        lambda p: edit(p / 'sensor.yaml', '- torus', '- cone'),
        'names cube, sphere, cone, but the header',
    ),
    'another maximum range in sensor.yaml': (
        lambda p: edit(p / 'sensor.yaml', 'max_range: 50.0', 'max_range: 120.0'),
        'read 50, as rays without return do, but max_range is 120',
    ),
    'an unknown key in sensor.yaml': (
        lambda p: edit(p / 'sensor.yaml', 'max_range', 'max_rnage'),
        "Did you mean 'max_range'",
    ),
    'a deleted folder': (lambda p: shutil.rmtree(p), 'is missing; a data folder is needed'),
    'an empty folder': (lambda p: (shutil.rmtree(p), p.mkdir()), 'is empty'),
    'a file for a folder': (lambda p: (shutil.rmtree(p), p.touch()), 'is a file'),
}


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_named_in_one_sentence(folder: Path, fault: str) -> None:
    damage, words = FAULTS[fault]
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        read_folder(folder)
    assert words in str(raised.value)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('content', NO_ARRAYS.values(), ids=NO_ARRAYS)
@pytest.mark.parametrize('name', ['lidar/0003.npy', 'azimuth.npy'])
def test_what_is_no_array_is_refused_by_its_path(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf'{folder / name} is .*no (plain )?\.npy file'
    ) as raised:
        read_folder(folder)
    assert str(raised.value).isprintable()


def test_a_distance_image_of_another_size_than_its_image_is_refused(folder: Path) -> None:
    np.save(folder / 'distance/0003.npy', np.zeros((64, 32), np.float32))
    assert DataFolder.open(folder).scene(2).distance.shape == (64, 64)
    with pytest.raises(ValueError, match=r'distance/0003\.npy is 64x32, but .*0003\.png 64x64'):
        DataFolder.open(folder).scene(3)


def test_a_header_with_a_name_that_cannot_be_is_refused_by_its_path(folder: Path) -> None:
    edit(folder / 'positions.csv', 'cube_x,cube_y,cube_z', "a'b_x,a'b_y,a'b_z")
    (folder / 'sensor.yaml').unlink()
    with pytest.raises(ValueError, match=r'positions\.csv: classes = .*give names without'):
        read_folder(folder)


@pytest.mark.parametrize('max_range', [40.1, 33.3])
def test_a_maximum_range_that_float32_rounds_down_fits_its_own_scans(
    tmp_path: Path, max_range: float
) -> None:
    rig, lidar = Rig(max_range=max_range), UniformGrid(max_range=max_range).lidar()
    assert float(np.float32(max_range)) < max_range
    generator = torch.Generator().manual_seed(0)
    frames = render(sample_scenes(8, SceneSettings(), generator, rig=rig), rig, lidar)
    write_folder(tmp_path / 'data', [frames], rig, lidar)
    scenes = read_folder(tmp_path / 'data')
    hit = scenes.lidar.xyza(scenes.ranges)[:, 3] > 0
    assert torch.equal(hit, frames.ranges < frames.ranges.max())
    assert 0 < hit.float().mean() < 0.9


def test_a_scene_that_does_not_exist_is_named(simulated: Path) -> None:
    with pytest.raises(ValueError, match=r'no scene 8\. Choose one of 0 to 7'):
        DataFolder.open(simulated).scene(COUNT)


def test_a_recording_given_as_a_data_folder_is_told_what_makes_one(tmp_path: Path) -> None:
    bag = record(tmp_path / 'my drive', 2)
    for given in (bag, next(bag.glob('*.mcap'))):
        with pytest.raises(FileNotFoundError, match=r'is a recording\. .* --bag') as raised:
            read_folder(given)
        assert f"`fusion from-bag '{given}' --out DATA`" in str(raised.value)


def test_what_makes_a_missing_or_empty_data_folder_leaves_the_objects_open(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    for name in ('empty', 'missing'):
        with pytest.raises(FileNotFoundError, match=r'--task shapes .* or with `--task cubes`'):
            read_folder(tmp_path / name)


def test_a_failure_in_a_thread_reaches_the_caller() -> None:
    def work(index: int) -> None:
        if index == 5:
            raise ValueError('five')

    with pytest.raises(ValueError, match='five'):
        in_threads(work, 1000)


@pytest.mark.filterwarnings('error')
def test_a_range_beyond_float32_is_no_return(tmp_path):
    np.save(tmp_path / 'scan.npy', np.array([[1e300, 20.0]]))
    assert read_ranges(tmp_path / 'scan.npy').tolist() == [[np.inf, 20.0]]
