"""The metadata of an Ouster sensor become tables that give the points its manual gives."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch

from fusion_perception.sensing.beams import Beams
from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.lidars import mounted
from fusion_perception.sensing.ouster import OusterMetadata
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

ALTITUDES = [20.0, 8.5, -7.0, -21.3]
AZIMUTHS = [9.1, 3.0, -3.2, -9.0]
SHIFTS = [2, 1, 0, 7]
COLUMNS = 16
N_MM = 27.67
BEAM_TO_LIDAR = [1, 0, 0, 26.0, 0, 1, 0, 0, 0, 0, 1, 9.0, 0, 0, 0, 1]
MIRRORED = [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
FAR_AWAY = [1, 0, 0, 26.0, 0, 1, 0, 0, 0, 0, 1, -90_000.0, 0, 0, 0, 1]
QUARTER_TURNED = [0, -1, 0, 3.5, 1, 0, 0, -2.0, 0, 0, 1, 36.18, 0, 0, 0, 1]
LIDAR_TO_SENSOR = [-1, 0, 0, 3.5, 0, -1, 0, -2.0, 0, 0, 1, 36.18, 0, 0, 0, 1]


def shifted_by(pixels):
    return {'columns_per_frame': COLUMNS, 'pixel_shift_by_row': [pixels, 1, 0, 7]}


def flat():
    return {
        'prod_line': 'OS-0-4',
        'beam_altitude_angles': ALTITUDES,
        'beam_azimuth_angles': AZIMUTHS,
        'lidar_origin_to_beam_origin_mm': N_MM,
        'lidar_to_sensor_transform': LIDAR_TO_SENSOR,
        'lidar_mode': '16x10',
        'data_format': {
            'columns_per_frame': COLUMNS,
            'pixels_per_column': 4,
            'pixel_shift_by_row': SHIFTS,
        },
    }


def nested():
    return {
        'beam_intrinsics': {
            'beam_altitude_angles': ALTITUDES,
            'beam_azimuth_angles': AZIMUTHS,
            'beam_to_lidar_transform': BEAM_TO_LIDAR,
            'lidar_origin_to_beam_origin_mm': N_MM,
        },
        'lidar_intrinsics': {'lidar_to_sensor_transform': LIDAR_TO_SENSOR},
        'lidar_data_format': {
            'columns_per_frame': COLUMNS,
            'pixels_per_column': 4,
            'pixel_shift_by_row': SHIFTS,
        },
        'sensor_info': {'prod_line': 'OS-0-4'},
    }


def point_of(r_mm, row, measurement, along_mm, up_mm):
    """Return one pixel's point in the sensor's frame, metres: the manual, step by step."""
    encoder = 2 * math.pi * (1 - measurement / COLUMNS)
    heading = encoder - math.radians(AZIMUTHS[row])
    phi = math.radians(ALTITUDES[row])
    n = math.sqrt(along_mm**2 + up_mm**2)
    x = (r_mm - n) * math.cos(heading) * math.cos(phi) + along_mm * math.cos(encoder)
    y = (r_mm - n) * math.sin(heading) * math.cos(phi) + along_mm * math.sin(encoder)
    z = (r_mm - n) * math.sin(phi) + up_mm
    return [(-x + 3.5) / 1000, (-y - 2.0) / 1000, (z + 36.18) / 1000]


def save(folder, metadata):
    path = folder / 'metadata.json'
    path.write_text(json.dumps(metadata), encoding='utf-8')
    return path


@pytest.mark.parametrize(
    ('metadata', 'along', 'up'), [(flat(), N_MM, 0.0), (nested(), 26.0, 9.0)], ids=['flat', 'new']
)
@pytest.mark.parametrize('layout', ['staggered', 'destaggered'])
def test_every_pixel_lies_where_the_manual_says(tmp_path, metadata, along, up, layout):
    lidar = OusterMetadata.read_json(save(tmp_path, metadata)).lidar(layout)
    ranges_mm = np.random.default_rng(0).integers(300, 90_000, size=(4, COLUMNS))
    points = lidar.xyza(torch.from_numpy(ranges_mm.astype(np.float32) / 1000)).numpy()
    points = to_rep103(np.moveaxis(points[:3], 0, -1))
    for row, column in product(range(4), range(COLUMNS)):
        shift = SHIFTS[row] if layout == 'destaggered' else 0
        expected = point_of(ranges_mm[row, column], row, (column - shift) % COLUMNS, along, up)
        np.testing.assert_allclose(points[row, column], expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize('matrix', [LIDAR_TO_SENSOR, QUARTER_TURNED], ids=['half', 'quarter'])
def test_the_frames_of_the_lidar_and_the_sensor_lie_as_the_metadata_say(tmp_path, matrix):
    told = {**flat(), 'lidar_to_sensor_transform': matrix}
    metadata = OusterMetadata.read_json(save(tmp_path, told))
    ranges = torch.full((4, COLUMNS), 20.0)
    seen, moved = (
        np.moveaxis(metadata.lidar(frame=frame).xyza(ranges)[:3].numpy(), 0, -1)
        for frame in ('lidar', 'sensor')
    )
    pose = np.array(matrix).reshape(4, 4)
    expected = to_rep103(seen) @ pose[:3, :3].T + pose[:3, 3] / 1000
    np.testing.assert_allclose(to_rep103(moved), expected, rtol=0, atol=5e-5)
    # And in the package's axes.
    pose = metadata.T_sensor_lidar()
    np.testing.assert_allclose(moved, seen @ pose[:3, :3].T + pose[:3, 3], rtol=0, atol=5e-5)


def test_tables_are_in_the_frame_that_the_driver_names_unless_another_is_asked_for(tmp_path):
    path = save(tmp_path, nested())
    metadata = OusterMetadata.read_json(path)
    for given, frame in (({}, 'lidar'), ({'ouster_frame': 'sensor'}, 'sensor')):
        expected = metadata.lidar(frame=frame)
        assert mounted(path, **given)[1].fingerprint() == expected.fingerprint()


def test_in_either_frame_the_same_scene_is_before_the_sensor(tmp_path):
    path = save(tmp_path, nested())
    in_label_axes = torch.tensor([[0.0, 0.0, 0.0], [1.5, -4.0, 2.0], [-3.0, 4.5, -1.0]])
    seen = []
    for frame in ('lidar', 'sensor'):
        rig, lidar = mounted(path, frame)
        centers = transform_points(rig.T_lidar_label(), in_label_axes)
        in_camera = transform_points(rig.camera.extrinsics(), centers)
        pixels = torch.cdist(centers, 24 * lidar.directions.reshape(-1, 3)).argmin(dim=1)
        generator = torch.Generator().manual_seed(0)
        light = sample_scenes(1, SceneSettings(), generator, rig=rig).to_light
        seen.append((in_camera, pixels, light @ rig.camera.extrinsics()[:3, :3].T))
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_pixel_moves_with_its_measurement_when_it_is_destaggered(tmp_path):
    metadata = OusterMetadata.read_json(save(tmp_path, flat()))
    staggered, destaggered = (metadata.lidar(name) for name in ('staggered', 'destaggered'))
    for row, shift in enumerate(SHIFTS):
        rolled = torch.roll(staggered.directions[row], shift, dims=0)
        assert torch.equal(rolled, destaggered.directions[row])


def test_angles_in_radians_are_known_as_such(tmp_path):
    metadata = flat()
    for name in ('beam_altitude_angles', 'beam_azimuth_angles'):
        metadata[name] = np.deg2rad(metadata[name]).tolist()
    in_radians = OusterMetadata.read_json(save(tmp_path, metadata)).lidar()
    in_degrees = OusterMetadata.read_json(save(tmp_path, flat())).lidar()
    torch.testing.assert_close(in_radians.directions, in_degrees.directions)


@pytest.mark.parametrize('altitudes', [(0.5, -20.0), (-1.0, -20.0)])
def test_degrees_are_known_as_such_by_the_steepest_beam_be_it_upwards_or_downwards(altitudes):
    told = OusterMetadata(
        beam_altitude_angles=altitudes, beam_azimuth_angles=(0.0, 0.0), columns_per_frame=4
    )
    zenith = told.lidar('staggered', frame='lidar').zenith[:, 0]
    torch.testing.assert_close(zenith, -torch.tensor(altitudes).deg2rad())


def test_where_the_columns_are_told_the_mode_does_not_count(tmp_path):
    told = OusterMetadata.read_json(save(tmp_path, {**flat(), 'lidar_mode': 'UNKNOWN'}))
    assert told.columns_per_frame == COLUMNS


def test_a_matrix_may_be_nested(tmp_path):
    metadata = flat()
    rows = np.array(LIDAR_TO_SENSOR).reshape(4, 4).tolist()
    metadata['lidar_to_sensor_transform'] = rows
    lidar = OusterMetadata.read_json(save(tmp_path, metadata)).lidar()
    assert (
        lidar.fingerprint()
        == OusterMetadata.read_json(save(tmp_path, flat())).lidar().fingerprint()
    )


def test_metadata_without_a_data_format_serve_for_staggered_images_only(tmp_path):
    metadata = flat()
    del metadata['data_format']
    read = OusterMetadata.read_json(save(tmp_path, metadata))
    assert read.lidar('staggered').shape == (4, 16)
    with pytest.raises(ValueError, match=r'no pixel_shift_by_row.*newer firmware'):
        read.lidar('destaggered')
    with pytest.raises(ValueError, match=r'metadata\.json: .*no pixel_shift_by_row'):
        mounted(tmp_path / 'metadata.json')


def test_the_points_of_a_scan_find_their_pixels_again(tmp_path):
    lidar = OusterMetadata.read_json(save(tmp_path, nested())).lidar()
    ranges = torch.rand(lidar.shape, generator=torch.Generator().manual_seed(1)) * 80 + 0.4
    points = lidar.xyza(ranges)[:3].reshape(3, -1).numpy()
    shuffled = points[:, np.random.default_rng(0).permutation(points.shape[1])]
    placed = Beams(lidar).place(shuffled)
    np.testing.assert_allclose(placed.ranges, ranges.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        ({'beam_altitude_angles': []}, 'beam_altitude_angles is empty'),
        ({'beam_azimuth_angles': [1.0]}, '4 beam_altitude_angles, 1 beam_azimuth_angles'),
        (
            {'data_format': {'pixel_shift_by_row': [2, 1]}},
            '4 beam_altitude_angles, 4 beam_azimuth_angles, 2 pixel_shift_by_row',
        ),
        ({'lidar_to_sensor_transform': [1.0]}, 'at least 16 items'),
        ({'lidar_mode': 'UNKNOWN', 'data_format': None}, 'columns_per_frame = .UNKNOWN.'),
        ({'lidar_mode': '99999999x10', 'data_format': None}, 'columns_per_frame = .*65536'),
        (
            {'beam_altitude_angles': [20.0, 8.5, 1e20, -21.3]},
            r'beam_altitude_angles\.2 = 1e\+20: ',
        ),
        ({'beam_altitude_angles': [90.0, 8.5, -7.0, -21.3]}, r'beam_altitude_angles\.0 = 90\.0: '),
        ({'beam_azimuth_angles': [9.1, 3.0, -3.2, 1e300]}, r'beam_azimuth_angles\.3 = 1e\+300: '),
        ({'lidar_to_sensor_transform': [1.5] * 16}, 'lidar_to_sensor_transform = .*no rigid'),
        ({'lidar_to_sensor_transform': [1e300] * 16}, 'lidar_to_sensor_transform = .*no rigid'),
        ({'lidar_to_sensor_transform': MIRRORED}, 'lidar_to_sensor_transform = .*no rigid'),
        ({'beam_to_lidar_transform': [0] * 16}, 'beam_to_lidar_transform = .*no rigid'),
        ({'beam_to_lidar_transform': FAR_AWAY}, 'beam_to_lidar_transform = .*give millimetres'),
        ({'lidar_origin_to_beam_origin_mm': 1e300}, 'beam_to_lidar_transform = .*millimetres'),
        ({'data_format': shifted_by(10**12)}, r'pixel_shift_by_row\.0 = 1000000000000: '),
        ({'data_format': shifted_by(2**70)}, r'pixel_shift_by_row\.0 = 1180591620717411303424: '),
        ({'data_format': shifted_by(10**400)}, r'pixel_shift_by_row\.0 = 1000000'),
    ],
)
def test_metadata_that_contradict_themselves_are_refused_by_their_path(tmp_path, change, fault):
    path = save(tmp_path, {**flat(), **change})
    with pytest.raises(ValueError, match=f'metadata.json: .*{fault}') as caught:
        OusterMetadata.read_json(path)
    assert len(str(caught.value)) < len(str(path)) + 600


@pytest.mark.parametrize(
    'text',
    ['{', '', '[]', '{"a": 1}', '[' * 100_000, '{"a":' * 50_000, '9' * 5000],
    ids=lambda text: text[:10],
)
def test_what_is_no_metadata_is_refused(tmp_path, text):
    path = tmp_path / 'metadata.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match=r'metadata\.json'):
        OusterMetadata.read_json(path)


def test_missing_metadata_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'No Ouster metadata at .*nothing\.json'):
        OusterMetadata.read_json(tmp_path / 'nothing.json')


def test_azimuths_of_a_degree_are_in_the_unit_of_the_altitudes():
    told = OusterMetadata(
        beam_altitude_angles=(10.0, -10.0), beam_azimuth_angles=(1.0, -1.0), columns_per_frame=4
    )
    azimuth = told.lidar('staggered', frame='lidar').azimuth[:, 0]
    torch.testing.assert_close(azimuth, torch.tensor([-1.0, 1.0]).deg2rad())
