"""Each figure in the tables and sentences of a report stands under its own name."""

import base64
import html
import io
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_runs import run

from fusion_perception.learning.bags.judging import JudgedFrame
from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.reports import sections
from fusion_perception.learning.reports.errors import Axis, Errors
from fusion_perception.learning.reports.frames import frame_views
from fusion_perception.learning.reports.html import table
from fusion_perception.learning.reports.marks import ellipse, key_to_marks
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.mounting import as_camera_pose
from fusion_perception.sensing.observation import Camera, Prediction
from fusion_perception.sensing.rig import Rig

SCENES = Axis('scene', (0.0,), 101.0)
LIDAR = UniformGrid().lidar()
RADII = {'0.1': 0.125, '0.25': 0.25, '0.5': 0.5}


def rows(page):
    """Return the tables of a page as {first cell: {heading: cell}}, one after another."""
    found = {}
    for source in re.findall('<table>.*?</table>', page):
        cells = [
            [html.unescape(cell) for cell in re.findall('<t[hd][^>]*>(.*?)</t[hd]>', row)]
            for row in re.findall('<tr[^>]*>(.*?)</tr>', source)
        ]
        heading, *lines = cells
        heading = [name.replace('\N{NO-BREAK SPACE}', ' ') for name in heading]
        found |= {line[0]: dict(zip(heading[1:], line[1:], strict=True)) for line in lines}
    return found


def scored(scale, pairs=9, scenes=8):
    """Return what a report says of some predictions, each figure another."""
    error = {'mean': 0.1, 'median': 0.2, 'p95': 0.3, 'max': 0.4}
    return {
        'pairs': pairs,
        'scenes': scenes,
        'recorded_s': 10.0 * scale,
        'mse': 0.5,
        'error_m': {
            **{key: scale * value for key, value in error.items()},
            'per_class': {'near': scale, 'far': 2 * scale},
        },
        'hit_rate': {key: share * scale for key, share in RADII.items()},
        'calibration': {'coverage95': 0.4 * scale, 'mahalanobis': 2.0 * scale},
    }


def in_metres(scale):
    return {
        'mean [m]': f'{0.1 * scale:.3f}',
        'median [m]': f'{0.2 * scale:.3f}',
        '95 % below [m]': f'{0.3 * scale:.3f}',
        'within 0.1 m': f'{12.5 * scale:.1f} %',
        'within 0.25 m': f'{25 * scale:.1f} %',
        'within 0.5 m': f'{50 * scale:.1f} %',
    }


def test_recordings_have_their_own_figures_and_the_total_that_of_all():
    bags = [{**scored(1, 90, 80), 'source': '/a/yard'}, {**scored(2, 7, 6), 'source': '/a/hall'}]
    report = {**scored(1.5, 97, 86), 'bags': bags}
    found = rows(''.join(sections.recordings(report)))
    for name, scale, pairs, scenes in (
        ('1. yard', 1, 90, 80),
        ('2. hall', 2, 7, 6),
        ('Total', 1.5, 97, 86),
    ):
        assert found[name] == {
            'predictions': str(pairs),
            'scored': str(scenes),
            **in_metres(scale),
            'length [s]': f'{10 * scale:.1f}',
        }


def test_recordings_of_one_name_are_told_apart_by_their_folders():
    bags = [{**scored(1), 'source': f'/{folder}/bag'} for folder in 'ab']
    found = rows(''.join(sections.recordings({**scored(1), 'bags': bags})))
    assert list(found) == ['1. /a/bag', '2. /b/bag', 'Total']


