"""Give a training its batches: from a data folder, or from scenes simulated on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fusion_perception.learning.data.origin import origin_of
from fusion_perception.learning.dataset import RawBatch, SceneSet, read_folder, split_indices
from fusion_perception.learning.run.memory import memory_bytes
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models.examples import COUNT, Examples
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Observation
from fusion_perception.sensing.rig import TASK_CLASSES, Rig
from fusion_perception.simulation.failures import fail_sensors
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import Scenes, SceneSettings, sample_scenes
from fusion_perception.simulation.visibility import visible_beams

Batch = tuple[Observation, Tensor]
# Scenes rendered at a time: some hundred megabytes of rays.
_CHUNK = 2048
# Pixels of images and ranges together that a GPU validates at a time, and that calibrate on a CPU:
# 32 scenes of the original data.
_VALIDATED_PIXELS, _CALIBRATING_PIXELS = 2**21, 2**18
# In one of so many original scenes some object meets at most four of 32x32 beams.
_DRAWN_FOR_ONE_HIDDEN = 16


def derive_seed(*parts: object) -> int:
    """Return a seed that any of the parts changes.

    Every epoch draws from its own seed, so a resumed run needs no kept generator state.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], 'little') >> 1


def fingerprint(scenes: SceneSet) -> str:
    """Return the sha256 of what the scenes hold, wherever they were read from."""
    digest = hashlib.sha256(scenes.lidar.fingerprint().encode())
    digest.update(scenes.rig.model_dump_json().encode())
    for tensor in (scenes.images, scenes.ranges, scenes.centers):
        for part in tensor.split(_CHUNK):  # The set may be larger than the memory.
            digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def refuse_other_objects(recipe: Recipe, rig: Rig) -> None:
    """Raise ValueError where simulated scenes show other objects than the folder's."""
    shown = recipe.scene.class_names()
    # Folders may have names of their own for the same objects.
    another_task = rig.classes in TASK_CLASSES.values() and rig.classes != shown
    if another_task or len(rig.classes) != len(shown):
        raise ValueError(
            f'{recipe.data} is to validate {", ".join(rig.classes)}, but the fresh scenes show '
            f'{", ".join(shown)}. Set `task` or `kinds` under `scene`, or leave out one of --data '
            'and --fresh-scenes.'
        )


@dataclass(frozen=True)
class Share:
    """Which of how many equal processes this one is."""

    rank: int = 0
    of: int = 1


