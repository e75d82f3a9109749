import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.geometry import pixel_rays, project
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera, Observation
from fusion_perception.sensing.rig import ORIGINAL_LIDAR_POSE, TASK_CLASSES, Rig

LIDAR = UniformGrid(rows=4, columns=5).lidar()
CAMERA = Camera(width=6, height=3, fx=7, fy=7, cx=2.5, cy=1)


def images(count: int = 2, channels: int = 4, height: int = 3, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (count, height, width, channels)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def ranges(count: int = 2) -> torch.Tensor:
    return 10 + torch.arange(count * 20, dtype=torch.float32).reshape(count, 4, 5)


def seen(count: int = 2) -> Observation:
    return observe(images(count), ranges(count), CAMERA, LIDAR)


def test_an_observation_has_the_shapes_it_promises():
    observation = seen(3)
    assert len(observation) == 3
    assert observation.rgba.shape == (3, 4, 3, 6) and observation.xyza.shape == (3, 4, 4, 5)
    assert observation.intrinsics.shape == (3, 3, 3)
    assert observation.T_camera_lidar.shape == (3, 4, 4)
    assert observation.rgba.dtype == observation.xyza.dtype == torch.float32
    assert observation.camera.tolist() == observation.lidar.tolist() == [True] * 3


def test_pixels_become_fractions_of_one():
    assert torch.equal(seen().rgba, images().permute(0, 3, 1, 2).float() / 255)


def test_an_image_without_alpha_is_opaque():
    rgba = observe(images(channels=3), ranges(), CAMERA, LIDAR).rgba
    assert (rgba[:, 3] == 1).all()
    assert torch.equal(rgba[:, :3], images(channels=3).permute(0, 3, 1, 2).float() / 255)


def test_a_mono_image_is_the_same_in_each_colour():
    rgba = observe(images(channels=1), ranges(), CAMERA, LIDAR).rgba
    assert torch.equal(rgba[:, 0], rgba[:, 1]) and torch.equal(rgba[:, 0], rgba[:, 2])
    assert (rgba[:, 3] == 1).all()


def test_an_image_of_another_size_is_resized_to_the_cameras():
    plain = torch.full((1, 48, 96, 3), 51, dtype=torch.uint8)
    rgba = observe(plain, ranges(1), CAMERA, LIDAR).rgba
    assert rgba.shape == (1, 4, 3, 6)
    torch.testing.assert_close(rgba[:, :3], torch.full((1, 3, 3, 6), 0.2))


@pytest.mark.parametrize('silent', ['camera', 'lidar'])
def test_a_silent_sensor_is_all_zeros_and_absent(silent):
    observation = observe(
        None if silent == 'camera' else images(),
        None if silent == 'lidar' else ranges(),
        CAMERA,
        LIDAR,
    )
    whole = seen()
    assert not getattr(observation, 'rgba' if silent == 'camera' else 'xyza').any()
    assert not getattr(observation, silent).any()
    without = whole.without(silent)
    for name in ('rgba', 'xyza', 'camera', 'lidar', 'intrinsics', 'T_camera_lidar'):
        assert torch.equal(getattr(observation, name), getattr(without, name))


def test_neither_sensor_is_no_observation():
    with pytest.raises(ValueError, match='Neither an image nor a range image'):
        observe(None, None, CAMERA, LIDAR)


def test_as_many_images_as_range_images_are_needed():
    with pytest.raises(ValueError, match='2 images came with 3 range images'):
        observe(images(2), ranges(3), CAMERA, LIDAR)


@pytest.mark.parametrize(
    'wrong', [images()[0], images().float(), images(channels=2)], ids=['unbatched', 'float', 'C=2']
)
def test_images_of_another_kind_are_refused(wrong):
    with pytest.raises(ValueError, match='uint8 with 1, 3 or 4 channels is needed'):
        observe(wrong, None, CAMERA, LIDAR)


@pytest.mark.parametrize('wrong', [ranges()[0], ranges().int()], ids=['unbatched', 'integers'])
def test_range_images_of_another_kind_are_refused(wrong):
    with pytest.raises(ValueError, match=r'\(B, R, C\) floating-point metres are needed'):
        observe(None, wrong, CAMERA, LIDAR)


def test_a_batch_of_nothing_is_no_observation():
    for nothing in ((images(0), None), (None, ranges(0)), (images(0), ranges(0))):
        with pytest.raises(ValueError, match='Nothing is in an input of shape'):
            observe(*nothing, CAMERA, LIDAR)


def test_an_observation_is_cut_as_a_batch():
    part = seen(5)[1:3]
    assert len(part) == 2
    assert torch.equal(part.xyza, seen(5).xyza[1:3])
    assert torch.equal(seen(5)[torch.tensor([4])].rgba, seen(5).rgba[4:])


def test_each_sample_has_its_own_mode():
    flags = replace(
        seen(3),
        camera=torch.tensor([True, True, False]),
        lidar=torch.tensor([True, False, True]),
    )
    assert flags.modes() == ('fusion', 'camera_only', 'lidar_only')


def test_a_sample_without_any_sensor_is_named():
    nothing = seen(2).without('camera').without('lidar')
    with pytest.raises(ValueError, match='Sample 0 has neither camera nor LiDAR'):
        nothing.modes()


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300))
def test_a_resized_camera_sees_the_same_edges(width, height):
    small, large = Camera(), Camera().resized(width, height)
    for camera in (small, large):
        camera.intrinsics()
    # The outer edges of the image lie half a pixel beyond the centres of its first and last.
    for camera, at in ((small, 64), (large, width)):
        left, right = (-0.5 - camera.cx) / camera.fx, (at - 0.5 - camera.cx) / camera.fx
        assert left == pytest.approx(-32 / 73.3) and right == pytest.approx(32 / 73.3)
    top, bottom = (-0.5 - large.cy) / large.fy, (height - 0.5 - large.cy) / large.fy
    assert top == pytest.approx(-32 / 73.3) and bottom == pytest.approx(32 / 73.3)


