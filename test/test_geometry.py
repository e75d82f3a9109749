import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_perception.sensing.geometry import (
    LIDAR_TO_OPTICAL,
    LIDAR_TO_REP103,
    PROJECTIONS,
    direction_table,
    invert_transform,
    pixel_rays,
    project,
    range_to_xyza,
    transform_points,
)
from fusion_perception.sensing.lidars import UniformGrid

DEVICES = [
    'cpu',
    pytest.param(
        'cuda',
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason='torch finds no CUDA GPU on this machine'
        ),
    ),
]
NO_RETURN = [0.0, -1.0, 50.0, 50.1, math.inf, -math.inf, math.nan]


def tables(rows: int = 64, columns: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the original sensor's azimuth (rows) and zenith (columns), radians, float64."""
    step = math.radians(0.5)
    return (
        -0.279253 + step * torch.arange(rows, dtype=torch.float64),
        -0.279253 + step * torch.arange(columns, dtype=torch.float64),
    )


def ranges(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return ranges of 10 to 45 m in which every fifth ray is lost in one way or another."""
    generator = torch.Generator().manual_seed(seed)
    values = 10 + 35 * torch.rand(*shape, generator=generator)
    flat = values.view(-1)
    lost = torch.tensor(NO_RETURN).repeat(len(flat) // len(NO_RETURN) + 1)
    flat[::5] = lost[: len(flat[::5])]
    return values


def one_pixel(d: float, az: float, ze: float, projection: str) -> tuple[float, ...]:
    """Turn one reading into x, y, z, a by the course notebook's formula, scalar by scalar."""
    seen = math.isfinite(d) and 0 < d < 50.0
    d = d if seen else 50.0
    x = d * math.sin(-az)
    if projection == 'spherical':
        x *= math.cos(-ze)
    return x, d * math.cos(-az) * math.cos(-ze), d * math.sin(-ze), float(seen)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('projection', PROJECTIONS)
def test_every_pixel_is_where_the_notebook_puts_it(projection, device):
    azimuth, zenith = tables()
    scan = ranges(64, 64)
    xyza = range_to_xyza(
        scan.to(device), direction_table(azimuth, zenith, projection).float().to(device), 50.0
    ).cpu()
    expected = [
        [one_pixel(d, az, ze, projection) for d, ze in zip(row, zenith.tolist(), strict=True)]
        for row, az in zip(scan.tolist(), azimuth.tolist(), strict=True)
    ]
    torch.testing.assert_close(xyza, torch.tensor(expected).permute(2, 0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('projection', PROJECTIONS)
def test_full_tables_and_tables_per_row_and_column_agree(projection, device):
    azimuth, zenith = (table.to(device) for table in tables(5, 7))
    full = azimuth[:, None].expand(5, 7), zenith[None, :].expand(5, 7)
    expected = direction_table(azimuth, zenith, projection)
    assert expected.shape == (5, 7, 3) and expected.device.type == device
    for az in (azimuth, full[0]):
        for ze in (zenith, full[1]):
            assert torch.equal(direction_table(az, ze, projection), expected)


def test_a_full_table_may_differ_in_every_pixel():
    azimuth = torch.rand(4, 6, dtype=torch.float64)
    zenith = torch.rand(4, 6, dtype=torch.float64)
    table = direction_table(azimuth, zenith, 'spherical')
    x, y, z, _ = one_pixel(1.0, azimuth[2, 5].item(), zenith[2, 5].item(), 'spherical')
    assert table[2, 5].tolist() == pytest.approx([x, y, z], abs=1e-12)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('batch', [(), (3,), (2, 3), (1, 2, 2)])
def test_a_batch_of_any_shape_gives_what_each_image_gives_alone(batch, device):
    directions = direction_table(*tables(6, 5), 'spherical').float().to(device)
    scans = ranges(*batch, 6, 5).to(device)
    xyza = range_to_xyza(scans, directions, 50.0)
    assert xyza.shape == (*batch, 4, 6, 5)
    alone = [range_to_xyza(scan, directions, 50.0) for scan in scans.reshape(-1, 6, 5)]
    assert torch.equal(xyza.reshape(-1, 4, 6, 5), torch.stack(alone))


@settings(max_examples=50)
@given(st.floats(-math.pi, math.pi), st.floats(-math.pi / 2, math.pi / 2), st.floats(0.01, 49.99))
def test_a_point_lies_as_far_away_as_its_range_says(az, ze, metres):
    table = direction_table(
        torch.tensor([az], dtype=torch.float64),
        torch.tensor([ze], dtype=torch.float64),
        'spherical',
    )
    x, y, z, a = range_to_xyza(
        torch.tensor([[metres]], dtype=torch.float64), table, 50.0
    ).flatten()
    assert a == 1
    assert math.hypot(x, y, z) == pytest.approx(metres, rel=1e-12)


def test_the_notebook_stretches_the_corner_by_four_percent():
    length = direction_table(*tables(), 'notebook').norm(dim=-1)
    assert length[0, 0] == pytest.approx(math.sqrt(1 + (math.sin(0.279253) ** 2) ** 2), rel=1e-6)
    assert length.max() < 1.041


@pytest.mark.parametrize('projection', PROJECTIONS)
def test_azimuth_turns_to_the_left_and_zenith_down(projection):
    table = direction_table(torch.tensor([0.1]), torch.tensor([0.0, 0.1]), projection)
    assert table[0, 0, 0] < 0 and table[0, 0, 1] > 0
    assert table[0, 1, 2] < 0


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('reading', NO_RETURN)
def test_no_return_is_masked_and_lies_at_the_maximum_range(reading, device):
    directions = direction_table(*tables(2, 2), 'spherical').float().to(device)
    xyza = range_to_xyza(torch.full((2, 2), reading, device=device), directions, 50.0)
    assert xyza.isfinite().all()
    assert not xyza[3].any()
    torch.testing.assert_close(xyza[:3].norm(dim=0), torch.full((2, 2), 50.0, device=device))


@pytest.mark.parametrize('shape', [(63, 64), (64, 63), (64, 1), (2, 32, 128)])
def test_a_range_image_of_another_shape_is_refused_with_both_shapes(shape):
    directions = direction_table(*tables(), 'spherical')
    with pytest.raises(ValueError, match=r'range image is \(.*LiDAR table \(64, 64\)'):
        range_to_xyza(torch.ones(shape), directions, 50.0)


@pytest.mark.parametrize(
    ('azimuth', 'zenith'),
    [
        ((3, 4), (5,)),
        ((3,), (4, 5)),
        ((3, 4), (4, 3)),
        ((3, 4), (3, 4, 1)),
        ((2, 3, 4), (2, 3, 4)),
        ((), (3,)),
    ],
)
def test_tables_that_make_no_grid_are_refused_with_their_shapes(azimuth, zenith):
    with pytest.raises(ValueError, match='describe no grid'):
        direction_table(torch.zeros(azimuth), torch.zeros(zenith), 'spherical')


@pytest.mark.parametrize('angle', [math.nan, math.inf])
def test_an_angle_that_is_none_is_refused(angle):
    with pytest.raises(ValueError, match='NaN or infinite angles'):
        direction_table(torch.tensor([0.0, angle]), torch.zeros(3), 'spherical')


def test_an_unknown_projection_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'cylinder'\. Choose one of: notebook, spherical"):
        direction_table(*tables(), 'cylinder')


def rigid(values: list[float]) -> torch.Tensor:
    """Return a (4, 4) transform from three Euler angles and a translation."""
    a, b, c, *translation = values
    turn = torch.eye(4, dtype=torch.float64)
    for angle, (i, j) in zip((a, b, c), ((0, 1), (0, 2), (1, 2)), strict=True):
        step = torch.eye(4, dtype=torch.float64)
        step[i, i] = step[j, j] = math.cos(angle)
        step[i, j], step[j, i] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    turn[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return turn


poses = st.lists(st.floats(-10, 10), min_size=6, max_size=6).map(rigid)
BATCHES = [(), (5,), (2, 3)]


@settings(max_examples=50)
@given(poses, st.integers(0, 2))
def test_a_transform_and_its_inverse_bring_points_back(pose, batch):
    points = torch.randn(*BATCHES[batch], 3, dtype=torch.float64)
    there = transform_points(pose, points)
    torch.testing.assert_close(transform_points(invert_transform(pose), there), points)


@settings(max_examples=50)
@given(poses, poses)
def test_transforms_chain_as_their_names_say(T_c_b, T_b_a):
    points = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        transform_points(T_c_b @ T_b_a, points),
        transform_points(T_c_b, transform_points(T_b_a, points)),
    )


@pytest.mark.parametrize('between', [(), (5,), (4, 5)])
def test_a_batch_of_transforms_moves_each_sample_by_its_own(between):
    poses = torch.stack([rigid([i, 0.3, -i, 1, 2, i]) for i in (0.1, 0.7, 1.3)])
    points = torch.randn(3, *between, 3, dtype=torch.float64)
    moved = transform_points(poses, points)
    for one, pose, expected in zip(points, poses, moved, strict=True):
        torch.testing.assert_close(transform_points(pose, one), expected)


def test_a_batch_of_transforms_is_inverted_one_by_one():
    poses = torch.stack([rigid([i, 0.3, -i, 1, 2, i]) for i in (0.1, 0.7, 1.3)])
    whole = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    torch.testing.assert_close(poses @ invert_transform(poses), whole)


@pytest.mark.parametrize('matrix', [LIDAR_TO_OPTICAL, LIDAR_TO_REP103])
def test_the_constant_axis_changes_are_rotations(matrix):
    rotation = torch.tensor(matrix)
    assert torch.equal(rotation @ rotation.T, torch.eye(3))
    assert torch.linalg.det(rotation) == 1


def test_forward_of_the_lidar_is_the_optical_axis_and_x_of_a_robot():
    forward = torch.tensor([0.0, 1.0, 0.0])
    assert (torch.tensor(LIDAR_TO_OPTICAL) @ forward).tolist() == [0, 0, 1]
    assert (torch.tensor(LIDAR_TO_REP103) @ forward).tolist() == [1, 0, 0]


def test_right_and_up_stay_right_and_up_in_both_conventions():
    right, up = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert (torch.tensor(LIDAR_TO_OPTICAL) @ right).tolist() == [1, 0, 0]
    assert (torch.tensor(LIDAR_TO_OPTICAL) @ up).tolist() == [0, -1, 0]
    assert (torch.tensor(LIDAR_TO_REP103) @ right).tolist() == [0, -1, 0]
    assert (torch.tensor(LIDAR_TO_REP103) @ up).tolist() == [0, 0, 1]


def intrinsics(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    matrices = [[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] for fx, fy, cx, cy in rows]
    return torch.tensor(matrices, dtype=torch.float64)


@pytest.mark.parametrize('device', DEVICES)
def test_a_point_on_a_pixels_ray_projects_onto_that_pixel(device):
    cameras = intrinsics((73.3, 73.3, 31.5, 31.5), (100, 60, 2, 7)).to(device)
    rays = pixel_rays(cameras, 6, 9)
    distance = 1 + 30 * torch.rand(2, 6, 9, 1, dtype=torch.float64, device=device)
    pixels, in_front = project(rays * distance, cameras)
    v, u = torch.meshgrid(torch.arange(6), torch.arange(9), indexing='ij')
    expected = torch.stack((u, v), -1).double().expand(2, 6, 9, 2)
    torch.testing.assert_close(pixels.cpu(), expected)
    assert in_front.all()


def test_pixel_rays_are_unit_vectors_and_the_middle_one_looks_ahead():
    rays = pixel_rays(intrinsics((50, 50, 4, 3)), 7, 9)
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(1, 7, 9, dtype=torch.float64))
    assert rays[0, 3, 4].tolist() == [0, 0, 1]


def test_a_point_behind_the_camera_is_said_to_be_there_and_stays_finite():
    points = torch.tensor([[[1.0, 2.0, -5.0], [1.0, 2.0, 0.0], [1.0, 2.0, 5.0]]]).double()
    pixels, in_front = project(points, intrinsics((50, 50, 4, 3)))
    assert in_front.tolist() == [[False, False, True]]
    assert pixels.isfinite().all()


def test_a_point_on_the_right_and_above_is_right_and_above_in_the_image():
    right_above = torch.tensor([[[1.0, 10.0, 2.0]]], dtype=torch.float64)
    optical = right_above @ torch.tensor(LIDAR_TO_OPTICAL, dtype=torch.float64).T
    pixels, _ = project(optical, intrinsics((50, 50, 32, 32)))
    assert pixels.flatten().tolist() == [37, 22]


def test_a_quarter_turn_puts_the_range_image_upright_beside_the_camera_image():
    x, _, z = np.moveaxis(np.rot90(UniformGrid().lidar().directions.numpy(), -1), -1, 0)
    assert (np.diff(x, axis=1) > 0).all(), 'columns run from left to right'
    assert (np.diff(z, axis=0) < 0).all(), 'rows run from the top down'
