"""Run a bundle over the scenes of a data folder, in each mode it knows."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from tqdm import tqdm

from fusion_perception.learning.agreement import Comparison
from fusion_perception.learning.bags.judging import WORST, JudgedFrame
from fusion_perception.learning.data.folder import RIG
from fusion_perception.learning.dataset import SceneSet, read_folder
from fusion_perception.learning.evidence.evidence import Evidence, score_of
from fusion_perception.learning.evidence.stress import stressed
from fusion_perception.learning.metrics import distances
from fusion_perception.learning.run.batches import fingerprint
from fusion_perception.learning.run.covariances import are_fitted, stopped_early
from fusion_perception.models.bundle import Bundle, explain_difference
from fusion_perception.models.examples import left_by
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.findings.agreement import (
    DISAGREEMENT_MAX,
    Alignment,
    median_of,
    of_disagreement,
)
from fusion_perception.sensing.findings.camera import of_lens
from fusion_perception.sensing.findings.facts import CameraFacts, Source
from fusion_perception.sensing.ledger import CAUSES, StreamCounts
from fusion_perception.sensing.lens import distortion
from fusion_perception.sensing.observation import Camera, Mode, Prediction

_TIMED_FRAMES = 100


def from_folder(
    runtime: Runtime,
    data: Path,
    last: int | None = None,
    range_noise: float = 0.0,
    dropout: float = 0.0,
    *,
    batch_size: int,
    disagreement_max: float = DISAGREEMENT_MAX,
) -> Evidence:
    """Predict all scenes of a data folder, or the last of them, with the noise that is asked for.

    `range_noise` is a standard deviation in metres, `dropout` the share of the rays to lose. That
    the sensors disagree by more than `disagreement_max` is a warning.
    Raises ValueError when the folder's sensors or classes are not the bundle's.
    """
    folder = read_folder(data)
    warnings = [
        *learned_from(runtime.bundle, folder, data, last),
        *stopped_early(runtime.bundle),
        *through_another_lens(runtime.bundle, folder.rig.camera, data),
    ]
    scenes = as_seen_by(runtime.bundle, folder, data)
    first = 0
    if last is not None:
        if last > len(scenes):
            raise ValueError(
                f'{data} has {counted(len(scenes), "scene")}, not the last {last}. Ask for less.'
            )
        first = len(scenes) - last
        scenes = replace(
            scenes,
            images=scenes.images[first:],
            ranges=scenes.ranges[first:],
            centers=scenes.centers[first:],
        )
    scenes = stressed(scenes, range_noise, dropout)
    prediction = predict(runtime, scenes, 'fusion', batch_size)
    by_mode = {}
    for mode in ('fusion', 'camera_only', 'lidar_only'):
        if mode in runtime.bundle.model.modes:
            alone = prediction
            if prediction.mode[0] != mode:
                alone = predict(runtime, scenes, mode, batch_size)
            by_mode[mode] = score_of(alone, scenes.centers, first)
    apart, alignment = compared(runtime, scenes)
    warnings += map(str, of_disagreement(apart, disagreement_max, alignment, in_folder=True))
    count = len(scenes)
    nothing_dropped = {str(cause): 0 for cause in CAUSES}
    all_used: StreamCounts = {
        'received': count,
        'used': count,
        'pending': 0,
        'dropped': nothing_dropped,
    }
    return Evidence(
        source=str(data),
        prediction=prediction,
        truth=scenes.centers,
        by_mode=by_mode,
        modes=Counter(prediction.mode),
        streams={'camera': all_used, 'lidar': all_used},
        pairs=count,
        latency_ms=time_frames(runtime, scenes),
        worst=worst_frames(scenes, prediction, first),
        about={
            **({'warnings': warnings} if warnings else {}),
            'disagreement': apart,
            'alignment': alignment and alignment.model_dump(),
        },
        first_scene=first,
    )


def learned_from(bundle: Bundle, scenes: SceneSet, data: Path, last: int | None) -> list[str]:
    """Return a warning when a bundle is to be judged on scenes that it learned from.

    Or on those that validated it: it was chosen by them. The same holds of the bundles that its
    training started from.
    """
    # A fingerprint reads all scenes: take it only where their number agrees.
    told_of = (*bundle.folders_learned, *bundle.folders_validating)
    alike = [told for told in told_of if _scenes_of(told) == len(scenes)]
    if not alike:
        return []
    here = fingerprint(scenes)
    learned = next((told for told in alike if told.get('fingerprint') == here), None)
    if learned is None:
        return []
    held_out = cast('int', learned.get('validation', 0))
    only_validated = 'validating_folder' in learned
    if only_validated or (last is not None and last <= held_out):
        if learned not in bundle.folders_choosing:
            return []
        # Where the scenes for training are simulated, so are those that it is fitted to.
        fitted = (
            ', and its covariances were fitted to the errors on them: that these are as large as '
            'it says proves nothing here'
            if are_fitted(bundle)
            and learned is bundle.manifest.training.get('data')
            and not only_validated
            else ''
        )
        return [
            f'By the last {counted(held_out, "scene")} of {data} the best epoch of '
            f'{bundle.path} was chosen{fitted}. Judge it on fresh scenes, of another recording '
            'or another --seed.'
        ]
    return [
        f'{bundle.path} learned from {data} itself, all but the last '
        f'{counted(held_out, "scene")}: on others it is further off. Judge it with --last '
        f'{held_out}, or on scenes of another --seed.'
    ]


def _scenes_of(learned: Mapping[str, object]) -> int:
    if 'validating_folder' in learned:
        return cast('int', learned['validating_folder'])
    return cast('int', learned.get('scenes', 0)) + cast('int', learned.get('validation', 0))


def through_another_lens(bundle: Bundle, camera: Camera, data: Path) -> list[str]:
    """Return a warning when the images of a folder were bent unlike those of the training."""
    trained = bundle.rig.camera
    facts = CameraFacts(
        Source(str(data / RIG), ''),
        (trained.width, trained.height),
        told=(camera.width, camera.height),
        distortion=distortion(camera, trained.lens),
    )
    remedy = 'Judge it on images of its own lens, or train on these.'
    return [f'{finding.sentence} {remedy}' for finding in of_lens(facts)]


def worst_frames(scenes: SceneSet, prediction: Prediction, first: int) -> list[JudgedFrame]:
    """Return the scenes, numbered from `first`, whose prediction is furthest off, worst first."""
    away = distances(prediction.centers, scenes.centers).mean(dim=-1)
    covariance = prediction.covariance
    return [
        JudgedFrame(
            place=f'Scene {first + index}',
            mode=prediction.mode[index],
            error_m=float(away[index]),
            image=scenes.images[index].numpy(),
            ranges=scenes.ranges[index].numpy(),
            predicted=prediction.centers[index].numpy(),
            truth=scenes.centers[index].numpy(),
            covariance=None if covariance is None else covariance[index].numpy(),
            camera=scenes.rig.camera,
        )
        for index in away.argsort(descending=True, stable=True)[:WORST].tolist()
    ]


def as_seen_by(bundle: Bundle, scenes: SceneSet, data: Path) -> SceneSet:
    """Return the scenes with the bundle's LiDAR and image size, as the robot would see them.

    Raises ValueError naming the entry in which their sensors or classes differ.
    """
    rig, lidar = scenes.rig, scenes.lidar
    if not (data / RIG).is_file():
        # Ranges do not tell how they are to become points: without a word on it, it is the
        # bundle's choice.
        projection = bundle.lidar.projection
        rig = rig.model_copy(update={'projection': projection})
        lidar = replace(lidar, projection=projection)
    if difference := explain_difference(bundle, rig, lidar):
        raise ValueError(
            f'{data} does not fit {bundle.path}: {difference}. Use a bundle that was trained '
            'for this data, or data of this sensor.'
        )
    size = bundle.rig.camera
    camera = rig.camera.resized(size.width, size.height)
    return replace(scenes, rig=rig.model_copy(update={'camera': camera}), lidar=bundle.lidar)


def predict(runtime: Runtime, scenes: SceneSet, mode: Mode, batch_size: int) -> Prediction:
    """Predict all scenes as if only the sensors of the mode were there."""
    parts = []
    order = torch.arange(len(scenes)).split(batch_size)
    quiet = len(order) < 20 or not sys.stderr.isatty()
    for indices in tqdm(order, desc=mode, unit='batch', leave=False, disable=quiet):
        images, ranges = scenes.images[indices].numpy(), scenes.ranges[indices].numpy()
        parts.append(runtime.predict_frames(*left_by(mode, images, ranges), scenes.rig.camera))
    covariances = [part.covariance for part in parts if part.covariance is not None]
    return Prediction(
        centers=torch.cat([part.centers for part in parts]),
        covariance=torch.cat(covariances) if covariances else None,
        classes=parts[0].classes,
        mode=tuple(mode for part in parts for mode in part.mode),
    )


def compared(runtime: Runtime, scenes: SceneSet) -> tuple[float | None, Alignment | None]:
    """Return how far the sensors put the objects apart, in the median of some of the scenes.

    As of `Runtime.disagreement`; None of too few, and for a model that does not say. Then, where
    the camera seems to be, None where that is not elsewhere or not known.
    """
    comparison = Comparison(runtime)
    for image, ranges in zip(scenes.images, scenes.ranges, strict=True):
        comparison.add(image.numpy(), ranges.numpy(), scenes.rig.camera)
    return median_of(comparison.disagreements()), comparison.alignment()


def time_frames(runtime: Runtime, scenes: SceneSet) -> list[float]:
    """Return the time from decoded arrays to centres, one scene at a time, milliseconds."""
    runtime.warm_up()
    times = []
    for index in range(min(len(scenes), _TIMED_FRAMES)):
        image, ranges = scenes.images[index].numpy(), scenes.ranges[index].numpy()
        started = time.perf_counter()
        runtime.predict_frame(image, ranges, scenes.rig.camera)
        times.append(1000 * (time.perf_counter() - started))
    return times
