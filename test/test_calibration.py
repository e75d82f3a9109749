"""What calibrating dense fusion does, and what it leaves alone."""

import torch
from small_bundles import CONFIGS, GRID

from fusion_perception.models import build
from fusion_perception.models.examples import made_up_examples
from fusion_perception.sensing.observation import Camera


def scenes():
    return made_up_examples(Camera(), GRID).seen_by('fusion', Camera(), GRID)


def model(**config):
    torch.manual_seed(0)
    return build('dense_fusion', {**CONFIGS['dense_fusion'], **config})


def test_calibrating_again_changes_nothing_and_no_weight_is_ever_touched():
    learning, batches = model().train(), [(scenes(), torch.zeros(4, 3, 3))]
    before = {key: value.clone() for key, value in learning.state_dict().items()}
    learning.calibrate(batches)
    once = learning.config.covariance_scale
    learning.calibrate(batches)
    assert learning.config.covariance_scale == once != (1.0, 1.0, 1.0)
    after = learning.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_without_any_sensor_a_calibrated_model_says_what_it_believed_before():
    nothing = scenes().without('camera').without('lidar')
    blind = model(covariance_scale=(2.0, 3.0, 4.0)).eval()(nothing)
    expected = 9 * torch.eye(3).expand(4, 3, 3, 3)
    torch.testing.assert_close(blind.covariance, expected)
    torch.testing.assert_close(blind.centers, torch.tensor([0.0, 25, 0]).expand(4, 3, 3))