def test_the_errors_of_each_object_stand_beside_its_name():
    away = np.stack((np.linspace(0.0, 0.2, 101), np.linspace(0.2, 0.6, 101)), axis=1)
    measured = Errors(('near', 'far'), away, 20 * away, np.arange(101.0), ('fusion',) * 101, None)
    page = ''.join(sections.errors(scored(1), measured, SCENES))
    found = rows(page)
    assert list(found['near'].values()) == [
        '0.100', '0.100', '0.190', '0.200', '49.5 %', '100.0 %', '100.0 %',
    ]  # fmt: skip
    assert list(found['far'].values()) == [
        '0.400', '0.400', '0.580', '0.600', '0.0 %', '12.9 %', '74.3 %',
    ]  # fmt: skip
    assert found['all objects'] == {**in_metres(1), 'largest [m]': '0.400'}
    assert 'within 0.25 m 25.0 %' in page.replace('\N{NO-BREAK SPACE}', ' ')
    assert '4.0 to 12.0 m' not in page
    assert '0.0 to 12.0 m' in ''.join(sections.against_range(measured))


def test_what_each_set_of_sensors_reached_stands_beside_it():
    inside = np.full((4, 2), 0.5)
    measured = Errors(
        ('near', 'far'), inside, inside, np.arange(4.0), ('fusion', 'lidar_only') * 2, inside
    )
    by_mode = {'fusion': scored(1, scenes=5), 'lidar_only': scored(2, scenes=3)}
    found = rows(''.join(sections.honesty({**scored(1.5), 'by_mode': by_mode}, measured)))
    for name, scenes, share, squared in (
        ('camera and LiDAR', '5', '40.0 %', '2.00'),
        ('LiDAR alone', '3', '80.0 %', '4.00'),
    ):
        assert found[name] == {
            'scenes': scenes,
            'inside the 95 % ellipsoid': share,
            'd²/3': squared,
        }


def evidence(**values):
    """Return evidence without any prediction that could be scored."""
    prediction = Prediction(torch.empty(0, 1, 3), None, ('ball',), ())
    given = {'by_mode': {}, 'modes': {}, 'streams': {}, 'pairs': 7, 'latency_ms': (), **values}
    return Evidence('bag', prediction, torch.empty(0, 1, 3), **given)


def test_sensors_that_served_have_their_scores_and_what_they_disagree_by():
    by_mode = {'fusion': scored(1, scenes=5), 'lidar_only': scored(2, scenes=3)}
    there = {
        'camera_pose': '0 1 2 0 0 0 1',
        'turned_deg': 2.0,
        'moved_m': 0.2,
        'disagreement': 2.25,
    }
    report = {'modes': {'fusion': 6, 'lidar_only': 4}, 'by_mode': by_mode}
    report |= {'disagreement': 16.0, 'alignment': there}
    page = ''.join(sections.modes(report, evidence(), SCENES))
    assert 'Predictions from camera and LiDAR: 6, LiDAR alone: 4.' in page
    assert 'put the objects 4.0 times as far apart' in page and 'd²/3 16.00' in page
    assert 'They would then put the objects 1.5 times as far apart' in page
    found = rows(page)
    assert found['camera and LiDAR'] == {'scenes': '5', **in_metres(1)}
    assert found['LiDAR alone'] == {'scenes': '3', **in_metres(2)}


def test_where_the_camera_seems_to_be_is_told_as_a_recording_or_a_folder_can_have_it():
    T_camera_lidar = np.array(Camera().T_camera_lidar)
    T_camera_lidar[0, 3] = 0.25
    pose = as_camera_pose(T_camera_lidar)
    there = {'camera_pose': pose, 'turned_deg': 0.0, 'moved_m': 0.25, 'disagreement': 0.5}
    report = {'modes': {}, 'by_mode': {}, 'disagreement': 16.0, 'alignment': there}
    page = ''.join(sections.modes(report, evidence(runs=[run(10.0)]), Axis('', (0.0,), 10.0)))
    assert f'<code>camera_pose: "{pose}"</code>' in page and 'sensor.yaml' not in page
    page = ''.join(sections.modes(report, evidence(), SCENES))
    said = re.search(r'under <code>camera</code> in sensor.yaml <code>(.*?)</code>', page)
    assert said and 'camera_pose' not in page
    camera = Rig.read({'camera': yaml.safe_load(said[1])}, 'sensor.yaml').camera
    np.testing.assert_allclose(camera.T_camera_lidar, T_camera_lidar, atol=1e-3)


