"""One .safetensors file that rebuilds a trained model: weights, LiDAR tables and manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

import fusion_perception
from fusion_perception.models import FusionModel, build
from fusion_perception.models.examples import Examples, take_examples
from fusion_perception.models.tensor_file import write_tensors
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.json_text import read_json
from fusion_perception.sensing.observation import Lidar
from fusion_perception.sensing.quoting import escaped, quoted, reason
from fusion_perception.sensing.rig import Rig
from fusion_perception.sensing.settings import Settings

SHIPPED = Path(__file__).parent.parent / 'bundles'
# Their names in the folder of a run.
BUNDLE, CHECKPOINT = 'bundle.safetensors', 'checkpoint.safetensors'
FORMAT = 1
_AZIMUTH, _ZENITH, _OFFSETS = 'lidar.azimuth', 'lidar.zenith', 'lidar.offsets'
_WEIGHTS = 'model.'
_REMEDY = 'Copy it again, or train one with `fusion train`.'


class Normalisation(Settings):
    """The units in which a model wants its inputs."""

    rgba: str = Field('0..1', description='Colour and alpha')
    xyza: str = Field('metres', description='Points; a missed ray lies at the maximum range')


class Manifest(Settings):
    """What a bundle says about itself."""

    format: int = Field(FORMAT, description='Version of this layout')
    model: str = Field(description='Name in MODELS')
    config: dict[str, object] = Field(description='Settings the model is built from')
    rig: Rig = Field(description='Sensors and classes the model was trained for')
    lidar_fingerprint: str = Field(description='sha256 of tables, projection, maximum range')
    normalisation: Normalisation = Field(Normalisation(), description='Units of the inputs')
    training: dict[str, object] = Field(description='Seed, data, metrics and times')
    package_version: str = Field(description='Version of fusion_perception that wrote it')
    weights_sha256: str = Field(description='sha256 of all tensors')


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: the model in eval mode on the CPU, its LiDAR and its manifest.

    `examples` are scenes to hold an engine against; None in a bundle that was saved without.
    """

    model: FusionModel
    lidar: Lidar
    manifest: Manifest
    path: Path
    examples: Examples | None = None

    @property
    def rig(self) -> Rig:
        """Return the sensors and classes the model was trained for."""
        return self.manifest.rig

    @property
    def trainings(self) -> list[Mapping[str, object]]:
        """Return what is on record of its training, then of those that it started from."""
        found: list[Mapping[str, object]] = []
        training: object = self.manifest.training
        while isinstance(training, dict):
            found.append(training)
            before = training.get('started_from')
            training = before.get('training') if isinstance(before, dict) else None
        return found

    @property
    def folders_learned(self) -> list[Mapping[str, object]]:
        """Return what is on record of the data folders it learned from, by all its trainings."""
        told = [training.get('data') for training in self.trainings]
        return [data for data in told if isinstance(data, dict) and data.get('source') == 'folder']

    @property
    def folders_choosing(self) -> list[Mapping[str, object]]:
        """Return what is on record of the data folders by whose scenes a best epoch was chosen.

        These are the last scenes of those it learned from, or all where a folder only validated.
        """
        ended = [told for told in self.trainings if told.get('metrics', {}) is not None]
        told = [training.get('data') for training in ended]
        return [data for data in told if isinstance(data, dict)]

    @property
    def folders_validating(self) -> list[Mapping[str, object]]:
        """Return what is on record of the data folders that only chose the best epoch."""
        return [data for data in self.folders_choosing if 'validating_folder' in data]

    def as_start(self) -> dict[str, object]:
        """Return what a training that starts from this bundle keeps of how it was made."""
        return {
            'weights_sha256': self.manifest.weights_sha256,
            'package_version': self.manifest.package_version,
            'training': self.manifest.training,
        }

    def identity(self) -> dict[str, str]:
        """Return what a report calls this bundle: file, model, weights and who wrote it."""
        return {
            'path': str(self.path),
            'model': self.manifest.model,
            'weights_sha256': self.manifest.weights_sha256,
            'package_version': self.manifest.package_version,
        }


