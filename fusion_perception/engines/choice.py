"""Choose an engine: hold each against eager float32, refuse what differs, take the quickest."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.engines.base import (
    Engine,
    EngineChoice,
    EngineName,
    Precision,
    TorchEngine,
    UnavailableError,
)
from fusion_perception.engines.cuda_graph import CudaGraphEngine
from fusion_perception.engines.onnx_graph import KINDS, kept_graph
from fusion_perception.engines.onnx_runtime import OnnxEngine, TensorRTEngine
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.models.examples import Examples, left_by, made_up_examples

log = logging.getLogger(__name__)

ENGINES: dict[EngineName, type[OnnxEngine] | type[CudaGraphEngine]] = {
    'cuda_graph': CudaGraphEngine,
    'tensorrt': TensorRTEngine,
    'onnxruntime': OnnxEngine,
}
# `auto` looks no further: TensorRT compiles for minutes, so it comes only when it is asked for.
AUTO: tuple[EngineName, ...] = ('cuda_graph', 'onnxruntime', 'torch')
ALLOWED_M = 1e-3
# A standard deviation may differ by as much as a centre, and by this share of itself.
ALLOWED_SHARE = 0.02
_TIMED = 7
# What NVIDIA's libraries look for; ONNX Runtime has no option of it for TensorRT.
_TF32 = 'NVIDIA_TF32_OVERRIDE'

# An image (1, H, W, C) and a range image (1, R, C).
Frame = tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]


@dataclass(frozen=True)
class Trial:
    """What became of an engine: `fault` is why it is not to be used, '' when it may be.

    `engine` is None where it cannot be had. Where it is not installed or lacks its GPU it is
    `missing`, and the fault says what to do as well. apart_m is by how much its centres differ
    from those of eager float32, time_ms how long one frame takes from arrays to centres; None
    where it did not come so far.
    """

    name: EngineName
    engine: Engine | None
    fault: str = ''
    remedy: str = ''
    missing: bool = False
    apart_m: float | None = None
    time_ms: float | None = None


def choose_engine(
    choice: EngineChoice, bundle: Bundle, device: torch.device, precision: Precision
) -> Engine:
    """Return the engine that is asked for, or under 'auto' the quickest that agrees.

    One that differs from eager float32 is refused, with one line in the log, and the next taken.
    Raises ValueError when the one asked for cannot be had here.
    """
    torch_engine = TorchEngine(bundle, device, precision)
    if choice == 'torch':
        return torch_engine
    if precision != 'float32':
        if choice == 'auto':
            return torch_engine
        raise ValueError(
            f"Engine '{choice}' computes in float32, not {precision}. Use engine auto or torch, "
            'or precision float32.'
        )
    names: tuple[EngineName, ...] = AUTO if choice == 'auto' else (choice, *AUTO)
    agreeing: list[Trial] = []
    for name in dict.fromkeys(names):
        trial = try_engine(name, bundle, torch_engine, timed=choice == 'auto')
        if trial.engine is None and name == choice:
            raise ValueError(f'{trial.fault} {trial.remedy}'.rstrip())
        if trial.fault and not trial.missing:
            log.warning('%s %s', trial.fault, trial.remedy)
        if not trial.fault:
            agreeing.append(trial)
            if choice != 'auto':
                break
    best = min(agreeing, key=lambda trial: trial.time_ms or 0.0)
    assert best.engine is not None
    return best.engine


def try_engine(
    name: EngineName, bundle: Bundle, reference: TorchEngine, timed: bool = True
) -> Trial:
    """Build an engine, hold it against eager torch and, when it agrees, time it."""
    if name == 'torch':
        took = time_ms(reference, bundle) if timed else None
        return Trial(name, reference, apart_m=0.0, time_ms=took)
    try:
        engine = ENGINES[name](bundle, reference.device)
        apart_m, covariance_fits = compare(engine, reference, bundle)
        agrees = apart_m <= ALLOWED_M and covariance_fits
        took = time_ms(engine, bundle) if agrees and timed else None
    except UnavailableError as reason:
        return Trial(name, None, str(reason), missing=True)
    except Exception as error:  # Whatever another project's compiler raises: torch goes on.
        why = ' '.join(str(error).split())[:300].rstrip('.')
        fault = f"Engine '{name}' failed here: {type(error).__name__}: {why}."
        return Trial(name, None, fault, _way_out(name, bundle))
    if not agrees:
        differ = f'its centres are up to {1e3 * apart_m:.2f} mm'
        if apart_m <= ALLOWED_M:
            differ = f'its standard deviations are more than {ALLOWED_SHARE:.0%}'
        fault = f'Engine {name} is refused for {bundle.path}: {differ} away from eager torch.'
        return Trial(name, engine, fault, _remedy(name, bundle), apart_m=apart_m)
    return Trial(name, engine, apart_m=apart_m, time_ms=took)


def compare(engine: Engine, reference: TorchEngine, bundle: Bundle) -> tuple[float, bool]:
    """Return by how many metres an engine's centres differ, at most, and if covariances agree.

    Over the bundle's examples in each of the model's modes, one frame at a time as on the robot:
    as it comes, and as an observation, which a frame of another size is made into.
    """
    apart_m, fits = 0.0, True
    for frame in frames(bundle):
        expected = reference.estimate_frames(*frame)
        for found in (engine.estimate_frames(*frame), engine.estimate(engine.observe(*frame))):
            apart = (found.centers - expected.centers).norm(dim=-1)
            # NaN is as far apart as can be.
            apart_m = max(apart_m, float(apart.nan_to_num(torch.inf).max()))
            fits &= _covariances_agree(found, expected)
    return apart_m, fits


def aged_m(reference: TorchEngine, bundle: Bundle) -> float | None:
    """Return by how many metres the examples now come out otherwise than when it was saved.

    None for a bundle that has none. More than a millimetre means that this version of the package
    or of torch understands it differently.
    """
    if bundle.examples is None or bundle.examples.centers is None:
        return None
    now = [reference.estimate_frames(*frame).centers for frame in frames(bundle)]
    apart = (torch.cat(now) - bundle.examples.centers.flatten(0, 1)).norm(dim=-1)
    return float(apart.nan_to_num(torch.inf).max())


def frames(bundle: Bundle) -> list[Frame]:
    """Return the bundle's examples, or made-up ones, as arrays, in each of the model's modes."""
    examples = bundle.examples or _made_up(bundle)
    found: list[Frame] = []
    for mode in sorted(bundle.model.modes):
        for image, ranges in zip(examples.images, examples.ranges, strict=True):
            found.append(left_by(mode, image[None].numpy(), ranges[None].numpy()))
    return found


def time_ms(engine: Engine, bundle: Bundle) -> float:
    """Return the median time from arrays to centres of a frame with all that the model takes."""
    # Both sensors where the model takes both.
    frame = max(frames(bundle), key=lambda frame: sum(part is not None for part in frame))
    times = []
    for _ in range(2 + _TIMED):
        began = time.perf_counter()
        engine.estimate_frames(*frame)
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times[2:]))


def _made_up(bundle: Bundle) -> Examples:
    log.debug('%s carries no examples; engines are compared on made-up ones.', bundle.path)
    return made_up_examples(bundle.rig.camera, bundle.lidar)


def _covariances_agree(found: Estimate, expected: Estimate) -> bool:
    if expected.covariance is None or found.covariance is None:
        return expected.covariance is found.covariance
    sigma = expected.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    allowed = ALLOWED_SHARE * sigma + ALLOWED_M
    # An entry of a covariance is at most the product of two standard deviations.
    bound = sigma.unsqueeze(-1) * allowed.unsqueeze(-2) + allowed.unsqueeze(-1) * sigma.unsqueeze(
        -2
    )
    return bool(((found.covariance - expected.covariance).abs() <= bound).all())


def _remedy(name: EngineName, bundle: Bundle) -> str:
    if not issubclass(ENGINES[name], OnnxEngine):
        return 'Use engine torch.'
    if name == 'tensorrt' and os.environ.get(_TF32) != '0':
        return f'TensorRT rounds float32 to eleven digits unless {_TF32}=0 is in the environment.'
    graphs = _kept_graphs(bundle)
    return f'Remove {graphs}: made again at the next start.' if graphs else 'Use engine torch.'


def _way_out(name: EngineName, bundle: Bundle) -> str:
    """Say what to do about an engine that failed: a graph that was kept may be at fault."""
    graphs = _kept_graphs(bundle) if issubclass(ENGINES[name], OnnxEngine) else ''
    if not graphs:
        return 'Use engine torch.'
    return f'Use engine torch, or remove {graphs}: made again at the next start.'


def _kept_graphs(bundle: Bundle) -> str:
    return ' and '.join(str(graph) for kind in KINDS if (graph := kept_graph(bundle, kind)))
