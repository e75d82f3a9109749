"""What the models say of a scene is what they said of it when bundles were made."""

import pytest
import torch
from small_bundles import CONFIGS, GRID

from fusion_perception.models import build
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.observation import Camera

# Centres, metres, that each model gave when this was written. A change here makes the bundles of
# all users wrong: give a model that computes otherwise another name.
SAID = {
    'dense_fusion': [[22.109, -0.785, 5.71], [-26.094, 54.671, -10.72], [18.281, 61.393, -22.395]],
    'early_fusion': [[1.548, 22.885, 0.145], [-0.876, 24.001, 0.742], [-1.798, 27.4, -2.322]],
    'late_fusion': [[6.895, 20.268, -5.01], [6.345, 24.381, -7.693], [3.854, 29.238, -6.973]],
    'lidar': [[2.713, 25.024, -5.227], [7.554, 12.791, 14.363], [-17.382, 44.435, -20.247]],
    'rgb': [[0.107, 24.011, -0.629], [-0.479, 23.995, 0.357], [-1.036, 26.284, -0.89]],
}
# Variances of dense fusion, square metres.
UNSURE = [[2.7039, 0.9685, 1.3239], [2.3192, 1.6221, 0.4911], [1.9754, 1.7446, 0.4116]]


def with_settled_weights(name):
    """Return a small model whose weights are waves, which no random generator changes."""
    model = build(name, CONFIGS[name]).eval()
    for number, (key, value) in enumerate(sorted(model.state_dict().items())):
        if not value.is_floating_point() or 'prior' in key:
            continue
        at = torch.arange(value.numel(), dtype=torch.float64)
        wave = torch.sin(1.7 * number + 0.37 * at).float().view(value.shape)
        scales = 'running_var' in key or ('weight' in key and value.dim() == 1)
        inputs = value[0].numel() if value.dim() > 1 else 4
        value.copy_(1 + 0.3 * wave if scales else wave * (2 / inputs) ** 0.5)
    return model


def scene():
    """Return an observation of a colourful image and of a slanted disc."""
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    images = torch.stack((4 * u, 4 * v, 2 * (u + v), 255 - v), -1).byte()[None]
    away = ((u - 30) ** 2 + (v - 36) ** 2).sqrt()
    ranges = torch.where(away < 20, 22 + 0.05 * away + 0.02 * u, 50.0)[None]
    return observe(images, ranges, Camera(), GRID)


@pytest.mark.parametrize('name', SAID)
@torch.no_grad()
def test_a_model_says_of_a_scene_what_it_always_said(name):
    found = with_settled_weights(name)(scene())
    expected = torch.tensor(SAID[name])[None]
    torch.testing.assert_close(found.centers, expected, atol=0.01, rtol=0.001)
    if name == 'dense_fusion':
        variances = found.covariance[0].diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(variances, torch.tensor(UNSURE), atol=0.01, rtol=0.01)