def test_what_became_of_the_messages_is_told_of_each_stream():
    camera = {'received': 90, 'used': 50, 'pending': 1, 'dropped': {'stale': 39, 'duplicate': 0}}
    lidar = {'received': 40, 'used': 37, 'pending': 3, 'dropped': {'stale': 0}}
    report = {'streams': {'camera': camera, 'lidar': lidar}}
    some = evidence(runs=[run(10.0, camera=90, lidar=40)])
    page = ''.join(sections.messages(report, some, Axis('time [s]', (0.0,), 10.0)))
    names = ('received', 'used', 'pending', 'dropped')
    assert rows(page) == {
        'camera': dict(zip(names, ('90', '50', '1', 'stale 39'), strict=True)),
        'LiDAR': dict(zip(names, ('40', '37', '3', 'none'), strict=True)),
    }
    assert '7 predictions were made of them' in page
    assert 'camera lost stale 39, LiDAR lost none' in page


def test_latency_is_told_by_its_percentiles():
    percentiles = {'p50': 1.0, 'p95': 2.0, 'p99': 3.0, 'max': 4.0}
    report = {'latency_ms': percentiles, 'time': {'pairs_per_s': 55.0}, 'device': 'cpu'}
    page = ''.join(sections.latency(report, evidence(latency_ms=(1.0, 2.0, 3.0))))
    assert list(rows(page)['latency'].items()) == [
        ('50 % [ms]', '1.0'), ('95 % [ms]', '2.0'), ('99 % [ms]', '3.0'), ('largest [ms]', '4.0'),
    ]  # fmt: skip
    assert '3 frames one by one on cpu' in page and '55 predictions a second' in page
    assert 'median 1.0 ms, 99 % below 3.0 ms' in page


def centred(**changes):
    """Return a frame whose prediction lies two metres to the right of the truth."""
    values = {
        'place': 'Scene 0',
        'mode': 'fusion',
        'error_m': 2.0,
        'image': None,
        'ranges': None,
        'predicted': np.array([[2.0, 20.0, 0.0]], np.float32),
        'truth': np.array([[0.0, 20.0, 1.0]], np.float32),
        'covariance': None,
        **changes,
    }
    return JudgedFrame(**values)


def views(frame):
    return frame_views(1, frame, ('ball',), LIDAR, Camera())


def test_a_frame_tells_truth_and_prediction_apart():
    assert rows(views(centred()))['ball'] == {
        'error [m]': '2.24',
        'truth x, y, z [m]': '0.00, 20.00, 1.00',
        'prediction x, y, z [m]': '2.00, 20.00, 0.00',
        'range [m]': '20.0',
    }
    far = centred(predicted=np.array([[0.0, 30.0, 0.0]], np.float32))
    assert rows(views(far))['ball']['range [m]'] == '20.0'


@pytest.mark.parametrize(('squared', 'said'), [(7.5, 'yes'), (8.1, 'no')])
def test_a_centre_lies_in_its_ellipsoid_up_to_the_share_that_this_promises(squared, said):
    # 95 % of a Gaussian in space lie within 7.81.
    covariance = 5 / squared * np.eye(3, dtype=np.float32)[None]
    told = rows(views(centred(covariance=covariance)))
    assert told['ball']['in its 95 % ellipsoid'] == said


def test_the_truth_is_hollow_and_the_prediction_filled_as_the_key_says():
    (above,) = re.findall('<svg[^>]*From above.*?</svg>', views(centred()))
    rim, hollow, filled = re.findall('<circle[^>]*>', above)
    assert 'fill="none"' in rim and 'fill="none"' in hollow and 'fill="none"' not in filled
    entries = re.findall('<li>(.*?)</li>', key_to_marks(('ball',)))
    hollow = {entry.rpartition('>')[2]: 'fill="none"' in entry for entry in entries}
    assert hollow == {'ball': False, 'hollow: the truth': True, 'filled: the prediction': False}


