"""Measure a bundle against the truth, through the runtime that a robot uses."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from fusion_perception.learning.dataset import SceneSet, read_folder
from fusion_perception.learning.metrics import Scores, score
from fusion_perception.learning.report import write_html
from fusion_perception.learning.run import versions
from fusion_perception.models.bundle import Bundle, explain_difference, load_bundle
from fusion_perception.runtime import Device, Precision, Runtime
from fusion_perception.sensing.observation import Mode, Prediction
from fusion_perception.sensing.settings import Settings

log = logging.getLogger(__name__)

TOO_FAR = 3  # The exit code for a mean error beyond --max-error.
_SILENT: dict[Mode, Literal['camera', 'lidar']] = {
    'camera_only': 'lidar',
    'lidar_only': 'camera',
}
_TIMED_FRAMES = 100


class EvaluateSettings(Settings):
    """Settings of `fusion evaluate`."""

    bundle: str = Field(description='Path of a bundle, or the name of one that ships')
    data: Path = Field(description='Data folder with the truth')
    out: Path = Field(description='Folder for report.json and report.html')
    max_error: float | None = Field(
        None, gt=0, description='Exit with code 3 when the mean error exceeds this, metres'
    )
    last: int | None = Field(None, ge=1, description='Only so many scenes at the end')
    batch_size: int = Field(64, ge=1, description='Scenes predicted at a time')
    device: Device = Field('auto', description='auto takes CUDA where it is')
    precision: Precision = Field('float32', description='Precision of the forward pass')


@dataclass(frozen=True)
class Evidence:
    """What a bundle predicted from some source, beside the truth.

    `scenes` are what it saw, with the true centres; `prediction` is from all that was there, and
    `by_mode` scores each mode the bundle can serve. `streams` says what became of every message
    and `pairs` how many pairs they made; `latency_ms` holds single frames.
    """

    source: str
    scenes: SceneSet
    prediction: Prediction
    by_mode: Mapping[Mode, Scores]
    streams: Mapping[str, object]
    pairs: int
    latency_ms: list[float]

    def scores(self) -> Scores:
        """Return the scores of the prediction."""
        return score_of(self.prediction, self.scenes.centers)


def evaluate(settings: EvaluateSettings) -> tuple[str, int]:
    """Write report.json and report.html, and return what they say in short with the exit code.

    Raises FileNotFoundError or ValueError for a bundle or folder that cannot be read, and
    ValueError when they do not fit each other.
    """
    bundle = load_bundle(settings.bundle)
    runtime = Runtime(bundle, settings.device, settings.precision)
    evidence = from_folder(runtime, settings.data, settings.last, settings.batch_size)
    report = as_report(evidence, runtime)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / 'report.json').write_text(json.dumps(report, indent=2) + '\n')
    write_html(settings.out / 'report.html', report, evidence.prediction, evidence.scenes)
    scores = evidence.scores()
    error = scores.error_m
    text = (
        f'{bundle.manifest.model} on {scores.scenes} scenes of {evidence.source}: mean error '
        f'{error.mean:.3f} m, median {error.median:.3f} m, 95 % below {error.p95:.3f} m, '
        f'MSE {scores.mse:.4f} m2. Open {settings.out / "report.html"}'
    )
    if settings.max_error is not None and error.mean > settings.max_error:
        return f'{text}\nToo far: more than --max-error {settings.max_error:g} m.', TOO_FAR
    return text, 0


def from_folder(
    runtime: Runtime, data: Path, last: int | None = None, batch_size: int = 64
) -> Evidence:
    """Predict all scenes of a data folder, or the last of them.

    Raises ValueError when the folder's sensors or classes are not the bundle's.
    """
    scenes = as_seen_by(runtime.bundle, read_folder(data), data)
    if last is not None:
        if last > len(scenes):
            raise ValueError(
                f'{data} has {len(scenes)} scenes, not the last {last}. Ask for less.'
            )
        some = slice(len(scenes) - last, None)
        scenes = replace(
            scenes,
            images=scenes.images[some],
            ranges=scenes.ranges[some],
            centers=scenes.centers[some],
        )
    prediction = predict(runtime, scenes, 'fusion', batch_size)
    by_mode = {}
    for mode in ('fusion', 'camera_only', 'lidar_only'):
        if mode in runtime.bundle.model.modes:
            alone = prediction
            if prediction.mode[0] != mode:
                alone = predict(runtime, scenes, mode, batch_size)
            by_mode[mode] = score_of(alone, scenes.centers)
    count = len(scenes)
    all_used = {'received': count, 'used': count, 'pending': 0, 'dropped': {}}
    return Evidence(
        source=str(data),
        scenes=scenes,
        prediction=prediction,
        by_mode=by_mode,
        streams={'camera': all_used, 'lidar': all_used},
        pairs=count,
        latency_ms=time_frames(runtime, scenes),
    )


def as_seen_by(bundle: Bundle, scenes: SceneSet, data: Path) -> SceneSet:
    """Return the scenes with the bundle's LiDAR and image size, as the robot would see them.

    Raises ValueError naming the entry in which their sensors or classes differ.
    """
    rig, lidar = scenes.rig, scenes.lidar
    if not (data / 'sensor.yaml').is_file():
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


def predict(
    runtime: Runtime, scenes: SceneSet, mode: Mode = 'fusion', batch_size: int = 64
) -> Prediction:
    """Predict all scenes as if only the sensors of the mode were there."""
    parts = []
    order = torch.arange(len(scenes)).split(batch_size)
    quiet = len(order) < 20 or not sys.stderr.isatty()
    for indices in tqdm(order, desc=mode, unit='batch', leave=False, disable=quiet):
        observation, _ = scenes.batch(indices)
        if mode in _SILENT:
            observation = observation.without(_SILENT[mode])
        parts.append(runtime.predict(observation))
    covariances = [part.covariance for part in parts if part.covariance is not None]
    return Prediction(
        centers=torch.cat([part.centers for part in parts]),
        covariance=torch.cat(covariances) if covariances else None,
        classes=parts[0].classes,
        mode=tuple(mode for part in parts for mode in part.mode),
    )


def time_frames(runtime: Runtime, scenes: SceneSet) -> list[float]:
    """Return the time from decoded arrays to centres, one scene at a time, milliseconds."""
    runtime.warm_up()
    times = []
    for index in range(min(len(scenes), _TIMED_FRAMES)):
        image, ranges = scenes.images[index].numpy(), scenes.ranges[index].numpy()
        started = time.perf_counter()
        runtime.predict(runtime.observe(image, ranges, scenes.rig.camera))
        times.append(1000 * (time.perf_counter() - started))
    return times


def as_report(evidence: Evidence, runtime: Runtime) -> dict[str, object]:
    """Return the content of report.json."""
    manifest = runtime.bundle.manifest
    scores = evidence.scores().as_json()
    calibration = scores.pop('calibration', None)
    report = {
        **scores,
        'by_mode': {mode: scores.as_json() for mode, scores in evidence.by_mode.items()},
        'modes': dict(Counter(evidence.prediction.mode)),
        'streams': evidence.streams,
        'pairs': evidence.pairs,
        'latency_ms': spread(evidence.latency_ms),
        'source': evidence.source,
        'bundle': {
            'path': str(runtime.bundle.path),
            'model': manifest.model,
            'weights_sha256': manifest.weights_sha256,
            'package_version': manifest.package_version,
        },
        'device': device_name(runtime.device),
        'versions': versions(),
    }
    return report if calibration is None else {**report, 'calibration': calibration}


def score_of(prediction: Prediction, truth: Tensor) -> Scores:
    """Score a prediction against the true centres (N, K, 3)."""
    return score(prediction.centers, truth, prediction.classes, prediction.covariance)


def spread(values: list[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile and the largest of some values."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return {
        **{f'p{rank}': float(tensor.quantile(rank / 100)) for rank in (50, 95, 99)},
        'max': float(tensor.max()),
    }


def device_name(device: torch.device) -> str:
    """Return the device with the name of its GPU or the number of its threads."""
    if device.type == 'cuda':
        return f'cuda ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'
