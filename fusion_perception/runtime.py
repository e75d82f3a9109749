"""Run a bundle: decoded sensor arrays in, object centres out, on a chosen device."""

from __future__ import annotations

import copy
import math
from itertools import chain
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from fusion_perception.engines.base import EngineChoice, EngineName, Precision
from fusion_perception.engines.choice import choose_engine
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.models.examples import left_by
from fusion_perception.sensing.observation import Camera, Mode, Observation, Prediction

__all__ = ['Device', 'EngineChoice', 'EngineName', 'Precision', 'Runtime', 'choose_device']

Value = TypeVar('Value', bound=np.generic)
Device = Annotated[
    Literal['auto', 'cpu', 'cuda'],
    Field(description='Where to compute; auto takes CUDA where it is'),
]
# Engines take these as they come.
_TAKEN = frozenset(map(np.dtype, ('uint8', 'float16', 'float32', 'float64')))


def choose_device(device: Device) -> torch.device:
    """Return the device that a name means; 'auto' takes CUDA where it is.

    Raises ValueError when CUDA is asked for and not there.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no CUDA GPU. Use 'cpu'.")
    return torch.device(device)


class Runtime:
    """A model ready to predict. Not thread-safe: one thread calls it at a time.

    Raises ValueError for a device or an engine that cannot be had here.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device = 'auto',
        precision: Precision = 'float32',
        engine: EngineChoice = 'torch',
    ) -> None:
        self.bundle, self.precision = bundle, precision
        self.device = choose_device(device)
        self._engine = choose_engine(engine, bundle, self.device, precision)

    @property
    def engine(self) -> EngineName:
        """Return the name of the engine that computes."""
        return self._engine.name

    def twin(self) -> Runtime:
        """Return a runtime of the same weights, to be called by another thread."""
        twin = copy.copy(self)
        twin._engine = self._engine.twin()
        return twin

    def observe(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Observation:
        """Return the observation of one image (H, W, C) uint8 and one range image (R, C) metres.

        `camera` describes the camera at its real resolution, as camera_info does; its images are
        resized to the bundle's, turned by quarters where it does not hang as the bundle's did,
        and its intrinsics and pose with them. Without it, the bundle's is assumed.
        Raises ValueError when the range image has another shape than the bundle's LiDAR, and for
        what is no array.
        """
        return self._engine.observe(*_alone(image, ranges), camera)

    def predict(self, observation: Observation) -> Prediction:
        """Predict a batch; the result lies on the CPU.

        Raises ValueError for a mode the model cannot serve and for centres that are not finite.
        """
        mode = tuple(self.bundle.model.mode_for(seen) for seen in observation.modes())
        return self._prediction(self._engine.estimate(observation), mode)

    def predict_frame(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Prediction:
        """Predict one frame, as `predict(observe(...))` would: the shortest way there is."""
        return self._predict_frames(*_alone(image, ranges), camera)

    def predict_frames(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Prediction:
        """Predict B images (B, H, W, C) uint8 and B range images (B, R, C) metres of one camera.

        None is a sensor that is silent in all of them. Otherwise as `observe` and `predict`.
        """
        return self._predict_frames(_as_images(images), _as_ranges(ranges), camera)

    def _predict_frames(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None,
    ) -> Prediction:
        seen: Mode = (
            'lidar_only' if images is None else 'camera_only' if ranges is None else 'fusion'
        )
        mode = self.bundle.model.mode_for(seen)
        estimate = self._engine.estimate_frames(images, ranges, camera)
        return self._prediction(estimate, (mode,) * len(estimate.centers))

    def disagreement(
        self,
        image: NDArray[np.uint8],
        ranges: NDArray[np.float32],
        camera: Camera | None = None,
    ) -> float | None:
        """Say how far camera and LiDAR, each by itself, put the objects of a frame apart.

        The median of `FusionModel.disagreement` over the objects, None where that says nothing.
        Computed on the CPU, in some milliseconds.
        """
        found = self.disagreements(self.observe(image, ranges, camera))
        return found[0] if found else None

    @torch.inference_mode()
    def alone(self, observation: Observation) -> tuple[Estimate, Estimate] | None:
        """Say what LiDAR and camera, each by itself, see in a batch, as `FusionModel.alone`."""
        return self.bundle.model.eval().alone(observation.to(torch.device('cpu')))

    @torch.inference_mode()
    def disagreements(self, observation: Observation) -> list[float]:
        """Say it of each frame of a batch as `disagreement` does, in order, where it says it."""
        found = self.bundle.model.eval().disagreement(observation.to(torch.device('cpu')))
        if found is None:
            return []
        told: list[float] = found[~found.isnan().any(1)].median(1).values.tolist()
        return told

    def warm_up(self, frames: int = 3) -> None:
        """Predict blank frames, so that the first real one is as fast as the hundredth."""
        camera = self.bundle.rig.camera
        image = np.zeros((camera.height, camera.width, 4), np.uint8)
        ranges = np.full(self.bundle.lidar.shape, self.bundle.lidar.max_range, np.float32)
        for mode in sorted(self.bundle.model.modes):
            for _ in range(frames):
                self.predict_frame(*left_by(mode, image, ranges))

    def _prediction(self, estimate: Estimate, mode: tuple[Mode, ...]) -> Prediction:
        # Plain numbers: for so few of them torch takes as long as for a convolution.
        rows = chain.from_iterable(estimate.centers.tolist())
        if not all(map(math.isfinite, chain.from_iterable(rows))):
            raise ValueError(
                'The model gave centres that are not finite. Check the input for NaN, and the '
                'bundle with `fusion doctor --bundle`.'
            )
        return Prediction(estimate.centers, estimate.covariance, self.bundle.rig.classes, mode)


def _alone(
    image: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """Return batches of one."""
    image, ranges = _as_images(image), _as_ranges(ranges)
    return None if image is None else image[None], None if ranges is None else ranges[None]


def _as_images(given: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    return None if given is None else _as_array(given, 'images are', 'uint8')


def _as_ranges(given: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if given is None else _as_array(given, 'ranges are', 'float32')


def _as_array(given: NDArray[Value], what: str, kind: str) -> NDArray[Value]:
    """Return an array in the machine's byte order, of numbers that torch has where they are some.

    So do tensors become one. Raises ValueError for what is no array.
    """
    if isinstance(given, np.ndarray) and given.dtype in _TAKEN:
        return given
    if not hasattr(given, '__array__'):
        raise ValueError(
            f'A {type(given).__name__} came where {what} needed as a NumPy array of {kind}. Make '
            f'one of it: numpy.array(..., numpy.{kind}).'
        )
    array = np.asarray(given)
    native = np.dtype(np.float64) if array.dtype.char == 'g' else array.dtype.newbyteorder('=')
    return array.astype(native, copy=False)
