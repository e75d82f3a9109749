"""What the losses of the models ask for, and of whom."""

import pytest
import torch

from fusion_perception.models import Estimate, build

SMALL = {'lidar_widths': (8, 16), 'camera_widths': (8, 16)}


def model(**config):
    return build('dense_fusion', {**SMALL, **config})


def gaussians(seed, count=4):
    """Return centres (count, 3, 3) some decimetres from zero, and positive definite matrices."""
    generator = torch.Generator().manual_seed(seed)
    centers = 0.3 * torch.randn(count, 3, 3, generator=generator)
    root = torch.randn(count, 3, 3, 3, generator=generator)
    return centers, root @ root.mT + torch.eye(3)


def test_the_notebook_s_networks_learn_by_the_mean_squared_error():
    found, truth = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    loss = build('rgb', {'channels': (2,), 'hidden': (4,)}).training_loss(Estimate(found), truth)
    torch.testing.assert_close(loss, (found - truth).square().mean())


def test_the_likelihood_and_nothing_else_teaches_the_covariance_and_leaves_centres_alone():
    estimates = [gaussians(seed) for seed in range(3)]
    whole, *parts = (Estimate(*(given.requires_grad_() for given in each)) for each in estimates)
    centers, covariances = zip(*estimates, strict=True)
    on_centers, on_covariances = [], []
    for weight in (0.0, 5.0):
        estimate = whole._replace(parts=tuple(parts))
        loss = model(nll_weight=weight).training_loss(estimate, torch.zeros(4, 3, 3))
        gradients = torch.autograd.grad(loss, (*centers, *covariances))
        on_centers.append(torch.stack(gradients[:3]))
        on_covariances.append(torch.stack(gradients[3:]))
    assert on_centers[0].any() and torch.equal(*on_centers)
    assert not on_covariances[0].any()
    assert on_covariances[1].flatten(1).any(1).all()


def test_the_loss_is_what_its_formula_says():
    near, expected, weight = 0.05, 1.5, 0.2
    dense = model(near=near, expected=expected, nll_weight=weight)
    centers, covariance = gaussians(seed=0)
    centers *= 5  # Some errors are beyond what is expected, and some are not.
    deviations = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1).rsqrt()
    size, most = centers.abs(), (expected * deviations).clamp_min(near)
    huber = torch.where(size <= most, size.square() / 2, most * (size - most / 2))
    whole = torch.linalg.inv(covariance)
    surprise = torch.einsum('bki,bkij,bkj->bk', centers, whole, centers) - whole.logdet()
    scores = (huber / deviations.clamp_min(near)).sum(-1) + weight * surprise
    found = dense.training_loss(Estimate(centers, covariance), torch.zeros(4, 3, 3))
    torch.testing.assert_close(found, scores.mean())
    assert (size > most).any() and (size < most).any()


@pytest.mark.parametrize('sensor', [0, 1])
def test_a_sensor_that_sees_better_alone_lowers_the_loss(sensor):
    whole, truth = gaussians(seed=0), torch.zeros(4, 3, 3)
    parts = [Estimate(*gaussians(seed)) for seed in (1, 2)]
    before = model().training_loss(Estimate(*whole, tuple(parts)), truth)
    parts[sensor] = parts[sensor]._replace(centers=truth)
    after = model().training_loss(Estimate(*whole, tuple(parts)), truth)
    assert after < 0.95 * before


def test_a_silent_sensor_is_asked_for_nothing():
    whole, truth = gaussians(seed=0), torch.zeros(4, 3, 3)
    heard, (anywhere, _) = Estimate(*gaussians(seed=1)), gaussians(seed=2)
    losses = []
    for centers in (anywhere, anywhere + 9):
        silent = Estimate(centers.requires_grad_(), torch.zeros(4, 3, 3, 3))
        loss = model().training_loss(Estimate(*whole, (heard, silent)), truth)
        [pull] = torch.autograd.grad(loss, [silent.centers])
        assert not pull.any()
        losses.append(loss)
    assert losses[0] == losses[1]
