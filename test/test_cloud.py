"""A point cloud becomes the range image that its LiDAR would have sent."""

import array
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_perception.sensing.beams import Beams
from fusion_perception.sensing.cloud import decode_points, to_lidar_axes
from fusion_perception.sensing.decode import BadEncoding, BadShape
from fusion_perception.sensing.geometry import PROJECTIONS
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rep103 import centers_of, from_rep103, to_rep103
from fusion_perception.sensing.rings import Rings

FLOAT32, FLOAT64, UINT16 = 7, 8, 4
CARRIERS = {
    'array': lambda raw: array.array('B', raw),
    'ndarray': lambda raw: np.frombuffer(raw, np.uint8).copy(),
    'bytes': bytes,
}


def cloud(points, kind='<f4', names='xyz', gap=0, padding=0, carrier='array', **stated):
    """Lay points (H, W, 3) out with `gap` bytes of noise in each and `padding` after each row."""
    kind = np.dtype(kind)
    values = np.ascontiguousarray(points.astype(kind)).view(np.uint8)
    values = values.reshape(*points.shape[:2], 3 * kind.itemsize)
    noise = np.full((*points.shape[:2], gap), 0xA5, np.uint8)
    rows = np.concatenate((values, noise), axis=-1)
    rows = rows.reshape(len(points), points.shape[1] * rows.shape[2])
    rows = np.hstack((rows, np.full((len(points), padding), 0xA5, np.uint8)))
    datatype = FLOAT32 if kind.itemsize == 4 else FLOAT64
    message = {
        'height': points.shape[0],
        'width': points.shape[1],
        'fields': [
            SimpleNamespace(name=name, offset=i * kind.itemsize, datatype=datatype, count=1)
            for i, name in enumerate(names)
        ],
        'is_bigendian': kind.newbyteorder('=') != kind if sys.byteorder == 'little' else False,
        'point_step': 3 * kind.itemsize + gap,
        'row_step': rows.shape[1],
        'data': CARRIERS[carrier](rows.tobytes()),
        'is_dense': False,
    }
    return SimpleNamespace(**{**message, **stated})


def some_points(height=3, width=5):
    return np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)


@pytest.mark.parametrize('carrier', CARRIERS)
@pytest.mark.parametrize('kind', ['<f4', '>f4', '<f8', '>f8'])
@pytest.mark.parametrize(('gap', 'padding'), [(0, 0), (4, 0), (20, 7), (3, 1)])
def test_points_are_read_whatever_their_layout(kind, gap, padding, carrier):
    points = some_points()
    read = decode_points(cloud(points, kind, gap=gap, padding=padding, carrier=carrier))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, points)


def test_coordinates_may_stand_in_any_order_and_be_of_different_kinds():
    rows = np.zeros(4, [('intensity', '<u2'), ('z', '<f8'), ('x', '<f4'), ('y', '<f4')])
    rows['x'], rows['y'], rows['z'] = np.arange(4), np.arange(4) + 10, np.arange(4) + 20
    datatypes = {'x': FLOAT32, 'y': FLOAT32, 'z': FLOAT64, 'intensity': UINT16}
    fields = [
        SimpleNamespace(name=name, offset=rows.dtype.fields[name][1], datatype=datatypes[name])
        for name in rows.dtype.names
    ]
    message = cloud(
        np.zeros((1, 4, 3)), fields=fields, point_step=18, row_step=72, data=rows.tobytes()
    )
    np.testing.assert_array_equal(
        decode_points(message)[0], np.stack([rows[name] for name in 'xyz'], axis=-1)
    )


@pytest.mark.parametrize('order', ['xyiz', 'xiyz', 'zyix'])
def test_coordinates_of_one_kind_may_have_others_between_them(order):
    rows = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    fields = [
        SimpleNamespace(name=name, offset=4 * i, datatype=FLOAT32) for i, name in enumerate(order)
    ]
    message = cloud(rows[..., :3], gap=4, fields=fields, data=rows.tobytes())
    np.testing.assert_array_equal(
        decode_points(message), rows[..., [order.index(a) for a in 'xyz']]
    )


