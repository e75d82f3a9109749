"""Scenes at the end of a folder keep the numbers that they have there."""

import pytest
import torch

from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evidence.of_folder import from_folder
from fusion_perception.learning.metrics import score
from fusion_perception.learning.reports.errors import Axis, errors_of
from fusion_perception.learning.reports.figures import error_over_time

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def evidence(runtime, simulated):
    return from_folder(runtime, simulated, last=3, batch_size=4)


def test_the_worst_frames_are_the_folder_s_scenes_of_that_number(evidence, simulated):
    scenes = read_folder(simulated)
    numbers = [int(frame.place.removeprefix('Scene ')) for frame in evidence.worst]
    assert sorted(numbers) == [5, 6, 7]
    for number, frame in zip(numbers, evidence.worst, strict=True):
        assert torch.equal(torch.from_numpy(frame.truth), scenes.centers[number])


def test_errors_are_drawn_over_the_folder_s_numbers(evidence):
    axis = Axis.of(evidence)
    errors = errors_of(evidence, axis)
    assert errors.at.tolist() == [5, 6, 7]
    assert (axis.edges()[0], axis.edges()[-1]) == (5, 8)
    assert error_over_time(errors, axis).axes[-1].get_xlim() == (5, 8)


def test_a_scene_whose_centres_are_not_finite_is_named_by_its_number():
    truth = torch.zeros(3, 1, 3)
    centers = truth.clone()
    centers[1] = torch.nan
    with pytest.raises(ValueError, match='the first at index 6'):
        score(centers, truth, ('cube',), first=5)