def save_bundle(
    path: Path,
    model: FusionModel,
    name: str,
    rig: Rig,
    lidar: Lidar,
    training: Mapping[str, object],
    examples: Examples | None = None,
) -> None:
    """Write a bundle in one step: a reader sees the old file or the new one, never half of it.

    `name` is the model's name in MODELS; `training` must be JSON values. Of `examples` the first
    few are kept, with what the model says of them. Raises OSError where it cannot be written.
    """
    tensors = {
        _WEIGHTS + key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    tensors[_AZIMUTH] = lidar.azimuth.cpu().float().contiguous()
    tensors[_ZENITH] = lidar.zenith.cpu().float().contiguous()
    if lidar.offsets is not None:
        tensors[_OFFSETS] = lidar.offsets.cpu().float().contiguous()
    if examples is not None:
        tensors |= examples.few().judged_by(model, rig.camera, lidar).as_tensors()
    manifest = Manifest(
        model=name,
        config=model.config.model_dump(mode='json'),
        rig=rig.model_copy(update={'projection': lidar.projection, 'max_range': lidar.max_range}),
        lidar_fingerprint=lidar.fingerprint(),
        training=dict(training),
        package_version=fusion_perception.__version__,
        weights_sha256=_fingerprint(tensors),
    )
    text = json.dumps(manifest.model_dump(mode='json'), sort_keys=True)
    metadata = {'manifest': text, 'manifest_sha256': hashlib.sha256(text.encode()).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)


def find_bundle(name: str | Path) -> Path:
    """Return the path of a bundle given as a path or as the name of one that ships.

    Raises FileNotFoundError where there is none, as in a folder without one.
    """
    if not str(name):
        raise _missing('is named')
    path = from_home(name)
    if (file := _file_at(path)) is not None:
        return file
    shipped = SHIPPED / f'{name}.safetensors'
    if path.name == str(name) and shipped.is_file():
        return shipped
    if path.is_dir():
        raise _no_run(path)
    raise _missing(f'at {path}')


def name_anywhere(name: str) -> str:
    """Return a name that finds a bundle from any folder: an absolute path, or one that ships."""
    path = from_home(name)
    return name if _file_at(path) is None else str(path.resolve())


def _missing(asked: str) -> FileNotFoundError:
    return FileNotFoundError(
        f'No bundle {asked}. Train one with `fusion train`, or name an existing file '
        f'or one that ships ({_shipped()}).'
    )


def _no_run(folder: Path) -> FileNotFoundError:
    files = (file.name for file in folder.glob('*.safetensors'))
    others = sorted(name for name in files if name != CHECKPOINT)
    return FileNotFoundError(
        f'{folder} is a folder without a {BUNDLE}. A bundle is that file, which `fusion train` '
        'writes into the folder of a run. '
        + (
            f'Name the file that you mean: {escaped(", ".join(others))}.'
            if others
            else f'Name it, the folder of a run, or one that ships ({_shipped()}).'
        )
    )


def _shipped() -> str:
    return ', '.join(sorted(file.stem for file in SHIPPED.glob('*.safetensors'))) or 'none'


def _file_at(path: Path) -> Path | None:
    """Return the bundle that a path means, a file or a run's folder, None where there is none."""
    return next((file for file in (path, path / BUNDLE) if file.is_file()), None)


def load_bundle(name: str | Path) -> Bundle:
    """Load and verify a bundle given as a path or as the name of one that ships.

    Raises FileNotFoundError when there is none, and ValueError when it is torn, altered, of
    another format or does not fit the model it names. Nothing is unpickled.
    """
    path = find_bundle(name)
    manifest, tensors = _read(path)
    if _fingerprint(tensors) != manifest.weights_sha256:
        raise ValueError(f'{path}: the weights differ from their sha256. {_REMEDY}')
    try:
        examples, tensors = take_examples(tensors)
        lidar = Lidar(
            tensors.pop(_AZIMUTH),
            tensors.pop(_ZENITH),
            manifest.rig.projection,
            manifest.rig.max_range,
            tensors.pop(_OFFSETS, None),
        )
        model = build(manifest.model, manifest.config)
        objects, classes = model.config.objects, manifest.rig.classes
        if objects != len(classes):
            raise ValueError(
                f'it predicts {counted(objects, "object")} and names '
                f'{counted(len(classes), "class", "classes")}'
            )
        weights = {key.removeprefix(_WEIGHTS): value for key, value in tensors.items()}
        difference = _difference(weights, model.state_dict())
        if difference:
            raise ValueError(f'its weights are not those of {manifest.model} here: {difference}')
        model.load_state_dict(weights)
        if examples is not None and not examples.fit(len(model.modes), objects, lidar.shape):
            raise ValueError('its examples are not of the shape that its model and LiDAR have')
    except (KeyError, ValueError, RuntimeError) as error:
        why = reason(error).rstrip('.')
        raise ValueError(f'{path} does not fit this package: {why}. {_REMEDY}') from None
    if lidar.fingerprint() != manifest.lidar_fingerprint:
        raise ValueError(f'{path}: lidar_fingerprint does not fit the tables. {_REMEDY}')
    return Bundle(model.eval(), lidar, manifest, path, examples)


def _read(path: Path) -> tuple[Manifest, dict[str, Tensor]]:
    try:
        with safe_open(path, framework='pt') as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f'{path} is torn or no bundle ({reason(error)}). {_REMEDY}') from None
    if 'training' in metadata and 'manifest' not in metadata:
        raise ValueError(
            f'{path} is the checkpoint of a training, which `fusion train --resume` goes on from. '
            f'Name the {BUNDLE} beside it.'
        )
    text = metadata.get('manifest')
    if text is None:
        raise ValueError(f'{path} has weights but no manifest, so it is no bundle. {_REMEDY}')
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get('manifest_sha256'):
        raise ValueError(f'{path}: the manifest differs from its sha256. {_REMEDY}')
    try:
        values = read_json(text)
    except ValueError as error:
        raise ValueError(f'{path}: the manifest is no JSON ({error}). {_REMEDY}') from None
    if not isinstance(values, dict):
        raise ValueError(f'{path}: the manifest is {quoted(values)}, no mapping. {_REMEDY}')
    if values.get('format') != FORMAT:
        raise ValueError(
            f'{path} has bundle format {quoted(values.get("format"))}; this version reads '
            f'{FORMAT}. Install the version of fusion_perception that wrote it.'
        )
    return Manifest.read(values, path), tensors


