"""Draw one scene of a data folder as the course's notebook does: `fusion view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import tyro
from pydantic import Field

from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.data.kept_apart import lies_among_scenes
from fusion_perception.learning.plots import (
    Box,
    beam_labels,
    images_figure,
    points_of,
    scatter_figure,
    write_png,
    write_turning_gif,
)
from fusion_perception.sensing.settings import Settings


class ViewSettings(Settings):
    """Which scene `fusion view` draws, and where to."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='DATA')] = Field(
        description='Data folder in the original layout'
    )
    index: int = Field(0, ge=0, description='Scene to draw')
    out: Path = Field(Path('runs/view'), description='Folder for the pictures')
    frames: int = Field(360, ge=1, description='Frames of the turning GIF, 30 a second')


def view(settings: ViewSettings) -> str:
    """Write the pictures of one scene, numbered in the notebook's order, and say where.

    Raises FileNotFoundError or ValueError for a folder or scene that cannot be read.
    """
    folder = DataFolder.open(settings.data)
    if lies_among_scenes(settings.out, folder.path):
        raise ValueError(
            f"{settings.out} lies among the scenes' files of {settings.data}. Choose another "
            'folder for the pictures.'
        )
    scene, lidar = folder.scene(settings.index), folder.lidar
    x, y, z = lidar.directions.permute(2, 0, 1).numpy()
    xyza = lidar.xyza(torch.from_numpy(scene.ranges))
    channels = dict(zip('xyza', xyza.numpy(), strict=True))
    points = points_of(scene.ranges, lidar)
    box = Box.around(points, folder.rig.T_lidar_label(torch.float64)[:3, 3].numpy())
    # As the files hold them, which may be a quarter turn from what the camera sees.
    labels = beam_labels(lidar)

    settings.out.mkdir(parents=True, exist_ok=True)
    figures = {
        '01_image': images_figure([('camera image', scene.image)]),
        '02_distance': None
        if scene.distance is None
        else images_figure(
            [('distance along each camera ray [m]', scene.distance)], lidar.max_range
        ),
        '03_ranges': images_figure(
            [('range along each LiDAR beam [m]', scene.ranges)], lidar.max_range, labels
        ),
        '04_directions': images_figure([('direction x', x), ('z', z), ('y', y)], labels=labels),
        '05_mask': images_figure(
            [('mask: 1 where a beam returned', channels['a'])], labels=labels
        ),
        '06_xyza': images_figure(
            [*((f'{name} [m]', channels[name]) for name in 'xzy'), ('a', channels['a'])],
            labels=labels,
        ),
        '07_points': scatter_figure(points, box),
    }
    for name, figure in figures.items():
        if figure is not None:
            write_png(figure, settings.out / f'{name}.png')
    write_turning_gif(points, box, settings.out / '08_turning.gif', settings.frames)
    return f'Scene {settings.index} of {settings.data} is drawn in {settings.out}.'
