"""Scenes are drawn as their settings say, and move smoothly."""

from dataclasses import fields

import pytest
import torch

from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.motion import MovingScene
from fusion_perception.simulation.rotations import random_rotations, rotations_about
from fusion_perception.simulation.scene import Scenes, SceneSettings, sample_scenes
from fusion_perception.simulation.spans import Draw


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tensors_of(scenes):
    return [getattr(scenes, field.name) for field in fields(Scenes) if field.name != 'kinds']


def test_the_same_seed_draws_the_same_scenes():
    settings = SceneSettings.robust('cubes')
    first, second = (sample_scenes(5, settings, generator(3)) for _ in range(2))
    other = sample_scenes(5, settings, generator(4))
    assert all(map(torch.equal, tensors_of(first), tensors_of(second)))
    assert not torch.equal(first.centers, other.centers)


@pytest.mark.parametrize(
    ('rig', 'reach'), [(Rig(), 5.0), (Rig.read({'T_label_lidar': torch.eye(4).tolist()}), 2.0)]
)
def test_centers_fill_the_cube_on_label_axes(rig, reach):
    scenes = sample_scenes(2000, SceneSettings(reach_m=reach), generator(), rig=rig)
    labels = transform_points(torch.tensor(rig.T_label_lidar), scenes.centers).reshape(-1, 3)
    assert labels.abs().max() <= reach + 0.001
    assert labels.mean(dim=0).abs().max() < 0.15
    assert labels.std(dim=0) == pytest.approx(torch.full((3,), 2 * reach / 12**0.5), abs=0.1)


def test_random_rotations_are_rotations_in_every_direction():
    rotations = random_rotations(Draw(generator()), 4000)
    products = rotations @ rotations.transpose(-1, -2)
    assert (products - torch.eye(3)).abs().max() < 1e-5
    assert torch.linalg.det(rotations).min() > 0.999
    assert rotations.mean(dim=0).abs().max() < 0.05
    # The angle of a uniform rotation has the mean pi / 2 + 2 / pi.
    trace = rotations.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    angle = torch.acos(((trace - 1) / 2).clamp(-1, 1))
    assert angle.mean() == pytest.approx(2.2074, abs=0.04)


def test_a_quarter_turn_about_z_moves_x_to_y():
    turn = rotations_about(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(torch.pi / 2))
    assert turn @ torch.tensor([1.0, 0.0, 0.0]) == pytest.approx(
        torch.tensor([0.0, 1.0, 0.0]), abs=1e-6
    )


def test_the_defaults_are_the_original_look():
    scenes = sample_scenes(50, SceneSettings(), generator())
    assert scenes.kinds == ('cube', 'sphere', 'torus')
    assert (scenes.scales == 1).all()
    assert (scenes.ambient == 0).all()
    assert (scenes.light_intensity == 1).all()
    assert torch.equal(scenes.camera_error, torch.eye(4).expand(50, 4, 4))
    assert scenes.colours.min() >= 0.2
    assert scenes.to_light == pytest.approx(
        torch.tensor([-5.0, -6.0, 6.0]).expand(50, 3) / 97**0.5, abs=1e-5
    )


@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_robust_scenes_fill_what_the_settings_promise_and_no_more(task):
    settings = SceneSettings.robust(task)
    scenes = sample_scenes(500, settings, generator())
    nominal = torch.nn.functional.normalize(torch.tensor(settings.to_light), dim=0)
    shift, turn = settings.camera_shift_m, settings.camera_turn_deg
    errors = scenes.camera_error.double()
    # Beside the diagonal stands the sine of small angles.
    angles = torch.rad2deg((errors[:, :3, :3] - errors[:, :3, :3].mT).norm(dim=(1, 2)) / 8**0.5)
    for drawn, (least, most) in (
        (scenes.scales, (1 - settings.size_jitter, 1 + settings.size_jitter)),
        (scenes.light_intensity, settings.light_intensity),
        (scenes.ambient, settings.ambient),
        (torch.rad2deg(torch.acos(scenes.to_light @ nominal)), (0, settings.light_jitter_deg)),
        (errors[:, 0, 3], (-shift, shift)),
        (errors[:, 2, 3], (-shift, shift)),
        (angles, (0, turn)),
    ):
        slack = 0.1 * (most - least)
        assert least - 0.01 * slack <= drawn.min() < least + slack
        assert most - slack < drawn.max() <= most + 0.01 * slack
    assert (scenes.scales.diff(dim=1) != 0).all(), 'each object has a size of its own'
    assert scenes.colours.min() >= 0
    assert scenes.colours.max() <= 1


def test_objects_channels_and_axes_vary_on_their_own():
    for task in ('shapes', 'cubes'):
        settings = SceneSettings(task=task, colour_jitter=0.2, camera_shift_m=0.5)
        scenes = sample_scenes(400, settings, generator())
        # Pure channels are cut off at one, and a half of those that are dark at zero.
        colours = torch.corrcoef(scenes.colours.flatten(1).T)
        shifts = torch.corrcoef(scenes.camera_error[:, :3, 3].T)
        assert (colours - torch.eye(9)).abs().max() < 0.3, task
        assert (shifts - torch.eye(3)).abs().max() < 0.3


def test_the_light_stands_still_in_label_axes_however_the_lidar_lies_in_them():
    quarter = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]

    def in_label_axes(rig):
        scenes = sample_scenes(5, SceneSettings(light_jitter_deg=20), generator(), rig=rig)
        light = torch.cat((scenes.to_light, MovingScene(rig=rig).at(9.0).to_light))
        return light @ torch.tensor(rig.T_label_lidar)[:3, :3].T

    turned = in_label_axes(Rig.read({'T_label_lidar': quarter}))
    assert turned == pytest.approx(in_label_axes(Rig()), abs=1e-6)


