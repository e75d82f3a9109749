"""How far a lens moves a corner of the image, by the models that camera_info knows."""

import math

import pytest

from fusion_perception.sensing.lens import MODELS, distortion
from fusion_perception.sensing.observation import Camera

CAMERA = Camera(width=641, height=481, fx=500.0, fy=500.0, cx=320.0, cy=240.0)
X, Y = 320 / 500, 240 / 500  # The corner at depth 1.
R = math.hypot(X, Y)


@pytest.mark.parametrize('model', [*MODELS, ''])
@pytest.mark.parametrize('coefficients', [[], [0.0] * 5])
def test_coefficients_that_are_all_zero_are_no_distortion(model, coefficients):
    assert distortion(CAMERA, model, coefficients) is None


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
        ('equidistant', [1e-15, 0, 0, 0], 500 * (R - math.atan(R))),
        ('equidistant', [0, 0, 0, 0.1], 500 * (R - math.atan(R) - 0.1 * math.atan(R) ** 9)),
    ],
)
def test_a_lens_moves_a_corner_by_what_its_formula_says(model, coefficients, expected):
    found = distortion(CAMERA, model, coefficients)
    assert found.model == model
    assert found.corner_px == pytest.approx(expected, abs=1e-9)


def test_it_is_the_corner_farthest_from_the_axis_that_counts():
    aside = CAMERA.model_copy(update={'cx': 120.0})
    corner = math.hypot(520, 240) / 500
    found = distortion(aside, 'plumb_bob', [-0.2, 0, 0, 0, 0])
    assert found.corner_px == pytest.approx(500 * 0.2 * corner**3)


@pytest.mark.parametrize(
    ('model', 'count'), [('fov', 1), ('', 5), ('plumb_bob', 14), ('equidistant', 5)]
)
def test_what_no_known_model_describes_is_named_and_not_guessed(model, count):
    found = distortion(CAMERA, model, [0.1] * count)
    assert found.corner_px is None
    assert found.model == f"'{model}' with {count} coefficients"
