"""Move the camera, find out where it is from what both sensors see, and say how well that does.

    python docs/examples/find_camera.py --bundle shapes

The place is found by some frames, and judged by others: in the last columns are the mean errors
of the centres where the camera is taken to be as in the training, where it was found to be, and
where it is.
"""

import sys

import numpy as np
import torch
import tyro
from torch import Tensor

from fusion_perception.learning.alignment import align, between
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.geometry import cross_matrices
from fusion_perception.sensing.mounting import camera_at
from fusion_perception.sensing.observation import Camera, Observation
from fusion_perception.sensing.rig import TASK_CLASSES
from fusion_perception.simulation.render import Frames, render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

Turn = tuple[float, float, float]
# How the camera is turned about its axes (x right, y down, z forward), degrees, then moved, m.
MOVES: dict[str, tuple[Turn, Turn]] = {
    'half a degree sideways': ((0, 0.5, 0), (0, 0, 0)),
    'two degrees downwards': ((2, 0, 0), (0, 0, 0)),
    'ten degrees sideways': ((0, 10, 0), (0, 0, 0)),
    'on its side': ((0, 0, 90), (0, 0, 0)),
    'upside down, ten degrees sideways': ((0, 10, 180), (0, 0, 0)),
    '30 cm aside': ((0, 0, 0), (0.3, 0, 0)),
    'a metre aside, turned by five degrees': ((0, 5, 0), (-1, 0, 0)),
    'two metres aside, half above, five degrees': ((0, 5, 0), (-2, 0.5, 0.5)),
}


def main(bundle: str = 'shapes', frames: int = 20, count: int = 512, seed: int = 4242) -> None:
    """Find the camera by so many frames, judge it by `count` others, and print a table."""
    if min(frames, count) < 1:
        raise ValueError(f'--frames {frames} --count {count}: take one of each, or more.')
    runtime = Runtime(load_bundle(bundle))
    rig = runtime.bundle.rig
    task = next((task for task, classes in TASK_CLASSES.items() if classes == rig.classes), None)
    if task is None or runtime.bundle.manifest.model != 'dense_fusion':
        sys.exit(f'{bundle} is no dense_fusion for the objects of a simulated task.')

    def made(camera: Camera, number: int, begun: int) -> Frames:
        generator = torch.Generator().manual_seed(begun)
        scenes = sample_scenes(number, SceneSettings(task=task), generator, rig=rig)
        return render(scenes, rig.model_copy(update={'camera': camera}), runtime.bundle.lidar)

    def seen(rendered: Frames, camera: Camera) -> Observation:
        # One by one, as a recording gives them.
        frames = zip(rendered.images.numpy(), rendered.ranges.numpy(), strict=True)
        return Observation.of([runtime.observe(*frame, camera) for frame in frames])

    print('| camera | disagreement | then | off by, ° | and m | untold, m | found, m | told, m |')
    print('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
    for name, (turned_deg, metres) in MOVES.items():
        camera = moved(rig.camera, turned_deg, metres)
        few, others = made(camera, frames, seed + 1), made(camera, count, seed)
        given = seen(few, rig.camera)
        before = float(np.median(runtime.disagreements(given)))
        found = align(runtime, given)
        there = rig.camera if found is None else camera_at(found.camera_pose, rig.camera)
        after = before if found is None else found.disagreement
        turn, way = between(pose_of(there), pose_of(camera))
        errors = ' | '.join(
            f'{mean_m(runtime, seen(others, each), others.centers):.2f}'
            for each in (rig.camera, there, camera)
        )
        print(f'| {name} | {before:.2f} | {after:.2f} | {turn:.2f} | {way:.2f} | {errors} |')


def mean_m(runtime: Runtime, seen: Observation, centers: Tensor) -> float:
    """Return the mean distance of the predicted centres from the true ones, metres."""
    return float((runtime.predict(seen).centers - centers).norm(dim=-1).mean())


def moved(camera: Camera, turned_deg: Turn, metres: Turn) -> Camera:
    """Return the camera turned about its own axes, then moved along them."""
    step = torch.eye(4, dtype=torch.float64)
    radians = torch.tensor(turned_deg, dtype=torch.float64).deg2rad()
    step[:3, :3] = torch.linalg.matrix_exp(cross_matrices(radians))
    step[:3, 3] = torch.tensor(metres)
    pose = (step @ pose_of(camera)).tolist()
    return camera.model_copy(update={'T_camera_lidar': tuple(map(tuple, pose))})


def pose_of(camera: Camera) -> Tensor:
    """Return T_camera_lidar, (4, 4), metres."""
    return torch.tensor(camera.T_camera_lidar, dtype=torch.float64)


if __name__ == '__main__':
    try:
        tyro.cli(main)
    except (ValueError, OSError) as fault:
        sys.exit(str(fault))
