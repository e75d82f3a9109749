"""True centres are read from a recording and found by their stamp."""

import numpy as np
import pytest
from recordings import at

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
        f'{TRUTH}: 1 messages were left out; the first holds a pose that is not finite, or as '
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
    assert '1 messages have a centre beyond max_range = 50 m' in beyond
    assert f'the first at {at(2) / 1e9:.3f} s' in beyond
