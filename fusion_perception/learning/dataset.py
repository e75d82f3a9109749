"""Give the scenes of a data folder, packed in one mapped file so that the next start is quick."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fusion_perception.learning.data.doubts import ROOM, as_bytes, from_bytes, tell
from fusion_perception.learning.data.drafts import draft_in
from fusion_perception.learning.data.folder import LABELS, DataFolder
from fusion_perception.learning.data.freshness import FolderState, folder_state, is_untouched
from fusion_perception.learning.data.packing import Packing
from fusion_perception.learning.data.packing_crew import pack_scenes
from fusion_perception.learning.data.plain_packing import Places
from fusion_perception.learning.data.transfer import to_device
from fusion_perception.sensing.assembly import CameraMatrices, observe_flagged
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.observation import Lidar, Observation
from fusion_perception.sensing.quoting import reason
from fusion_perception.sensing.rig import Rig
from fusion_perception.user_cache import user_cache

log = logging.getLogger(__name__)

PACKED = 'scenes.packed'
VALIDATION_SCENES = 320


class RawBatch(NamedTuple):
    """A batch of scenes as they are stored, on the device where they are observed.

    images (B, H, W, 4) uint8 RGBA; ranges (B, R, C) float32 metres; centers (B, K, 3) float32
    metres in the LiDAR frame; camera, lidar (B,) bool: which sensor is to be seen.
    """

    images: Tensor
    ranges: Tensor
    centers: Tensor
    camera: Tensor
    lidar: Tensor


@dataclass(frozen=True)
class SceneSet:
    """All scenes of a data folder: held on one device, or mapped from the packed file.

    images (N, H, W, 4) uint8 RGBA; ranges (N, R, C) float32 metres; centers (N, K, 3) float32
    metres in the LiDAR frame, in the order of rig.classes.
    """

    images: Tensor
    ranges: Tensor
    centers: Tensor
    rig: Rig
    lidar: Lidar
    source: Path

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def device(self) -> torch.device:
        """Where batches come out."""
        return self.lidar.azimuth.device

    @property
    def nbytes(self) -> int:
        """How much memory the scenes take where they are held whole."""
        return sum(tensor.nbytes for tensor in (self.images, self.ranges, self.centers))

    def to(self, device: torch.device | str) -> SceneSet:
        """Return this set whole on another device."""
        return replace(
            self.streamed_to(device),
            images=to_device(self.images, device),
            ranges=to_device(self.ranges, device),
            centers=to_device(self.centers, device),
        )

    def streamed_to(self, device: torch.device | str) -> SceneSet:
        """Return this set with the scenes where they are; each batch moves to the device."""
        # A table left on the CPU would be copied with every batch.
        return replace(self, lidar=self.lidar.to(device))

    def raw_batch(self, indices: Tensor | slice) -> RawBatch:
        """Return these scenes with both sensors, on the device of the batches."""
        if isinstance(indices, Tensor):
            indices = indices.to(self.images.device)
        images, ranges, centers = (
            tensor[indices].to(self.device) for tensor in (self.images, self.ranges, self.centers)
        )
        seen = torch.ones(len(images), dtype=torch.bool, device=self.device)
        return RawBatch(images, ranges, centers, camera=seen, lidar=seen)

    def observe(self, raw: RawBatch) -> Observation:
        """Return the observation of scenes of this set, or of others of its rig and LiDAR."""
        images, ranges, _, camera, lidar = raw
        matrices = CameraMatrices(*(one.expand(len(images), -1, -1) for one in self._matrices))
        return observe_flagged(images, ranges, camera, lidar, matrices, self.lidar)

    def batch(self, indices: Tensor | slice) -> tuple[Observation, Tensor]:
        """Return the observation of these scenes and their centres (B, K, 3)."""
        raw = self.raw_batch(indices)
        return self.observe(raw), raw.centers

    @cached_property
    def _matrices(self) -> CameraMatrices:
        return CameraMatrices.of(self.rig.camera, self.device)

    def split(self, validation: int = VALIDATION_SCENES) -> tuple[Tensor, Tensor]:
        """Return the indices for training and validation, on the CPU; see split_indices."""
        return split_indices(len(self), validation)


def split_indices(count: int, validation: int = VALIDATION_SCENES) -> tuple[Tensor, Tensor]:
    """Split scenes as the original does: the last ones are for validation.

    9,999 scenes give 0 to 9678 and the last 320. A set with fewer than ten times `validation`
    scenes keeps its last tenth, at least one. Raises ValueError for fewer than two scenes.
    """
    if count < 2 or validation < 1:
        raise ValueError(
            f'{counted(count, "scene")} cannot be split into training and {validation} for '
            'validation. Give at least two scenes, and at least one for validation.'
        )
    held_out = min(validation, max(1, count // 10))
    return torch.arange(count - held_out), torch.arange(count - held_out, count)


def read_folder(path: Path, device: torch.device | str = 'cpu') -> SceneSet:
    """Read a whole data folder, from its packed file where that is up to date.

    The packed file stands in the folder, or in the user's cache where the folder cannot be
    written; it is memory-mapped, and rebuilt when a file of the folder changed or was exchanged,
    be it for one of the same size and date. That of a copied folder is rebuilt as well. What is
    in doubt about the folder is logged at every reading.
    Raises FileNotFoundError or ValueError for a folder that cannot be used.
    """
    state: FolderState | None = None
    if path.is_dir():
        for packed in packed_paths(path):
            known = _unpack(packed, path)
            if known is None:
                continue
            scenes, when_packed, doubts = known
            if not is_untouched(path, when_packed):
                state = state or folder_state(path)
                if state.fingerprint != when_packed.fingerprint:
                    continue
            tell(path, doubts)
            return scenes.to(device)
    state = state or folder_state(path)
    folder = DataFolder.open(path)
    why = ''
    for packed in packed_paths(path):
        try:
            return _pack(folder, packed, state).to(device)
        except (OSError, SafetensorError) as error:
            log.debug('%s cannot be written: %s', packed, error)
            why = f' ({reason(error)})'
    log.warning(
        '%s cannot be packed, neither there nor in the cache%s: each start reads it anew.',
        *(path, why),
    )
    images, ranges = folder.read()
    return SceneSet(
        images=torch.from_numpy(images),
        ranges=torch.from_numpy(ranges),
        centers=torch.from_numpy(folder.all_centers()).float(),
        rig=folder.rig,
        lidar=folder.lidar,
        source=path,
    ).to(device)


def packed_paths(path: Path) -> tuple[Path, ...]:
    """Say where the packed file of a data folder may stand, best first.

    A folder that is marked read-only stays as it is, even for a superuser who could write there.
    """
    place = path.resolve()
    name = f'{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}.packed'
    cache = user_cache()
    in_cache = () if cache is None else (cache / name,)
    return (path / PACKED, *in_cache) if place.stat().st_mode & 0o222 else in_cache


def _unpack(packed: Path, source: Path) -> tuple[SceneSet, FolderState, list[str]] | None:
    """Map a packed file; say what the folder was like then, and what was in doubt about it.

    None without a whole file.
    """
    try:
        with safe_open(packed, framework='pt') as file:
            about = file.metadata() or {}
            when_packed = FolderState.from_text(about['state'])
            rig = Rig.read(json.loads(about['rig']), packed)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        doubts = from_bytes(tensors['doubts'].numpy())
        scenes = SceneSet(
            images=tensors['images'],
            ranges=tensors['ranges'],
            centers=tensors['centers'],
            rig=rig,
            lidar=Lidar(
                tensors['azimuth'],
                tensors['zenith'],
                rig.projection,
                rig.max_range,
                tensors.get('offsets'),
            ),
            source=source,
        )
    except (FileNotFoundError, PermissionError):
        return None
    except (KeyError, ValueError, TypeError, RecursionError):
        return None  # Of another version: it is written again.
    except (OSError, SafetensorError):
        log.warning('%s is torn and will be written again.', packed)
        return None
    return scenes, when_packed, doubts


def _pack(folder: DataFolder, packed: Path, state: FolderState) -> SceneSet:
    """Read a folder into its packed file and map it; raise OSError where it cannot be written."""
    if packed.is_dir():
        raise IsADirectoryError(f'{packed} is a folder')
    lidar, centers = folder.lidar, torch.from_numpy(folder.all_centers()).float()
    small = {'centers': centers, 'azimuth': lidar.azimuth, 'zenith': lidar.zenith}
    if lidar.offsets is not None:
        small['offsets'] = lidar.offsets
    of_images, of_ranges = folder.shapes()
    # In a folder of its own name, whoever reads meanwhile keeps the file it has; of two
    # writers the later one wins.
    with draft_in(packed.parent) as draft:
        unfinished = draft / PACKED
        layout: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            'images': (np.uint8, of_images),
            'ranges': (np.float32, of_ranges),
            'doubts': (np.uint8, (ROOM,)),
            **{name: (np.float32, tuple(tensor.shape)) for name, tensor in small.items()},
        }
        about = {'state': state.as_text(), 'rig': folder.rig.model_dump_json()}
        with Packing(unfinished, layout, about) as file:
            for name, tensor in small.items():
                file.put(name, tensor.numpy())

            def put_scene(index: int) -> None:
                image, scan = folder.read_scene(index)
                file.put('images', image, index)
                file.put('ranges', scan, index)

            places = Places(
                str(unfinished),
                (str(folder.images.folder), str(folder.ranges.folder)),
                (of_images[1:3], of_ranges[1:]),
                (file.begin_of('images'), file.begin_of('ranges')),
            )
            names = tuple(zip(folder.images.names, folder.ranges.names, strict=True))
            pack_scenes(places, names, put_scene)
            unpacked = _unpack(unfinished, folder.path)
            assert unpacked is not None
            scenes = unpacked[0]
            found = folder.check(scenes.ranges.numpy())
            tell(folder.path, found)
            file.put('doubts', as_bytes((*folder.doubts(), *found)))
        # Whoever may read the labels may read what is packed from them.
        unfinished.chmod((folder.path / LABELS).stat().st_mode | 0o600)
        unfinished.replace(packed)
    return scenes
