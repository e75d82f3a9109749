"""An evaluation says where camera and LiDAR contradict each other."""

import json

import pytest
from PIL import Image, ImageOps

from fusion_perception.learning.agreement import FEWEST, Comparison
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import ToBagSettings, to_bag
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.findings.agreement import (
    DISAGREEMENT_MAX,
    FEWEST_COMPARISONS,
    median_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


def made_of(folder, mirrored):
    simulate(SimulateSettings(out=folder / 'scenes', count=12))
    for path in (folder / 'scenes').rglob('*.png') if mirrored else ():
        ImageOps.mirror(Image.open(path)).save(path)
    to_bag(ToBagSettings(data=folder / 'scenes', out=folder / 'drive'))
    return folder


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    return made_of(tmp_path_factory.mktemp('straight'), mirrored=False)


@pytest.fixture(scope='module')
def mirrored(tmp_path_factory):
    return made_of(tmp_path_factory.mktemp('mirrored'), mirrored=True)


@pytest.fixture
def told(tmp_path):
    def evaluated(bundle, **source):
        said, _ = evaluate(
            EvaluateSettings(bundle=bundle, out=tmp_path / 'out', device='cpu', **source)
        )
        report = json.loads((tmp_path / 'out' / 'report.json').read_text())
        return said, report, (tmp_path / 'out' / 'report.html').read_text()

    return evaluated


def sources(folder):
    return {'data': folder / 'scenes'}, {'bag': (str(folder / 'drive'),)}


@pytest.mark.parametrize('which', [0, 1], ids=['folder', 'recording'])
def test_sensors_that_see_the_same_places_are_said_to_agree(told, straight, which):
    said, report, page = told('shapes', **sources(straight)[which])
    assert report['disagreement'] < DISAGREEMENT_MAX / 2
    assert 'disagree' not in said
    assert 'times as far apart as they say they err' in page


@pytest.mark.parametrize('which', [0, 1], ids=['folder', 'recording'])
def test_mirrored_images_are_a_warning_of_the_evaluation(told, mirrored, which):
    said, report, page = told('shapes', **sources(mirrored)[which])
    assert report['disagreement'] > DISAGREEMENT_MAX
    for written in (said, page):
        assert 'Camera and LiDAR disagree about where the objects are' in written
    said, report, page = told('shapes', disagreement_max=1e6, **sources(mirrored)[which])
    assert report['disagreement'] > DISAGREEMENT_MAX
    assert 'disagree' not in said and 'disagree' not in page.replace('disagreement_max', '')


def test_a_folder_is_advised_what_a_folder_can_have(told, mirrored):
    of_folder, of_recording = sources(mirrored)
    said, _, _ = told('shapes', **of_folder)
    assert 'sensor.yaml of the folder' in said and '--disagreement-max' in said
    assert 'camera_pose' not in said and 'camera_info' not in said
    said, _, _ = told('shapes', **of_recording)
    assert 'Say with camera_pose' in said and 'sensor.yaml' not in said


def test_every_recording_is_compared_by_itself(told, straight, mirrored):
    folders = (straight, mirrored)
    said, report, _ = told('shapes', bag=tuple(str(folder / 'drive') for folder in folders))
    agreeing, contradicting = report['bags']
    assert agreeing['disagreement'] < report['disagreement'] < contradicting['disagreement']
    assert f'{mirrored / "drive"}: Camera and LiDAR disagree' in said
    assert f'{straight / "drive"}: Camera and LiDAR disagree' not in said


def test_what_only_one_sensor_saw_is_not_compared(straight):
    scenes, runtime = read_folder(straight / 'scenes'), Runtime(load_bundle('shapes'), 'cpu')
    comparison = Comparison(runtime)
    for image, ranges in zip(scenes.images.numpy(), scenes.ranges.numpy(), strict=True):
        comparison.add(image, None)
        comparison.add(None, ranges)
    assert comparison.disagreements() == ()
    assert comparison.alignment() is None


@pytest.mark.parametrize(('came', 'apart'), [(39, 1), (40, 2), (78, 2), (79, 4), (150, 4)])
def test_of_many_frames_some_are_compared_that_lie_evenly_apart(straight, came, apart):
    scenes, runtime = read_folder(straight / 'scenes'), Runtime(load_bundle('shapes'), 'cpu')
    images, ranges = scenes.images.numpy(), scenes.ranges.numpy()
    comparison = Comparison(runtime)
    for index in range(came):
        comparison.add(images[index % 11], ranges[index % 11])
        # Between them come some of one sensor alone, which do not count.
        for alone in 2 * ((images[0], None), (None, ranges[0])):
            comparison.add(*alone)
        if index == 5:
            assert len(comparison.disagreements()) == 6
    compared = [index % 11 for index in range(0, came, apart)]
    assert FEWEST <= len(compared) < 2 * FEWEST
    camera, lidar = runtime.bundle.rig.camera, runtime.bundle.lidar
    observation = observe(scenes.images[compared], scenes.ranges[compared], camera, lidar)
    assert comparison.disagreements() == pytest.approx(runtime.disagreements(observation), 1e-3)


def test_too_few_comparisons_tell_nothing():
    assert median_of((9.0,) * (FEWEST_COMPARISONS - 1)) is None
    assert median_of((9.0,) * FEWEST_COMPARISONS) == 9.0
