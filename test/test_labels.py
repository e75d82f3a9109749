"""Labels that do not fit the scans are refused, and what would make them fit is named."""

import ast
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fusion_perception.learning.data.doubts import ROOM, as_bytes, from_bytes
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.data.folder_writing import FolderWriter
from fusion_perception.learning.data.labels import read_positions, write_positions
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.slow


def test_positions_survive_a_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(size=(5, 2, 3))
    write_positions(tmp_path / 'positions.csv', ('left', 'right_side'), positions)
    classes, read = read_positions(tmp_path / 'positions.csv')
    assert classes == ('left', 'right_side')
    assert np.array_equal(read, positions)


def rewrite(folder: Path, change) -> None:
    classes, positions = read_positions(folder / 'positions.csv')
    write_positions(folder / 'positions.csv', classes, change(positions))


@pytest.mark.parametrize(
    ('signs', 'words'),
    [
        ((-1, 1, 1), r'100% would with \(-x, y, z\) for .* rewrite the columns'),
        ((1, -1, 1), r'100% would with \(x, -y, z\) for .* rewrite the columns'),
        ((1, 1, -1), r'100% would with \(x, y, -z\) for .* rewrite the columns'),
        ((-1, -1, 1), r'100% would with \(-x, -y, z\) for .* Set T_label_lidar'),
    ],
)
def test_flipped_labels_are_named(
    folder: Path, signs: tuple[float, float, float], words: str
) -> None:
    rewrite(folder, lambda positions: positions * np.array(signs))
    with pytest.raises(ValueError, match=words):
        read_folder(folder)


def test_the_pose_that_is_advised_makes_the_labels_fit(folder: Path) -> None:
    expected = read_folder(folder).centers
    # The centres as a robot would give them: from the LiDAR, x forward, y left.
    rewrite(
        folder,
        lambda positions: np.stack(
            (25 - positions[..., 1], positions[..., 0], positions[..., 2]), axis=-1
        ),
    )
    with pytest.raises(ValueError, match='in the axes of the LiDAR itself') as raised:
        read_folder(folder)
    advised = str(raised.value).split('Set T_label_lidar in sensor.yaml to ')[1].rstrip('.')
    rig = Rig.read_yaml(folder / 'sensor.yaml')
    poses = {**rig.model_dump(), 'T_label_lidar': ast.literal_eval(advised)}
    Rig.read(poses).write_yaml(folder / 'sensor.yaml')
    torch.testing.assert_close(read_folder(folder).centers, expected, atol=1e-4, rtol=0)


def test_labels_of_other_scenes_are_refused(folder: Path) -> None:
    rewrite(folder, lambda positions: np.roll(positions, 1, axis=0))
    with pytest.raises(ValueError, match=r'no flip of axes fits\. Check that row i belongs'):
        read_folder(folder)