def test_any_number_and_kind_of_objects_can_be_asked_for():
    settings = SceneSettings(task='cubes', kinds=('cube', 'torus', 'cube', 'sphere'))
    scenes = sample_scenes(3, settings, generator())
    assert scenes.kinds == ('cube', 'torus', 'cube', 'sphere')
    assert scenes.centers.shape == (3, 4, 3)
    assert len({tuple(colour) for colour in scenes.colours[0].tolist()}) == 4
    assert settings.class_names() == ('cube1', 'torus', 'cube2', 'sphere')


def test_more_cubes_than_there_are_pure_colours_begin_with_them_again():
    settings = SceneSettings(task='cubes', kinds=('cube',) * 8)
    colours = sample_scenes(1, settings, generator()).colours[0]
    assert len(colours[:6].unique(dim=0)) == 6
    assert torch.equal(colours[6:], colours[:2])


def test_the_objects_of_a_task_are_named_and_coloured_as_its_own_whoever_lists_them():
    for task in ('shapes', 'cubes'):
        usual = SceneSettings(task=task)
        listed = SceneSettings(task=task, kinds=usual.object_kinds())
        assert listed.class_names() == usual.class_names()
        drawn = [sample_scenes(3, settings, generator()).colours for settings in (usual, listed)]
        assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'task': 'balls'}, "task = 'balls'"),
        ({'kinds': []}, 'kinds'),
        ({'to_light': [0, 0, 0]}, 'has no direction'),
        ({'ambient': [0.5, 0.1]}, 'swap them'),
        ({'albedo': [0, 2]}, 'albedo'),
        ({'size_jiter': 0.1}, "Did you mean 'size_jitter'?"),
    ],
)
def test_a_wrong_setting_is_named(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        SceneSettings.read(values)


def test_a_moving_scene_depends_on_its_seed_and_the_time_alone():
    first, second = MovingScene('cubes', seed=7), MovingScene('cubes', seed=7)
    first.at(99.0)
    assert all(map(torch.equal, tensors_of(first.at(12.3)), tensors_of(second.at(12.3))))
    assert not torch.equal(first.at(0.0).centers, MovingScene('cubes', seed=8).at(0.0).centers)


@pytest.mark.parametrize('task', ['shapes', 'cubes'])
def test_what_moves_are_the_objects_of_the_task(task):
    assert MovingScene(task).at(0.0).kinds == SceneSettings(task=task).object_kinds()


@pytest.mark.parametrize('began_s', [0, 10**7])
@pytest.mark.parametrize('rig', [Rig(), Rig.read({'T_label_lidar': torch.eye(4).tolist()})])
def test_a_moving_scene_stays_in_reach_turns_and_never_jumps(rig, began_s):
    times = began_s + torch.arange(0, 300, 0.05, dtype=torch.float64)
    scenes = MovingScene('shapes', seed=1, rig=rig).at(times)
    labels = transform_points(torch.tensor(rig.T_label_lidar), scenes.centers)
    assert labels.abs().max() <= 5.001
    speeds = scenes.centers.diff(dim=0).norm(dim=-1) / 0.05
    assert speeds.mean() > 0.1
    assert speeds.max() < 4
    turned = scenes.rotations.diff(dim=0).abs().amax((2, 3))
    assert turned.min() > 0.001 and turned.max() < 0.05
    assert torch.equal(scenes.colours[0], scenes.colours[-1])


@pytest.mark.parametrize('seed', range(8))
def test_each_object_turns_evenly_from_where_it_began_and_wanders_slowly(seed):
    scenes = MovingScene('cubes', seed=seed).at(torch.arange(0, 60, 0.5, dtype=torch.float64))
    identity = torch.eye(3).expand(3, 3, 3)
    assert ((scenes.rotations[0] - identity).norm(dim=(1, 2)) > 0.1).all()
    steps = scenes.rotations[1:] @ scenes.rotations[:-1].mT
    radians = 2 * ((steps - identity).norm(dim=(2, 3)) / 8**0.5).asin()
    # 0.2 to 0.7 rad/s, for half a second.
    assert radians.min() > 0.099 and radians.max() < 0.351
    assert radians.amax(0) == pytest.approx(radians.amin(0), abs=1e-3)
    assert radians[0].max() - radians[0].min() > 0.01, 'each at a rate of its own'
    assert scenes.centers.diff(dim=0).abs().max() / 0.5 < 2.1


def test_many_times_at_once_give_the_scenes_of_each_time():
    moving = MovingScene('shapes', seed=2)
    together = moving.at(torch.tensor([0.0, 4.5, 1e6]))
    for index, time_s in enumerate((0.0, 4.5, 1e6)):
        alone = moving.at(time_s)
        assert len(alone) == 1
        assert together[index : index + 1].centers == pytest.approx(alone.centers, abs=1e-5)


@pytest.mark.parametrize('length', [5e-324, 1e-300, 1e-30, 1e19, 1e38, 1e300])
def test_a_light_is_as_bright_whatever_the_length_of_its_direction(length):
    settings = SceneSettings(to_light=(length, -length, length))
    scenes = sample_scenes(1, settings, generator())
    assert scenes.to_light.norm(dim=-1).item() == pytest.approx(1, abs=1e-6)
