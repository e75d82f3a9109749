"""A point is given to its beam however the beams stand, and how near it is."""

import numpy as np
import pytest
import torch

from fusion_perception.sensing.beams import Beams
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rings import Rings

GRID = UniformGrid(rows=12, columns=10).lidar()  # A step between its beams is half a degree.


def ranges_of(lidar, least=5.0, most=45.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return least + (most - least) * torch.rand(lidar.shape, generator=generator)


def points_of(lidar, ranges):
    """Return a point (3, R * C) for each beam, in their order."""
    return lidar.xyza(ranges)[:3].reshape(3, -1).numpy()


def at(azimuth_deg, elevation_deg, range_m=9.0):
    """Return a point (3, 1) in that direction."""
    angles = torch.tensor([azimuth_deg]).deg2rad(), torch.tensor([-elevation_deg]).deg2rad()
    return range_m * Lidar(*angles, 'spherical', 50.0).directions.reshape(3, 1).numpy()


def met_by(lidar, point):
    """Return row and column of the beams that met a point."""
    return np.argwhere(Beams(lidar).place(point).ranges < lidar.max_range).tolist()


def turned(points, degrees):
    """Turn points (3, N) about z, each by so many degrees (N,)."""
    (x, y, z), c, s = points, np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.stack((c * x - s * y, s * x + c * y, z)).astype(np.float32)


@pytest.mark.parametrize(
    ('share', 'degrees', 'kept'), [(1.0, 0.4, True), (0.4, 2.0, True), (0.6, 2.0, False)]
)
def test_an_organised_cloud_keeps_its_order_while_most_points_are_a_step_from_their_beams(
    share, degrees, kept
):
    ranges = ranges_of(GRID)
    moved = np.where(np.arange(ranges.numel()) < share * ranges.numel(), degrees, 0.0)
    placed = Beams(GRID).place(turned(points_of(GRID, ranges), moved), organised=True)
    assert np.allclose(placed.ranges, ranges.numpy(), atol=1e-4) == kept
    assert (placed.outside == placed.hidden == 0) == kept


@pytest.mark.parametrize(
    'elevations',
    [
        (-25.0, -20.0, -15.0, -10.0, -5.0, -1.0, -0.8, -0.6, -0.4, -0.2, 0.0),
        tuple(range(-88, 89, 4)),
    ],
    ids=['uneven', 'up to the poles'],
)
def test_points_of_rings_in_any_order_give_their_ranges_back(elevations):
    lidar = Rings(elevations_deg=elevations, columns=60).lidar()
    ranges = ranges_of(lidar)
    order = np.random.default_rng(0).permutation(ranges.numel())
    placed = Beams(lidar).place(points_of(lidar, ranges)[:, order])
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), atol=1e-4)


def test_points_half_a_metre_away_are_seen_from_where_their_beams_begin():
    lidar = Rings(
        elevations_deg=tuple(np.linspace(2, -24.8, 64)),
        heights_m=tuple(np.linspace(0.21, 0.1, 64)),
        columns=256,
    ).lidar()
    ranges = ranges_of(lidar, 0.5, 0.6)
    placed = Beams(lidar).place(points_of(lidar, ranges))
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), atol=1e-4)


def test_close_to_the_pole_azimuth_parts_less_than_elevation():
    # The upper ring is turned by 4 of the 10 degrees from beam to beam.
    azimuth = torch.arange(-175.0, 180.0, 10.0)[None] + torch.tensor([0.0, 0.0, 4.0])[:, None]
    zenith = -torch.tensor([76.0, 80.0, 82.0])[:, None].expand(-1, 36)
    lidar = Lidar(azimuth.deg2rad(), zenith.deg2rad(), 'spherical', 50.0)
    # 0.7 degrees below a beam and 4 aside, which are 0.6; the other one is 1.3 degrees below it.
    assert met_by(lidar, at(5.0, 81.3)) == [[2, 18]]


@pytest.mark.parametrize(('elevation', 'row'), [(-14.0, 1), (-16.0, 0), (-9.2, 1), (-8.8, 2)])
def test_between_rings_that_lie_far_apart_a_point_goes_to_the_closer_one(elevation, row):
    lidar = Rings(elevations_deg=(-20.0, -10.0, -8.0, -6.0), columns=36).lidar()
    assert met_by(lidar, at(5.0, elevation)) == [[row, 17]]


def test_a_single_ring_reaches_a_quarter_of_a_degree_up_and_down_and_half_a_step_aside():
    lidar = Lidar(torch.linspace(-10, 10, 11).deg2rad(), torch.zeros(1), 'spherical', 50.0)
    for azimuth, elevation, met in (
        (0.9, 0.2, [[5, 0]]),
        (1.1, -0.2, [[6, 0]]),
        (0.0, 0.3, []),
        (0.0, -0.3, []),
        (10.9, 0.0, [[10, 0]]),
        (11.1, 0.0, []),
    ):
        assert met_by(lidar, at(azimuth, elevation)) == met


def test_rings_at_one_elevation_share_what_is_there():
    lidar = Rings(elevations_deg=(-4.0, -4.0, -2.0, -2.0, 0.0, 0.0), columns=36).lidar()
    placed = Beams(lidar).place(points_of(lidar, ranges_of(lidar)))
    assert (placed.points, placed.outside, placed.hidden) == (216, 0, 108)


def test_what_lies_behind_another_point_and_what_lies_beside_all_beams_are_told_apart():
    near, far = ranges_of(GRID, 5, 10), ranges_of(GRID, 20, 40)
    behind, beside = points_of(GRID, far)[:, :7], -points_of(GRID, far)[:, :5]
    placed = Beams(GRID).place(np.concatenate((points_of(GRID, near), behind, beside), axis=1))
    assert (placed.points, placed.outside, placed.hidden) == (132, 5, 7)
    np.testing.assert_allclose(placed.ranges, near.numpy(), atol=1e-4)
