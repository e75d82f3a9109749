"""Turn a recording with ground truth into a data folder to train on: `fusion from-bag`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field

from fusion_perception.learning.bag import check_frames
from fusion_perception.learning.bags.pairs import BagPair, BagPairs
from fusion_perception.learning.bags.settings import BagSettings, no_pair
from fusion_perception.learning.bags.topics import choose_topics
from fusion_perception.learning.bags.truth import Truth, read_truth
from fusion_perception.learning.data.folder_writing import FolderWriter, check_is_new
from fusion_perception.learning.data.origin import Origin
from fusion_perception.learning.progress import messages_bar
from fusion_perception.learning.sensor import SensorSettings, sensor_of
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.intake import Needs, arrays_of
from fusion_perception.sensing.observation import LARGEST_RANGE, Camera, Lidar, Mode
from fusion_perception.sensing.recordings.files import check_is_outside, fingerprint_of
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.rig import Rig

# A scene needs both sensors.
ONLY_FUSION: tuple[Mode, ...] = ('fusion',)
# Less than a tenth of a pixel of the bundles that ship: a camera on a joint that trembles so much
# (metres, and radians as parts of its rotation) still counts as the one of the data folder.
STILL = 1e-3


class FromBagSettings(BagSettings, SensorSettings):
    """Settings of `fusion from-bag`."""

    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar='BAG')] = Field(
        description='Recording (rosbag2) with camera, LiDAR and true centres'
    )
    out: Path = Field(description='Data folder to write; new or empty')
    classes: tuple[str, ...] = Field(
        (), description="Names of the objects in the truth's order, where --tables has others"
    )
    object_size_m: float | None = Field(
        None,
        gt=0,
        le=LARGEST_RANGE,
        description='Longest edge of the objects, metres, by which labels are checked; left out, '
        'what --tables says of it, else 3',
    )


def from_bag(settings: FromBagSettings) -> str:
    """Write every pair that has a truth as a scene, and say what of the recording was left.

    Raises FileNotFoundError or ValueError when the recording or the tables cannot be read, or
    when no scene comes of them.
    """
    check_is_new(settings.out)
    check_is_outside(settings.out, [settings.bag])
    rig, lidar = sensor_of(settings)
    size = settings.object_size_m or rig.object_size_m
    if settings.classes:
        values = {**rig.model_dump(), 'classes': settings.classes}
        rig = Rig.read(values, '--classes')
    rig = rig.model_copy(update={'object_size_m': size})
    notes: list[str] = []
    with Recording(settings.bag) as recording:
        topics = choose_topics(recording, settings)
        if topics.image is None or topics.ranges is None or topics.truth is None:
            missing = {
                'camera images': topics.image,
                'range images': topics.ranges,
                'ground truth': topics.truth,
            }
            lacking = ' and no '.join(what for what, name in missing.items() if name is None)
            raise ValueError(f'{settings.bag} holds no {lacking}: no scene can be made of it.')
        truth = read_truth(recording, topics.truth, rig.classes, lidar.max_range, notes.append)
        whose = str(settings.tables or 'the original LiDAR')
        needs = Needs(whose, lidar, ONLY_FUSION, 'Give the tables of this LiDAR: --tables.')
        with messages_bar('from-bag', stays=True) as progress:
            pairs = BagPairs(
                recording,
                topics,
                needs,
                settings,
                rig.camera,
                str(settings.tables or 'the original camera'),
                progress,
            )
            scenes = _Scenes(settings, rig, lidar, truth)
            for pair in pairs:
                scenes.add(pair)
        notes = [*recording.unread, *notes, *pairs.notes(), *scenes.notes()]
    if not scenes.count:
        why = ' '.join(notes) or no_pair(settings.bag, settings, pairs.intake.ledger.counters())
        raise ValueError(f'No scene comes of {settings.bag}. {why}')
    scenes.finish()
    origin = Origin(path=str(settings.bag.resolve()), sha256=fingerprint_of(settings.bag))
    origin.write(settings.out)
    bag = settings.bag
    done = (
        f'{counted(scenes.count, f"scene of {bag} is", f"scenes of {bag} are")} in '
        f'{settings.out}. Look at one: fusion view {quote(str(settings.out))} --index 0'
    )
    return '\n'.join((done, *notes))


class _Scenes:
    """The scenes written so far; the folder begins with the first of them."""

    def __init__(self, settings: FromBagSettings, rig: Rig, lidar: Lidar, truth: Truth) -> None:
        self._settings, self._rig, self._lidar, self._truth = settings, rig, lidar, truth
        self._folder: FolderWriter | None = None
        self._camera: Camera | None = None
        self._centers: list[NDArray[np.float64]] = []
        self._left: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of scenes."""
        return len(self._centers)

    def add(self, given: BagPair) -> None:
        """Write a pair as the next scene, if it can be one."""
        image, ranges = arrays_of(given.pair)
        if given.pair.lidar is None or image is None or ranges is None:
            return
        centers = self._truth.at(given.pair.stamp_ns, round(self._settings.truth_slop * 1e9))
        if centers is None:
            self._left[f'no ground truth within {self._settings.truth_slop:g} s'] += 1
            return
        camera = given.camera or self._rig.camera
        if self._folder is None:
            if not self._settings.same_frames:
                check_frames(self._settings.bag, self._truth, given.pair.lidar.frame_id)
            size = (image.shape[1], image.shape[0])
            self._camera = camera.resized(*size)
            rig = self._rig.model_copy(update={'camera': self._camera})
            self._folder = FolderWriter(self._settings.out, rig, self._lidar)
        assert self._camera is not None
        if image.shape[:2] != (self._camera.height, self._camera.width):
            self._left['an image of another size than the first'] += 1
            return
        if not _same(camera.resized(self._camera.width, self._camera.height), self._camera):
            self._left['another camera than the first, or one that has moved'] += 1
            return
        self._folder.write(self.count, _rgba(image), ranges)
        self._centers.append(centers)

    def finish(self) -> None:
        """Write the labels."""
        assert self._folder is not None
        self._folder.finish(np.stack(self._centers))

    def notes(self) -> list[str]:
        """Say what was left out."""
        return [
            f'{counted(count, f"pair has {why} and was", f"pairs have {why} and were")} left out.'
            for why, count in self._left.items()
        ]


def _same(camera: Camera, first: Camera) -> bool:
    """Say whether a camera is the first one, where that was."""
    pose = camera.T_camera_lidar
    return camera.model_copy(
        update={'T_camera_lidar': first.T_camera_lidar}
    ) == first and np.allclose(pose, first.T_camera_lidar, rtol=0, atol=STILL)


def _rgba(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 4) of pixels with 1, 3 or 4 channels: mono repeated, alpha 255."""
    channels = image.shape[-1]
    if channels == 4:
        return image
    rgba = np.full((*image.shape[:2], 4), 255, np.uint8)
    rgba[..., :3] = image
    return rgba