def test_coordinates_that_lie_evenly_may_be_of_different_kinds():
    rows = np.array([(1.5, 2.5, 3.5)] * 2, [('x', '<f4'), ('y', '<f4'), ('z', '<f8')])
    fields = [
        SimpleNamespace(name=name, offset=4 * i, datatype=FLOAT64 if name == 'z' else FLOAT32)
        for i, name in enumerate('xyz')
    ]
    message = cloud(np.zeros((1, 2, 3)), gap=4, fields=fields, data=rows.tobytes())
    assert decode_points(message).tolist() == [[[1.5, 2.5, 3.5]] * 2]


@pytest.mark.parametrize('gap', [0, 4, 36])
def test_the_usual_layouts_are_read_without_a_copy(gap):
    message = cloud(some_points(), gap=gap, carrier='ndarray')
    read = decode_points(message)
    assert np.shares_memory(read, message.data)
    assert not read.flags.writeable


def test_an_empty_cloud_has_no_points():
    assert decode_points(cloud(np.zeros((1, 0, 3)))).shape == (1, 0, 3)
    assert decode_points(cloud(np.zeros((1, 0, 3)), gap=20, padding=8)).shape == (1, 0, 3)


@pytest.mark.parametrize(
    ('stated', 'error', 'fault'),
    [
        ({'fields': []}, BadEncoding, "no field 'x' but none"),
        ({'point_step': 8}, BadShape, "'z' .* begins at byte 8 .* 8 bytes"),
        ({'row_step': 59}, BadShape, 'row_step of 59 bytes; a row takes 60'),
        ({'height': 4}, BadShape, 'makes 240, but carries 180'),
        ({'height': 2}, BadShape, 'makes 120, but carries 180'),
        ({'data': b''}, BadShape, 'carries 0'),
        (
            {'fields': [SimpleNamespace(name='x', offset=0, datatype=UINT16)]},
            BadEncoding,
            'datatype 4; .* FLOAT32',
        ),
        (
            {'fields': [SimpleNamespace(name='range', offset=0, datatype=FLOAT32)]},
            BadEncoding,
            "no field 'x' but range",
        ),
    ],
)
def test_what_is_no_cloud_of_points_is_refused_in_words(stated, error, fault):
    with pytest.raises(error, match=fault):
        decode_points(cloud(some_points(), **stated))


def test_points_are_turned_as_everything_else_at_the_edge_to_ros():
    points = some_points()
    np.testing.assert_allclose(
        to_lidar_axes(points), from_rep103(points.reshape(-1, 3)).T, rtol=0, atol=1e-6
    )


def lidars():
    original = UniformGrid(rows=12, columns=10)
    around = UniformGrid(
        rows=36, columns=7, azimuth_step_deg=10, azimuth_first_deg=-175, zenith_step_deg=4
    )
    for projection in PROJECTIONS:
        yield original.model_copy(update={'projection': projection}).lidar()
    yield around.lidar()
    # Rings as rows, uneven, every other one turned by several steps.
    azimuth = around.lidar().azimuth[None] + torch.tensor([0.0, 0.4, -0.3, 0.5, 0.0])[:, None]
    zenith = torch.tensor([-0.4, -0.2, -0.1, 0.0, 0.3])[:, None].expand(-1, 36)
    staggered = Lidar(azimuth, zenith, 'spherical', 50.0)
    yield staggered
    lift = 0.03 * staggered.directions + torch.tensor([0.0, 0.0, 0.036])
    yield replace(staggered, offsets=lift)
    # Descending, as a sensor that counts from the right and from below.
    flipped = (table.flip(0) for table in (original.lidar().azimuth, original.lidar().zenith))
    yield Lidar(*flipped, 'spherical', 50.0)
    yield Lidar(torch.linspace(-1, 1, 30), torch.zeros(1), 'spherical', 50.0)
    yield Rings(
        elevations_deg=(2.0, -6.0, -15.0, -25.0), heights_m=(0.21, 0.18, 0.14, 0.1), columns=32
    ).lidar()
    # In the order in which the lasers of some sensors fire: a ring's neighbours are far away.
    lasers = tuple(below + above for below in range(-15, 0, 2) for above in (0.0, 16.0))
    yield Rings(elevations_deg=lasers, columns=180).lidar()
    yield UniformGrid(rows=300, columns=5, azimuth_step_deg=0.02, azimuth_first_deg=-3).lidar()


