"""Read the original layout of a data folder: names, counts, files, and whether they agree.

`rgb/0000.png` (H, W) 8-bit; `lidar/0000.npy` (R, C) ranges, metres; `distance/0000.npy` (H, W)
metres, optional; `positions.csv` one row of centres per scene; `azimuth.npy` and `zenith.npy`,
radians; `sensor.yaml` the rig, optional.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fusion_perception.learning.data.doubts import Tell, tell
from fusion_perception.learning.data.in_threads import in_threads
from fusion_perception.learning.data.label_fit import Labels, check_labels
from fusion_perception.learning.data.labels import check_distances, read_positions
from fusion_perception.learning.data.numbered import Numbered
from fusion_perception.learning.data.plain_files import (
    LARGEST_PIXELS,
    plain_npy,
    plain_png,
    png_size,
)
from fusion_perception.sensing.geometry import transform_points
from fusion_perception.sensing.lidars import lidar_from_tables
from fusion_perception.sensing.npy import read_npy
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig

IMAGES, RANGES, DISTANCES = ('rgb', '.png'), ('lidar', '.npy'), ('distance', '.npy')
LABELS, RIG = 'positions.csv', 'sensor.yaml'
ASSUMED = (
    f'There is no {RIG}: the rig of the original data is assumed (f = 73.3 px at 64x64, LiDAR at '
    '(0, 25, 0) looking along -y, max_range 50 m).'
)
# Pillow knows more modes; these become RGBA without losing or inventing anything.
IMAGE_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')


@dataclass(frozen=True)
class Scene:
    """One scene as its files hold it.

    image (H, W, 4) uint8 RGBA; ranges (R, C) and distance (H, W) float32 metres, distance None
    where the folder has none; centers (K, 3) float64 metres in the LiDAR frame.
    """

    image: NDArray[np.uint8]
    ranges: NDArray[np.float32]
    distance: NDArray[np.float32] | None
    centers: NDArray[np.float64]


@dataclass(frozen=True)
class DataFolder:
    """A data folder whose names and counts agree; its files are read on demand.

    positions is (N, K, 3) float64, metres in label axes.
    """

    path: Path
    rig: Rig
    lidar: Lidar
    positions: NDArray[np.float64]
    images: Numbered
    ranges: Numbered

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def open(cls, path: Path, tell: Tell = tell) -> DataFolder:
        """Open a data folder and tell what is in doubt.

        Raises FileNotFoundError or ValueError for what does not fit.
        """
        if not (path / LABELS).is_file() and _is_recording(path):
            raise FileNotFoundError(
                f'{path} is a recording. Make a data folder of it with `fusion from-bag '
                f'{quote(str(path))} --out DATA`; `fusion evaluate` and `doctor` take it as --bag.'
            )
        if not path.is_dir():
            kind, out = ('a file', 'OUT') if path.exists() else ('missing', quote(str(path)))
            raise FileNotFoundError(
                f'{path} is {kind}; a data folder is needed. Make one with {_simulation(out)}.'
            )
        if not any(path.iterdir()):
            raise FileNotFoundError(
                f'{path} is empty. Fill it with {_simulation(quote(str(path)))}.'
            )
        classes, positions = read_positions(path / LABELS)
        images, ranges = Numbered.among(path, *IMAGES), Numbered.among(path, *RANGES)
        counts = {'images in rgb': len(images), 'range images in lidar': len(ranges)}
        if set(counts.values()) != {len(positions)}:
            found = ', '.join(f'{count} {what}' for what, count in counts.items())
            raise ValueError(
                f'{path} holds {found}, {len(positions)} rows in positions.csv'
                f'{images.unread}{ranges.unread}. Give one of each per scene.'
            )
        if not len(positions):
            raise ValueError(f'{path}/positions.csv has a header and no scenes. Add them.')
        rig = read_rig(path, classes)
        folder = cls(path, rig, lidar_from_tables(path, rig), positions, images, ranges)
        tell(path, folder.doubts())
        return folder

    def doubts(self) -> list[str]:
        """Say what is in doubt before a scan is read; raise ValueError for impossible centres."""
        assumed = [] if (self.path / RIG).is_file() else [ASSUMED]
        limit = self.rig.max_range
        return assumed + check_distances(
            self.path / LABELS, self.rig.classes, self.all_centers(), limit
        )

    def scene(self, index: int) -> Scene:
        """Read one scene; raise ValueError for an index that does not exist."""
        if not 0 <= index < len(self):
            raise ValueError(
                f'{self.path} has no scene {index}. Choose one of 0 to {len(self) - 1}.'
            )
        path = self.path / DISTANCES[0] / f'{self.ranges[index].stem}.npy'
        image = read_image(self.images[index])
        distance = read_ranges(path, 'distance image') if path.parent.is_dir() else None
        if distance is not None and distance.shape != image.shape[:2]:
            raise ValueError(
                f'{path} is {_shape(distance.shape)}, but {self.images[index]} '
                f'{_shape(image.shape[:2])} (rows, columns). Write it again.'
            )
        return Scene(
            image=image,
            ranges=self._fitting(read_ranges(self.ranges[index]), self.ranges[index]),
            distance=distance,
            centers=self.centers(index),
        )

    def centers(self, index: int) -> NDArray[np.float64]:
        """Return the centres (K, 3) of one scene in metres, in the LiDAR frame."""
        return self._in_lidar_frame(self.positions[index])

    def all_centers(self) -> NDArray[np.float64]:
        """Return the centres (N, K, 3) of all scenes in metres, in the LiDAR frame."""
        return self._in_lidar_frame(self.positions)

    def _in_lidar_frame(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        T_lidar_label = self.rig.T_lidar_label(torch.float64)
        centers: NDArray[np.float64] = transform_points(
            T_lidar_label, torch.from_numpy(positions)
        ).numpy()
        return centers

    def shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int, int]]:
        """Return the shapes of all images and of all ranges, judging by the first image."""
        return (len(self), *self._image_size, 4), (len(self), *self.lidar.shape)

    @cached_property
    def _image_size(self) -> tuple[int, int]:
        height, width, _ = read_image(self.images[0]).shape
        return height, width

    def read(self, tell: Tell = tell) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Read all images (N, H, W, 4) and ranges (N, R, C), and check that the labels fit.

        What is in doubt is told. Raises ValueError as `read_scenes` and `check` do.
        """
        of_images, of_ranges = self.shapes()
        images, ranges = np.empty(of_images, np.uint8), np.empty(of_ranges, np.float32)

        def keep(index: int, image: NDArray[np.uint8], scan: NDArray[np.float32]) -> None:
            images[index], ranges[index] = image, scan

        self.read_scenes(keep)
        tell(self.path, self.check(ranges))
        return images, ranges

    def read_scenes(
        self, keep: Callable[[int, NDArray[np.uint8], NDArray[np.float32]], None]
    ) -> None:
        """Call `keep` with number, image and ranges of each scene, from several threads.

        Raises ValueError for a torn file, images of differing sizes and range images that the
        angle tables do not describe.
        """
        in_threads(lambda index: keep(index, *self.read_scene(index)), len(self))

    def read_scene(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return image and ranges of one scene; raises ValueError as `read_scenes` does."""
        image = read_image(self.images[index], (self.images[0].name, self._image_size))
        return image, self._fitting(read_ranges(self.ranges[index]), self.ranges[index])

    def check(self, ranges: NDArray[np.float32]) -> list[str]:
        """Check `sensor.yaml` and the labels against the files and all ranges (N, R, C).

        Returns in sentences what is in doubt. Raises ValueError for what contradicts.
        """
        image = self._image_size
        camera, described = self.rig.camera, self.path / RIG
        if described.is_file() and image != (camera.height, camera.width):
            raise ValueError(
                f'{described} describes a camera of {camera.width}x{camera.height} pixels, but '
                f'{self.images[0]} is {_size(image)}. Correct the camera there.'
            )
        some = ranges[:: max(1, len(ranges) // 64)]
        largest = float(np.where(np.isfinite(some), some, 0).max())
        share = float(np.mean(some == largest))
        # Ranges are float32: 40.1 metres read a little less there.
        if 0 < largest < float(np.float32(self.rig.max_range)) and share > 0.05:
            # A miss that reads less than max_range would count as a wall of returns.
            raise ValueError(
                f'{share:.0%} of the rays in {self.path}/lidar read {largest:g}, as rays without '
                f'return do, but max_range is {self.rig.max_range:g}. Set it in {described}.'
            )
        # Of a scan that is NaN everywhere the first ray is.
        suspects = np.flatnonzero(np.isnan(ranges[:, 0, 0]))
        empty = [index for index in suspects.tolist() if np.isnan(ranges[index]).all()]
        doubts = [
            f'{len(empty):,} of {len(self):,} range images are NaN everywhere, the first '
            f'{RANGES[0]}/{self.ranges[first].name}. Leave these scenes out, or write them anew.'
            for first in empty[:1]
        ]
        return doubts + check_labels(
            Labels(
                path=self.path / LABELS,
                positions=torch.from_numpy(self.positions),
                ranges=torch.from_numpy(ranges),
                lidar=self.lidar,
                T_lidar_label=self.rig.T_lidar_label(torch.float64),
                object_size_m=self.rig.object_size_m,
            )
        )

    def _fitting(self, ranges: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
        if ranges.shape != self.lidar.shape:
            raise ValueError(
                f'{path} is {_shape(ranges.shape)}, but azimuth.npy and zenith.npy describe '
                f'{_shape(self.lidar.shape)}. Use the tables of this LiDAR.'
            )
        return ranges


def read_rig(path: Path, classes: tuple[str, ...]) -> Rig:
    """Read `sensor.yaml`, or assume the original data's rig.

    Raises ValueError when it names other objects than the header of positions.csv.
    """
    described = path / RIG
    if not described.is_file():
        return Rig.read({'classes': classes}, path / LABELS)
    rig = Rig.read_yaml(described)
    if rig.classes != classes:
        raise ValueError(
            f'{described} names {", ".join(rig.classes)}, but the header of positions.csv '
            f'{", ".join(classes)}. Name the same objects in the same order.'
        )
    return rig


def read_image(path: Path, first: tuple[str, tuple[int, int]] | None = None) -> NDArray[np.uint8]:
    """Read an 8-bit PNG as (H, W, 4) RGBA: alpha 255 where it has none, mono repeated.

    `first` is the name and (H, W) of another image, as large as which it must be. Raises
    FileNotFoundError or ValueError; an image of another size, or too large, is not decoded.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f'No image at {path}. Restore it.') from None
    except OSError:
        content = b''
    found = png_size(content)
    if found is None:
        raise _torn(path)
    if first is not None and found != first[1]:
        raise ValueError(
            f'{path} is {_size(found)} pixels and {first[0]} {_size(first[1])}. Give all images '
            'of a folder one size.'
        )
    if math.prod(found) > LARGEST_PIXELS:
        raise ValueError(
            f'{path} is {_size(found)} pixels, and at most {LARGEST_PIXELS:,} in all can be read. '
            'Give smaller images.'
        )
    # torchvision's decoder takes half as long as Pillow, but a flipped byte in a PNG crashes it.
    try:
        plain = plain_png(content)
        if plain is not None:
            size, rgba = plain
            return np.frombuffer(bytearray(rgba), np.uint8).reshape(*size, 4)
        with Image.open(BytesIO(content), formats=('PNG',)) as image:
            mode, pixels = image.mode, np.asarray(image.convert('RGBA'))
    except (OSError, SyntaxError, ValueError):
        raise _torn(path) from None
    if mode not in IMAGE_MODES:
        raise ValueError(f'{path} has the pixel mode {mode}. Save it as 8-bit RGB or RGBA.')
    return pixels


