"""Say how much of a bundle's squared error comes from objects that others hide.

For those that no beam of the LiDAR meets it also says what could be known at best: of thousands of
places and attitudes that such an object may have, those where it stays hidden are kept, and their
mean is the guess with the smallest squared error.

    python docs/examples/hidden_objects.py --bundle shapes
"""

import sys

import torch
import tyro
from torch.nn.functional import normalize

from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.rig import TASK_CLASSES
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import Scenes, SceneSettings, sample_scenes
from fusion_perception.simulation.visibility import visible_beams

BATCH = 256
# Objects are told apart by the beams that meet them: at least so many, at most so many.
STEPS = ((0, 0), (1, 7), (8, 31), (32, 127), (128, 4096))
# What hides an object wholly is seen within ten degrees of it: the cosine.
NEAR = 0.985
FEWEST = 8  # Of fewer places than this no mean is taken.


def main(bundle: str = 'shapes', count: int = 8192, places: int = 6000, seed: int = 77) -> None:
    """Simulate scenes with the original look, predict them, and print what hidden objects cost."""
    if min(count, places) < 1:
        raise ValueError(f'--count {count} --places {places}: take one of each, or more.')
    runtime = Runtime(load_bundle(bundle))
    rig, lidar = runtime.bundle.rig, runtime.bundle.lidar
    task = next((task for task, classes in TASK_CLASSES.items() if classes == rig.classes), None)
    if task is None:
        sys.exit(f'{bundle} is not for the objects of a simulated task.')
    look, generator = SceneSettings(task=task), torch.Generator().manual_seed(seed)
    scenes = sample_scenes(count, look, generator, rig=rig)
    centers = []
    for first in range(0, count, BATCH):
        frames = render(scenes[first : first + BATCH], rig, lidar)
        seen = observe(frames.images, frames.ranges, rig.camera, lidar)
        centers.append(runtime.predict(seen).centers)
    squared = (torch.cat(centers) - scenes.centers).square().mean(-1)
    beams = visible_beams(scenes, lidar)
    print(f'MSE {squared.mean():.4f} m² over {count} scenes, of it by objects that are met by\n')
    print('| beams | objects | MSE, m² | share of the whole |\n| --- | ---: | ---: | ---: |')
    for least, most in STEPS:
        these = (beams >= least) & (beams <= most)
        share = squared[these].sum() / squared.sum()
        print(f'| {least} to {most} | {these.sum()} | {squared[these].mean():.4f} | {share:.0%} |')

    ours, best = [], []
    for scene, slot in (beams == 0).nonzero().tolist():
        drawn = sample_scenes(places, look, generator, rig=rig)
        possible = where_hidden(scenes[torch.full((places,), scene)], slot, drawn)
        stays = possible[visible_beams(possible, lidar)[:, slot] == 0].centers[:, slot]
        if len(stays) >= FEWEST:
            ours.append(squared[scene, slot])
            best.append((stays.mean(0) - scenes.centers[scene, slot]).square().mean())
    if ours:
        print(
            f'\n{len(ours)} objects that no beam meets: MSE {torch.stack(ours).mean():.2f} m², '
            f'{torch.stack(best).mean():.2f} m² at best.'
        )


def where_hidden(repeated: Scenes, slot: int, drawn: Scenes) -> Scenes:
    """Move an object, in copies of its scene, to its places in others.

    Returns the copies in which another object is seen near it: nothing else can hide it.
    """
    for name in ('centers', 'rotations', 'scales'):
        getattr(repeated, name)[:, slot] = getattr(drawn, name)[:, slot]
    towards = normalize(repeated.centers, dim=-1)
    alike = (towards * towards[:, slot : slot + 1]).sum(-1)
    alike[:, slot] = -1.0
    return repeated[alike.amax(1) > NEAR]


if __name__ == '__main__':
    try:
        tyro.cli(main)
    except (ValueError, OSError) as fault:
        sys.exit(str(fault))
