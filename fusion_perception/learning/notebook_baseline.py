"""Do what the course notebook "Early and Late Fusion" does, plainly: what speed is compared with.

Nothing but `fusion benchmark` uses this file, and it uses nothing of the package. Data set
object: every PNG by Pillow and every range image by NumPy, moved to the device one by one; XYZA
of one sample whenever that sample is asked for. Loop: a loss read at every step, and a validation
that builds its graph after every epoch. Late fusion: three trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Sample = tuple[Tensor, Tensor, Tensor]
Loader = DataLoader[Sample]
# What a network takes of the RGBA and the XYZA images of a batch.
Inputs = Callable[[Tensor, Tensor], tuple[Tensor, ...]]

IMAGE_SIZE, MAX_RANGE, BATCH_SIZE, LEARNING_RATE = 64, 50.0, 32, 1e-4


class NotebookData(Dataset[Sample]):
    """The scenes first to last - 1 of a data folder, on a device as float32 tensors."""

    def __init__(self, folder: Path, device: torch.device, first: int, last: int) -> None:
        self.device = device
        self.rgb, self.lidar = [], []
        for index in range(first, last):
            image = Image.open(folder / 'rgb' / f'{index:04d}.png')
            self.rgb.append(
                image_tensor(np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE))), device)
            )
            ranges = np.load(folder / 'lidar' / f'{index:04d}.npy')
            self.lidar.append(torch.from_numpy(ranges).to(torch.float32).to(device))
        positions = np.genfromtxt(folder / 'positions.csv', delimiter=',', skip_header=1)
        self.positions = positions[first:last]
        self.azimuth = torch.from_numpy(np.load(folder / 'azimuth.npy')).to(device)
        self.zenith = torch.from_numpy(np.load(folder / 'zenith.npy')).to(device)

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, index: int) -> Sample:
        position = torch.tensor(self.positions[index], dtype=torch.float32).to(self.device)
        return self.rgb[index], xyza(self.lidar[index], self.azimuth, self.zenith), position


def image_tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return an image (H, W, 4) as (4, H, W) float32 in [0, 1] on a device."""
    return (torch.tensor(image).permute(2, 0, 1).to(torch.float32) / 255).to(device)


def xyza(ranges: Tensor, azimuth: Tensor, zenith: Tensor) -> Tensor:
    """Return the points and the mask (4, R, C) of one range image, by the notebook's formula."""
    a = torch.where(ranges < MAX_RANGE, torch.ones_like(ranges), torch.zeros_like(ranges))
    x = ranges * torch.sin(-azimuth[:, None])
    y = ranges * torch.cos(-azimuth[:, None]) * torch.cos(-zenith[None, :])
    z = ranges * torch.sin(-zenith[None, :])
    return torch.stack((x, y, z, a))


def loaders(folder: Path, device: torch.device, scenes: int, validation: int) -> list[Loader]:
    """Return the loader for training, shuffled, and the one for validation: the last scenes."""
    train = NotebookData(folder, device, 0, scenes - validation)
    valid = NotebookData(folder, device, scenes - validation, scenes)
    return [
        DataLoader(train, batch_size=BATCH_SIZE, shuffle=True, drop_last=True),
        DataLoader(valid, batch_size=BATCH_SIZE, shuffle=False),
    ]


class Net(nn.Module):
    """Three convolutions, three linear layers; (B, channels, 64, 64) to (B, 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 50, 3, padding=1)
        self.conv2 = nn.Conv2d(50, 100, 3, padding=1)
        self.conv3 = nn.Conv2d(100, 200, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(200 * 8 * 8, 1000)
        self.fc2 = nn.Linear(1000, 100)
        self.fc3 = nn.Linear(100, 9)

    def forward(self, x: Tensor) -> Tensor:
        """Predict the three centres, world axes, metres."""
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.pool(torch.relu(self.conv3(x)))
        x = torch.flatten(x, 1)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out


class EarlyNet(Net):
    """One network over both images stacked to eight channels."""

    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, rgb: Tensor, xyz: Tensor | None = None) -> Tensor:
        """Predict the three centres, world axes, metres."""
        return super().forward(rgb if xyz is None else torch.cat((rgb, xyz), 1))


class LateNet(nn.Module):
    """A small head on two trained networks whose weights stay as they are."""

    def __init__(self, rgb: Net, xyz: Net) -> None:
        super().__init__()
        self.rgb, self.xyz = rgb, xyz
        for parameter in [*rgb.parameters(), *xyz.parameters()]:
            parameter.requires_grad = False
        self.fc1 = nn.Linear(18, 90)
        self.fc2 = nn.Linear(90, 9)

    def forward(self, rgb: Tensor, xyz: Tensor) -> Tensor:
        """Predict the three centres, world axes, metres."""
        x = torch.cat((self.rgb(rgb), self.xyz(xyz)), 1)
        out: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return out


INPUTS: dict[str, Inputs] = {
    'rgb': lambda rgb, xyz: (rgb,),
    'lidar': lambda rgb, xyz: (xyz,),
    'late_fusion': lambda rgb, xyz: (rgb, xyz),
    'early_fusion': lambda rgb, xyz: (rgb, xyz),
}


def adam(net: nn.Module) -> torch.optim.Adam:
    """Return the notebook's optimiser of a network."""
    return torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)


def train_epoch(
    net: nn.Module,
    optimiser: torch.optim.Adam,
    inputs: Inputs,
    batches: Iterable[Sample],
    steps: int | None = None,
) -> float:
    """Take one step per batch, at most `steps`; return the mean of the losses."""
    net.train()
    loss_of = nn.MSELoss()
    losses: list[float] = []
    for rgb, xyz, position in islice(batches, steps):
        optimiser.zero_grad()
        loss = loss_of(net(*inputs(rgb, xyz)), position)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def validate(net: nn.Module, inputs: Inputs, batches: Iterable[Sample]) -> float:
    """Return the mean loss over the validation scenes.

    The notebook takes the mean of its batches, all of one size: of 320 scenes that is the same.
    """
    net.eval()
    loss_of = nn.MSELoss()
    total, scenes = 0.0, 0
    for rgb, xyz, position in batches:
        total += loss_of(net(*inputs(rgb, xyz)), position).item() * len(position)
        scenes += len(position)
    return total / scenes


def predict(
    net: nn.Module,
    image: NDArray[np.uint8],
    ranges: NDArray[np.float32],
    azimuth: Tensor,
    zenith: Tensor,
) -> NDArray[np.float32]:
    """Predict (9,) from one image (64, 64, 4) and one range image (64, 64), as a notebook does."""
    device = azimuth.device
    rgb = image_tensor(image, device).unsqueeze(0)
    points = xyza(torch.tensor(ranges).to(device), azimuth, zenith).unsqueeze(0)
    centers: NDArray[np.float32] = net(rgb, points)[0].detach().cpu().numpy()
    return centers


def predict_many(
    net: nn.Module,
    images: NDArray[np.uint8],
    ranges: NDArray[np.float32],
    azimuth: Tensor,
    zenith: Tensor,
) -> NDArray[np.float32]:
    """Predict (B, 9) from B images and range images: samples one by one, then one batch."""
    device = azimuth.device
    rgb = torch.stack([image_tensor(image, device) for image in images])
    points = [xyza(torch.tensor(one).to(device), azimuth, zenith) for one in ranges]
    centers: NDArray[np.float32] = net(rgb, torch.stack(points)).detach().cpu().numpy()
    return centers
