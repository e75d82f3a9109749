"""Export a bundle's model as an ONNX graph, and keep it beside the bundle for the next start."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fusion_perception.models import base
from fusion_perception.models.base import Estimate, FusionModel
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing import assembly, blank_images, geometry, observation
from fusion_perception.sensing.assembly import CameraMatrices, observe_flagged
from fusion_perception.sensing.observation import Lidar, Observation
from fusion_perception.user_cache import user_cache

Kind = Literal['frame', 'observation']
KINDS: tuple[Kind, ...] = get_args(Kind)
# Raise it whenever the export changes: graphs from before are made anew.
EXPORT_VERSION = 2
OPSET = 18
INPUTS = tuple(field.name for field in fields(Observation))
_DIGITS = 16
# What becomes part of a graph.
_SOURCES = (
    *sorted(Path(base.__file__).parent.glob('*.py')),
    *(Path(str(part.__file__)) for part in (assembly, blank_images, geometry, observation)),
)


def graph_of(bundle: Bundle, kind: Kind) -> bytes:
    """Return the graph for one frame or observation, from the cache where it is whole there."""
    for folder in _folders(bundle):
        for file in _kept(folder, bundle, kind):
            with suppress(OSError):  # Another node's start may just have removed it.
                content = file.read_bytes()
                if file.name == _name(bundle, kind, content):
                    return content
    content = export_frame(bundle) if kind == 'frame' else export(bundle, batch=1)
    keep(bundle, kind, content)
    return content


def keep(bundle: Bundle, kind: Kind, content: bytes) -> Path | None:
    """Write a bundle's graph in one step; return where, or None where no folder takes it.

    Graphs of what the bundle's file held before are removed.
    """
    for folder in _folders(bundle):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=folder, prefix=_stem(bundle), suffix='.part')
        except OSError:
            continue  # Installed by another user, or a read-only medium.
        path = folder / _name(bundle, kind, content)
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(content)
            Path(draft).chmod(0o644)
            Path(draft).replace(path)
        except OSError:
            continue  # A full disk: then the next start exports again.
        finally:
            Path(draft).unlink(missing_ok=True)
        if folder == bundle.path.resolve().parent:
            _remove_stale(folder, bundle)
        return path
    return None


def kept_graph(bundle: Bundle, kind: Kind) -> Path | None:
    """Return the file that `graph_of` would read, None while there is none."""
    for folder in _folders(bundle):
        for file in _kept(folder, bundle, kind):
            return file
    return None


def export(bundle: Bundle, batch: int) -> bytes:
    """Return the ONNX graph of a bundle's model for batches of one size.

    All shapes are constants in it, so ONNX Runtime folds what depends on them alone. The inputs
    are the tensors of an Observation, the outputs centers and, where the model has it, covariance.
    """
    camera, (rows, columns) = bundle.rig.camera, bundle.lidar.shape
    example = Observation(
        rgba=torch.rand(batch, 4, camera.height, camera.width),
        xyza=torch.rand(batch, 4, rows, columns),
        camera=torch.ones(batch, dtype=torch.bool),
        lidar=torch.ones(batch, dtype=torch.bool),
        intrinsics=camera.intrinsics().repeat(batch, 1, 1),
        T_camera_lidar=camera.extrinsics().repeat(batch, 1, 1),
    )
    model = copy.deepcopy(bundle.model).cpu().eval()
    return _export(_Flat(model), {name: getattr(example, name) for name in INPUTS})


def export_frame(bundle: Bundle) -> bytes:
    """Return the ONNX graph from one image and one range image, as they come, to the centres.

    As `export`, but the inputs are image (1, H, W, 4) uint8, ranges (1, R, C) metres, the flags
    camera and lidar (1,), intrinsics (1, 3, 3) and T_camera_lidar (1, 4, 4).
    """
    camera, lidar = bundle.rig.camera, bundle.lidar.to('cpu')
    model = copy.deepcopy(bundle.model).cpu().eval()
    example = {
        'image': torch.full((1, camera.height, camera.width, 4), 99, dtype=torch.uint8),
        'ranges': torch.full((1, *lidar.shape), 0.5 * lidar.max_range),
        'camera': torch.ones(1),
        'lidar': torch.ones(1),
        'intrinsics': camera.intrinsics()[None],
        'T_camera_lidar': camera.extrinsics()[None],
    }
    return _export(_OfFrame(model, lidar), example)


def _export(module: nn.Module, example: dict[str, Tensor]) -> bytes:
    graph = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing takes half a second and needs one package; its successor takes
        # ten, two more, and 200 MB that stay in the process.
        warnings.simplefilter('ignore')
        with torch.inference_mode(False), torch.no_grad():
            outputs = len(module(*example.values()))
            torch.onnx.export(
                module,
                tuple(example.values()),
                # Beside paths it takes what it can write to.
                graph,  # type: ignore[arg-type]
                input_names=list(example),
                output_names=['centers', 'covariance'][:outputs],
                opset_version=OPSET,
                dynamo=False,
            )
    return graph.getvalue()


class _Flat(nn.Module):
    """Take an observation as its tensors and give what an engine is asked for."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *sensed: Tensor) -> tuple[Tensor, ...]:
        return _parts(self.model(Observation(*sensed)))


