"""What the offsets move out of the time that stamps can tell is dropped, and told so."""

import pytest
from arrivals import both, dropped, feed, pairer
from small_facts import SECOND, arrivals, node, only, stream

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.stamps import END_OF_STAMPS_S

LAST_MS = 1000 * END_OF_STAMPS_S


def cameras(*times_ms):
    return [('camera', ms) for ms in times_ms]


@pytest.mark.parametrize(
    ('offsets', 'fine_ms', 'none_ms'),
    [
        ({'camera_offset_s': -10.0}, range(10_001, 11_000, 100), (1, 10_000)),
        ({'lidar_offset_s': 10.0}, range(10_001, 11_000, 100), (1, 10_000)),
        (
            {'camera_offset_s': 10.0},
            range(LAST_MS - 10_901, LAST_MS - 10_000, 100),
            (LAST_MS - 1,),
        ),
    ],
)
def test_an_image_is_given_no_stamp_that_there_is_not(offsets, fine_ms, none_ms):
    pairing = pairer(allow_single=True, **offsets)
    found = feed(pairing, *cameras(*none_ms)) + feed(pairing, *cameras(*fine_ms))
    assert found and all(0 < pair.stamp_ns < 1_000_000 * LAST_MS for pair in found)
    assert dropped(pairing, 'camera') == {'unstamped': len(none_ms)}
    counts = pairing.counters()['camera']
    assert counts['received'] == counts['used'] + counts['pending'] + len(none_ms)


def test_scans_keep_their_own_stamps_whatever_the_offset():
    pairing = pairer(lidar_offset_s=-10.0, camera_offset_s=-10.0)
    assert both(feed(pairing, ('lidar', 50), ('camera', 50), ('lidar', 150))) == [(50, 50)]


def test_offsets_that_leave_no_stamp_are_named():
    early = arrivals(begin_s=1.0)
    camera = stream('camera', arrivals=early, dropped={'unstamped': 20})
    lidar = stream('lidar', arrivals=early)
    moved = PairingSettings(camera_offset_s=-10.0)
    found, *_ = diagnose(node(camera, lidar, pairing=moved, pairs=20))
    assert 'by -10.000 s' in found.cause and 'pairing.camera_offset_s' in found.remedy
    assert early[-1].stamp_ns < 10 * SECOND
    # The driver is to blame where the offsets are not.
    assert 'zero or negative' in only(node(camera, lidar)).cause
