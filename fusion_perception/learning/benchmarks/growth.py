"""Measure how time and memory grow: with batch, image size, objects, and scenes on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, takewhile

import torch
from torch import Tensor

from fusion_perception.learning.benchmarks.growth_curve import Curve, Point
from fusion_perception.learning.benchmarks.settings import Bench
from fusion_perception.learning.benchmarks.timing import Work, median, seconds_of
from fusion_perception.learning.data.scene_copies import repeated
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.memory import Peak
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.models import FusionModel, build
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Lidar, Observation
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import Kind, Scenes, SceneSettings, sample_scenes

MODEL = 'dense_fusion'
OBJECTS: tuple[Kind, ...] = ('cube', 'sphere', 'torus')


def growth(bench: Bench) -> list[Curve]:
    """Measure all curves; the settings say where each ends."""
    return [*with_batch(bench), *with_pixels(bench), *with_objects(bench), *with_scenes(bench)]


def with_batch(bench: Bench) -> Iterator[Curve]:
    """Predict, and find loss and gradients, with batches from one scene on."""
    sizes = sizes_up_to(bench.size(bench.settings.largest_batch, 8), 1, 2)
    yield from _model_curves(bench, 'batch', sizes, lambda size: (size, 64, 3))


def with_pixels(bench: Bench) -> Iterator[Curve]:
    """Predict, find loss and gradients, and render, with more and more pixels."""
    edges = sizes_up_to(bench.size(bench.settings.largest_image, 128), 64, 2**0.5, multiple=16)
    pixels = {edge * edge: edge for edge in edges}
    yield from _model_curves(bench, 'pixels', list(pixels), lambda n: (1, pixels[n], 3))
    yield _renders(bench, 'pixels', list(pixels), lambda n: (8, pixels[n], 3))


def with_objects(bench: Bench) -> Iterator[Curve]:
    """Predict, find loss and gradients, and render, with more and more objects."""
    sizes = sizes_up_to(bench.size(bench.settings.largest_objects, 6), 3, 2**0.5, multiple=3)
    yield from _model_curves(bench, 'objects', sizes, lambda size: (1, 64, size))
    yield _renders(bench, 'objects', sizes, lambda size: (8, 64, size))


def with_scenes(bench: Bench) -> Iterator[Curve]:
    """Load folders of more and more scenes twice, and take a training's first batches of them."""
    largest = bench.size(bench.settings.largest_scenes, 64)
    sizes = sizes_up_to(largest, max(8, largest // 100), 10**0.5 if largest > 10_000 else 2)
    points: dict[str, list[Point]] = {
        'load, first time': [],
        'load again': [],
        'first batches': [],
    }
    for size in sizes:
        folder = repeated(bench.folder, bench.scratch / f'{size}', size)
        packed = folder / PACKED

        def first(folder=folder, packed=packed) -> None:  # type: ignore[no-untyped-def]
            packed.unlink(missing_ok=True)
            read_folder(folder)

        def again(folder=folder) -> None:  # type: ignore[no-untyped-def]
            read_folder(folder)

        def batches(folder=folder) -> None:  # type: ignore[no-untyped-def]
            data = TrainingData(Recipe(data=folder, batch_size=4, memory_share=0.0), bench.device)
            for raw in islice(data.training(MODEL, 0), 8):
                data.observe(raw)

        for name, work in zip(points, (first, again, batches), strict=True):
            points[name].append(_point(bench, size, work))
        shutil.rmtree(folder)
    for name, found in points.items():
        yield Curve(name=name, variable='scenes on disk', points=tuple(found))


def sizes_up_to(largest: int, first: int, step: float, multiple: int = 1) -> list[int]:
    """Return sizes from `first` to `largest`, each about `step` times the one before."""
    grown = (first * step**n for n in range(1000))
    rounded = [
        max(multiple, round(size / multiple) * multiple)
        for size in takewhile(lambda size: size < largest * 0.99, grown)
    ]
    return list(dict.fromkeys([*rounded, largest]))


Dimensions = Callable[[int], tuple[int, int, int]]


def _model_curves(
    bench: Bench, variable: str, sizes: list[int], dimensions: Dimensions
) -> Iterator[Curve]:
    for name, work_of in (('predict', _predicting), ('loss and gradients', _learning)):
        points = []
        for size in sizes:
            batch, edge, objects = dimensions(size)
            model = build(MODEL, {'objects': objects}).to(bench.device)
            work = work_of(model, *_seen(bench, batch, edge, objects))
            points.append(_point(bench, size, work))
        yield Curve(name=name, variable=variable, points=tuple(points))


def _renders(bench: Bench, variable: str, sizes: list[int], dimensions: Dimensions) -> Curve:
    points = []
    for size in sizes:
        scenes, rig, lidar = _scenes(bench, *dimensions(size))
        points.append(_point(bench, size, partial(render, scenes, rig, lidar)))
    return Curve(name='render 8 scenes', variable=variable, points=tuple(points))


def _predicting(model: FusionModel, observation: Observation, centers: Tensor) -> Work:
    model.eval()

    def work() -> None:
        with torch.inference_mode():
            model(observation)

    return work


def _learning(model: FusionModel, observation: Observation, centers: Tensor) -> Work:
    def work() -> None:
        model.zero_grad()
        model.training_loss(model(observation), centers).backward()

    return work


def _seen(bench: Bench, batch: int, edge: int, objects: int) -> tuple[Observation, Tensor]:
    scenes, rig, lidar = _scenes(bench, min(batch, 8), edge, objects)
    frames = render(scenes, rig, lidar)
    again = torch.arange(batch, device=bench.device) % len(frames)
    frames = frames[again]
    observation = observe(frames.images, frames.ranges, rig.camera, lidar.to(bench.device))
    return observation, frames.centers


def _scenes(bench: Bench, count: int, edge: int, objects: int) -> tuple[Scenes, Rig, Lidar]:
    """Return scenes of some objects, and sensors of edge x edge pixels with one field of view."""
    kinds = tuple(OBJECTS[index % len(OBJECTS)] for index in range(objects))
    settings, plain = SceneSettings(kinds=kinds), Rig()
    rig = plain.model_copy(
        update={'camera': plain.camera.resized(edge, edge), 'classes': settings.class_names()}
    )
    step = 0.5 * 64 / edge
    grid = UniformGrid(rows=edge, columns=edge, azimuth_step_deg=step, zenith_step_deg=step)
    generator = torch.Generator(bench.device).manual_seed(0)
    return sample_scenes(count, settings, generator, bench.device, rig=rig), rig, grid.lidar()


def _point(bench: Bench, size: int, work: Work) -> Point:
    """Time a work some rounds after its first, and see how much memory it takes in another."""
    work()
    rounds = bench.size(min(5, bench.settings.rounds), 1)
    seconds = tuple(seconds_of(work, bench.device) for _ in range(rounds))
    with Peak(bench.device) as peak:
        work()
    return Point(size=size, seconds=median(seconds), memory_bytes=peak.bytes)
