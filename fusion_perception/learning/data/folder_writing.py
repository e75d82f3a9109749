"""Write a data folder in the original layout, scene by scene."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion_perception.learning.data.folder import DISTANCES, IMAGES, LABELS, RANGES, RIG
from fusion_perception.learning.data.labels import write_positions
from fusion_perception.sensing.npy import write_npy
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.rig import Rig


def check_is_new(out: Path) -> None:
    """Raise ValueError when a folder to write is a file or holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f'{out} is {"not empty" if out.is_dir() else "a file"}. Choose a new folder, or '
            'delete it first.'
        )


class FolderWriter:
    """Writes the tables and `sensor.yaml` at once, then scenes, then `positions.csv`.

    A folder without `positions.csv` is an interrupted one. `write` may be called from several
    threads. Raises ValueError when `out` is a file or holds something.
    """

    def __init__(self, out: Path, rig: Rig, lidar: Lidar) -> None:
        check_is_new(out)
        self._out, self._rig = out, rig
        for kind, _ in (IMAGES, RANGES):
            (out / kind).mkdir(parents=True, exist_ok=True)
        write_npy(out / 'azimuth.npy', lidar.azimuth.cpu().numpy())
        write_npy(out / 'zenith.npy', lidar.zenith.cpu().numpy())
        if lidar.offsets is not None:
            write_npy(out / 'offsets.npy', lidar.offsets.cpu().numpy())
        rig.write_yaml(out / RIG)

    def write(
        self,
        index: int,
        image: NDArray[np.uint8],
        ranges: NDArray[np.float32],
        distance: NDArray[np.float32] | None = None,
    ) -> None:
        """Write a scene: image (H, W, 4) RGBA; ranges (R, C) and distance (H, W) metres."""
        number = f'{index:04d}'
        png = BytesIO()
        # Level 1 is three times as quick as the default and these images stay as small.
        Image.fromarray(image).save(png, 'PNG', compress_level=1)
        (self._out / IMAGES[0] / f'{number}{IMAGES[1]}').write_bytes(png.getvalue())
        write_npy(self._out / RANGES[0] / f'{number}{RANGES[1]}', ranges)
        if distance is not None:
            (self._out / DISTANCES[0]).mkdir(exist_ok=True)
            write_npy(self._out / DISTANCES[0] / f'{number}{DISTANCES[1]}', distance)

    def finish(self, centers: NDArray[np.float64]) -> None:
        """Write the centres (N, K, 3) of all scenes, given in metres in the LiDAR frame."""
        pose = np.asarray(self._rig.T_label_lidar, dtype=np.float64)
        positions = centers @ pose[:3, :3].T + pose[:3, 3]
        write_positions(self._out / LABELS, self._rig.classes, positions)
