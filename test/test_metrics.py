import math

import pytest
import torch

from fusion_perception.learning.metrics import score

CLASSES = ('cube', 'sphere', 'torus')


def truth(scenes: int = 4) -> torch.Tensor:
    return torch.rand(scenes, 3, 3, generator=torch.Generator().manual_seed(1)) * 10


def test_a_perfect_prediction_has_no_error_and_hits_everything():
    scores = score(truth(), truth(), CLASSES)
    assert scores.mse == 0 and scores.error_m.max == 0
    assert scores.hit_rate == {'0.1': 1.0, '0.25': 1.0, '0.5': 1.0}


def test_mse_is_over_coordinates_and_the_error_is_a_distance():
    shifted = truth() + torch.tensor([0.0, 3.0, 4.0])
    scores = score(shifted, truth(), CLASSES)
    assert scores.mse == pytest.approx((9 + 16) / 3, rel=1e-5)
    assert scores.error_m.mean == pytest.approx(5, rel=1e-5)
    assert scores.error_m.p95 == pytest.approx(5, rel=1e-5)


def test_each_class_has_its_own_mean_error():
    shift = torch.zeros(4, 3, 3)
    shift[:, 2, 0] = 0.3
    scores = score(truth() + shift, truth(), CLASSES)
    assert scores.error_m.per_class == pytest.approx(
        {'cube': 0, 'sphere': 0, 'torus': 0.3}, abs=1e-5
    )
    assert scores.error_m.median == pytest.approx(0, abs=1e-6)
    assert scores.hit_rate == pytest.approx({'0.1': 2 / 3, '0.25': 2 / 3, '0.5': 1.0})


def test_of_evenly_spread_errors_each_percentile_is_its_share():
    centers = torch.zeros(101, 1, 3)
    centers[:, 0, 1] = torch.arange(101) / 100
    error = score(centers, torch.zeros(101, 1, 3), ('ball',)).error_m
    assert (error.mean, error.median) == pytest.approx((0.5, 0.5))
    assert (error.p95, error.max) == pytest.approx((0.95, 1.0))


def test_at_the_radius_itself_is_no_hit():
    centers = torch.tensor([[[0.25, 0.0, 0.0]], [[0.0, 0.0, 0.5]]])
    scores = score(centers, torch.zeros(2, 1, 3), ('ball',))
    assert scores.hit_rate == {'0.1': 0.0, '0.25': 0.0, '0.5': 0.5}


def test_an_honest_covariance_has_a_mahalanobis_of_one_and_covers_95_percent():
    generator = torch.Generator().manual_seed(0)
    root = torch.tensor([[0.3, 0.0, 0.0], [0.1, 0.2, 0.0], [0.0, 0.1, 0.5]])
    noise = torch.randn(4000, 3, 3, generator=generator) @ root.T
    covariance = (root @ root.T).expand(4000, 3, 3, 3)
    scores = score(truth(4000) + noise, truth(4000), CLASSES, covariance)
    assert scores.calibration is not None
    assert scores.calibration.mahalanobis == pytest.approx(1, abs=0.03)
    assert scores.calibration.coverage95 == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(('squared', 'coverage'), [(7.81, 1.0), (7.82, 0.0)])
def test_an_ellipsoid_covers_as_far_as_chi_squared_of_three_says(squared, coverage):
    centers, covariance = torch.zeros(1, 1, 3), torch.diag(torch.tensor([4.0, 1.0, 1.0]))
    centers[0, 0, 0] = math.sqrt(4 * squared)
    scores = score(centers, torch.zeros(1, 1, 3), ('ball',), covariance.expand(1, 1, 3, 3))
    assert scores.calibration is not None
    assert scores.calibration.mahalanobis == pytest.approx(squared / 3)
    assert scores.calibration.coverage95 == coverage


def test_without_a_covariance_there_is_no_calibration_to_report():
    assert 'calibration' not in score(truth(), truth(), CLASSES).as_json()


def test_one_prediction_that_is_not_finite_is_refused_by_its_index():
    centers = truth()
    centers[2, 0, 0] = math.nan
    with pytest.raises(ValueError, match='first at index 2'):
        score(centers, truth(), CLASSES)
    with pytest.raises(ValueError, match='first at index 2'):
        score(truth(), centers, CLASSES)


def test_shapes_that_disagree_and_an_empty_set_are_refused():
    with pytest.raises(ValueError, match='do not fit'):
        score(truth(3), truth(4), CLASSES)
    with pytest.raises(ValueError, match='2 classes do not fit'):
        score(truth(), truth(), CLASSES[:2])
    with pytest.raises(ValueError, match='no scenes'):
        score(truth()[:0], truth()[:0], CLASSES)
