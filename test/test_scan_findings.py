"""Scans that hold nothing, and clouds that lie where the LiDAR has no beams, are found.

So are those of a recording, whose sums are taken over all of it.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from recordings import CAMERA_INFO, IMAGE, RANGES, SECOND, TRUTH, at, cloud, frames, record
from small_bundles import small_bundle

from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.facts import ScanFacts
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.scan_findings import ScanTally, of_scan

pytestmark = pytest.mark.usefixtures('one_thread')
COUNT = 4
LIDAR = UniformGrid().lidar()


@pytest.fixture(scope='module')
def runtime(tmp_path_factory):
    return Runtime(load_bundle(small_bundle(tmp_path_factory.mktemp('bundle'))), 'cpu')


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
        (ScanFacts(0.0, 0), 'holds no points', 'covered'),
        (ScanFacts(0.0, 1200), 'all 1,200 points', 'in metres'),
    ],
)
def test_an_empty_scene_has_the_cause_of_what_the_lidar_sends(scan, cause, remedy):
    (found,) = of_scan(scan, 0.02)
    assert found.symptom == 'The scene is empty'
    assert cause in found.cause and remedy in found.remedy
    assert ('range_scale' in found.remedy) == (scan.points is None)


def test_empty_scans_among_others_are_counted():
    tally = ScanTally()
    assert not list(tally.findings(0.02))
    for returns in (0.0, 0.4, 0.4):
        tally.add(ScanFacts(returns))
    (found,) = tally.findings(0.02)
    assert found.symptom == '1 of 3 scans are empty'


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
