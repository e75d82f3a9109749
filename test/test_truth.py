"""True centres are read from a recording and found by their stamp."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from recordings import at, detections_message

from fusion_perception.learning.bag import check_frames
from fusion_perception.learning.bags.truth import Truth, read_truth
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.to_bag import TRUTH
from fusion_perception.sensing.recordings.recording import Recording


def test_the_closest_truth_wins_and_the_earlier_of_two():
    truth = Truth(np.array([10, 20, 30]), np.arange(9.0).reshape(3, 1, 3))
    assert truth.at(24, 5)[0, 0] == 3
    assert truth.at(25, 5)[0, 0] == 3
    assert truth.at(26, 5)[0, 0] == 6
    assert truth.at(36, 5) is None


@pytest.mark.parametrize(
    ('of_truth', 'of_scans', 'refused'),
    [
        (('lidar',), 'lidar', False),
        (('lidar', 'map'), 'lidar', True),
        # Who names no frame contradicts none.
        (('', 'lidar'), 'lidar', False),
        (('', 'map'), 'lidar', True),
        (('map',), '', False),
    ],
)
def test_a_truth_in_another_frame_than_the_scans_is_refused(of_truth, of_scans, refused):
    truth = Truth(np.empty(0, np.int64), np.empty((0, 1, 3)), of_truth)
    with pytest.raises(ValueError, match=r"frame 'map' .*'lidar'") if refused else nullcontext():
        check_frames(Path('bag'), truth, of_scans)


@pytest.mark.parametrize('value', [np.nan, np.finfo(np.float32).max, np.finfo(np.float64).max])
def test_a_truth_as_good_as_infinite_is_left_out_and_said(tmp_path, value):
    notes = []
    with BagWriter(tmp_path / 'bag') as writer:
        for index in range(3):
            writer.centers(TRUTH, at(index), np.full((1, 3), value if index == 1 else 20.0))
    with Recording(tmp_path / 'bag') as recording:
        truth = read_truth(recording, TRUTH, ('ball',), 50.0, notes.append)
    assert truth.stamps_ns.tolist() == [at(0), at(2)]
    assert notes == [
        f'{TRUTH}: 1 message was left out; the first holds a pose that is not finite, or as '
        'good as infinite.'
    ]


def test_a_truth_farther_off_than_any_object_is_left_out_and_said(tmp_path):
    notes = []
    with BagWriter(tmp_path / 'bag') as writer:
        for index, away in enumerate((20.0, 501.0, 60.0)):
            writer.centers(TRUTH, at(index), np.array([[0.0, away, 0.0]]))
    with Recording(tmp_path / 'bag') as recording:
        truth = read_truth(recording, TRUTH, ('ball',), 50.0, notes.append)
    assert truth.stamps_ns.tolist() == [at(0), at(2)]
    left_out, beyond = notes
    assert 'the first holds a centre 501 m from the LiDAR, more than 10 times' in left_out
    assert '1 message has a centre beyond max_range = 50 m' in beyond
    assert f'the first at {at(2) / 1e9:.3f} s' in beyond


def truth_of(tmp_path, *named):
    """Read the truth of detections with these names, each in a message of its own."""
    notes = []
    with BagWriter(tmp_path / 'bag') as bag:
        for index, names in enumerate(named):
            centers = np.arange(3.0 * len(names)).reshape(-1, 3)
            message = detections_message(at(index), names, centers)
            bag.write(TRUTH, 'vision_msgs/msg/Detection3DArray', at(index), message)
    with Recording(tmp_path / 'bag') as recording:
        return read_truth(recording, TRUTH, ('cube', 'ball'), 50.0, notes.append), notes


def test_detections_in_another_order_are_put_into_that_of_the_classes(tmp_path):
    names, classes = ('ring', 'cube', 'ball'), ('cube', 'ball', 'ring')
    with BagWriter(tmp_path / 'bag') as bag:
        message = detections_message(at(0), names, np.diag([1.0, 2.0, 3.0]))
        bag.write(TRUTH, 'vision_msgs/msg/Detection3DArray', at(0), message)
    with Recording(tmp_path / 'bag') as recording:
        truth = read_truth(recording, TRUTH, classes, 50.0, print)
    np.testing.assert_allclose(truth.centers[0], [[0, 2, 0], [0, 0, 3], [1, 0, 0]], atol=1e-9)


@pytest.mark.parametrize(
    ('names', 'why'),
    [
        (('cube', 'cone'), 'names cube, cone where cube, ball are looked for'),
        (('cube', ''), 'names cube,  where cube, ball are looked for'),
        (('0', '2'), 'names 0, 2 where cube, ball are looked for'),
        (('cube', 'ball', 'ball'), 'names cube, ball, ball where cube, ball are looked for'),
    ],
)
def test_detections_under_other_names_are_left_out_and_said(tmp_path, names, why):
    truth, notes = truth_of(tmp_path, ('ball', 'cube'), names)
    assert truth.stamps_ns.tolist() == [at(0)]
    assert notes == [f'{TRUTH}: 1 message was left out; the first {why}.']


def test_of_several_unfit_truths_the_first_is_named(tmp_path):
    _, notes = truth_of(tmp_path, ('cube', 'cone'), ('cone', 'ball'))
    assert notes == [
        f'{TRUTH}: 2 messages were left out; the first names cube, cone where cube, ball are '
        'looked for.'
    ]


def read_centers(tmp_path, *messages):
    notes = []
    with BagWriter(tmp_path / 'bag') as bag:
        for number, (stamp_ns, x) in enumerate(messages):
            # One object stays.
            centers = np.array([[x, 9.0, 0.0], [0.0, 9.0, 0.0]])
            bag.centers(TRUTH, stamp_ns, centers, log_ns=at(number))
    with Recording(tmp_path / 'bag') as recording:
        return read_truth(recording, TRUTH, ('ball', 'cone'), 50.0, notes.append), notes


def test_truths_out_of_order_are_found_by_their_stamps(tmp_path):
    truth, notes = read_centers(tmp_path, (at(2), 2.0), (at(0), 0.0), (at(1), 1.0))
    assert (truth.centers[:, 0, 0].tolist(), notes) == ([0.0, 1.0, 2.0], [])


def test_how_far_a_repeated_truth_lies_is_counted_from_the_first(tmp_path):
    truth, (note,) = read_centers(tmp_path, (at(0), 0.0), (at(0), 3.0), (at(0), 4.0))
    assert truth.centers[:, 0, 0].tolist() == [0.0]
    assert '2 messages repeat a stamp, up to 4.000 m from the first' in note


def test_of_truths_beyond_the_range_the_first_is_named(tmp_path):
    _, (note,) = read_centers(tmp_path, (at(0), 1.0), (at(1), 60.0), (at(2), 70.0))
    assert '2 messages have a centre beyond' in note
    assert f'the first at {at(1) / 1e9:.3f} s' in note