def test_a_cameras_pose_moves_lidar_points_into_its_image():
    observation = seen(1)
    rays = pixel_rays(observation.intrinsics, 3, 6) @ observation.T_camera_lidar[0, :3, :3]
    assert (rays[..., 1] > 0).all(), 'every pixel looks forward in the LiDAR frame'
    pixels, _ = project(rays @ observation.T_camera_lidar[0, :3, :3].T, observation.intrinsics)
    assert pixels[0, 2, 5].tolist() == pytest.approx([5, 2], abs=1e-5)


@pytest.mark.parametrize(
    'pose',
    [
        ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, -1, 0), (0, 0, 0, 1)),
        ((2, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
        ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 1, 1)),
    ],
    ids=['mirrored', 'stretched', 'last row'],
)
def test_a_pose_that_is_no_rigid_transform_is_refused(pose):
    with pytest.raises(ValueError, match=r'T_camera_lidar = .*is no rigid transform'):
        Camera.read({'T_camera_lidar': pose})


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_pose_with_an_entry_that_is_no_number_is_refused(bad):
    pose = ((1, 0, 0, bad), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    with pytest.raises(ValueError, match=r'T_camera_lidar\.0\.3 = .*finite number'):
        Camera.read({'T_camera_lidar': pose})


def test_a_rig_written_as_yaml_reads_back_the_same(tmp_path):
    rig = Rig(
        classes=('left', 'right'),
        camera=Camera(width=640, height=480, fx=611.123456789, fy=610.5, cx=319.25, cy=241.75),
        T_label_lidar=((0, -1, 0, 0.1), (1, 0, 0, -2.5), (0, 0, 1, 1 / 3), (0, 0, 0, 1)),
        projection='notebook',
        max_range=120.0,
    )
    rig.write_yaml(tmp_path / 'sensor.yaml')
    assert Rig.read_yaml(tmp_path / 'sensor.yaml') == rig


def test_the_default_rig_is_the_original_datas():
    rig = Rig()
    assert rig.classes == TASK_CLASSES['shapes'] and rig.T_label_lidar == ORIGINAL_LIDAR_POSE
    label = torch.tensor([1.0, 2.0, 3.0, 1.0])
    assert (rig.T_lidar_label() @ label).tolist() == [-1, 23, 3, 1]


def test_a_rig_names_the_misspelt_key_of_its_camera(tmp_path):
    path = tmp_path / 'sensor.yaml'
    path.write_text('camera: {widht: 64}\n')
    with pytest.raises(ValueError, match=r"sensor.yaml: Camera has no 'widht'.*'width'"):
        Rig.read_yaml(path)


def test_a_rig_needs_a_name_for_every_object():
    with pytest.raises(ValueError, match='a name twice'):
        Rig.read({'classes': ['cube', 'cube']})
    with pytest.raises(ValueError, match='classes is empty'):
        Rig.read({'classes': []})


@pytest.mark.parametrize(
    'name', ['', ' ', 'a,b', 'a\nb', 'a"b', "a'b", 'a\tb', '\x1b[2J', 'a\0', ' cube', 'cube\u2028']
)
def test_a_name_that_no_header_of_labels_can_hold_is_refused(name):
    with pytest.raises(
        ValueError, match=r'classes = .*give names without commas, quotes'
    ) as caught:
        Rig.read({'classes': ['sphere', name]})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['cube', 'traffic cone', 'a/b', 'Kegel_2', 'Würfel', '箱'])
def test_a_name_may_be_of_any_language(name):
    assert Rig.read({'classes': ['sphere', name]}).classes == ('sphere', name)


@pytest.mark.parametrize(
    ('values', 'field'),
    [
        ({'camera': {'width': 65_537}}, r'camera\.width = 65537: '),
        ({'camera': {'height': 10**30}}, rf'camera\.height = {10**30}: '),
        ({'max_range': 1e300}, r'max_range = 1e\+300: '),
        ({'max_range': 100_001.0}, r'max_range = 100001\.0: '),
    ],
)
def test_a_size_that_no_sensor_has_is_refused_by_its_field(values, field):
    with pytest.raises(ValueError, match=field + 'input should be less than or equal to'):
        Rig.read(values)


def test_a_large_sensor_is_none_that_is_refused():
    Rig.read({'camera': {'width': 65_536, 'height': 65_536}, 'max_range': 100_000.0})
