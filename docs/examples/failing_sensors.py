"""Say how far a bundle is off, and how far it says it is, while its sensors fail.

An honest bundle's stated deviations grow with its errors: d²/3 stays near 1, and 95 % of the true
centres lie within the 95 % ellipsoids. The last column is how far camera and LiDAR, each by
itself, put the objects apart, as the node compares them: the median over the scenes of
`Runtime.disagreement`, nan where one of them sees nothing.

    python docs/examples/failing_sensors.py --bundle shapes
"""

import math
import sys
from collections.abc import Callable

import torch
import tyro
from torch import Tensor

from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import TASK_CLASSES, Rig
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import Frames, render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

BATCH = 128
# Squared Mahalanobis distances in three dimensions: 95 % lie below.
IN_95 = 7.815

Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def main(bundle: str = 'shapes', count: int = 512, seed: int = 4242) -> None:
    """Simulate scenes with the original look, let sensors fail, and print a table."""
    if count < 1:
        raise ValueError(f'--count {count}: take one scene or more.')
    runtime = Runtime(load_bundle(bundle))
    rig, lidar = runtime.bundle.rig, runtime.bundle.lidar
    task = next((task for task, classes in TASK_CLASSES.items() if classes == rig.classes), None)
    if task is None or 'covariance_scale' not in runtime.bundle.manifest.config:
        sys.exit(f'{bundle} is no dense_fusion for the objects of a simulated task.')

    def frames(look: SceneSettings, noise: NoiseSettings, seen_by: Rig = rig) -> Frames:
        generator = torch.Generator().manual_seed(seed)
        scenes = sample_scenes(count, look, generator, rig=rig)
        rendered = render(scenes, seen_by, lidar)
        return add_noise(rendered, noise, generator, lidar.max_range)

    whole = frames(SceneSettings(task=task), NoiseSettings())
    varied = frames(SceneSettings.robust(task), NoiseSettings.robust())
    print('| sensors | mean error, m | says, m per axis | d²/3 | truth in 95 % | disagreement |')
    print('| --- | ---: | ---: | ---: | ---: | ---: |')
    _row(runtime, 'both', whole)
    _row(runtime, 'both, everything varied as in half of the training', varied)
    for degrees in (0.5, 1.0, 2.0):
        askew = frames(SceneSettings(task=task), NoiseSettings(), turned(rig, degrees))
        _row(runtime, f'camera: turned sideways by {degrees:g}°', askew)
    elsewhere = turned(rig, 5.0, aside_m=1.0)
    moved = frames(SceneSettings(task=task), NoiseSettings(), elsewhere)
    _row(runtime, 'camera: a metre aside, turned by 5°', moved)
    _row(runtime, 'the same, as camera_pose says', moved, elsewhere.camera)
    generator = torch.Generator().manual_seed(seed)
    for name, change in failures(lidar.max_range, generator).items():
        images, ranges = change(whole.images, whole.ranges)
        _row(runtime, name, Frames(images, ranges, whole.distances, whole.centers))


def turned(rig: Rig, degrees: float, aside_m: float = 0.0) -> Rig:
    """Return sensors whose camera is moved to the right, then turned about its vertical axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = torch.tensor([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1]])
    beside = torch.tensor(rig.camera.T_camera_lidar)
    beside[0, 3] -= aside_m
    pose = (rotation @ beside).tolist()
    camera = rig.camera.model_copy(update={'T_camera_lidar': tuple(map(tuple, pose))})
    return rig.model_copy(update={'camera': camera})


def failures(max_range: float, generator: torch.Generator) -> dict[str, Change]:
    """Return what befalls images (N, H, W, 4) and ranges (N, R, C), by its name."""

    def chance(ranges: Tensor) -> Tensor:
        return torch.rand(ranges.shape, generator=generator)

    def lost(share: float) -> Change:
        return lambda images, ranges: (
            images,
            ranges.masked_fill(chance(ranges) < share, max_range),
        )

    def left(number: int) -> Change:
        def keep(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
            order = (chance(ranges) * (ranges < max_range)).flatten(1)
            fewest = order.topk(number, dim=1).values[:, -1].view(-1, 1, 1)
            return images, ranges.masked_fill(order.view_as(ranges) < fewest, max_range)

        return keep

    def stray(number: int, among: bool) -> Change:
        def add(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
            order = chance(ranges).flatten(1)
            fewest = order.topk(number, dim=1).values[:, -1].view(-1, 1, 1)
            dust = 1 + (max_range - 1) * chance(ranges)
            seen = ranges if among else torch.full_like(ranges, max_range)
            hit = order.view_as(ranges) >= fewest
            return images, torch.where(hit, dust.minimum(seen), seen)

        return add

    def dead(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
        half = ranges.clone()
        half[:, ranges.shape[1] // 2 :] = max_range
        return images, half

    def brightness(factor: float) -> Change:
        def scale(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
            scaled = (images.float() * factor).round().clamp(0, 255).to(torch.uint8)
            scaled[..., 3] = images[..., 3]
            return scaled, ranges

        return scale

    def covered(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
        noise = 20 + 3 * torch.randn(images.shape, generator=generator)
        return noise.round().clamp(0, 255).to(torch.uint8), ranges

    def frozen(images: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
        return images.roll(1, 0), ranges

    return {
        'LiDAR: half of the rays lost': lost(0.5),
        'LiDAR: nine of ten lost': lost(0.9),
        'LiDAR: ten returns left': left(10),
        'LiDAR: one return left': left(1),
        'LiDAR: half of the rows dead': dead,
        'LiDAR: 40 stray returns among the others': stray(40, among=True),
        'LiDAR: nothing but one stray return': stray(1, among=False),
        'LiDAR: nothing but ten stray returns': stray(10, among=False),
        'LiDAR: no return': lost(1.1),
        'camera: a tenth of the light': brightness(0.1),
        'camera: ten times the light': brightness(10.0),
        'camera: covered, with noise': covered,
        'camera: frozen, shows another scene': frozen,
    }


def _row(runtime: Runtime, name: str, frames: Frames, camera: Camera | None = None) -> None:
    rig, lidar = runtime.bundle.rig, runtime.bundle.lidar
    error, covariance, apart = [], [], list[float]()
    for first in range(0, len(frames), BATCH):
        part = slice(first, first + BATCH)
        taken_for = camera or rig.camera
        seen = observe(frames.images[part], frames.ranges[part], taken_for, lidar)
        found = runtime.predict(seen)
        assert found.covariance is not None
        error.append(found.centers - frames.centers[part])
        covariance.append(found.covariance)
        apart += runtime.disagreements(seen)
    off, said = torch.cat(error).double(), torch.cat(covariance).double()
    squared = (off * torch.linalg.solve(said, off)).sum(-1)
    sigma = said.diagonal(dim1=-2, dim2=-1).mean(-1).sqrt().median()
    inside = (squared < IN_95).double().mean()
    print(
        f'| {name} | {off.norm(dim=-1).mean():.2f} | {sigma:.3f} | {squared.mean() / 3:.2f} '
        f'| {inside:.0%} | {torch.tensor(apart).median():.2f} |'
    )


if __name__ == '__main__':
    try:
        tyro.cli(main)
    except (ValueError, OSError) as fault:
        sys.exit(str(fault))