def test_labels_that_are_turned_out_of_the_scans_lead_to_their_pose(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # About the LiDAR, which stands at y = 25 in the axes of the labels.
    turn, at = np.radians(40), np.array([0, 25, 0])
    turned = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    rewrite(folder, lambda positions: (positions - at) @ turned.T + at)
    assert len(read_folder(folder)) == 8
    assert 'tell of only 0 of 24' in caplog.text
    assert 'of 24 lie beside every beam. Check T_label_lidar in sensor.yaml' in caplog.text
    assert 'object_size_m' not in caplog.text
    assert 'object_size_m' not in caplog.text


def test_scans_in_millimetres_are_refused(folder: Path) -> None:
    for path in (folder / 'lidar').iterdir():
        np.save(path, np.load(path) * 1000)
    with pytest.raises(ValueError, match='has a return below max_range = 50 m'):
        read_folder(folder)


def test_labels_are_held_against_a_lidar_of_one_row(tmp_path: Path) -> None:
    (tmp_path / 'ring.yaml').write_text('elevations_deg: [0]\ncolumns: 1024\n')
    folder = tmp_path / 'scenes'
    simulate(SimulateSettings(out=folder, count=24, tables=tmp_path / 'ring.yaml'))
    assert len(read_folder(folder)) == 24
    rewrite(folder, lambda positions: positions * np.array((-1, 1, 1)))
    with pytest.raises(ValueError, match=r'would with \(-x, y, z\) for'):
        read_folder(folder)


def write_boxes(folder: Path, edges: tuple[float, float, float], object_size_m: float) -> None:
    """Write 40 scenes of one box each, of these edges (metres, along x, y, z of the LiDAR)."""
    rig, lidar = Rig(classes=('box',), object_size_m=object_size_m), UniformGrid().lidar()
    writer, generator = FolderWriter(folder, rig, lidar), np.random.default_rng(0)
    beams, half = lidar.directions.double().numpy(), np.array(edges) / 2
    centers = generator.uniform((-3, 22, -3), (3, 28, 3), (40, 3))
    for index, center in enumerate(centers):
        with np.errstate(divide='ignore'):
            first, second = (center - half) / beams, (center + half) / beams
        begins = np.minimum(first, second).max(-1)
        hit = begins < np.maximum(first, second).min(-1)
        image = np.full((64, 64, 4), 255, np.uint8)
        writer.write(index, image, np.where(hit, begins, 50).astype(np.float32))
    writer.finish(centers[:, None])


BOXES = {
    'cube': (5.0, 5.0, 5.0),
    'car': (1.8, 4.5, 1.5),
    'van': (2.0, 6.0, 2.5),
    'truck': (2.5, 8.0, 3.0),
}


@pytest.mark.parametrize('edges', BOXES.values(), ids=BOXES)
def test_labels_of_large_objects_fit_once_their_size_is_told(
    tmp_path: Path, edges: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    write_boxes(tmp_path / 'boxes', edges, max(edges))
    assert len(read_folder(tmp_path / 'boxes')) == 40
    assert not caplog.records


@pytest.mark.parametrize('name', ['cube', 'van', 'truck'])
def test_labels_of_objects_larger_than_told_are_doubted_but_not_refused(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_boxes(tmp_path / 'boxes', BOXES[name], 3.0)
    assert len(read_folder(tmp_path / 'boxes')) == 40
    assert 'object_size_m' not in (tmp_path / 'boxes/sensor.yaml').read_text()
    assert 'larger than 3 m, say so: object_size_m in sensor.yaml' in caplog.text


@pytest.mark.parametrize('edges', BOXES.values(), ids=BOXES)
def test_wrong_labels_of_large_objects_are_refused_all_the_same(
    tmp_path: Path, edges: tuple[float, float, float]
) -> None:
    write_boxes(tmp_path / 'boxes', edges, 3.0)
    rewrite(tmp_path / 'boxes', lambda positions: positions[::-1] * np.array((2, 1, 2)))
    with pytest.raises(ValueError, match=r'object_size_m in sensor\.yaml'):
        read_folder(tmp_path / 'boxes')


def rotate_from(first: int):
    return lambda rows: np.concatenate((rows[:first], np.roll(rows[first:], 1, axis=0)))


@pytest.mark.parametrize(('first', 'words'), [(47, 'scenes 50 to 74'), (80, 'scenes 75 to 99')])
def test_the_first_scenes_from_which_labels_are_off_are_named(
    tmp_path: Path, first: int, words: str
) -> None:
    simulate(SimulateSettings(out=tmp_path / 'scenes', count=100))
    assert len(read_folder(tmp_path / 'scenes')) == 100
    rewrite(tmp_path / 'scenes', rotate_from(first))
    with pytest.raises(ValueError, match=words) as raised:
        read_folder(tmp_path / 'scenes')
    assert f'--index {first}' in str(raised.value)


@pytest.mark.parametrize('cell', ['1_0', '\u0661\u0662', '1e39', '-inf'])
def test_what_only_python_reads_as_a_number_is_none(folder: Path, cell: str) -> None:
    lines = (folder / 'positions.csv').read_text().splitlines()
    lines[3] = ','.join((cell, *lines[3].split(',')[1:]))
    (folder / 'positions.csv').write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(ValueError, match=f"line 4: '{cell}' is no finite number"):
        read_folder(folder)


def place(folder: Path, row: int, y: float) -> None:
    """Give the second object of a scene another y, which points from the LiDAR's place to it."""

    def change(positions):
        positions[row, 1] = (0, 25 - y, 0)
        return positions

    rewrite(folder, change)


def test_a_centre_absurdly_far_off_is_named_by_its_line(folder: Path) -> None:
    place(folder, 5, 501.0)
    lines = (folder / 'positions.csv').read_text().splitlines()
    (folder / 'positions.csv').write_text('\n'.join((*lines[:2], '', *lines[2:])))
    with pytest.raises(ValueError, match=r'line 8: sphere lies 501 m from .* 10 times max_range'):
        read_folder(folder)


def test_a_centre_beyond_the_range_is_read_and_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place(folder, 5, 60.0)
    assert len(read_folder(folder)) == 8
    assert '1 centre lies beyond max_range = 50 m' in caplog.text
    assert 'the first in line 7' in caplog.text


def test_scans_of_nothing_but_nan_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for index in (2, 6):
        np.save(folder / f'lidar/{index:04}.npy', np.full((64, 64), np.nan, np.float32))
    assert len(read_folder(folder)) == 8
    assert '2 of 8 range images are NaN everywhere' in caplog.text
    assert 'lidar/0002.npy' in caplog.text


def without_a_rig(folder: Path) -> None:
    (folder / 'sensor.yaml').unlink()


def of_two_scenes_by_turns(folder: Path) -> None:
    for kept in (*folder.glob('rgb/*'), *folder.glob('lidar/*'), *folder.glob('distance/*')):
        if kept.stem > '0001':
            kept.unlink()
    rewrite(folder, lambda positions: positions[1::-1])


def with_a_far_centre_and_a_scan_of_nan(folder: Path) -> None:
    place(folder, 5, 60.0)
    np.save(folder / 'lidar/0002.npy', np.full((64, 64), np.nan, np.float32))


@pytest.mark.parametrize(
    ('spoil', 'doubts'),
    [
        (without_a_rig, 1),
        (of_two_scenes_by_turns, 1),
        (with_a_far_centre_and_a_scan_of_nan, 2),
    ],
)
def test_what_is_in_doubt_about_a_folder_is_told_at_every_reading(
    folder: Path, caplog: pytest.LogCaptureFixture, spoil, doubts: int
) -> None:
    spoil(folder)
    read_folder(folder)
    told = list(caplog.messages)
    assert len(told) == doubts and all(text.startswith(f'{folder}: ') for text in told)
    caplog.clear()
    read_folder(folder)
    assert caplog.messages == told
    caplog.clear()
    moved = folder.rename(folder.with_name('moved'))
    read_folder(moved)
    assert caplog.messages == [text.replace(str(folder), str(moved)) for text in told]


def test_a_number_of_many_digits_is_cut_in_the_refusal(tmp_path):
    (tmp_path / 'positions.csv').write_text(f'cube_x,cube_y,cube_z\n{"9" * 5000},0,0\n')
    with pytest.raises(ValueError, match=r'line 2: .* is no finite number') as refusal:
        read_positions(tmp_path / 'positions.csv')
    assert len(str(refusal.value)) < 400 + len(str(tmp_path))


def test_labels_on_a_map_keep_their_millimetres(folder):
    # Where a UTM zone lies in Europe; float32 knows it to half a metre.
    on_a_map = np.array([512_345.678, 5_403_210.987, 321.123])
    expected = DataFolder.open(folder).all_centers()
    classes, positions = read_positions(folder / 'positions.csv')
    write_positions(folder / 'positions.csv', classes, positions + on_a_map)
    described = yaml.safe_load((folder / 'sensor.yaml').read_text())
    pose = described['T_label_lidar']
    for row, far in zip(pose, on_a_map.tolist(), strict=False):
        row[3] += far
    (folder / 'sensor.yaml').write_text(yaml.safe_dump(described))
    assert read_folder(folder).centers.numpy() == pytest.approx(expected, abs=1e-4)


def test_doubts_without_room_are_cut_and_those_of_odd_names_are_kept():
    (cut,) = from_bytes(as_bytes(['ä' * ROOM, 'second']))
    assert cut == 'ä' * (ROOM // 2)
    # Of three bytes each, the last one is cut in two.
    assert from_bytes(as_bytes(['€' * ROOM])) == ['€' * (ROOM // 3)]
    assert from_bytes(as_bytes(['first', 'a\udcff.png'])) == ['first', 'a?.png']
    assert from_bytes(as_bytes([])) == []