class TrainingData:
    """The training and the validation scenes of a recipe, for one device.

    A set that would take more than `memory_share` of a GPU's memory stays mapped from its
    file, as it always does for a CPU, and moves to the device batch by batch.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device | str = 'cpu', share: Share = Share()
    ) -> None:
        self._recipe, self._share, self._device = recipe, share, torch.device(device)
        self._pool: SceneSet | None = None
        if recipe.data is not None:
            folder = read_folder(recipe.data)
            fits = folder.nbytes <= recipe.memory_share * memory_bytes(self._device)
            folder = folder.to(self._device) if fits else folder.streamed_to(self._device)
            self.rig, self.lidar = folder.rig, folder.lidar
            pool, held_out = split_indices(len(folder), recipe.validation)
            self._valid, self._held_out = folder, held_out.to(self._device)
            self.scenes = len(pool)
            if recipe.fresh_scenes is None:
                self._pool = folder
            else:
                refuse_other_objects(recipe, self.rig)
                self.rig = self.rig.through_a_pinhole()
        elif recipe.fresh_scenes is not None:
            self.rig = Rig(classes=recipe.scene.class_names())
            self.lidar = UniformGrid().lidar().to(self._device)
            # The same whatever the run's seed and device, so that runs can be compared.
            valid = self._simulate(recipe.validation, derive_seed('validation'), device='cpu')
            self._valid = valid.to(self._device)
            self._held_out = torch.arange(recipe.validation, device=self._device)
        else:
            raise ValueError('There is nothing to learn from. Give --data or --fresh-scenes.')
        if recipe.fresh_scenes is not None:
            self.scenes = recipe.fresh_scenes
        if not self.steps:
            raise ValueError(
                f'{counted(self.scenes, "scene for training does", "scenes for training do")} '
                f'not fill one batch of {recipe.batch_size}. Add scenes, or lower --batch-size.'
            )

    @property
    def name(self) -> str:
        """Return what a message calls the data."""
        return 'what is simulated' if self._recipe.data is None else str(self._recipe.data)

    @property
    def steps(self) -> int:
        """Return the number of steps in an epoch."""
        size, local = self._recipe.batch_size // self._share.of, self._local_count()
        return local // size if self._recipe.drop_last else -(-local // size)

    @property
    def taken(self) -> int:
        """Return how many scenes all processes together take in an epoch."""
        return min(self.steps * self._recipe.batch_size, self.scenes)

    def short_of(self) -> str:
        """Say in a sentence when fewer scenes validate than are asked for; nothing otherwise."""
        asked, held_out = self._recipe.validation, len(self._held_out)
        if held_out == asked:
            return ''
        return (
            f'{self._recipe.data}: the last {held_out:,} of {len(self._valid):,} scenes validate, '
            f'not {asked:,}: a tenth at most does. Add scenes to validate more.'
        )

    def bent(self) -> str:
        """Say in a sentence when a lens bent the images that validate simulated ones."""
        if self._recipe.fresh_scenes is None or not self._valid.rig.camera.lens.bends:
            return ''
        return (
            f'{self._recipe.data}: images of a lens validate, and the fresh scenes have none. '
            'Give a folder of rectified images, or leave out --fresh-scenes.'
        )

    def describe(self) -> dict[str, object]:
        """Return what identifies the data, as JSON values.

        `validating_folder` is the number of scenes in a folder that validates fresh ones.
        """
        only_validates = self._recipe.data is not None and self._recipe.fresh_scenes is not None
        origin = None if self._recipe.data is None else origin_of(self._recipe.data)
        return {
            'scenes': self.scenes,
            'validation': len(self._held_out),
            'source': 'simulated for each epoch' if self._recipe.fresh_scenes else 'folder',
            'fingerprint': fingerprint(self._valid),
            **({'validating_folder': len(self._valid)} if only_validates else {}),
            **({} if origin is None else {'recording': origin.sha256}),
        }

    def training(self, stage: str, epoch: int) -> Iterator[RawBatch]:
        """Yield this process's batches of an epoch, shuffled by the seed, stage and epoch.

        All processes take the same number of scenes. The remainder, fewer than there are
        processes, is left out: the last in the order, which is another one in each epoch.
        `observe` gives their observation, on a GPU as a part of the recorded step.
        """
        recipe, share = self._recipe, self._share
        generator = torch.Generator()
        if recipe.fresh_scenes:
            seed = derive_seed(recipe.seed, stage, epoch, share.rank)
            count = self._local_count()
            scenes = self._simulate(count, seed, recipe.hidden_scenes, recipe.failing_scenes)
            order = torch.randperm(count, generator=generator.manual_seed(seed))
        else:
            assert self._pool is not None
            scenes = self._pool
            order = self.order(stage, epoch, generator)[share.rank :: share.of]
            order = order[: self._local_count()]
        size = recipe.batch_size // share.of
        for indices in order.to(self._device).split(size):
            if len(indices) < size and recipe.drop_last:
                return
            yield self._hide_sensors(scenes.raw_batch(indices), generator)

    def observe(self, raw: RawBatch) -> Observation:
        """Return the observation of a batch of `training` or `validation`.

        The tables and matrices it reads are the same at every call, and it never waits for the
        device once it has been called: it can be recorded.
        """
        return self._valid.observe(raw)

    def order(self, stage: str, epoch: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the order in which an epoch takes the folder's scenes for training."""
        generator = generator or torch.Generator()
        generator.manual_seed(derive_seed(self._recipe.seed, stage, epoch))
        return torch.randperm(self.scenes, generator=generator)

    def validation(self) -> Iterator[RawBatch]:
        """Yield the validation scenes in order, all of them."""
        parts = -(-len(self._held_out) // self._validated_at_once())
        for indices in self._held_out.tensor_split(parts):
            yield self._valid.raw_batch(indices)

    def unseen(self) -> Iterator[Batch]:
        """Yield scenes no epoch learned from: the validation's, or more where they are free."""
        if self._recipe.fresh_scenes is None:
            for raw in self.validation():
                yield self.observe(raw), raw.centers
            return
        scenes = self._simulate(_CHUNK, derive_seed('unseen'))
        # Thousands in batches as small as training may want them would take minutes.
        at_once = max(self._validated_at_once(), _CALIBRATING_PIXELS // self._pixels_of_a_scene())
        for indices in torch.arange(_CHUNK, device=self._device).split(at_once):
            yield scenes.batch(indices)

    def middle(self) -> tuple[float, float, float]:
        """Return the mean of the centres of the folder, or those simulated to validate, metres."""
        x, y, z = self._valid.centers.double().mean((0, 1)).tolist()
        return x, y, z

    def one_scene(self) -> RawBatch:
        """Return a batch of one scene: the first that validates."""
        return self._valid.raw_batch(self._held_out[:1])

    def examples(self) -> Examples:
        """Return scenes for a bundle to carry: the first of the validation's."""
        raw = self._valid.raw_batch(self._held_out[:COUNT])
        return Examples(raw.images, raw.ranges)

    def _validated_at_once(self) -> int:
        size = self._recipe.batch_size
        if self._device.type == 'cpu':
            return size
        # It keeps nothing for a backward pass, and a GPU is hardly busy with batches for training.
        return max(size, _VALIDATED_PIXELS // self._pixels_of_a_scene())

    def _pixels_of_a_scene(self) -> int:
        return self._valid.images[0, ..., 0].numel() + self._valid.ranges[0].numel()

    def _local_count(self) -> int:
        # As many for each process: with a step more, one would wait for the others for ever.
        return self.scenes // self._share.of

    def _simulate(
        self,
        count: int,
        seed: int,
        hidden: float = 0.0,
        failing: float = 0.0,
        device: torch.device | str | None = None,
    ) -> SceneSet:
        recipe = self._recipe
        generator = torch.Generator(device or self._device).manual_seed(seed)
        lidar = self.lidar.to(generator.device)
        plain = round(count * recipe.plain_scenes)
        original = SceneSettings(**recipe.scene.model_dump(include={'task', 'kinds', 'reach_m'}))
        images, ranges, centers = [], [], []
        for share, look, noise in (
            (plain, original, NoiseSettings()),
            (count - plain, recipe.scene, recipe.noise),
        ):
            for first in range(0, share, _CHUNK):
                size = min(_CHUNK, share - first)
                scenes = self._draw(size, look, generator, hidden)
                frames = render(scenes, self.rig, lidar)
                frames = fail_sensors(frames, failing, generator, lidar.max_range)
                frames = add_noise(frames, noise, generator, lidar.max_range)
                images.append(frames.images)
                ranges.append(frames.ranges)
                centers.append(frames.centers)
        return SceneSet(
            images=torch.cat(images),
            ranges=torch.cat(ranges),
            centers=torch.cat(centers),
            rig=self.rig,
            lidar=lidar,
            source=Path('simulated'),
        )

    def _draw(
        self, count: int, look: SceneSettings, generator: torch.Generator, hidden: float
    ) -> Scenes:
        """Draw scenes; in a part of them, `hidden`, an object is nearly hidden by the others.

        Where a hidden object may be is learnt slowly otherwise: they are rare, and their errors
        are most of the squared error.
        """
        rare = round(count * hidden)
        common = sample_scenes(count - rare, look, generator, generator.device, rig=self.rig)
        if not rare:
            return common
        drawn = rare * _DRAWN_FOR_ONE_HIDDEN
        pool = sample_scenes(drawn, look, generator, generator.device, rig=self.rig)
        least = visible_beams(pool, self.lidar.to(generator.device), step=2).amin(1)
        # Stable, so that one seed gives the same scenes on every device.
        return Scenes.joined((common, pool[least.argsort(stable=True)[:rare]]))

    def _hide_sensors(self, raw: RawBatch, generator: torch.Generator) -> RawBatch:
        """Hide one sensor of some samples, so that a model learns to do without it."""
        recipe = self._recipe
        if not (recipe.drop_camera or recipe.drop_lidar):
            return raw
        chance = torch.rand(len(raw.images), generator=generator).to(self._device)
        return raw._replace(
            camera=chance >= recipe.drop_camera, lidar=chance < 1 - recipe.drop_lidar
        )