def test_an_image_s_own_camera_counts_before_the_bundle_s():
    def mark(camera):
        page = views(centred(image=np.zeros((64, 64, 3), np.uint8), camera=camera))
        return float(re.findall('<circle cx="([0-9.]+)"', page)[2])

    # The prediction, a tenth to the right of the optical axis.
    assert mark(None) == pytest.approx(32 + Camera().fx / 10, abs=0.01)
    assert mark(Camera(fx=100.0)) == pytest.approx(42, abs=0.01)


def test_what_is_near_is_bright_and_where_nothing_returned_is_dark():
    ranges = np.full((64, 64), 10, np.float32)
    ranges[:, 20:], ranges[:, 50:] = 30, np.inf
    page = views(centred(ranges=ranges))
    assert 'ranges: 10.0 m (bright) to 30.0 m' in page
    (source,) = re.findall('href="data:image/png;base64,([^"]*)"', page)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))).reshape(-1, 3)
    colours, counts = np.unique(drawn, axis=0, return_counts=True)
    assert counts[colours.sum(axis=1).argsort()].tolist() == [64 * 14, 64 * 30, 64 * 20]


def test_from_above_what_returned_is_where_its_object_is():
    ranges = np.full((64, 64), np.inf, np.float32)
    ranges[32, 32] = 20
    (above,) = re.findall('<svg[^>]*From above.*?</svg>', views(centred(ranges=ranges)))
    dot = re.search('"M([0-9.]+) ([0-9.]+)h0"', above).groups()
    truth = re.search('<circle cx="([0-9.]+)" cy="([0-9.]+)"', above).groups()
    assert [*map(float, dot)] == pytest.approx([*map(float, truth)], abs=0.1)


def test_marks_are_as_high_in_a_range_image_of_few_rows_as_what_returned():
    lidar = UniformGrid(columns=8, zenith_first_deg=-4.0, zenith_step_deg=1.0).lidar()
    level = np.array([[0.0, 20.0, 0.0]], np.float32)
    frame = centred(ranges=np.full((64, 8), 20, np.float32), truth=level)
    page = frame_views(1, frame, ('ball',), lidar, Camera())
    (seen,) = re.findall('<svg[^>]*Range image.*?</svg>', page)
    height = float(re.search('viewBox="0 0 64 ([0-9.]+)"', seen)[1])
    at = float(re.search('<circle cx="[0-9.]+" cy="([0-9.]+)"', seen)[1])
    # One of the two middle rows.
    assert at / height == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize('degrees', [30, -60])
def test_an_ellipse_leans_as_its_covariance_does(degrees):
    turn = np.radians(degrees)
    R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    drawn = ellipse((0.0, 0.0), 10.0, R @ np.diag([4.0, 0.25]) @ R.T, 0)
    wide, high = (float(re.search(f' {r}="([0-9.]+)"', drawn)[1]) for r in ('rx', 'ry'))
    assert (wide, high) == pytest.approx((2.4477 * 20, 2.4477 * 5), abs=0.1)
    # Up is negative in a drawing; half a turn makes no difference.
    turned = float(re.search(r'rotate\(([-0-9.]+)\)', drawn)[1])
    assert (turned + degrees) % 180 in (pytest.approx(0, abs=0.1), pytest.approx(180, abs=0.1))


def test_the_last_row_alone_is_a_total_and_words_stand_to_the_left():
    page = table(
        ['name', 'number', 'words'], [['a', 1, 'b'], ['c', 2, 'd']], words=(2,), total=True
    )
    assert re.findall('<tr( class="total")?>', page) == ['', '', ' class="total"']
    assert re.findall('<t[hd][^>]*class="text">(.*?)<', page) == ['name', 'words', *'abcd']
