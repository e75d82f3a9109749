import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_perception.sensing.lidars import (
    UniformGrid,
    lidar_from_tables,
    mounted,
    read_angle_table,
)
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.rings import Rings


def write_tables(folder: Path, azimuth: np.ndarray, zenith: np.ndarray) -> Path:
    np.save(folder / 'azimuth.npy', azimuth)
    np.save(folder / 'zenith.npy', zenith)
    return folder


def test_the_default_grid_is_the_original_sensor():
    lidar = UniformGrid().lidar()
    assert lidar.shape == (64, 64) and lidar.max_range == 50
    for table in (lidar.azimuth, lidar.zenith):
        assert table.dtype == torch.float32
        assert table[0].item() == pytest.approx(-0.279253, abs=1e-6)
        assert table[-1].item() == pytest.approx(0.270526, abs=1e-6)
        assert table[32] == 0


def test_a_grid_runs_azimuth_along_rows_and_zenith_along_columns():
    lidar = UniformGrid(rows=3, columns=5, azimuth_step_deg=90, azimuth_first_deg=-90).lidar()
    assert lidar.shape == (3, 5)
    assert lidar.azimuth.tolist() == pytest.approx([-math.pi / 2, 0, math.pi / 2])


@pytest.mark.parametrize(
    ('name', 'value', 'bound'),
    [
        ('rows', 0, 'greater than 0'),
        ('columns', -1, 'greater than 0'),
        ('max_range', 0, r'greater than or equal to 0\.001'),
    ],
)
def test_a_grid_without_extent_is_refused(name, value, bound):
    with pytest.raises(ValueError, match=f'{name} = .*{bound}'):
        UniformGrid.read({name: value})


@pytest.mark.parametrize('dtype', [np.float32, np.float64, '>f4'])
def test_tables_written_as_npy_come_back_as_float32(tmp_path, dtype):
    azimuth, zenith = np.linspace(-0.3, 0.3, 4), np.linspace(-0.2, 0.2, 6)
    lidar = lidar_from_tables(
        write_tables(tmp_path, azimuth.astype(dtype), zenith.astype(dtype)), Rig()
    )
    assert lidar.shape == (4, 6)
    assert lidar.azimuth.dtype == lidar.directions.dtype == torch.float32
    np.testing.assert_allclose(lidar.azimuth, azimuth, rtol=1e-6)


def test_tables_may_give_an_angle_for_every_pixel(tmp_path):
    lidar = lidar_from_tables(write_tables(tmp_path, np.zeros((4, 6)), np.zeros((4, 6))), Rig())
    assert lidar.shape == (4, 6)


def test_projection_and_range_are_handed_on(tmp_path):
    lidar = lidar_from_tables(
        write_tables(tmp_path, np.zeros(2), np.zeros(3)),
        Rig(projection='notebook', max_range=120.0),
    )
    assert (lidar.projection, lidar.max_range) == ('notebook', 120.0)


def test_a_missing_table_is_named(tmp_path):
    np.save(tmp_path / 'azimuth.npy', np.zeros(3))
    with pytest.raises(FileNotFoundError, match=r'zenith\.npy'):
        lidar_from_tables(tmp_path, Rig())


@pytest.mark.parametrize(
    'values',
    [
        np.zeros((2, 2, 2)),
        np.zeros(0),
        np.zeros(3, np.int64),
        np.array(['a']),
        np.array([0.0, math.nan]),
        np.array([-16.0, 15.5]),
        np.float64(1.0),
    ],
    ids=['3d', 'empty', 'integers', 'text', 'nan', 'degrees', 'scalar'],
)
def test_what_is_no_angle_table_is_refused_by_its_path(tmp_path, values):
    np.save(tmp_path / 'azimuth.npy', values)
    with pytest.raises(ValueError, match=r'azimuth\.npy holds'):
        read_angle_table(tmp_path / 'azimuth.npy')


@pytest.mark.parametrize('keep', [0, 5, 60, -4])
def test_a_torn_table_is_refused_by_its_path(tmp_path, keep):
    path = write_tables(tmp_path, np.zeros(64), np.zeros(64)) / 'azimuth.npy'
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r'azimuth\.npy is no \.npy file'):
        read_angle_table(path)


