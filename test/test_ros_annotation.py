"""The annotated image shows each centre where the camera sees it."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from fusion_perception.ros.annotation import annotated
from fusion_perception.ros.messages import COLORS
from fusion_perception.sensing.observation import Camera

CAMERA = Camera(width=640, height=480, fx=600.0, fy=600.0, cx=319.5, cy=239.5)
BLACK = np.zeros((480, 640, 3), np.uint8)
# Two metres right of, and one metre above the optical axis.
CENTER = np.array([[2.0, 20.0, 1.0]])


def pixels_of(image, index):
    """Return the (x, y) of all pixels in a class's colour."""
    rows, columns = (image == [round(255 * c) for c in COLORS[index]]).all(axis=2).nonzero()
    return columns, rows


def test_a_cross_marks_the_pixel_that_the_centre_projects_to():
    drawn = annotated(BLACK, CAMERA, CENTER, [''], None)
    x, y = pixels_of(drawn, 0)
    assert drawn.shape == BLACK.shape
    assert abs(x.mean() - (319.5 + 600 * 2 / 20)) <= 1
    assert abs(y.mean() - (239.5 - 600 * 1 / 20)) <= 1


def test_the_ellipse_is_as_wide_as_the_centre_is_unsure():
    # One standard deviation across is 0.5 m, which is 15 pixels at a distance of 20 m.
    covariance = np.diag([0.25, 0.0, 0.01])[None]
    x, y = pixels_of(annotated(BLACK, CAMERA, CENTER, [''], covariance), 0)
    assert np.ptp(x) == pytest.approx(2 * 2.146 * 15, abs=2)
    assert np.ptp(y) == pytest.approx(2 * 2.146 * 3, abs=2)


def at(x, y):
    """Return the centre (1, 3), 20 m ahead, that projects to a pixel."""
    return np.array([[20 * (x - 319.5) / 600, 20.0, -20 * (y - 239.5) / 600]])


# Behind the camera, beyond the right edge, and two pixels below the lower one.
@pytest.mark.parametrize('center', [[0.0, -20.0, 0.0], [30.0, 20.0, 0.0], [0.0, 20.0, -8.05]])
def test_what_the_camera_cannot_see_is_left_out(center):
    assert not annotated(BLACK, CAMERA, np.array([center]), ['cube'], None).any()


@pytest.mark.parametrize(
    ('inside', 'outside'),
    [
        ((-0.4, 200.0), (-0.6, 200.0)),
        ((639.4, 200.0), (639.6, 200.0)),
        ((300.0, -0.4), (300.0, -0.6)),
        ((300.0, 479.4), (300.0, 479.6)),
    ],
    ids=['left', 'right', 'top', 'bottom'],
)
def test_the_image_ends_half_a_pixel_beyond_its_outermost_ones(inside, outside):
    assert annotated(BLACK, CAMERA, at(*inside), ['cube'], None).any()
    assert not annotated(BLACK, CAMERA, at(*outside), ['cube'], None).any()


def test_a_centre_that_is_out_of_sight_hides_none_of_the_others():
    centers = np.array([[0.0, -20.0, 0.0], [3.0, 20.0, 0.0]])
    drawn = annotated(BLACK, CAMERA, centers, ['', ''], None)
    assert pixels_of(drawn, 1)[0].size and not pixels_of(drawn, 0)[0].size


def test_more_classes_than_colours_begin_with_the_first_one_again():
    centers = np.concatenate([at(100 * (i + 1), 200.0) for i in range(len(COLORS) + 1)])
    drawn = annotated(BLACK, CAMERA, centers, [''] * len(centers), None)
    x, _ = pixels_of(drawn, 0)
    assert x.min() < 110 and x.max() > 100 * len(COLORS) + 90


@pytest.mark.parametrize('channels', [3, 4])
def test_beside_what_is_drawn_the_image_is_as_it_came(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, channels), np.uint8)
    drawn = annotated(pixels, CAMERA, at(600.0, 400.0), [''], None)
    assert np.array_equal(drawn[:300], pixels[:300, :, :3])


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_a_small_image_is_enlarged_until_names_are_legible(channels):
    small = np.zeros((64, 64, channels), np.uint8)
    drawn = annotated(small, Camera(), np.array([[0.0, 20.0, 0.0]]), [''], None)
    x, y = pixels_of(drawn, 0)
    assert drawn.shape == (512, 512, 3)
    # The optical axis lies between the pixels, in the very middle.
    assert (x.mean(), y.mean()) == pytest.approx((256, 256), abs=1)


def test_each_pixel_of_a_small_image_becomes_a_square_of_its_colour():
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    drawn = annotated(small, Camera(), np.empty((0, 3)), [], None)
    assert np.array_equal(drawn, small.repeat(8, 0).repeat(8, 1))