class _OfFrame(nn.Module):
    """Take a frame as it comes."""

    def __init__(self, model: FusionModel, lidar: Lidar) -> None:
        super().__init__()
        self.model, self.lidar = model, lidar

    def forward(
        self,
        image: Tensor,
        ranges: Tensor,
        camera: Tensor,
        lidar: Tensor,
        intrinsics: Tensor,
        T_camera_lidar: Tensor,
    ) -> tuple[Tensor, ...]:
        matrices = CameraMatrices(intrinsics, T_camera_lidar)
        return _parts(
            self.model(observe_flagged(image, ranges, camera, lidar, matrices, self.lidar))
        )


def _parts(estimate: Estimate) -> tuple[Tensor, ...]:
    if estimate.covariance is None:
        return (estimate.centers,)
    return estimate.centers, estimate.covariance


def _folders(bundle: Bundle) -> Iterator[Path]:
    yield bundle.path.resolve().parent
    if (cache := user_cache()) is not None:
        yield cache


def _stem(bundle: Bundle) -> str:
    # Of links to bundles in one folder all may have the same name.
    return bundle.path.resolve().stem


def _kept(folder: Path, bundle: Bundle, kind: Kind) -> Iterator[Path]:
    begin = f'{_stem(bundle)}.{_key(bundle, kind)}.'
    try:
        names = sorted(file.name for file in folder.iterdir() if file.suffix == '.onnx')
    except OSError:
        return
    yield from (folder / name for name in names if name.startswith(begin))


def _name(bundle: Bundle, kind: Kind, content: bytes) -> str:
    # The digest of the content in the name tells a whole file from a torn or altered one.
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    return f'{_stem(bundle)}.{_key(bundle, kind)}.{digest}.onnx'


def _key(bundle: Bundle, kind: Kind) -> str:
    """Return what changes with the bundle and with what exports it."""
    digest = hashlib.sha256(f'{kind} {EXPORT_VERSION} {OPSET} {torch.__version__}'.encode())
    digest.update(bundle.manifest.model_dump_json().encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def _remove_stale(folder: Path, bundle: Bundle) -> None:
    hexadecimal = f'[0-9a-f]{{{_DIGITS}}}'
    current = {_key(bundle, kind) for kind in KINDS}
    ours = re.compile(rf'{re.escape(_stem(bundle))}\.({hexadecimal})\.{hexadecimal}\.onnx')
    for file in folder.iterdir():
        match = ours.fullmatch(file.name)
        if match and match[1] not in current:
            with suppress(OSError):  # In a folder like /tmp those of other users stay.
                file.unlink()
