"""Hidden objects are counted as the renderer hides them."""

from dataclasses import replace

import pytest
import torch

from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import Scenes, SceneSettings, sample_scenes
from fusion_perception.simulation.visibility import visible_beams

LIDAR = UniformGrid().lidar()


def scenes_with(centers, kinds):
    drawn = sample_scenes(1, SceneSettings(kinds=kinds), torch.Generator().manual_seed(0))
    return replace(drawn, centers=torch.tensor([centers]))


def test_the_beams_of_all_objects_are_the_returns_that_are_rendered():
    scenes = sample_scenes(12, SceneSettings(), torch.Generator().manual_seed(3))
    returns = (render(scenes, Rig(), LIDAR).ranges < LIDAR.max_range).flatten(1).sum(1)
    assert torch.equal(visible_beams(scenes, LIDAR).sum(1), returns)


def test_beams_that_begin_beside_the_origin_are_counted_from_there():
    aside = torch.tensor([0.0, 0.0, 1.0])
    lidar = replace(LIDAR, offsets=aside.expand(*LIDAR.shape, 3))
    scenes = sample_scenes(12, SceneSettings(), torch.Generator().manual_seed(3))
    seen = visible_beams(scenes, lidar)
    moved = visible_beams(replace(scenes, centers=scenes.centers - aside), LIDAR)
    # A ray that grazes may be rounded either way.
    assert (seen - moved).abs().max() <= 2
    assert (seen - visible_beams(scenes, LIDAR)).abs().max() > 20


def test_an_object_behind_another_meets_no_beam():
    near, behind = [0.0, 20.0, 0.0], [0.0, 26.0, 0.0]
    seen = visible_beams(scenes_with([near, behind], ('cube', 'torus')), LIDAR)[0]
    assert seen[0] > 100
    assert seen[1] == 0


def test_the_order_of_the_objects_hides_nothing():
    near, behind = [0.0, 20.0, 0.0], [1.5, 26.0, 0.0]
    one = visible_beams(scenes_with([near, behind], ('sphere', 'sphere')), LIDAR)[0]
    other = visible_beams(scenes_with([behind, near], ('sphere', 'sphere')), LIDAR)[0]
    assert torch.equal(one, other.flip(0))
    assert 0 < one[1] < one[0]


def test_an_object_beyond_the_maximum_range_meets_no_beam():
    scenes = scenes_with([[0.0, 20.0, 0.0], [0.0, 60.0, 0.0]], ('torus', 'sphere'))
    assert visible_beams(scenes, replace(LIDAR, max_range=70.0))[0].min() > 0
    assert visible_beams(scenes, LIDAR)[0].tolist()[1] == 0


def test_many_scenes_are_counted_as_some_of_them():
    scenes = sample_scenes(600, SceneSettings.robust(), torch.Generator().manual_seed(5))
    together = visible_beams(scenes, LIDAR, 16)
    assert torch.equal(together[200:400], visible_beams(scenes[200:400], LIDAR, 16))
    assert len(together) == 600


def test_a_coarse_look_takes_every_second_beam_from_where_it_begins():
    offsets = torch.rand(*LIDAR.shape, 3, generator=torch.Generator().manual_seed(1))
    every = replace(LIDAR, offsets=offsets)
    second = replace(
        LIDAR,
        azimuth=LIDAR.azimuth[::2],
        zenith=LIDAR.zenith[::2],
        offsets=offsets[::2, ::2],
    )
    scenes = sample_scenes(20, SceneSettings(), torch.Generator().manual_seed(5))
    assert torch.equal(visible_beams(scenes, every, 2), visible_beams(scenes, second))


def test_a_coarse_look_counts_its_share_of_the_beams():
    scenes = sample_scenes(20, SceneSettings(), torch.Generator().manual_seed(5))
    fine, coarse = visible_beams(scenes, LIDAR).sum(), visible_beams(scenes, LIDAR, 2).sum()
    assert abs(4 * coarse / fine - 1) < 0.05


@pytest.mark.parametrize('wide', ['azimuth', 'zenith', 'azimuth and zenith'])
def test_a_coarse_look_takes_the_same_beams_of_tables_by_row_and_by_pixel(wide):
    tables = {
        'azimuth': LIDAR.azimuth[:, None].expand(LIDAR.shape),
        'zenith': LIDAR.zenith.expand(LIDAR.shape),
    }
    by_pixel = {name: table for name, table in tables.items() if name in wide}
    lidar = replace(LIDAR, **by_pixel, offsets=torch.zeros(*LIDAR.shape, 3))
    scenes = sample_scenes(20, SceneSettings(), torch.Generator().manual_seed(5))
    assert torch.equal(visible_beams(scenes, lidar, 2), visible_beams(scenes, LIDAR, 2))


def test_joined_scenes_keep_what_each_holds():
    one, two = (
        sample_scenes(n, SceneSettings(), torch.Generator().manual_seed(n)) for n in (2, 3)
    )
    both = Scenes.joined((one, two))
    assert len(both) == 5
    assert torch.equal(both.rotations[2:], two.rotations)
