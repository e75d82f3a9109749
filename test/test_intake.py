"""Decoded pairs with every loss counted: the way of the messages on the robot and from bags."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_perception.sensing.camera_info import Calibration, camera_from_info
from fusion_perception.sensing.intake import Intake, Needs, Refused, arrays_of
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.rep103 import centers_of, from_rep103, to_rep103

ALL = ('fusion', 'camera_only', 'lidar_only')
SECOND = 1_000_000_000
LIDAR = UniformGrid(rows=2, columns=2).lidar()


def image(stamp_ns, encoding='rgb8', pixels=None):
    pixels = np.zeros((2, 3, 3), np.uint8) if pixels is None else pixels
    return message(stamp_ns, 'camera', encoding, pixels)


def scan(stamp_ns, shape=(2, 2), encoding='32FC1'):
    return message(stamp_ns, 'lidar', encoding, np.full(shape, 7, np.float32))


def message(stamp_ns, frame_id, encoding, values):
    stamp = SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=frame_id),
        height=values.shape[0],
        width=values.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=values.nbytes // values.shape[0],
        data=values.tobytes(),
    )


def intake(modes=ALL, **pairing):
    return Intake(Needs('b.safetensors', LIDAR, modes), PairingSettings(**pairing))


def test_a_pair_comes_out_decoded():
    taken = intake(slop_s=0.0)
    assert taken.take('camera', image(SECOND)) == []
    (pair,) = taken.take('lidar', scan(SECOND))
    pixels, ranges = arrays_of(pair)
    assert pixels.shape == (2, 3, 3)
    assert (ranges == 7).all()
    assert pair.lidar.frame_id == 'lidar'


@pytest.mark.parametrize(
    ('stream', 'bad', 'cause'),
    [
        ('camera', image(SECOND, 'yuv422'), 'bad_encoding'),
        ('lidar', scan(SECOND, encoding='rgb16'), 'bad_encoding'),
        ('lidar', scan(SECOND, shape=(3, 2)), 'bad_shape'),
    ],
)
def test_what_cannot_be_used_is_counted_and_said(stream, bad, cause):
    taken = intake()
    with pytest.raises(Refused) as caught:
        taken.take(stream, bad)
    assert (caught.value.stream, caught.value.cause) == (stream, cause)
    counts = taken.ledger.counters()[stream]
    assert (counts['received'], counts['pending'], counts['dropped'][cause]) == (1, 0, 1)


def test_a_sensor_passes_alone_only_where_the_model_serves_it():
    def run(modes):
        taken = intake(modes, allow_single=True, dropout_after_s=0.1)
        pairs = [
            pair for tick in range(10, 20) for pair in taken.take('lidar', scan(tick * SECOND))
        ] + taken.flush()
        return {pair.mode for pair in pairs}, taken.ledger.counters()['lidar']

    assert run(ALL)[0] == {'lidar_only'}
    modes, counts = run(('fusion', 'camera_only'))
    assert modes == set()
    assert counts['dropped']['no_partner'] == counts['received'] == 10


def test_other_pairing_settings_keep_the_counts():
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    taken.take('lidar', scan(SECOND))
    taken.take('camera', image(2 * SECOND))
    assert taken.change(PairingSettings(slop_s=0.1), 0.001) == []
    counts = taken.ledger.counters()['camera']
    assert (counts['received'], counts['used'], counts['pending']) == (2, 1, 0)


def test_a_pair_that_came_to_nothing_is_dropped_after_all():
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    (pair,) = taken.take('lidar', scan(SECOND))
    taken.lose(pair, 'inference_error')
    for counts in taken.ledger.counters().values():
        assert (counts['used'], counts['dropped']['inference_error']) == (0, 1)


def test_centres_come_back_from_rep103_axes():
    points = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(from_rep103(to_rep103(points)), points)
    ahead = SimpleNamespace(position=SimpleNamespace(x=25.0, y=-1.0, z=2.0))
    assert centers_of(SimpleNamespace(poses=[ahead])).tolist() == [[1.0, 25.0, 2.0]]


def camera_info(k, roi=(0, 0, 0, 0), binning=0, d=()):
    return SimpleNamespace(
        width=640,
        height=480,
        distortion_model='rational_polynomial',
        d=d,
        k=k,
        p=[*RECTIFIED[:3], -70, *RECTIFIED[3:6], 0, 0, 0, 1, 0],
        roi=SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3]),
        binning_x=binning,
        binning_y=binning,
    )


CALIBRATED = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
RECTIFIED = [450.0, 0, 310, 0, 460, 250, 0, 0, 1]


def test_camera_info_gives_the_intrinsics_and_keeps_the_pose():
    mounted = Camera()
    camera = camera_from_info(camera_info(CALIBRATED), mounted)
    assert (camera.width, camera.fx, camera.fy, camera.cy) == (640, 500, 510, 240)
    assert camera.T_camera_lidar == mounted.T_camera_lidar
    with pytest.raises(ValueError, match='no calibration'):
        camera_from_info(camera_info([0.0] * 9), mounted)


def test_what_a_driver_cuts_out_and_bins_is_the_camera_of_its_images():
    whole = camera_from_info(camera_info(CALIBRATED), Camera())
    cut = camera_from_info(camera_info(CALIBRATED, (100, 40, 400, 200)), Camera())
    assert (cut.width, cut.height, cut.cx, cut.cy, cut.fx) == (400, 200, 220, 200, 500)
    binned = camera_from_info(camera_info(CALIBRATED, binning=2), Camera())
    assert binned == whole.resized(320, 240)


@pytest.mark.parametrize('binning', [0, 2])
def test_rectified_images_have_the_intrinsics_that_p_begins_with(binning):
    shown = ((100, 40, 400, 200), binning)
    rectified = camera_from_info(camera_info(CALIBRATED, *shown), Camera(), 'p')
    assert rectified == camera_from_info(camera_info(RECTIFIED, *shown), Camera(), 'k')
    uncalibrated = camera_info(CALIBRATED)
    uncalibrated.p = [0.0] * 12
    with pytest.raises(ValueError, match=r'P is zero.*camera_matrix to k'):
        camera_from_info(uncalibrated, Camera(), 'p')


def test_the_lens_is_that_of_images_as_they_leave_the_camera():
    info = camera_info(CALIBRATED, d=(0.1, -0.2))
    lens = Lens(model='rational_polynomial', coefficients=(0.1, -0.2))
    assert camera_from_info(info, Camera(), 'k').lens == lens
    assert camera_from_info(info, Camera(lens=lens), 'p').lens == Lens()
    # Without coefficients, or with zeros alone, the model does not matter.
    assert camera_from_info(camera_info(CALIBRATED, d=(0.0,) * 8), Camera()).lens == Lens()
    with pytest.raises(ValueError, match=r'camera_info: .*coefficients'):
        camera_from_info(camera_info(CALIBRATED, d=(float('nan'),)), Camera())


def test_two_cameras_by_turns_are_counted_until_one_alone_is_told_of_for_long():
    calibration = Calibration(Camera())
    other, third = ([value, *CALIBRATED[1:]] for value in (600.0, 700.0))
    for k in (CALIBRATED, CALIBRATED, other, third):  # A lens that zooms.
        assert calibration.take(camera_info(k))
    assert calibration.returns == 0
    for k in (other, CALIBRATED, other, CALIBRATED):
        assert calibration.take(camera_info(k))
    assert calibration.returns == 3
    for _ in range(100):
        assert calibration.take(camera_info(CALIBRATED))
    assert calibration.returns == 0


def cloud(stamp_ns, ranges, shape=None):
    *xyz, _ = LIDAR.xyza(torch.from_numpy(ranges)).numpy()
    points = to_rep103(np.stack(xyz, axis=-1)).astype(np.float32)
    points = points if shape is None else points.reshape(*shape, 3)[::-1]
    whole = message(stamp_ns, 'lidar', '', points)
    fields = [SimpleNamespace(name=name, offset=4 * i, datatype=7) for i, name in enumerate('xyz')]
    return SimpleNamespace(
        header=whole.header,
        height=whole.height,
        width=whole.width,
        is_bigendian=False,
        fields=fields,
        point_step=12,
        row_step=whole.step,
        data=points.tobytes(),
    )


@pytest.mark.parametrize('shape', [None, (1, 4), (4, 1)])
def test_a_point_cloud_serves_as_a_range_image(shape):
    ranges = np.array([[7, 8], [9, 50]], np.float32)
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    (pair,) = taken.take('lidar', cloud(SECOND, ranges, shape))
    np.testing.assert_allclose(pair.lidar.values, ranges, rtol=0, atol=1e-4)
    assert (pair.lidar.placement.points, pair.lidar.placement.outside) == (4, 0)


def test_a_cloud_without_coordinates_is_dropped_and_counted():
    taken, bad = intake(), cloud(SECOND, np.ones((2, 2), np.float32))
    bad.fields = []
    with pytest.raises(Refused, match='Publish x, y and z'):
        taken.take('lidar', bad)
    assert taken.ledger.counters()['lidar']['dropped']['bad_encoding'] == 1


def compressed(stamp_ns, whole=True):
    png = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), 90, np.uint8)).save(png, 'PNG')
    return SimpleNamespace(
        header=image(stamp_ns).header,
        format='rgb8; png compressed',
        data=png.getvalue() if whole else png.getvalue()[:45],
    )


def test_a_compressed_image_serves_as_an_image():
    taken = intake(slop_s=0.0)
    taken.take('lidar', scan(SECOND))
    (pair,) = taken.take('camera', compressed(SECOND))
    assert (arrays_of(pair)[0] == 90).all()


def test_only_images_that_found_a_partner_are_decoded():
    taken = intake(slop_s=0.0)
    taken.take('camera', compressed(SECOND))
    for stamp_ns in range(SECOND + 1, SECOND + 9):
        taken.take('camera', compressed(stamp_ns, whole=False))
    taken.take('lidar', scan(SECOND + 9))
    (pair,) = taken.take('camera', compressed(SECOND + 9))
    taken.decode(pair)
    counts = taken.ledger.counters()['camera']
    assert (counts['used'], counts['dropped']['no_partner']) == (1, 9)


def test_a_torn_image_costs_its_scan_as_well_and_the_next_one_is_looked_into_when_it_comes():
    taken = intake(slop_s=0.0)
    taken.take('camera', compressed(SECOND))
    taken.take('lidar', scan(2 * SECOND))
    (pair,) = taken.take('camera', compressed(2 * SECOND, whole=False))
    with pytest.raises(Refused, match='cannot be read') as caught:
        taken.decode(pair)
    assert caught.value.stream == 'camera'
    with pytest.raises(Refused):
        taken.take('camera', compressed(3 * SECOND, whole=False))
    counts = taken.ledger.counters()
    assert counts['camera']['dropped']['bad_encoding'] == 2
    assert (counts['lidar']['used'], counts['lidar']['dropped']['no_partner']) == (0, 1)
    # One that can be read restores the trust.
    taken.take('camera', compressed(4 * SECOND))
    taken.take('camera', compressed(5 * SECOND, whole=False))


def test_a_scan_passes_alone_while_every_image_is_torn():
    taken = intake(allow_single=True, slop_s=0.0, dropout_after_s=0.5)
    modes = []
    for tick in range(10, 40):
        with contextlib.suppress(Refused):
            taken.take('camera', compressed(tick * SECOND // 10, whole=tick < 20))
        for pair in taken.take('lidar', scan(tick * SECOND // 10)):
            with contextlib.suppress(Refused):
                taken.decode(pair)
                modes.append(pair.mode)
    assert modes[:10] == ['fusion'] * 10
    assert set(modes[10:]) == {'lidar_only'}
    for counts in taken.ledger.counters().values():
        assert counts['received'] == counts['used'] + sum(counts['dropped'].values())


def test_whatever_a_decoder_raises_costs_one_message_and_no_more():
    def broken(message):
        raise KeyError(message.encoding)

    taken = Intake(Needs('b', LIDAR, ALL), PairingSettings(), image_fallback=broken)
    with pytest.raises(Refused):
        taken.take('camera', image(SECOND, 'bayer_rggb8'))
    assert taken.ledger.counters()['camera']['dropped']['bad_encoding'] == 1


@pytest.mark.parametrize('names', ['xyz', 'zyx', 'ixyz'])
def test_an_empty_cloud_is_a_scan_that_met_nothing(names):
    empty = cloud(SECOND, np.full((2, 2), 7, np.float32))
    empty.height, empty.width, empty.row_step, empty.data = 1, 0, 0, b''
    empty.fields = [
        SimpleNamespace(name=name, offset=4 * i, datatype=7) for i, name in enumerate(names)
    ]
    empty.point_step = 4 * len(names)
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    (pair,) = taken.take('lidar', empty)
    assert (arrays_of(pair)[1] == LIDAR.max_range).all()


def test_counts_that_mean_no_return_are_no_ranges():
    counts = np.array([[1000, 65535], [0, 4000]], np.uint16)
    taken = Intake(Needs('b', LIDAR, ALL), PairingSettings(slop_s=0.0), 0.004, (4000,))
    taken.take('camera', image(SECOND))
    (pair,) = taken.take('lidar', message(SECOND, 'lidar', 'mono16', counts))
    np.testing.assert_allclose(pair.lidar.values, [[4, 262.14], [0, 0]], rtol=1e-6)
    taken.change(PairingSettings(slop_s=0.0), 0.004, (65535,))
    taken.take('camera', image(2 * SECOND))
    (pair,) = taken.take('lidar', message(2 * SECOND, 'lidar', 'mono16', counts))
    np.testing.assert_allclose(pair.lidar.values, [[4, 0], [0, 16]], rtol=1e-6)
