"""Scans that hold nothing, and clouds that lie where the LiDAR has no beams, are found.

So are those of a recording, whose sums are taken over all of it.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from recordings import (
    CAMERA_INFO,
    IMAGE,
    RANGES,
    SECOND,
    TRUTH,
    at,
    cloud,
    frames,
    header_of,
    made,
    record,
)
from small_bundles import CONFIGS, small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.attendance import Attendance
from fusion_perception.learning.bags.judging import MODES
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.facts import ScanFacts, Source
from fusion_perception.sensing.findings.scans import ScanTally, of_scan
from fusion_perception.sensing.findings.watch import Watch
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')
COUNT = 4
SLOW = PairingSettings(allow_single=False, queue_size=100)
LIDAR = UniformGrid().lidar()


@pytest.mark.parametrize(('outside', 'named'), [(2, False), (3, True), (100, True)])
def test_more_points_beside_every_beam_than_allowed_are_a_warning(outside, named):
    findings = list(of_scan(ScanFacts(0.0 if outside == 100 else 0.4, 100, outside), 0.02))
    # Where all of them lie there, that is why the scene is empty.
    assert [f'{outside} of 100 points lie beside every beam' in f.symptom for f in findings] == (
        [True] if named else []
    )
    assert all('points_outside_max' in f.remedy and 'z up' in f.cause for f in findings)
    assert not list(of_scan(ScanFacts(0.4, 100, outside), 1.0))


@pytest.mark.parametrize(
    ('scan', 'cause', 'remedy'),
    [
        (ScanFacts(0.0), 'range image', 'range_scale'),
        (ScanFacts(0.0, 0), 'no point that was measured', 'covered'),
        (ScanFacts(0.0, 1200), 'all 1,200 points', 'in metres'),
        # More may lie beside the beams than the limit of here.
        (ScanFacts(0.0, 1200, 12), 'all 1,188 points', 'in metres'),
        # What is hidden lies before a beam as well.
        (ScanFacts(0.0, 1200, 12, 300), 'all 1,188 points', 'in metres'),
        (ScanFacts(0.0, 1200, 1200), 'none of the 1,200 points', 'frame of the cloud'),
    ],
)
def test_an_empty_scene_has_the_cause_of_what_the_lidar_sends(scan, cause, remedy):
    (found,) = of_scan(scan, 1.0)
    assert found.symptom == 'The scene is empty'
    assert cause in found.cause and remedy in found.remedy
    assert ('range_scale' in found.remedy) == (scan.points is None)


@pytest.mark.parametrize(
    ('empty', 'others', 'named'), [(3, 5, True), (2, 5, False), (11, 989, True), (10, 990, False)]
)
def test_more_than_a_few_empty_scans_among_others_are_counted(empty, others, named):
    tally = ScanTally()
    assert not list(tally.findings(0.02))
    for returns in (*[0.0] * empty, *[0.4] * others):
        tally.add(ScanFacts(returns))
    symptoms = [finding.symptom for finding in tally.findings(0.02)]
    assert symptoms == ([f'{empty} of {empty + others:,} scans are empty'] if named else [])


def record_clouds(path, published):
    """Write what the original LiDAR sees as clouds: `published` of points in REP-103 axes."""
    seen = frames(COUNT, 10)
    with BagWriter(path) as bag:
        for index in range(COUNT):
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bag.camera_info(CAMERA_INFO, at(index), Rig().camera)
            *xyz, a = LIDAR.xyza(seen.ranges[index]).numpy()
            points = published(to_rep103(np.stack(xyz, axis=-1)[a > 0]))
            message = cloud(at(index), points)
            bag.write('/points', 'sensor_msgs/msg/PointCloud2', at(index), message)
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    return path


def tilted(points):
    """Look down by 17 degrees."""
    c, s = math.cos(math.radians(17)), math.sin(math.radians(17))
    return points @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ('published', 'words'),
    [
        (lambda points: points, ()),
        # As a camera has them: x right, y down, z forward.
        (lambda points: points[:, [1, 2, 0]] * [-1, -1, 1], ('beside every beam', 'z up')),
        (tilted, ('beside every beam', 'another frame')),
        (lambda points: 1000 * points, ('The scene is empty', 'metres')),
    ],
    ids=['right', 'optical', 'tilted', 'millimetres'],
)
def test_a_recording_of_clouds_that_do_not_fit_is_said_to_be_so(
    tmp_path, runtime, published, words
):
    bag = record_clouds(tmp_path / 'bag', published)
    notes = list(run_bag(runtime, bag, BagSettings(), 8).unread)
    assert len(notes) == bool(words)
    assert all(word in notes[0] for word in words)
    said = from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out')).splitlines()
    assert said[1:] == notes
    allowed = BagSettings(points_outside_max=1.0)
    still = run_bag(runtime, bag, allowed, 8).unread
    assert [note for note in still if 'beside every beam' in note] == []
    assert any('none of the' in note for note in still) == (words[-1:] == ('z up',))


@pytest.mark.slow
def test_what_an_evaluation_lost_to_stamps_and_silence_is_said(tmp_path, runtime):
    def edit(events):
        later = [
            replace(e, stamp_ns=e.stamp_ns - 10 * SECOND, log_ns=e.log_ns + 3 * SECOND)
            for e in events
        ]
        return [*events, *later]

    notes = run_bag(
        runtime, record(tmp_path / 'bag', count=12, edit=edit), BagSettings(), 8
    ).unread
    jumped, *silent = notes
    assert jumped.startswith('The stamps jumped back once')
    assert silent == [f'{topic} is silent for 1.9 s, from 1.1 s on.' for topic in (IMAGE, RANGES)]


def test_predictions_of_single_sensors_alone_lead_to_the_doctor(tmp_path, runtime):
    def apart(events):
        return [e for e in events if (e.topic == IMAGE) == (e.index < 20)]

    notes = run_bag(
        runtime, record(tmp_path / 'bag', count=40, edit=apart), BagSettings(), 8
    ).unread
    (ask,) = [note for note in notes if 'Ask why: fusion doctor --bag' in note]
    assert ask.startswith('No image and range image form a pair')


@pytest.mark.parametrize('model', sorted(CONFIGS))
def test_a_sound_recording_is_sound_for_every_model(tmp_path, model):
    bundle = load_bundle(small_bundle(tmp_path, model))
    assert run_bag(Runtime(bundle, 'cpu'), record(tmp_path / 'bag'), BagSettings(), 8).unread == ()


@pytest.mark.slow
def test_stamps_that_leap_are_named_by_evaluation_and_doctor(tmp_path, runtime):
    def leaping(events):
        slips = [e.topic == IMAGE and e.index % 4 == 2 for e in events]
        return [
            e.stamped(e.stamp_ns + 1000 * SECOND) if slip else e
            for e, slip in zip(events, slips, strict=True)
        ]

    bag = record(tmp_path / 'bag', count=16, edit=leaping)
    done = run_bag(runtime, bag, BagSettings(), 8)
    assert done.streams['camera']['dropped']['clock_jump'] == 4
    (note,) = done.unread
    assert note.startswith('4 camera messages were dropped (clock_jump): their stamps leap')
    text, code = doctor(DoctorSettings(bag=bag))
    assert code == 1
    assert '4 of the last 16 stamps on /camera/image_raw leap into the future, by up to 10' in text
    assert '12 of 16 scans form a pair' in text


def test_a_slow_sensor_neither_pauses_nor_begins_late(tmp_path, runtime):
    def slow(events):
        return [e for e in events if e.topic != RANGES or e.index % 30 == 15]

    bag = record(tmp_path / 'bag', count=100, edit=slow)
    assert len(run_bag(runtime, bag, BagSettings(pairing=SLOW), 8).unread) == 0


def notes_of(ended_s=10.0, **heard):
    attendance = Attendance()
    for topic, times in heard.items():
        for time_s in times:
            attendance.note(topic, round(time_s * SECOND))
    return list(attendance.notes(0, round(ended_s * SECOND)))


TICKS = np.arange(0, 10.05, 0.1)


def test_several_pauses_are_counted_and_the_longest_is_named():
    times = [t for t in TICKS if not (2.05 < t < 3.45 or 5.05 < t < 7.95)]
    assert notes_of(scans=times) == ['scans is silent 2 times, longest for 3.0 s, from 5.0 s on.']


def test_a_topic_that_begins_late_and_ends_early_is_said_to():
    assert notes_of(scans=TICKS[15:80], images=TICKS) == [
        'scans begins 1.5 s after the recording.',
        'scans ends 2.1 s before the recording.',
    ]
    assert notes_of(scans=TICKS[9:93]) == []


def test_messages_out_of_order_are_no_pause():
    assert notes_of(scans=[*TICKS[50:], *TICKS[:50]]) == []


def test_topics_are_told_of_by_their_names():
    late = TICKS[20:]
    assert [note.split()[0] for note in notes_of(b=late, a=late)] == ['a', 'b']


def watched(*clouds, stamps_ns=()):
    watch = Watch(PairingSettings(), BagSettings().decoder())
    for index, points in enumerate(clouds):
        stamp_ns = stamps_ns[index] if stamps_ns else at(index)
        watch.take('lidar', cloud(stamp_ns, np.array(points)), at(index))
    watch.finish()
    return watch


def test_points_that_were_not_measured_say_nothing_of_how_far_a_lidar_sees():
    watch = watched([(0, 0, 0), (3, 4, 0), (np.nan, 1, 1), (np.inf, 1, 1), (0, 0, 12)])
    assert watch.span() == '5.0 to 12.0 m'
    assert watch.median_m() == 8.5


def test_a_cloud_of_points_that_were_not_measured_holds_none():
    (found,) = watched(np.zeros((4, 3))).scans.findings(0.02)
    assert found.cause == 'the cloud holds no point that was measured'


def test_clouds_of_one_row_are_told_of_from_the_smallest_to_the_largest():
    assert watched([(3, 4, 0)] * 9, [(3, 4, 0)] * 5).kind('lidar') == 'cloud of 5 to 9 points'
    assert watched([(3, 4, 0)] * 9).kind('lidar') == 'cloud of 9 points'


def test_a_cloud_of_two_rows_is_told_of_by_its_rows_and_columns():
    watch, flat = Watch(PairingSettings(), BagSettings().decoder()), cloud(at(0), np.ones((8, 3)))
    watch.take('lidar', replace(flat, height=2, width=4, row_step=4 * flat.point_step), at(0))
    assert watch.kind('lidar') == 'cloud of 2x4 points'


def test_what_an_image_takes_and_how_wide_it_is_are_its_own_once_one_came():
    watch = Watch(PairingSettings(), BagSettings().decoder())
    sources = {'camera': [Source('/image', 'sensor_msgs/msg/Image')]}

    def bytes_of_a_message():
        (camera,) = watch.inputs(sources, {}, {}, {'camera': 900}, {})
        return camera.message_bytes

    assert (bytes_of_a_message(), watch.image_size) == (900, None)
    size = {'height': 2, 'width': 4, 'step': 12, 'data': np.arange(24, dtype=np.uint8)}
    kind = {'encoding': 'rgb8', 'is_bigendian': 0}
    watch.take('camera', made('sensor_msgs/msg/Image', header=header_of(at(0)), **size, **kind), 0)
    assert (bytes_of_a_message(), watch.image_size) == (24, (4, 2))
    assert watch.kind('camera') == 'rgb8 4x2'


def test_a_stamp_that_leaps_is_received_once_and_begins_nothing_anew():
    stamps = [at(index + 100 * (index == 5)) for index in range(10)]
    watch = watched(*[[(3, 4, 0)]] * 10, stamps_ns=stamps)
    assert watch.received['lidar'] == 10
    assert watch.clock_jumps == 0
    assert watch.kinds['lidar'].total() == 9


def test_scans_without_an_image_lack_no_camera_info(tmp_path, runtime):
    def late(events):
        return [e for e in events if e.topic != CAMERA_INFO and (e.topic != IMAGE or e.index > 11)]

    done = run_bag(runtime, record(tmp_path / 'bag', count=20, edit=late), BagSettings(), 8)
    assert (done.judged.modes == MODES.index('lidar_only')).any()
    (said,) = (note for note in done.unread if 'camera_info' in note)
    assert said.startswith('8 pairs have no camera_info')