def test_a_table_of_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / 'azimuth.npy', np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r'azimuth\.npy'):
        read_angle_table(tmp_path / 'azimuth.npy')


def test_what_numpy_says_of_a_table_in_lines_is_said_in_one(tmp_path):
    path = tmp_path / 'azimuth.npy'
    # Of a header of more than 10,000 characters it tells how to trust it.
    np.save(path, np.zeros(1, [('x' * 20_000, 'f4')]))
    with pytest.raises(ValueError, match=r'azimuth\.npy is no .*max_header_size') as fault:
        read_angle_table(path)
    assert '\n' not in str(fault.value)


def test_tables_that_make_no_grid_are_refused_by_their_folder(tmp_path):
    with pytest.raises(ValueError, match=r'describe no grid') as caught:
        lidar_from_tables(write_tables(tmp_path, np.zeros((4, 6)), np.zeros(5)), Rig())
    assert str(tmp_path) in str(caught.value)


def test_a_fingerprint_changes_with_every_entry_and_with_nothing_else():
    azimuth, zenith = torch.linspace(-0.3, 0.3, 4), torch.linspace(-0.2, 0.2, 4)
    nudged = azimuth.clone()
    nudged[2] += 1e-6
    lidars = [
        Lidar(azimuth, zenith, 'spherical', 50.0),
        Lidar(zenith, azimuth, 'spherical', 50.0),
        Lidar(nudged, zenith, 'spherical', 50.0),
        Lidar(azimuth, zenith, 'notebook', 50.0),
        Lidar(azimuth, zenith, 'spherical', 49.0),
        Lidar(azimuth[:, None].expand(4, 4), zenith[None].expand(4, 4), 'spherical', 50.0),
    ]
    assert len({lidar.fingerprint() for lidar in lidars}) == len(lidars)
    again = Lidar(azimuth.double(), zenith.clone(), 'spherical', 50.0)
    assert again.fingerprint() == lidars[0].fingerprint()


@pytest.mark.parametrize('max_range', [0.0, -1.0, math.inf, math.nan])
def test_a_lidar_without_range_is_refused(max_range):
    with pytest.raises(ValueError, match=r'max_range = .* Give a positive, finite distance'):
        Lidar(torch.zeros(3), torch.zeros(3), 'spherical', max_range)


def test_a_lidar_fails_when_it_is_made_not_at_its_first_scan():
    with pytest.raises(ValueError, match='describe no grid'):
        Lidar(torch.zeros(3, 4), torch.zeros(5), 'spherical', 50.0)


def lidar_with_offsets() -> Lidar:
    generator = torch.Generator().manual_seed(4)
    return Lidar(
        torch.linspace(-0.3, 0.3, 4),
        torch.linspace(-0.2, 0.2, 6),
        'spherical',
        50.0,
        0.1 * torch.rand(4, 6, 3, generator=generator),
    )


def test_a_beam_that_begins_beside_the_origin_shifts_its_points():
    lidar = lidar_with_offsets()
    ranges = torch.full((2, 4, 6), 7.0)
    xyza = lidar.xyza(ranges)
    torch.testing.assert_close(
        xyza[0, :3].permute(1, 2, 0), 7 * lidar.directions + lidar.offsets, rtol=0, atol=1e-6
    )
    plain = replace(lidar, offsets=None).xyza(ranges)
    torch.testing.assert_close((xyza - plain)[1, :3].permute(1, 2, 0), lidar.offsets)


def test_offsets_are_read_from_beside_the_angles(tmp_path):
    lidar = lidar_with_offsets()
    write_tables(tmp_path, lidar.azimuth.numpy(), lidar.zenith.numpy())
    assert lidar_from_tables(tmp_path, Rig()).offsets is None
    np.save(tmp_path / 'offsets.npy', lidar.offsets.numpy())
    assert torch.equal(lidar_from_tables(tmp_path, Rig()).offsets, lidar.offsets)
    assert lidar_from_tables(tmp_path, Rig()).fingerprint() == lidar.fingerprint()


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_offsets_that_are_no_places_are_refused_by_their_path(tmp_path, wrong):
    lidar = lidar_with_offsets()
    write_tables(tmp_path, lidar.azimuth.numpy(), lidar.zenith.numpy())
    np.save(tmp_path / 'offsets.npy', np.full_like(lidar.offsets.numpy(), wrong))
    with pytest.raises(ValueError, match=rf'{tmp_path}.*The offsets hold .* Give metres'):
        lidar_from_tables(tmp_path, Rig())