def _difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Say in which weights a bundle differs from the model it names: the first, and how many."""
    names = (*expected, *(name for name in found if name not in expected))
    differing = [name for name in names if _shape(found, name) != _shape(expected, name)]
    if not differing:
        return None
    here, there = (_shape(weights, differing[0]) for weights in (found, expected))
    more = (
        f', and {counted(len(differing) - 1, "more differs", "more differ")}'
        if len(differing) > 1
        else ''
    )
    return f'{differing[0]} is {here} and should be {there}{more}'


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return 'x'.join(map(str, weights[name].shape)) or 'a number' if name in weights else 'missing'


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def explain_difference(bundle: Bundle, rig: Rig, lidar: Lidar) -> str | None:
    """Return the first entry in which a sensor differs from what a bundle was trained for.

    None when it fits. The camera's intrinsics and pose belong to each observation and may
    differ; classes, grid, tables, projection and maximum range may not.
    """
    expected = bundle.manifest.rig
    for entry, ours, theirs in (
        ('classes', expected.classes, rig.classes),
        ('LiDAR rows and columns', bundle.lidar.shape, lidar.shape),
        ('projection', bundle.lidar.projection, lidar.projection),
        ('max_range', bundle.lidar.max_range, lidar.max_range),
    ):
        if ours != theirs:
            return f'{entry}: the bundle has {ours}, the sensor {theirs}'
    apart = float((bundle.lidar.directions - lidar.directions).norm(dim=-1).max())
    if apart > 1e-4:
        return f'LiDAR tables: the directions differ by up to {apart:.4f} rad'
    begins = [0.0 if table.offsets is None else table.offsets for table in (bundle.lidar, lidar)]
    apart = float(torch.as_tensor(begins[0] - begins[1]).abs().max())
    if apart > 1e-4:
        return f'LiDAR offsets: the beams begin up to {apart:.4f} m apart'
    return None
