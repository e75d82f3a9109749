"""The notebook's network, where it is computed otherwise than the notebook wrote it."""

import pytest
import torch

from fusion_perception.models import build
from fusion_perception.models.convnet import ConvNet, ConvNetConfig, filled_up
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Camera

SMALL_NET = {'channels': (2, 4), 'hidden': (8,)}


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


def one_scene(height, width, rows=64):
    image = torch.zeros(1, height, width, 4, dtype=torch.uint8)
    lidar = UniformGrid(rows=rows, columns=rows).lidar()
    ranges = torch.full((1, *lidar.shape), 20.0)
    return observe(image, ranges, Camera().resized(width, height), lidar)


def test_a_network_for_one_size_says_which_size_to_set_when_another_comes():
    with pytest.raises(ValueError, match=r'is 32x32 pixels, .* 64x64\. Set `size: 32` under'):
        build('rgb', SMALL_NET)(one_scene(32, 32))
    assert build('rgb', {**SMALL_NET, 'size': 32})(one_scene(32, 32)).centers.shape == (1, 3, 3)


def test_a_network_for_square_images_says_so_when_another_comes():
    with pytest.raises(ValueError, match=r'32x64 pixels, .* square ones only\. Use dense_fusion'):
        build('rgb', SMALL_NET)(one_scene(32, 64))


@pytest.mark.parametrize('model', ['early_fusion', 'late_fusion'])
def test_what_fuses_two_images_needs_them_of_one_size(model):
    with pytest.raises(ValueError, match=r'usion takes .* of one size, .* 64x64 and 32x32 pix'):
        build(model, SMALL_NET)(one_scene(64, 64, rows=32))
