"""The GPU's own kernels say what the layers say; without a GPU, Triton interprets them."""

import pytest
import torch
from torch import nn

from fusion_perception.models.unet import UNet
from fusion_perception.models.votes import Votes

pytest.importorskip('triton', reason='triton comes with PyTorch for CUDA only')
from fusion_perception.engines import fused_unet
from fusion_perception.engines.fused_unet import FusedUNet
from fusion_perception.engines.fused_votes import FusedVotes
from fusion_perception.engines.pinned import copy

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

# Interpreted, a kernel takes a thousand times as long.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def seen(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def unet(inputs, widths, beside, finest=0):
    torch.manual_seed(1)
    net = UNet(inputs, widths, beside, finest).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias.data):
                values.normal_()
            for values in (layer.running_var, layer.weight.data):
                values.uniform_(0.5, 2)
    return net.to(DEVICE)


@pytest.mark.parametrize(
    ('inputs', 'widths', 'beside', 'finest', 'size', 'count'),
    [
        (13, (32, 64, 96), 4, 0, (8, 8), 1),
        (3, (16, 40), 0, 0, (12, 8), 2),
        (13, (8, 16), 4, 0, (15, 13), 1),
        (3, (16, 32, 24), 0, 1, (15, 13), 2),
        (3, (8, 16), 0, 1, (8, 8), 1),
        (2, (5,), 0, 0, (7, 9), 1),
    ],
)
@torch.no_grad()
def test_a_fused_unet_gives_the_features_of_its_unet(inputs, widths, beside, finest, size, count):
    net = unet(inputs, widths, beside, finest)
    half = [-(-side // 2) for side in size]
    given = [seen(count, inputs, *size)]
    if beside:
        given.append(seen(count, beside, *half, seed=1))
    expected = net(*given)
    found = FusedUNet(net)(*given)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_many_pixels_are_computed_in_larger_tiles(monkeypatch):
    monkeypatch.setattr(fused_unet, '_FEW_PIXELS', 10)
    net = unet(4, (8, 16), 0)
    image = seen(2, 4, 12, 12)
    torch.testing.assert_close(FusedUNet(net)(image), net(image), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize('valid', ['some', 'none', 'no mask'])
@pytest.mark.parametrize('size', [(16, 16), (9, 5)])
@torch.no_grad()
def test_fused_votes_find_the_same_centres_and_are_as_sure(valid, size):
    torch.manual_seed(2)
    votes = Votes(24, 3).to(DEVICE)
    for parameter in votes.sure[-1].parameters():
        parameter.normal_()
    features, surface = seen(2, 24, *size), 25 + seen(2, 1, 3, *size, seed=3)
    mask = (
        None if valid == 'no mask' else seen(2, 1, *size, seed=4) > (0 if valid == 'some' else 99)
    )

    def place(raw):
        return surface + 2 * raw

    found, expected = FusedVotes(votes)(features, place, mask), votes(features, place, mask)
    torch.testing.assert_close(found[0], expected[0], atol=3e-5, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize('count', [1, 255, 256, 1000])
def test_a_kernel_copies_all_of_a_tensor_and_no_more(count):
    source = torch.arange(count, dtype=torch.int32, device=DEVICE)
    target = torch.zeros(count + 8, dtype=torch.int32, pin_memory=torch.cuda.is_available())
    copy(source, target[:count])
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    assert torch.equal(target[:count], source.cpu())
    assert not target[count:].any()