LIDARS = list(lidars())
BEAMS = [Beams(lidar) for lidar in LIDARS]
LIDAR_NAMES = [
    'notebook', 'spherical', 'around', 'staggered', 'offsets', 'descending', 'planar', 'rings',
    'lasers', 'fine',
]  # fmt: skip


def ranges_for(lidar, seed, share=0.8):
    generator = torch.Generator().manual_seed(seed)
    ranges = 1 + 48 * torch.rand(lidar.shape, generator=generator)
    seen = torch.rand(lidar.shape, generator=generator) < share
    return torch.where(seen, ranges, lidar.max_range)


def points_of(lidar, ranges):
    """Return what a sensor sends of ranges: (R * C, 3) points, and none where none returned."""
    *xyz, a = lidar.xyza(ranges).numpy()
    return np.stack(xyz, axis=-1).reshape(-1, 3)[a.reshape(-1) > 0]


@pytest.mark.parametrize(('lidar', 'beams'), zip(LIDARS, BEAMS, strict=True), ids=LIDAR_NAMES)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_the_points_of_a_range_image_in_any_order_give_it_back(lidar, beams, seed):
    ranges = ranges_for(lidar, seed)
    points = np.random.default_rng(seed).permutation(points_of(lidar, ranges))
    placed = beams.place(points.T)
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=1e-4)
    assert (placed.outside, placed.hidden) == (0, 0)


# Between beams that stand in no grid, points half-way are left to either of two.
@pytest.mark.parametrize(
    ('number', 'share'), [(0, 0.4), (1, 0.4), (2, 0.4), (3, 0.1), (4, 0.1), (5, 0.4)]
)
def test_a_point_goes_to_the_beam_with_the_closest_direction(number, share):
    # Oracle: all beams against all points.
    lidar, beams = LIDARS[number], BEAMS[number]
    rng = np.random.default_rng(3)
    unit = torch.nn.functional.normalize(lidar.directions, dim=-1).reshape(-1, 3).double().numpy()
    cosines = unit @ unit.T - 2 * np.eye(len(unit))
    step = np.median(np.arccos(cosines.max(axis=1)))
    near = unit[rng.integers(len(unit), size=800)]
    near = near + rng.normal(scale=share * step, size=near.shape)
    offsets = np.zeros(3) if lidar.offsets is None else lidar.offsets.reshape(-1, 3).numpy()
    wrong = 0
    for point in 20 * near.astype(np.float32):
        placed = beams.place(point[:, None])
        if placed.outside:
            continue
        to_point = point - offsets
        to_point = to_point / np.linalg.norm(to_point, axis=-1, keepdims=True)
        angles = np.arccos(np.clip((to_point * unit).sum(axis=-1), -1, 1))
        (seen,) = np.flatnonzero(placed.ranges.reshape(-1) < lidar.max_range)
        wrong += angles[seen] > angles.min() + 0.1 * step
    assert wrong == 0


def test_the_closest_of_several_returns_of_a_beam_wins():
    lidar = LIDARS[1]
    ranges = ranges_for(lidar, 5, share=1)
    behind = points_of(lidar, (ranges + 0.5).clamp(max=49.9))
    points = np.concatenate((behind, points_of(lidar, ranges), behind))
    placed = Beams(lidar).place(points.T)
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=1e-4)
    assert placed.hidden == 2 * ranges.numel()