def test_offsets_are_part_of_the_fingerprint_and_none_changes_nothing():
    lidar = lidar_with_offsets()
    plain = replace(lidar, offsets=None)
    assert lidar.fingerprint() != plain.fingerprint()
    # As bundles hold it since the first version.
    assert (
        UniformGrid().lidar().fingerprint()
        == '86e0e08fac02497b98db114162bb384f7f59f943a32e232312967e88a1359809'
    )


@pytest.mark.parametrize(
    ('offsets', 'fault'),
    [(torch.zeros(4, 5, 3), 'need .4, 6, 3.'), (torch.full((4, 6, 3), math.nan), 'NaN')],
)
def test_offsets_that_fit_no_grid_are_refused(offsets, fault):
    with pytest.raises(ValueError, match=fault):
        Lidar(torch.zeros(4), torch.zeros(6), 'spherical', 50.0, offsets)


def test_the_points_of_a_ring_rise_from_its_height_with_the_tangent_of_its_elevation():
    rings = Rings(elevations_deg=(2.0, -8.5, -24.8), heights_m=(0.2, 0.15, 0.1), columns=16)
    ranges = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)) * 50 + 1
    x, y, z, _ = rings.lidar().xyza(ranges).double()
    expected = torch.tensor(rings.elevations_deg).double().deg2rad().tan()[:, None]
    height = torch.tensor(rings.heights_m).double()[:, None]
    torch.testing.assert_close(z, height + torch.hypot(x, y) * expected, rtol=0, atol=1e-5)
    # Clockwise from behind: the first quarter lies to the left, the third to the right.
    assert (x[:, 4] < 0).all() and (x[:, 12] > 0).all() and (y[:, 7:9] > 0).all()


def test_a_turn_of_rings_is_measured_at_the_middle_of_each_pixel_as_far_as_was_told():
    lidar = Rings(elevations_deg=(-30.0, 89.5), columns=4, max_range=80.0).lidar()
    expected = torch.tensor([[135.0, 45.0, -45.0, -135.0]] * 2).deg2rad()
    torch.testing.assert_close(lidar.azimuth, expected)
    torch.testing.assert_close(lidar.zenith[:, 0].rad2deg(), torch.tensor([30.0, -89.5]))
    assert lidar.max_range == 80.0


@pytest.mark.parametrize(
    ('heights', 'offsets'), [((0.0,), None), ((0.0, 0.0), None), ((0.0, 0.2), [0.0, 0.2])]
)
def test_rings_have_offsets_where_any_of_them_sits_beside_the_origin(heights, offsets):
    lidar = Rings(elevations_deg=(0.0, 5.0), heights_m=heights, columns=8).lidar()
    told = None if lidar.offsets is None else lidar.offsets[:, 3, 2].tolist()
    assert told == (None if offsets is None else pytest.approx(offsets))


@pytest.mark.parametrize(
    ('values', 'fault'),
    [
        ({'elevations_deg': (90.0, 1.0)}, 'no ring lies at 90'),
        ({'elevations_deg': ()}, 'elevations_deg is empty. Give one at least.'),
        ({'elevations_deg': (1.0, 2.0, 3.0), 'heights_m': (0.1, 0.2)}, '3 elevations_deg and 2'),
        ({'elevations_deg': (1.0, -95.0)}, 'no ring lies at -95'),
        ({'elevation_deg': (1.0,)}, 'Did you mean'),
        ({'elevations_deg': (1.0,), 'columns': 65_537}, 'columns = 65537: .*65536'),
        ({'elevations_deg': (1.0,), 'max_range': 1e300}, r'max_range = 1e\+300: .*100000'),
    ],
)
def test_rings_that_contradict_themselves_are_refused(values, fault):
    with pytest.raises(ValueError, match=fault):
        Rings.read(values)


def test_rings_that_make_no_lidar_are_refused_by_their_path(tmp_path):
    path = tmp_path / 'rings.yaml'
    path.write_text('elevations_deg: [1.0]\nheights_m: [1.0e+300]\n')
    with pytest.raises(ValueError, match=r'rings\.yaml: heights_m\.0 = 1e\+300'):
        mounted(path)
