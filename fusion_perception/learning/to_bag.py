"""Write a data folder as a recording that any ROS 2 tool plays: `fusion to-bag`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro
from pydantic import Field
from tqdm import tqdm

from fusion_perception.learning.bags.writing import SECOND, BagWriter, Compression, Storage
from fusion_perception.learning.data.folder import DataFolder
from fusion_perception.learning.data.kept_apart import check_is_apart
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.observation import BESIDE_THE_LIDAR
from fusion_perception.sensing.settings import Settings
from fusion_perception.sensing.stamps import END_OF_STAMPS_S
from fusion_perception.simulation.topics import CAMERA_INFO, IMAGE, RANGES, TRUTH

# Any fixed time that is not zero: the same data always makes the same recording.
BEGIN_NS = 1_700_000_000 * SECOND


class ToBagSettings(Settings):
    """Settings of `fusion to-bag`."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='DATA')] = Field(
        description='Data folder to read'
    )
    out: Path = Field(description='Folder of the recording to write; must not exist')
    rate: float = Field(10.0, gt=0, le=1000, description='Scenes per second')
    storage: Storage = Field('mcap', description='Kind of the storage file')
    compression: Compression = Field('none', description='What to compress with zstd')


def to_bag(settings: ToBagSettings) -> str:
    """Write every scene as an image, a camera_info, a range image and the true centres.

    Before them, on /tf_static, where the camera is, unless that is at the LiDAR, looking ahead.
    Raises FileNotFoundError or ValueError for a folder that cannot be read, an `out` that
    exists, or a rate that is too low for the stamps of so many scenes.
    """
    folder, out = DataFolder.open(settings.data), settings.out
    check_is_apart(out, 'the recording')
    longest_s = END_OF_STAMPS_S - 1 - BEGIN_NS // SECOND
    if (len(folder) - 1) / settings.rate > longest_s:
        enough = 1.1 * len(folder) / longest_s
        raise ValueError(
            f'At --rate {settings.rate:g} the last of {len(folder):,} scenes would be stamped '
            f'after 2038, which no ROS stamp can say. Give {enough:.2g} or more.'
        )
    with BagWriter(out, settings.storage, settings.compression) as bag:
        if folder.rig.camera.T_camera_lidar != BESIDE_THE_LIDAR:
            bag.camera_pose(BEGIN_NS, folder.rig.camera)
        for index in tqdm(range(len(folder)), desc='to-bag', unit=' scenes', disable=None):
            # Without the distance images, which do not travel and may be missing.
            image, ranges = folder.read_scene(index)
            stamp_ns = BEGIN_NS + round(index * SECOND / settings.rate)
            size = image.shape[1], image.shape[0]
            bag.image(IMAGE, stamp_ns, image)
            bag.camera_info(CAMERA_INFO, stamp_ns, folder.rig.camera.resized(*size))
            bag.ranges(RANGES, stamp_ns, ranges)
            bag.centers(TRUTH, stamp_ns, folder.centers(index))
    data = settings.data
    return (
        f'{counted(len(folder), f"scene of {data} is", f"scenes of {data} are")} in {out}: '
        f'{len(folder) / settings.rate:g} s at {settings.rate:g} Hz. Play it: '
        f'fusion replay {quote(str(out))}'
    )