def test_the_ellipse_is_enlarged_with_a_small_image():
    camera, small = CAMERA.resized(160, 120), np.zeros((120, 160, 3), np.uint8)
    covariance = np.diag([1.0, 0.0, 0.04])[None]
    x, _ = pixels_of(annotated(small, camera, CENTER, [''], covariance), 0)
    # 7.5 pixels of the small image, three times as many of the enlarged one.
    assert np.ptp(x) == pytest.approx(2 * 2.146 * 3 * 7.5, abs=3)


@pytest.mark.parametrize(
    ('shape', 'drawn'), [((64, 1), (4096, 64)), ((3000, 1), (3000, 1)), ((1, 3000), (1, 3000))]
)
def test_an_image_of_one_column_or_row_is_drawn_at_a_size_that_fits_into_memory(shape, drawn):
    line = np.zeros((*shape, 3), np.uint8)
    names, around = ['cube', 'sphere'], np.repeat(np.eye(3)[None], 2, axis=0)
    centers = np.array([[0.0, 20.0, 0.0], [0.1, 25.0, 1.0]])
    assert annotated(line, Camera(), centers, names, around, 'fusion').shape == (*drawn, 3)


def test_another_resolution_shows_the_same_scene():
    camera = CAMERA.resized(64, 48)
    x, y = pixels_of(annotated(BLACK, camera, CENTER, [''], None), 0)
    assert abs(x.mean() - (319.5 + 60)) <= 2
    assert abs(y.mean() - (239.5 - 30)) <= 2


def test_another_resolution_shows_an_ellipse_of_its_own_pixels():
    covariance = np.diag([0.25, 0.0, 0.01])[None]
    x, _ = pixels_of(annotated(BLACK, CAMERA.resized(64, 48), CENTER, [''], covariance), 0)
    assert np.ptp(x) == pytest.approx(2 * 2.146 * 15, abs=2)


@pytest.mark.parametrize('seed', range(8))
def test_a_centre_that_is_unsure_along_one_line_alone_has_a_line_for_its_ellipse(seed):
    # By rounding, one of its variances across the line may be below zero.
    along = np.random.default_rng(seed).normal(size=3)
    covariance = np.outer(along, along)[None]
    x, _ = pixels_of(annotated(BLACK, CAMERA, np.array([[0.0, 20, 0]]), [''], covariance), 0)
    assert np.ptp(x) == pytest.approx(max(8, 2 * 2.146 * 30 * abs(along[0])), abs=3)


def test_each_centre_is_drawn_in_the_colour_of_its_class():
    centers = np.array([[-3.0, 20.0, 0.0], [3.0, 20.0, 0.0]])
    drawn = annotated(BLACK, CAMERA, centers, ['', ''], None)
    assert [pixels_of(drawn, index)[0].mean() > 320 for index in (0, 1)] == [False, True]


def test_each_centre_bears_the_name_of_its_class():
    centers = np.array([[-3.0, 20.0, 0.0], [3.0, 20.0, 0.0]])
    nameless, named = (
        annotated(BLACK, CAMERA, centers, ['', name], None) for name in ('', 'torus')
    )
    _, columns = (named != nameless).any(axis=2).nonzero()
    # To the right of the second centre, which lies in this column.
    assert columns.size and columns.min() > 319.5 + 600 * 3 / 20


def test_the_caption_stands_in_the_upper_left_corner():
    bare, captioned = (
        annotated(BLACK, CAMERA, np.empty((0, 3)), [], None, words) for words in ('', 'fusion')
    )
    assert not bare.any()
    rows, columns = captioned.any(axis=2).nonzero()
    assert rows.max() < 60 and columns.max() < 160


@pytest.mark.parametrize('across', [0.08, -0.08])
@pytest.mark.parametrize(('wide_m', 'high_m'), [(0.5, 0.2), (0.2, 0.5)])
def test_the_ellipse_leans_to_where_the_centre_is_unsure(wide_m, high_m, across):
    # So far to the right, so far upwards, and both at once.
    covariance = np.array([[[wide_m**2, 0.0, across], [0.0, 0.0, 0.0], [across, 0.0, high_m**2]]])
    x, y = pixels_of(annotated(BLACK, CAMERA, CENTER, [''], covariance), 0)
    assert np.ptp(x) == pytest.approx(2 * 2.146 * 30 * wide_m, abs=2)
    assert np.ptp(y) == pytest.approx(2 * 2.146 * 30 * high_m, abs=2)
    # Rows count downwards.
    assert np.sign(np.corrcoef(x, y)[0, 1]) == -np.sign(across)


def test_each_ellipse_is_of_its_own_centre_and_covariance():
    # The second one is as unsure, and twice as far away.
    centers = np.array([[-5.0, 20.0, 0.0], [5.0, 40.0, 0.0]])
    covariance = np.stack((np.zeros((3, 3)), np.diag([1.0, 0.0, 0.01])))
    drawn = annotated(BLACK, CAMERA, centers, ['', ''], covariance)
    x, _ = pixels_of(drawn, 1)
    assert np.ptp(x) == pytest.approx(2 * 2.146 * 600 / 40, abs=2)