@pytest.mark.parametrize(('steps', 'outside'), [(0.45, 0), (0.55, 1), (3.0, 1), (100.0, 1)])
@pytest.mark.parametrize('edge', ['left', 'right', 'above', 'below'])
def test_a_point_farther_than_half_a_step_from_every_beam_is_left_out_and_counted(
    steps, outside, edge
):
    grid = UniformGrid(rows=12, columns=10)
    beyond = math.radians(0.5 * steps)
    lidar = grid.lidar()
    azimuth, zenith = lidar.azimuth[5].item(), lidar.zenith[5].item()
    azimuth, zenith = {
        'left': (lidar.azimuth[-1].item() + beyond, zenith),
        'right': (lidar.azimuth[0].item() - beyond, zenith),
        'below': (azimuth, lidar.zenith[-1].item() + beyond),
        'above': (azimuth, lidar.zenith[0].item() - beyond),
    }[edge]
    there = Lidar(torch.tensor([azimuth]), torch.tensor([zenith]), 'spherical', 50.0)
    placed = Beams(lidar).place(9 * there.directions.reshape(3, 1).numpy())
    assert placed.outside == outside
    assert (placed.ranges < lidar.max_range).sum() == 1 - outside


def test_points_behind_a_sensor_that_looks_ahead_are_left_out():
    lidar = LIDARS[1]
    points = -points_of(lidar, ranges_for(lidar, 2))
    placed = Beams(lidar).place(points.T)
    assert placed.outside == len(points)
    assert (placed.ranges == lidar.max_range).all()


@pytest.mark.parametrize('organised', [False, True])
def test_nan_infinity_the_origin_and_what_lies_too_far_are_no_returns(organised):
    lidar = LIDARS[1]
    ranges = ranges_for(lidar, 6, share=1)
    points = (ranges[..., None] * lidar.directions).reshape(-1, 3).numpy()
    for index, value in enumerate([math.nan, math.inf, 0.0, 0.0]):
        points[index] = value
    points[4] *= 100
    placed = Beams(lidar).place(points.T, organised=organised)
    expected = ranges.flatten()
    expected[:5] = lidar.max_range
    assert placed.points == len(points) - 4
    np.testing.assert_allclose(placed.ranges.reshape(-1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('lidar', LIDARS, ids=LIDAR_NAMES)
def test_an_organised_cloud_keeps_the_order_of_its_pixels(lidar):
    ranges = ranges_for(lidar, 9)
    *xyz, a = lidar.xyza(ranges).numpy()
    points = np.where(a > 0, np.stack(xyz), np.nan).reshape(3, -1)
    # Jitter that would lead some of the points to a neighbour.
    points += np.random.default_rng(1).normal(scale=0.002, size=points.shape)
    placed = Beams(lidar).place(points.astype(np.float32), organised=True)
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=0.03)


def test_a_cloud_that_only_happens_to_have_as_many_points_is_searched():
    lidar = LIDARS[1]
    ranges = ranges_for(lidar, 9, share=1)
    upside_down = points_of(lidar, ranges)[::-1]
    placed = Beams(lidar).place(upside_down.T, organised=True)
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize('count', [0, 1])
def test_a_cloud_may_be_empty(count):
    placed = Beams(LIDARS[1]).place(np.full((3, count), np.nan, np.float32))
    assert (placed.ranges == 50).all() and placed.outside == placed.hidden == 0


@pytest.mark.filterwarnings('error')
def test_a_message_with_infinite_coordinates_is_turned_without_a_word():
    points = np.array([[[1, 2, 3], [math.inf, -math.inf, 0]]], np.float32)
    turned = to_lidar_axes(decode_points(cloud(points)))
    assert turned[:, 0].tolist() == [-2, 1, 3]
    assert not np.isfinite(turned[:, 1]).all()


def test_centres_come_back_from_rep103_axes():
    points = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(from_rep103(to_rep103(points)), points)
    ahead = SimpleNamespace(position=SimpleNamespace(x=25.0, y=-1.0, z=2.0))
    assert centers_of(SimpleNamespace(poses=[ahead])).tolist() == [[1.0, 25.0, 2.0]]


def test_a_message_in_rep103_axes_gives_the_range_image_back():
    lidar = LIDARS[1]
    ranges = ranges_for(lidar, 11)
    points = np.random.default_rng(2).permutation(points_of(lidar, ranges))
    message = cloud(to_rep103(points)[None].astype(np.float32), gap=4)
    placed = Beams(lidar).place(to_lidar_axes(decode_points(message)))
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=1e-4)
