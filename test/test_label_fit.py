"""Which scenes labels are judged by: some of all, and of those only what has something to say."""

from pathlib import Path

import pytest
import torch

from fusion_perception.learning.data.label_fit import Labels, check_labels
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

pytestmark = pytest.mark.usefixtures('one_thread')


def labels_of(again: int, lidar: Lidar | None = None) -> Labels:
    """Return the labels of 25 scenes, with scans that they fit, several times over."""
    rig, lidar = Rig(), lidar or UniformGrid().lidar()
    scenes = sample_scenes(25, SceneSettings(), torch.Generator().manual_seed(0))
    ranges = render(scenes, rig.model_copy(update={'camera': rig.camera.resized(4, 4)}), lidar)
    # In the axes of the LiDAR, from which no pose leads elsewhere.
    return Labels(
        Path('scenes/positions.csv'),
        scenes.centers.double().repeat(again, 1, 1),
        ranges.ranges.repeat(again, 1, 1),
        lidar,
        torch.eye(4, dtype=torch.float64),
        object_size_m=3.0,
    )


def test_labels_are_judged_by_the_scans_in_which_anything_returned() -> None:
    labels = labels_of(again=4)
    labels.ranges[:70] = labels.lidar.max_range
    assert check_labels(labels) == []


def test_of_many_scenes_the_last_ones_are_judged_as_well() -> None:
    labels = labels_of(6, UniformGrid(columns=512, zenith_step_deg=0.0625).lidar())
    labels.positions[125:] = labels.positions[125:].roll(1, dims=0)
    with pytest.raises(ValueError, match='of scenes 125 to 149'):
        check_labels(labels)


def test_that_the_lidar_is_elsewhere_is_not_guessed_from_a_few_centres_beside_its_beams() -> None:
    labels = labels_of(again=1)
    labels.ranges[1:] = labels.lidar.max_range
    labels.positions[20:, :, 0] += 100.0
    (doubt,) = check_labels(labels)
    assert 'cannot be held against the scans' in doubt
    assert 'lie beside every beam' not in doubt