def _torn(path: Path) -> ValueError:
    return ValueError(f'{path} is torn or no PNG. Restore it or write it again.')


def read_ranges(path: Path, what: str = 'range image') -> NDArray[np.float32]:
    """Read a range or distance image, metres, as float32; pickled files are refused."""
    try:
        content = path.read_bytes()
        plain = plain_npy(content)
        if plain is not None:
            return np.frombuffer(plain[1], '<f4').reshape(plain[0]).astype(np.float32)
        values = read_npy(content)
    except FileNotFoundError:
        raise FileNotFoundError(f'No {what} at {path}. Restore it.') from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{path} is torn or no plain .npy file ({error}). Restore it or write it again.'
        ) from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        found = f'{values.dtype} of shape {values.shape}'
        raise ValueError(f'{path} holds {found}; a {what} is (R, C) float metres.')
    # What float32 does not reach is no return either: infinity is none.
    with np.errstate(over='ignore'):
        return values.astype(np.float32, copy=False)


def _simulation(out: str) -> str:
    return f'`fusion simulate {out} --task shapes --count 1000`, or with `--task cubes`'


def _is_recording(path: Path) -> bool:
    # Who reads data folders seldom needs what reads recordings, and waits for its import.
    from fusion_perception.sensing.recordings.files import is_recording

    return is_recording(path)


def _size(image: tuple[int, int]) -> str:
    return f'{image[1]}x{image[0]}'


def _shape(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))
