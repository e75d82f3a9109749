"""The convolutional network of the course notebook "Early and Late Fusion"."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad

from fusion_perception.models.base import ModelConfig, Width
from fusion_perception.sensing.observation import Coordinate, Observation


class ConvNetConfig(ModelConfig):
    """The notebook's widths; `size` is the height and width of its square input."""

    channels: tuple[Width, ...] = Field((50, 100, 200), description='Channels of each convolution')
    hidden: tuple[Width, ...] = Field(
        (1000, 100), description='Widths of the hidden linear layers'
    )
    size: Width = Field(64, description='Height and width of the square input in pixels')
    origin: tuple[Coordinate, Coordinate, Coordinate] = Field(
        (0.0, 25.0, 0.0),
        description='Where the labels the network learns have their origin, LiDAR frame, metres',
    )

    @model_validator(mode='after')
    def _leaves_a_pixel(self) -> ConvNetConfig:
        if self.size < 2 ** len(self.channels):
            raise ValueError(
                f'{len(self.channels)} convolutions halve {self.size} pixels to nothing; give '
                'fewer channels, or a larger size'
            )
        return self


class ConvNet(nn.Module):
    """Regress K centres, (B, K, 3), from a (B, inputs, size, size) image.

    Per stage a 3x3 convolution, ReLU and 2x2 maximum; then linear layers with ReLU between.
    """

    def __init__(self, inputs: int, config: ConvNetConfig) -> None:
        channels = (inputs, *config.channels)
        layers: list[nn.Module] = []
        last = len(channels) - 2
        for number, (before, after) in enumerate(pairwise(channels)):
            # In bundles the layers have the numbers that ReLU and maximum, as layers, gave them.
            layers += [_Stage(before, after, number == last), nn.Identity(), nn.Identity()]
        layers.append(nn.Flatten())
        side = config.size // 2 ** len(config.channels)
        widths = (channels[-1] * side * side, *config.hidden)
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        layers += [nn.Linear(widths[-1], 3 * config.objects)]
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.size = config.size
        # The notebook learns labels around the middle of the scene, not around the LiDAR.
        self.register_buffer('origin', torch.tensor(config.origin), persistent=False)
        self.origin: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Return centres (B, K, 3) in metres, LiDAR frame."""
        if image.shape[-2:] != (self.size, self.size):
            height, width = image.shape[-2:]
            raise ValueError(
                f'The input is {height}x{width} pixels, and this network takes '
                + (
                    f'{self.size}x{self.size}. Set `size: {height}` under `architecture`, or use '
                    if height == width
                    else 'square ones only. Use '
                )
                + 'dense_fusion, which takes any.'
            )
        first, *others = self.layers
        # Points are metres: bfloat16 knows those 25 m away to 12 cm, and what is learned is worse.
        with torch.autocast(image.device.type, enabled=False):
            output: Tensor = first(image)
        for layer in others:
            output = layer(output)
        return output.reshape(len(image), -1, 3) + self.origin


class _Stage(nn.Conv2d):
    """A 3x3 convolution, ReLU and the maximum of 2x2.

    The maximum comes first: it commutes with both the bias and ReLU, which then have a quarter of
    the work. On a GPU the channels between two stages are filled up with zeros (`filled_up`).
    """

    def __init__(self, inputs: int, outputs: int, last: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.last = last

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H // 2, W // 2)."""
        weight, bias = self.weight, self.bias
        assert bias is not None
        filled = input.shape[1] - self.in_channels
        outputs = self.out_channels
        spare = filled_up(outputs) - outputs if input.is_cuda and not self.last else 0
        if filled or spare:
            weight, bias = pad(weight, (0, 0, 0, 0, 0, filled, 0, spare)), pad(bias, (0, spare))
        largest = max_pool2d(conv2d(input, weight, padding=1), 2)
        return torch.relu(largest + bias[:, None, None])


def refuse_two_sizes(name: str, observation: Observation) -> None:
    """Raise ValueError when image and range image differ in size, for a model that fuses them."""
    image, points = observation.rgba.shape[-2:], observation.xyza.shape[-2:]
    if image != points:
        raise ValueError(
            f'{name} takes a camera image and a range image of one size, height and width alike, '
            f'and they are {image[0]}x{image[1]} and {points[0]}x{points[1]} pixels. Scale the '
            'images themselves, and the camera in sensor.yaml with them, or use dense_fusion, '
            'which takes any.'
        )


def filled_up(channels: int) -> int:
    """Return how many channels a GPU convolves quicker than these: some of zeros are added.

    Its matrix units want a multiple of eight, or else are not used, or only after a copy; and
    they are busy with whole tiles of 64, which are taken where this adds at most a third.
    """
    tiles = -(-channels // 64) * 64
    return tiles if 3 * tiles <= 4 * channels else -(-channels // 8) * 8
