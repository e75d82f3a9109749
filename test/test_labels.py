"""Labels that do not fit the scans are refused, and what would make them fit is named."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_perception.learning.data.labels import read_positions, write_positions
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.sensing.rig import Rig


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
