"""How far a lens moves what is in an image, by the models that camera_info knows."""

import math

import pytest

from fusion_perception.sensing.lens import MODELS, distortion
from fusion_perception.sensing.observation import Camera, Lens

CAMERA = Camera(width=641, height=481, fx=500.0, fy=500.0, cx=320.0, cy=240.0)
X, Y = 320 / 500, 240 / 500  # The corner at depth 1.
R = math.hypot(X, Y)


def seen_by(model, coefficients, camera=CAMERA, trained=None):
    """Return what is found of a camera with a lens, unlike that of the training."""
    lens = Lens(model=model, coefficients=coefficients)
    return distortion(camera.model_copy(update={'lens': lens}), trained or Lens())


@pytest.mark.parametrize('model', [*MODELS, ''])
@pytest.mark.parametrize('coefficients', [[], [0.0] * 5])
def test_coefficients_that_are_all_zero_are_no_distortion(model, coefficients):
    assert seen_by(model, coefficients) is None


@pytest.mark.parametrize(
    ('model', 'coefficients', 'expected'),
    [
        ('plumb_bob', [-0.2, 0, 0, 0, 0], 500 * 0.2 * R**3),
        ('plumb_bob', [0, 0.1, 0, 0], 500 * 0.1 * R**5),
        ('plumb_bob', [0, 0, 0, 0, 0.1], 500 * 0.1 * R**7),
        ('plumb_bob', [0, 0, 0.01, 0, 0], 5 * math.hypot(2 * X * Y, R * R + 2 * Y * Y)),
        ('plumb_bob', [0, 0, 0, 0.01, 0], 5 * math.hypot(2 * X * Y, R * R + 2 * X * X)),
        ('rational_polynomial', [0, 0, 0, 0, 0, 1, 0, 0], 500 * R * (1 - 1 / (1 + R**2))),
        ('rational_polynomial', [0.1, 0.2, 0, 0, 0.3, 0.1, 0.2, 0.3], 0.0),
        # Zeros beyond what a model has say nothing.
        ('plumb_bob', [-0.2, *[0] * 19], 500 * 0.2 * R**3),
        ('equidistant', [0, 0, 0, 0.1, 0, 0], 500 * (R - math.atan(R) - 0.1 * math.atan(R) ** 9)),
        # The thin prism moves by s1 r^2 + s2 r^4 along x, by s3 r^2 + s4 r^4 along y.
        ('rational_polynomial', [*[0] * 8, 0.1, 0.2], 500 * (0.1 * R**2 + 0.2 * R**4)),
        ('rational_polynomial', [*[0] * 10, 0.1, 0.2], 500 * (0.1 * R**2 + 0.2 * R**4)),
        ('equidistant', [1e-15, 0, 0, 0], 500 * (R - math.atan(R))),
        ('equidistant', [0, 0, 0, 0.1], 500 * (R - math.atan(R) - 0.1 * math.atan(R) ** 9)),
    ],
)
def test_a_lens_moves_a_corner_by_what_its_formula_says(model, coefficients, expected):
    found = seen_by(model, coefficients)
    assert (found.seen, found.trained) == (model, '')
    assert found.most_px == pytest.approx(expected, abs=1e-9)


def test_each_axis_has_a_focal_length_of_its_own():
    # A prism that moves along y alone.
    flat = CAMERA.model_copy(update={'fy': 250.0})
    corner = X**2 + (240 / 250) ** 2
    found = seen_by('rational_polynomial', [*[0] * 10, 0.1, 0], flat)
    assert found.most_px == pytest.approx(250 * 0.1 * corner)


def test_it_is_the_corner_farthest_from_the_axis_that_counts():
    aside = CAMERA.model_copy(update={'cx': 120.0})
    corner = math.hypot(520, 240) / 500
    found = seen_by('plumb_bob', [-0.2, 0, 0, 0, 0], aside)
    assert found.most_px == pytest.approx(500 * 0.2 * corner**3)


