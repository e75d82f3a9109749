"""The notebook's network, where it is computed otherwise than the notebook wrote it."""

import pytest
import torch

from fusion_perception.models.convnet import ConvNet, ConvNetConfig, filled_up


@pytest.mark.parametrize(
    ('channels', 'expected'),
    [(1, 8), (8, 8), (25, 32), (47, 48), (48, 64), (50, 64), (64, 64), (100, 128), (200, 256)],
)
def test_channels_are_filled_up_to_whole_tiles_where_that_adds_at_most_a_third(channels, expected):
    assert filled_up(channels) == expected


def test_in_bfloat16_points_far_away_are_still_known_to_centimetres():
    net = ConvNet(8, ConvNetConfig(channels=(4, 8), hidden=(16,)))
    seen = []
    net.layers[0].register_forward_hook(lambda _, given, output: seen.append(output))
    far = torch.full((1, 8, 64, 64), 25.0)
    with torch.autocast('cpu', torch.bfloat16):
        for image in (far, far + 0.02):
            assert net(image).isfinite().all()
    one, other = seen
    assert (one - other).abs().max() > 1e-4
    with torch.autocast('cpu', enabled=False):
        torch.testing.assert_close(other, net.layers[0](far + 0.02))
