"""Rays meet each primitive where the mathematics says."""

import numpy as np
import pytest
import torch

from fusion_perception.simulation.primitives import BOUNDING_RADIUS, first_hit, normals


def rays_towards(radius, count, seed=0):
    """Return origins 25 m away and unit directions (3, M) at points within the radius."""
    random = torch.Generator().manual_seed(seed)

    def unit():
        normal = torch.randn(3, count, generator=random)
        return torch.nn.functional.normalize(normal, dim=0)

    origins = 25 * unit()
    targets = radius * torch.rand(count, generator=random) ** (1 / 3) * unit()
    return origins, torch.nn.functional.normalize(targets - origins, dim=0)


def torus_by_quartic(origin, direction):
    """Solve (|p|^2 + R^2 - r^2)^2 = 4 R^2 (x^2 + y^2) along one ray in double precision."""
    nearest = -origin @ direction
    p = origin + nearest * direction
    ball = np.array([1.0, 2 * p @ direction, p @ p + 1.0 - 0.25])
    flat = np.array([direction[:2] @ direction[:2], 2 * p[:2] @ direction[:2], p[:2] @ p[:2]])
    roots = np.roots(np.polysub(np.polymul(ball, ball), 4 * flat))
    real = roots[abs(roots.imag) < 1e-7].real
    return nearest + real.min() if len(real) else np.inf


def test_torus_hits_are_the_first_roots_of_its_quartic():
    origins, directions = rays_towards(1.5, 3000)
    found = first_hit('torus', origins, directions).double().numpy()
    columns = zip(
        origins.T.double().numpy(),
        torch.nn.functional.normalize(directions.double(), dim=0).T.numpy(),
        strict=True,
    )
    expected = np.array([torus_by_quartic(*column) for column in columns])
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.6
    # A ray that touches within float32 rounding may be seen either way.
    assert (np.isfinite(found) != np.isfinite(expected)).sum() <= 3
    errors = abs(found[both] - expected[both])
    assert errors.max() < 1e-3
    assert np.median(errors) < 1e-5


def test_a_ray_through_the_hole_of_the_torus_misses():
    origins = torch.tensor([[0.0, 0.2], [0.0, 0.1], [-20.0, -20.0]])
    directions = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert first_hit('torus', origins, directions).isinf().all()


@pytest.mark.parametrize('kind', ['cube', 'sphere', 'torus'])
def test_a_ray_along_an_axis_meets_the_surface_where_it_must(kind):
    origins, directions = torch.tensor([[-20.0], [0.0], [0.0]]), torch.tensor([[1.0], [0], [0]])
    assert first_hit(kind, origins, directions).item() == pytest.approx(18.5, abs=1e-4)


@pytest.mark.parametrize(('kind', 'way'), [('cube', 18.5), ('torus', 19.5)])
def test_a_ray_parallel_to_an_axis_meets_the_surface_where_it_must(kind, way):
    origins = torch.tensor([[1.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-20.0, -20.0, -20.0]])
    # The last is aslant by less than float32 can turn round.
    directions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1e-40], [1.0, 1.0, 1.0]])
    assert first_hit(kind, origins, directions).tolist() == pytest.approx(3 * [way], abs=1e-4)


def test_a_sensor_in_the_hole_of_the_torus_sees_the_wall_around_it():
    origins = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.1]])
    directions = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    hits = first_hit('torus', origins, directions)
    assert hits[:2].tolist() == pytest.approx([0.5, 0.6], abs=1e-4)
    assert hits[2].isinf()


def test_a_ray_that_grazes_the_near_side_of_the_tube_meets_the_far_side():
    # In a plane through the axis: two circles of 0.5 m at -1 and 1, and lines that sink by `down`.
    down, gap = torch.meshgrid(
        torch.linspace(0.02, 0.5, 200).asin().double(),
        torch.logspace(-4, -2, 20).double(),
        indexing='ij',
    )
    down, beside = down.flatten(), 0.5 + gap.flatten()
    along = torch.stack((down.cos(), torch.zeros_like(down), -down.sin()))
    normal = torch.stack((down.sin(), torch.zeros_like(down), down.cos()))
    closest = normal * beside - torch.tensor([[1.0], [0.0], [0.0]])
    chord = (0.25 - (2 * down.sin() - beside) ** 2).clamp(min=0).sqrt()
    expected = 10 + 2 * down.cos() - chord
    meets = chord > 0.05
    hits = first_hit('torus', (closest - 10 * along).float(), along.float())
    torch.testing.assert_close(hits[meets].double(), expected[meets], rtol=0, atol=1e-3)


@pytest.mark.parametrize('kind', ['cube', 'sphere', 'torus'])
def test_an_object_behind_or_around_the_sensor_is_not_met(kind):
    origins = torch.tensor([[20.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    directions = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    hits = first_hit(kind, origins, directions)
    assert hits[0].isinf()
    assert hits[1].isinf()


def test_a_sensor_in_the_tube_of_the_torus_sees_nothing_of_it_close_by():
    random = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(3, 500, generator=random), dim=0)
    middle = torch.tensor([[1.0], [0.0], [0.0]])
    beside = 0.4 * torch.nn.functional.normalize(torch.randn(3, 500, generator=random), dim=0)
    hits = first_hit('torus', middle + beside, directions)
    assert (hits > 0).all()


@pytest.mark.parametrize('kind', ['cube', 'sphere', 'torus'])
def test_normals_are_unit_vectors_that_face_the_ray(kind):
    origins, directions = rays_towards(1.2, 5000)
    at = first_hit(kind, origins, directions)
    met = at.isfinite()
    assert met.float().mean() > 0.5
    points = (origins + at * directions)[:, met]
    normal = normals(kind, points)
    assert normal.norm(dim=0) == pytest.approx(torch.ones(normal.shape[1]), abs=1e-4)
    assert (normal * directions[:, met]).sum(dim=0).max() < 0.02
    assert points.norm(dim=0).max() <= BOUNDING_RADIUS[kind] + 1e-4


def test_a_cube_edge_has_one_normal():
    corner = torch.tensor([[1.5, 1.5], [1.5, 0.2], [-1.5, 1.5]])
    assert normals('cube', corner).norm(dim=0).tolist() == [1.0, 1.0]