def test_a_lens_with_a_prism_and_a_tilted_sensor_bends_as_opencv_says():
    # A camera of one pixel, which sees (0.64, 0.48) at depth 1.
    camera = Camera(width=1, height=1, fx=1.0, fy=1.0, cx=-0.64, cy=-0.48)
    d = [0.1, 0.02, 0.01, 0.01, 0.005, 0.03, 0.02, 0.01, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    # As cv2.projectPoints of OpenCV 5.0 has it.
    x, y = 0.6935109213864371, 0.5436613906091717
    found = seen_by('rational_polynomial', d, camera)
    assert found.most_px == pytest.approx(math.hypot(x - 0.64, y - 0.48), abs=1e-12)


def test_a_sensor_that_is_tilted_about_one_axis_alone_bends_too():
    # Cameras of one pixel on an axis, which see 0.5 beside the middle of the image.
    across = Camera(width=1, height=1, fx=1.0, fy=1.0, cx=-0.5, cy=0.0)
    down = Camera(width=1, height=1, fx=1.0, fy=1.0, cx=0.0, cy=-0.5)
    c, s = math.cos(0.05), math.sin(0.05)
    by_x = c * (0.5 * c + s) / (c - 0.5 * s) - s
    by_y = c * (0.5 * c - s) / (0.5 * s + c) + s
    for camera, tilt, seen in ((down, [0.05, 0.0], by_x), (across, [0.0, 0.05], by_y)):
        found = seen_by('rational_polynomial', [*[0] * 12, *tilt], camera)
        assert found.most_px == pytest.approx(abs(seen - 0.5), abs=1e-12)


def test_a_lens_that_sends_a_place_to_infinity_moves_it_by_no_number_of_pixels():
    # It sees a point at depth 1 that is 1 aside: there 1 + k4 r^2 is zero.
    camera = Camera(width=1, height=1, fx=1.0, fy=1.0, cx=-1.0, cy=0.0)
    found = seen_by('rational_polynomial', [*[0] * 5, -1], camera)
    assert (found.most_px, found.seen) == (None, 'rational_polynomial')


def test_a_place_that_is_seen_along_a_tilted_sensor_moves_it_by_no_number_of_pixels():
    # To eight bytes: cos(0.5) / sin(0.5) aside, a sensor that is turned by 0.5 is seen edgewise.
    camera = Camera(width=1, height=1, fx=1.0, fy=1.0, cx=1.830487721712452, cy=0.0)
    found = seen_by('rational_polynomial', [*[0] * 13, 0.5], camera)
    assert (found.most_px, found.seen) == (None, 'rational_polynomial')


def test_a_lens_is_looked_at_between_the_centre_and_the_corners_too():
    # Barrel and pincushion meet in the corners, where this one moves nothing.
    found = seen_by('plumb_bob', [-0.2, 0.2 / R**2, 0, 0, 0])
    most = max(0.2 * (r**3 - r**5 / R**2) for r in (R * step / 1000 for step in range(1000)))
    assert 0.95 * 500 * most < found.most_px <= 500 * most


@pytest.mark.parametrize(
    ('model', 'count'), [('fov', 1), ('', 5), ('plumb_bob', 15), ('equidistant', 5)]
)
def test_what_no_known_model_describes_is_named_and_not_guessed(model, count):
    found = seen_by(model, [0.1] * count)
    assert found.most_px is None
    assert found.seen == f"'{model}' with {count} coefficients"


@pytest.mark.parametrize(
    ('model', 'coefficients'),
    [
        ('plumb_bob', [1e308, -1e308, 0, 0, 0]),
        ('plumb_bob', [1e308, 0, 0, 0, 1e308]),
        ('rational_polynomial', [1e308, 0, 0, 0, 1e308]),
        ('equidistant', [1e308, 1e308, 0, 0]),
    ],
)
def test_a_lens_that_bends_beyond_all_bounds_is_not_said_to_move_nan_pixels(model, coefficients):
    found = seen_by(model, coefficients)
    assert (found.most_px, found.seen) == (None, model)


def test_the_lens_of_the_training_is_no_distortion_and_another_one_is_what_is_between_them():
    trained = Lens(coefficients=[-0.2, 0, 0, 0, 0])
    assert seen_by('plumb_bob', [-0.2, 0, 0, 0, 0], trained=trained) is None
    found = seen_by('plumb_bob', [-0.15, 0, 0, 0, 0], trained=trained)
    assert found.most_px == pytest.approx(500 * 0.05 * R**3)
    rectified = seen_by('', [], trained=trained)
    assert (rectified.seen, rectified.trained) == ('', 'plumb_bob')
    assert rectified.most_px == pytest.approx(500 * 0.2 * R**3)
    # The same lens in the words of another model.
    assert seen_by('rational_polynomial', [-0.2], trained=trained).most_px == pytest.approx(0)


def test_a_lens_of_no_known_model_is_compared_with_itself_alone():
    trained = Lens(model='fov', coefficients=[0.9])
    assert seen_by('fov', [0.9], trained=trained) is None
    other = seen_by('fov', [0.8], trained=trained)
    assert (other.most_px, other.trained) == (None, "'fov' with 1 coefficients")
