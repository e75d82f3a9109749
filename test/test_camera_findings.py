"""What makes the camera's intrinsics doubtful is found, and how to set it right."""

import pytest

from fusion_perception.sensing.findings.camera import of_camera
from fusion_perception.sensing.findings.facts import CameraFacts, Facts, Publisher, Source
from fusion_perception.sensing.lens import Distortion

IMAGE, CAMERA_INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'


def found(publishers=(), **camera):
    """Return what is found of a camera, for which a bundle of 64x64 pixels is used."""
    info = Source('/camera_info', CAMERA_INFO, publishers)
    return list(of_camera(Facts((), camera=CameraFacts(info, (64, 64), **camera))))


@pytest.mark.parametrize(
    ('camera', 'word'),
    [
        ({'images': (640, 480)}, 'Nothing arrives on /camera_info'),
        ({'images': (64, 48), 'told': (1280, 720)}, '1280x720'),
        # A tenth of the rows was cut off.
        ({'images': (640, 432), 'told': (640, 480)}, '640x480'),
        ({'images': (64, 64), 'fault': 'K is zero. Calibrate the camera.'}, 'Calibrate'),
    ],
)
def test_a_camera_that_is_not_what_it_is_taken_for_is_named(camera, word):
    (finding,) = found(**camera)
    assert finding.level == 'WARN'
    assert word in str(finding)
    assert finding.remedy


@pytest.mark.parametrize(
    'camera',
    [
        {},
        {'images': (64, 64)},
        {'images': (320, 240), 'told': (640, 480)},
        {'images': (1280, 718), 'told': (1280, 720)},
    ],
)
def test_a_camera_of_the_size_or_shape_it_is_taken_for_is_fine(camera):
    assert found(**camera) == []


@pytest.mark.parametrize(
    ('most_px', 'words'),
    [
        # 64 of 480 rows: what is less than 7.5 pixels is less than one of the model's.
        (7.4, ()),
        (7.6, ('640x480', '7.6 pixels', 'plumb_bob', '1.0 pixels at the 64x64')),
        (None, ('/camera_info', 'no known model')),
    ],
)
def test_a_lens_that_moves_a_corner_by_a_pixel_of_the_model_s_is_named(most_px, words):
    bent = Distortion('plumb_bob', '', most_px)
    findings = found(images=(640, 480), told=(640, 480), distortion=bent)
    assert len(findings) == bool(words)
    for finding in findings:
        assert finding.level == 'WARN'
        assert all(word in finding.sentence for word in words)
        assert 'image_rect' in finding.remedy and 'camera_matrix to p' in finding.remedy


@pytest.mark.parametrize('most_px', [7.4, 7.6, None])
@pytest.mark.parametrize(
    ('seen', 'words', 'remedy'),
    [
        ('', 'no distortion', 'leave camera_matrix at k'),
        ('equidistant', 'equidistant', 'train on recordings of this one'),
    ],
)
def test_a_bundle_that_learned_with_a_lens_wants_that_lens(most_px, seen, words, remedy):
    bent = Distortion(seen, 'plumb_bob', most_px)
    findings = found(images=(640, 480), told=(640, 480), distortion=bent)
    assert len(findings) == (most_px != 7.4)
    for finding in findings:
        assert finding.level == 'WARN'
        assert words in finding.sentence and 'training' in finding.sentence
        assert remedy in finding.remedy


@pytest.mark.parametrize(
    ('names', 'cause'),
    [((), 'two sources'), (('/a',), 'two sources'), (('/b', '/a'), '/a and /b publish there')],
)
def test_a_camera_info_of_two_cameras_by_turns_is_named_with_who_publishes(names, cause):
    publishers = [Publisher(name, CAMERA_INFO) for name in names]
    same = {'images': (64, 64), 'told': (64, 64)}
    (finding,) = found(publishers, returns=3, **same)
    assert finding.level == 'WARN'
    assert '/camera_info tells of two cameras by turns' in finding.symptom
    assert cause in finding.cause
    assert found(publishers, returns=2, **same) == []


def test_who_publishes_another_type_there_is_not_blamed_for_cameras_by_turns():
    publishers = [Publisher('/a', CAMERA_INFO), Publisher('/b', IMAGE)]
    (finding,) = found(publishers, returns=3, images=(64, 64), told=(64, 64))
    assert 'two sources' in finding.cause


@pytest.mark.parametrize(
    ('told', 'instead'), [((64, 64), 'what it said before'), (None, "the bundle's intrinsics")]
)
def test_a_camera_info_that_cannot_be_used_says_what_counts_instead(told, instead):
    (finding,) = found(images=(64, 64), told=told, fault='It holds no calibration. Calibrate.')
    assert finding.cause == f'it holds no calibration; {instead} count{"s" if told else ""}'


@pytest.mark.parametrize(
    ('publishers', 'cause', 'remedy'),
    [
        ((), 'nobody publishes there', 'Remap camera_info'),
        ((Publisher('/driver', IMAGE),), f'/driver publishes {IMAGE} there', 'Remap camera_info'),
        # To look for another topic would be in vain: this is the one.
        ((Publisher('/driver', CAMERA_INFO),), '/driver has sent nothing there', 'latch it'),
    ],
)
def test_a_camera_info_that_does_not_come_is_missed_for_the_right_reason(
    publishers, cause, remedy
):
    (finding,) = found(publishers, images=(640, 480))
    assert finding.cause.startswith(cause)
    assert remedy in finding.remedy
