"""What a recording can do without never keeps anybody from reading the rest."""

import json

import numpy as np
import pytest
from recordings import at, cloud, frames

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.to_bag import IMAGE, RANGES, TRUTH
from fusion_perception.sensing.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(scope='module')
def two_truths(tmp_path_factory):
    """Record poses on two topics, neither of which has `truth` in its name."""
    seen, path = frames(4, 10), tmp_path_factory.mktemp('bags') / 'two_truths'
    with BagWriter(path) as bag:
        for index in range(4):
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            for name in ('/mocap', '/plan'):
                bag.centers(name, at(index), seen.centers[index].double().numpy())
    return path


@pytest.fixture(scope='module')
def two_infos(tmp_path_factory):
    """Record the camera_info of two cameras, and the images of neither."""
    seen, path = frames(4, 10), tmp_path_factory.mktemp('bags') / 'two_infos'
    with BagWriter(path) as bag:
        for index in range(4):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
            for side in ('left', 'right'):
                bag.camera_info(f'/{side}/camera_info', at(index), Rig().camera)
    return path


@pytest.fixture
def report(tmp_path, bundle):
    def make(bag, **settings):
        values = {'bundle': str(bundle), 'bag': (str(bag),), 'device': 'cpu', **settings}
        _, code = evaluate(EvaluateSettings.read({**values, 'out': tmp_path / 'report'}))
        assert code == 0
        return json.loads((tmp_path / 'report' / 'report.json').read_text())

    return make


def test_two_topics_that_could_be_the_truth_leave_an_evaluation_without_scores(two_truths, report):
    said = report(two_truths)
    assert (said['pairs'], said['scenes']) == (4, 0)
    assert 'undecided' not in said['bags'][0]['topics']
    assert said['unread'][0] == (
        '2 topics could be the ground truth (/mocap, /plan): none of them is used. Name one with '
        '--truth-topic.'
    )
    assert not any('There is no ground truth' in sentence for sentence in said['unread'])
    assert report(two_truths, truth_topic='/plan')['scenes'] == 4


def test_a_limit_without_scores_says_which_topics_could_be_the_truth(two_truths, report):
    with pytest.raises(ValueError, match=r'/mocap, /plan.* --truth-topic\. .*leave --max'):
        report(two_truths, max_error=1)


def test_camera_infos_without_images_keep_no_lidar_from_being_evaluated(two_infos, report):
    said = report(two_infos, pairing={'dropout_after_s': 0.15})
    assert set(said['modes']) == {'lidar_only'}
    (sentence,) = [one for one in said['unread'] if 'camera_info' in one]
    assert sentence.startswith('2 topics could be the camera_info (/left/camera_info, /right/')
    assert sentence.endswith('Name one with --camera-info-topic.')


def test_of_two_camera_infos_the_one_beside_the_images_is_taken(tmp_path, report):
    seen = frames(4, 10)
    with BagWriter(tmp_path / 'bag') as bag:
        for side in ('right', 'left'):
            bag.camera_info(f'/{side}/camera_info', at(0), Rig().camera)
        bag.image('/left/image_raw', at(0), seen.images[0].numpy())
        bag.ranges(RANGES, at(0), seen.ranges[0].numpy())
    said = report(tmp_path / 'bag')
    assert said['bags'][0]['topics']['camera_info'] == '/left/camera_info'
    assert not any('camera_info' in sentence for sentence in said['unread'])


@pytest.mark.parametrize('image', ['/image_left', '/image_right', '/image_rear'])
def test_of_camera_infos_beside_each_other_the_one_with_the_words_of_the_image_is_taken(
    tmp_path, report, image
):
    seen = frames(4, 10)
    with BagWriter(tmp_path / 'bag') as bag:
        for side in ('left', 'right'):
            bag.camera_info(f'/camera_info_{side}', at(0), Rig().camera)
        bag.image(image, at(0), seen.images[0].numpy())
        bag.ranges(RANGES, at(0), seen.ranges[0].numpy())
    said = report(tmp_path / 'bag')
    taken = {'/image_left': '/camera_info_left', '/image_right': '/camera_info_right'}.get(image)
    assert said['bags'][0]['topics']['camera_info'] == taken
    undecided = '2 topics could be the camera_info (/camera_info_left, /camera_info_right)'
    assert any(one.startswith(undecided) for one in said['unread']) == (taken is None)


@pytest.mark.parametrize('has_cloud', [True, False])
def test_the_depth_of_a_camera_is_taken_for_ranges_only_where_nothing_else_is(
    tmp_path, report, has_cloud
):
    seen, depth = frames(1, 10), '/camera/depth/image_rect_raw'
    with BagWriter(tmp_path / 'bag') as bag:
        bag.image('/camera/color/image_raw', at(0), seen.images[0].numpy())
        bag.ranges(depth, at(0), seen.ranges[0].numpy())
        if has_cloud:
            points = cloud(at(0), np.array([[25.0, 0.0, 0.0]]))
            bag.write('/lidar/points', 'sensor_msgs/msg/PointCloud2', at(0), points)
    topics = report(tmp_path / 'bag')['bags'][0]['topics']
    assert topics['ranges'] == ('/lidar/points' if has_cloud else depth)


def test_the_doctor_says_of_clouds_without_order_how_many_points_they_have(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(30):
            points = cloud(at(index), np.full((1000 + index, 3), 25.0))
            bag.write('/lidar/points', 'sensor_msgs/msg/PointCloud2', at(index), points)
    text, _ = doctor(DoctorSettings(bag=tmp_path / 'bag'))
    assert '/lidar/points: 30 messages at 10.0 Hz, cloud of 1,000 to 1,029 points, 43.3 to' in text


def test_the_doctor_names_them_and_examines_the_rest(two_truths, two_infos):
    text, code = doctor(DoctorSettings(bag=two_truths))
    assert code == 1
    assert '4 of 4 scans form a pair' in text
    assert 'WARN   2 topics could be the ground truth (/mocap, /plan)' in text
    assert '-> Name one with --truth-topic.' in text
    assert 'no ground truth in it' not in text
    assert 'ERROR' not in text
    text, _ = doctor(DoctorSettings(bag=two_infos))
    assert '-> Name one with --camera-info-topic.' in text
    text, code = doctor(DoctorSettings(bag=two_truths, truth_topic='/plan'))
    assert (code, '/plan: 4 messages' in text) == (0, True), text


def test_a_data_folder_is_not_made_of_a_truth_that_could_be_another(two_truths, tmp_path):
    with pytest.raises(ValueError, match=r'/mocap, /plan. Name one with --truth-topic'):
        from_bag(FromBagSettings(bag=two_truths, out=tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
    settings = FromBagSettings(bag=two_truths, out=tmp_path / 'out', truth_topic='/plan')
    assert '4 scenes' in from_bag(settings)
