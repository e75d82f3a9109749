"""The pictures of a scene appear in the notebook's order and show what the scene holds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.plots import (
    Box,
    beam_labels,
    images_figure,
    points_of,
    scatter_figure,
    scene_figure,
    upright,
    write_png,
)
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.view import ViewSettings, view
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rings import Rings

pytestmark = pytest.mark.slow

PICTURES = [
    *('01_image.png', '02_distance.png', '03_ranges.png', '04_directions.png', '05_mask.png'),
    *('06_xyza.png', '07_points.png', '08_turning.gif'),
]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'cubes'
    simulate(SimulateSettings(out=out, task='cubes', count=2))
    return out


def test_the_pictures_sort_in_the_notebooks_order(data: Path, tmp_path: Path) -> None:
    view(ViewSettings(data=data, index=1, out=tmp_path / 'new' / 'pictures', frames=3))
    assert sorted(path.name for path in (tmp_path / 'new/pictures').iterdir()) == PICTURES
    for name in PICTURES:
        with Image.open(tmp_path / 'new/pictures' / name) as picture:
            assert len(set(picture.convert('L').tobytes())) > 10


def test_the_gif_turns_once_at_30_frames_a_second(data: Path, tmp_path: Path) -> None:
    view(ViewSettings(data=data, out=tmp_path, frames=6))
    with Image.open(tmp_path / '08_turning.gif') as gif:
        frames, durations_ms = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(gif.convert('RGB').tobytes())
            durations_ms.append(gif.info['duration'])
    assert len(set(frames)) == 6
    assert sum(durations_ms) == 6 * 1000 / 30


def test_by_default_the_gif_turns_by_a_degree_a_frame(data: Path) -> None:
    assert ViewSettings(data=data).frames == 360


def test_a_folder_without_distances_is_drawn_without_them(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / 'copy'))
    shutil.rmtree(copy / 'distance')
    view(ViewSettings(data=copy, out=tmp_path / 'out', frames=1))
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == [name for name in PICTURES if 'distance' not in name]


def test_a_scan_without_any_return_can_be_drawn(tmp_path: Path) -> None:
    lidar = UniformGrid().lidar()
    nothing = np.full((64, 64), 50.0, np.float32)
    points = points_of(nothing, lidar)
    assert points.shape == (0, 3)
    box = Box.around(points, np.array([0.0, 25.0, 0.0]))
    write_png(scatter_figure(points, box), tmp_path / 'points.png')
    write_png(images_figure([('ranges', nothing)], lidar.max_range), tmp_path / 'ranges.png')
    assert (tmp_path / 'points.png').stat().st_size > 1000
    assert (tmp_path / 'ranges.png').stat().st_size > 1000


@pytest.mark.parametrize('shape', [(128, 1024), (32, 1024)])
def test_scans_all_around_are_drawn_large_enough_to_be_read(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    scan = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    figure = images_figure([('x', scan), ('y', scan), ('z', scan)])
    write_png(figure, tmp_path / 'scan.png')
    drawn = [axes.get_position() for axes in figure.axes if axes.get_title()]
    width, height = figure.get_size_inches()
    assert len(drawn) == 3
    for place in drawn:
        assert place.width * width > 9
        assert place.height * height > 1


def test_the_original_scenes_are_drawn_in_the_notebooks_limits(data: Path) -> None:
    folder = DataFolder.open(data)
    points = points_of(folder.scene(0).ranges, folder.lidar)
    axes = scatter_figure(points, Box.around(points, np.array([0.0, 25.0, 0.0]))).axes[0]
    assert axes.get_xlim() == (-6, 6)
    assert axes.get_ylim() == (19, 31)
    assert axes.get_zlim() == (-6, 6)
    assert (axes.elev, axes.azim) == (0, 270)


def test_points_far_from_the_label_origin_get_limits_of_their_own() -> None:
    points = np.random.default_rng(0).uniform(-40, 40, (500, 3))
    box = Box.around(points, np.zeros(3))
    assert box.half_width > 38


def test_what_lies_along_the_rows_of_a_range_image_is_written_there() -> None:
    lying = UniformGrid(rows=5, columns=7).lidar()
    standing = Rings(elevations_deg=(-10.0, 0.0, 10.0), columns=8).lidar()
    assert beam_labels(lying) == ('columns: zenith', 'rows: azimuth')
    assert beam_labels(standing) == ('columns: azimuth', 'rows: zenith')
    figure = images_figure([('x', np.zeros((3, 8)))], labels=beam_labels(standing))
    assert figure.axes[0].get_xlabel() == 'columns: azimuth'


@pytest.mark.parametrize('across', [0.5, -0.5])
@pytest.mark.parametrize('down', [0.5, -0.5])
def test_a_range_image_is_turned_upright(across: float, down: float) -> None:
    steps = {'azimuth_step_deg': across, 'zenith_step_deg': down}
    lidar = UniformGrid(rows=5, columns=7, **steps).lidar()
    for channel, along in ((0, 1), (2, 0)):
        turned = upright(lidar.directions[..., channel].numpy(), lidar)
        assert turned.shape == (7, 5)
        change = np.diff(turned, axis=along)
        assert (change > 0).all() if along == 1 else (change < 0).all()


@pytest.mark.parametrize('silent', [False, True])
def test_a_scene_is_drawn_with_predicted_and_true_centres(
    data: Path, tmp_path: Path, silent: bool
) -> None:
    folder = DataFolder.open(data)
    scene = folder.scene(0)
    figure = scene_figure(
        None if silent else scene.image,
        scene.ranges,
        folder.lidar,
        folder.rig.classes,
        predicted=scene.centers + np.array([0.3, 0.0, 0.4]),
        truth=scene.centers,
    )
    assert 'centres, mean error 0.50 m' in [axes.get_title() for axes in figure.axes]
    write_png(figure, tmp_path / 'scene.png')
    assert (tmp_path / 'scene.png').stat().st_size > 10_000
    image, ranges = (axes.get_position().bounds for axes in figure.axes[:2])
    assert image[1:] == pytest.approx(ranges[1:], abs=0.002)  # equally high and wide


@pytest.mark.parametrize('place', ['rgb', 'lidar/pictures', 'distance'])
def test_pictures_do_not_go_among_the_scenes_they_show(data: Path, place: str) -> None:
    before = sorted(data.rglob('*'))
    with pytest.raises(ValueError, match="lies among the scenes' files"):
        view(ViewSettings(data=data, out=data / place, frames=1))
    assert sorted(data.rglob('*')) == before
