"""Decoded pairs with every loss counted: the way of the messages on the robot and from bags."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_perception.sensing.decode import Decoder, stamp_ns
from fusion_perception.sensing.intake import Intake, Needs, Refused, arrays_of
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.rep103 import to_rep103

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


class Prompt(Intake):
    """Takes in messages that come when they are stamped, but for what is said."""

    def take(self, stream, message, late_ns=0):
        return super().take(stream, message, stamp_ns(message) + late_ns)


def intake(modes=ALL, **pairing):
    return Prompt(Needs('b.safetensors', LIDAR, modes), PairingSettings(**pairing), Decoder())


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
        ('lidar', scan(SECOND, shape=(2, 3)), 'bad_shape'),
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

    assert run(ALL)[0] == run(('fusion', 'lidar_only'))[0] == {'lidar_only'}
    modes, counts = run(('fusion', 'camera_only'))
    assert modes == set()
    assert counts['dropped']['no_partner'] == counts['received'] == 10


def test_other_pairing_settings_keep_the_counts():
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    taken.take('lidar', scan(SECOND))
    taken.take('camera', image(2 * SECOND))
    assert taken.change(PairingSettings(slop_s=0.1), Decoder()) == []
    counts = taken.ledger.counters()['camera']
    assert (counts['received'], counts['used'], counts['pending']) == (2, 1, 0)


def test_other_settings_keep_the_count_of_clock_jumps_and_the_same_let_all_wait_on():
    taken = intake(slop_s=0.0)
    taken.take('camera', image(100 * SECOND))
    taken.take('camera', image(SECOND))
    for slop_s in (0.1, 0.2):
        taken.change(PairingSettings(slop_s=slop_s), Decoder())
        assert taken.clock_jumps == 1
    taken.take('camera', image(2 * SECOND))
    taken.change(PairingSettings(slop_s=0.2), Decoder(0.004))
    assert len(taken.take('lidar', scan(2 * SECOND))) == 1


def test_a_sensor_that_cannot_be_used_alone_waits_under_other_settings_too():
    taken = intake(('fusion',), slop_s=0.0)
    other = PairingSettings(slop_s=0.0, dropout_after_s=0.1, allow_single=True)
    taken.change(other, Decoder())
    for tick in range(10, 15):
        taken.take('lidar', scan(tick * SECOND))
    assert taken.ledger.counters()['lidar']['pending'] == 5


def test_a_model_of_one_sensor_is_given_pairs_of_both():
    taken = intake(('lidar_only',), slop_s=0.0)
    taken.take('camera', image(SECOND))
    assert [pair.mode for pair in taken.take('lidar', scan(SECOND))] == ['fusion']


@pytest.mark.parametrize('encoding', ['rgb8', 'yuv422'])
def test_what_is_soon_refused_is_refused_when_it_comes_however_good_the_last_one_was(encoding):
    taken, bad = intake(slop_s=0.0), image(2 * SECOND, encoding)
    bad.step = 1
    taken.take('camera', image(SECOND))
    with pytest.raises(Refused):
        taken.take('camera', bad)


def test_images_that_need_cv_bridge_are_converted_once_they_have_a_partner():
    converted = []

    def convert(message):
        converted.append(stamp_ns(message))
        return np.zeros((2, 3, 3), np.uint8)

    pairing = PairingSettings(slop_s=0.0, allow_single=False)
    taken = Prompt(Needs('b', LIDAR, ALL), pairing, Decoder(image_fallback=convert))
    for second in (1, 2, 3):
        taken.take('camera', image(second * SECOND, 'bayer_rggb8'))
    # The first, as nothing is known of its stream yet.
    assert converted == [SECOND]
    (pair,) = taken.take('lidar', scan(3 * SECOND))
    taken.decode(pair)
    assert converted == [SECOND, 3 * SECOND]


def feed(taken, cameras_s, lidars_s, arrive_s):
    """Feed images and scans of these stamps; return what came out, and how many images leapt."""
    pairs = []
    for camera_s, lidar_s, at_s in zip(cameras_s, lidars_s, arrive_s, strict=True):
        pairs += taken.take('camera', image(camera_s * SECOND), (at_s - camera_s) * SECOND)
        pairs += taken.take('lidar', scan(lidar_s * SECOND), (at_s - lidar_s) * SECOND)
    lost = taken.ledger.counters()['camera']['dropped']['clock_jump']
    return [(pair.mode, pair.stamp_ns // SECOND) for pair in pairs], lost


def test_a_lone_stamp_far_in_the_future_is_dropped_and_nothing_else_suffers():
    times = list(range(10, 20))
    slipped = [time if time != 14 else 1014 for time in times]
    pairs, lost = feed(intake(slop_s=0.0), slipped, times, times)
    assert pairs == [('fusion', time) for time in times if time != 14]
    assert lost == 1


def test_a_clock_that_was_set_forward_is_believed_from_its_second_message_on():
    times = list(range(10, 20))
    ahead = [time if time < 14 else time + 1000 for time in times]
    pairs, lost = feed(intake(slop_s=0.0), ahead, ahead, times)
    assert pairs == [('fusion', stamp) for stamp in ahead if stamp != 1014]
    assert lost == 1


@pytest.mark.parametrize(
    'arrive_s',
    [[10, 11, 900], [5000, 5001, 5002], [0, 1, 890]],
    ids=['both paused', 'played later', 'ahead from the beginning'],
)
def test_stamps_that_do_not_leap_into_the_future_may_lie_anywhere(arrive_s):
    stamps = [10, 11, 900]
    pairs, lost = feed(intake(slop_s=0.0), stamps, stamps, arrive_s)
    assert (pairs, lost) == ([('fusion', stamp) for stamp in stamps], 0)


def test_a_pair_that_came_to_nothing_is_dropped_after_all():
    taken = intake(slop_s=0.0)
    taken.take('camera', image(SECOND))
    (pair,) = taken.take('lidar', scan(SECOND))
    taken.lose(pair, 'inference_error')
    for counts in taken.ledger.counters().values():
        assert (counts['used'], counts['dropped']['inference_error']) == (0, 1)


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


@pytest.mark.parametrize(('shape', 'outside'), [(None, 0), ((4, 1), 2)])
def test_only_an_organised_cloud_keeps_its_points_where_the_sensor_turned(shape, outside):
    turned = cloud(SECOND, np.full((2, 2), 7, np.float32), shape)
    # By 0.3 degrees about the vertical axis, of the half degree between two beams.
    turn = np.array([[1, -0.005236, 0], [0.005236, 1, 0], [0, 0, 1]], np.float32)
    turned.data = (np.frombuffer(turned.data, np.float32).reshape(-1, 3) @ turn.T).tobytes()
    taken = intake(slop_s=0.0)
    (pair,) = taken.take('camera', image(SECOND)) + taken.take('lidar', turned)
    assert pair.lidar.placement.outside == outside


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
    for late_ns in range(SECOND + 1, SECOND + 9):
        taken.take('camera', compressed(late_ns, whole=False))
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

    taken = Prompt(Needs('b', LIDAR, ALL), PairingSettings(), Decoder(image_fallback=broken))
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
    pairing = PairingSettings(slop_s=0.0)
    taken = Prompt(Needs('b', LIDAR, ALL), pairing, Decoder(0.004, (4000,)))
    for second, expected in ((1, [[4, 262.14], [0, 0]]), (2, [[4, 0], [0, 16]])):
        taken.take('camera', image(second * SECOND))
        (pair,) = taken.take('lidar', message(second * SECOND, 'lidar', 'mono16', counts))
        np.testing.assert_allclose(pair.lidar.values, expected, rtol=1e-6)
        taken.change(pairing, Decoder(0.004, (65535,)))
