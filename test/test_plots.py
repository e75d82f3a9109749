"""What is drawn of images, range images and points is what they hold."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fusion_perception.learning.plots import (
    CLASS_COLOURS,
    HALF_WIDTH_M,
    Box,
    images_figure,
    scatter_figure,
    scene_figure,
    write_turning_gif,
)
from fusion_perception.sensing.lidars import UniformGrid

LIDAR = UniformGrid(rows=8, columns=6).lidar()
RANGES = np.full((8, 6), 25.0, np.float32)
CENTERS = np.array([[1.0, 25.0, 2.0], [-3.0, 22.0, 0.5]])


@pytest.mark.parametrize(('far', 'usual'), [(9, True), (11, False)])
def test_the_notebook_s_limits_hold_unless_they_miss_more_than_a_tenth_of_the_points(far, usual):
    origin = np.array([0.0, 25.0, 0.0])
    points = np.tile(origin, (100, 1))
    points[:far, 1] = 60.0
    box = Box.around(points, origin)
    assert (box == (tuple(origin), HALF_WIDTH_M)) is usual


def test_limits_of_their_own_are_a_cube_around_all_but_a_few_of_the_points():
    points = np.random.default_rng(0).uniform((10, 0, -1), (20, 100, 1), (1000, 3))
    points[0] = 1e6
    box = Box.around(points, np.zeros(3))
    assert box.middle == pytest.approx((15, 50, 0), abs=3)
    # The longest side is y.
    assert box.half_width == pytest.approx(55, abs=2)


@pytest.mark.parametrize(('shape', 'beside'), [((4, 4), True), ((4, 40), False)])
def test_images_stand_side_by_side_and_wide_ones_below_each_other(shape, beside):
    figure = images_figure([(name, np.zeros((*shape, 3))) for name in 'abc'])
    FigureCanvasAgg(figure).draw()
    left, bottom = (
        [getattr(axes.get_position(), side) for axes in figure.axes] for side in ('x0', 'y0')
    )
    along, across = (left, bottom) if beside else (bottom[::-1], left)
    assert (np.diff(along) > 0.2).all()
    assert np.ptp(across) < 0.01
    assert [axes.get_title() for axes in figure.axes] == ['a', 'b', 'c']


def drawn(values, largest=None, labels=('', '')):
    """Return the axes of one image, what is shown in them, and its colour bar."""
    axes, _ = images_figure([('', np.array(values, float))], largest, labels).axes
    return axes, axes.images[0], axes.images[0].colorbar


def test_a_ray_without_return_has_the_last_colour_and_leaves_the_others_to_the_rest():
    _, shown, bar = drawn([[10.0, 18.0], [50.0, 50.0]], largest=50.0)
    assert shown.get_clim() == (10.0, 20.0) and bar.extend == 'max'
    _, shown, bar = drawn([[10.0, 18.0], [50.0, 50.0]])
    assert shown.get_clim() == (10.0, 50.0) and bar.extend == 'neither'


def test_the_labels_say_what_the_columns_and_the_rows_are():
    axes, _, _ = drawn([[0.0, 1.0]], labels=('columns', 'rows'))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('columns', 'rows')


def test_a_scan_that_is_too_low_is_stretched_upwards_and_no_other():
    assert [drawn(np.zeros((2, width)))[0].get_aspect() for width in (4, 16, 32)] == [1, 1, 2]


@pytest.mark.parametrize('channels', [1, 3])
def test_an_image_is_drawn_with_its_colours_or_in_grey(channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), np.uint8)
    figure = images_figure([('', image)])
    shown = figure.axes[0].images[0].get_array()
    assert np.array_equal(shown, image[..., 0] if channels == 1 else image)


def test_points_are_coloured_by_their_height():
    points = np.array([[0.0, 20.0, 3.0], [9.0, 25.0, 1.0], [5.0, 30.0, 2.0]])
    figures = [scatter_figure(given, Box((0, 25, 0), 6)) for given in (points, points * (1, 1, 0))]
    colours = [figure.axes[0].collections[0].get_array() for figure in figures]
    np.testing.assert_allclose(colours[0], [1.0, 0.0, 0.5])
    np.testing.assert_allclose(colours[1], [0.0, 0.0, 0.0], err_msg='all are equally high')


def test_along_y_its_ticks_are_not_drawn_on_top_of_each_other():
    points, box = np.array([[0.0, 20.0, 3.0]]), Box((0.0, 25.0, 0.0), 6.0)
    along, across = (scatter_figure(points, box, azimuth=angle).axes[0] for angle in (270.0, 0.0))
    assert not len(along.get_yticks()) and not along.get_ylabel()
    assert len(across.get_yticks()) and across.get_ylabel() == 'y forward [m]'


def scene(ranges=RANGES, predicted=CENTERS, truth=CENTERS):
    figure = scene_figure(None, ranges, LIDAR, ('cube', 'torus'), predicted, truth)
    _, image, _, axes = figure.axes  # The camera's image and the colour bar are the others.
    return image.images[0].get_array(), axes


def test_predicted_centres_are_crosses_and_true_ones_rings_in_the_colour_of_their_class():
    predicted = CENTERS + 1
    _, axes = scene(predicted=predicted)
    for marker, centers in (('x', predicted), ('o', CENTERS)):
        lines = [line for line in axes.lines if line.get_marker() == marker]
        # In the legend a line without a place of its own says what the marker means.
        placed = [line for line in lines if len(line.get_data_3d()[0])]
        found = np.concatenate([np.transpose(line.get_data_3d()) for line in placed])
        assert np.array_equal(found, centers)
        assert [line.get_color() for line in placed] == list(CLASS_COLOURS[:2])
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ['cube', 'torus', 'predicted', 'true']


@pytest.mark.parametrize('nothing', [0.0, -1.0, np.nan, np.inf, 60.0])
def test_a_ray_without_return_is_drawn_as_one_whatever_the_reading(nothing):
    ranges = RANGES.copy()
    ranges[0, 0] = nothing
    shown, _ = scene(ranges)
    assert sorted(shown.ravel()) == [25.0] * 47 + [LIDAR.max_range]


@pytest.mark.parametrize('returns', [0, 8])
def test_the_limits_of_a_scene_hold_points_and_centres(returns):
    ranges = np.zeros_like(RANGES)
    ranges[:, 0] = 25.0 if returns else 0.0
    far = CENTERS * (1.0, 3.0, 1.0)
    _, axes = scene(ranges, predicted=far, truth=far)
    least, most = axes.get_ylim()
    assert least < far[:, 1].min() and far[:, 1].max() < most


def test_a_scene_without_any_return_is_drawn_around_its_centres_as_large_as_others():
    _, axes = scene(np.zeros_like(RANGES))
    middle = CENTERS.mean(axis=0)
    for limits, at in zip(
        (axes.get_xlim(), axes.get_ylim(), axes.get_zlim()), middle, strict=True
    ):
        assert limits == pytest.approx((at - HALF_WIDTH_M, at + HALF_WIDTH_M))


def pixels_at(points, box, azimuth):
    """Return what is drawn of points from a direction, (H, W, 3)."""
    canvas = FigureCanvasAgg(scatter_figure(points, box, 30.0, azimuth, pixels=400))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.mark.slow
def test_a_turning_gif_turns_once_around_without_end(tmp_path):
    points, box = np.random.default_rng(0).uniform(-5, 5, (300, 3)), Box((0, 0, 0), 6)
    write_turning_gif(points, box, tmp_path / 'turning.gif', frames=4)
    with Image.open(tmp_path / 'turning.gif') as gif:
        assert gif.info['loop'] == 0
        colours = set()
        for number in range(4):
            gif.seek(number)
            picture = gif.convert('RGB')
            colours |= {colour for _, colour in picture.getcolors(2**16)}
            seen = np.asarray(picture).astype(float)
            apart = [
                np.abs(seen - pixels_at(points, box, 90.0 * quarter)).mean()
                for quarter in range(4)
            ]
            assert np.argmin(apart) == number
    assert len(colours) <= 128, 'all pictures share one palette'
