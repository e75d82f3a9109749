"""What every engine does: sensor arrays or observations in, an estimate on the CPU out."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from fusion_perception.engines.views import View, as_in_training
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.assembly import CameraMatrices, observe
from fusion_perception.sensing.observation import Camera, Observation

EngineName = Literal['torch', 'onnxruntime', 'cuda_graph', 'tensorrt']
# For signatures and for the settings of whoever computes, as `Device` is.
EngineChoice = Annotated[
    Literal['auto', EngineName],
    Field(description='What computes the model; auto takes the quickest that agrees with torch'),
]
Precision = Annotated[
    Literal['float32', 'bfloat16'], Field(description='Precision of the forward pass')
]
Graph = TypeVar('Graph')
# Graphs of so many batch sizes stay in memory.
_MOST_SIZES = 8


class UnavailableError(ValueError):
    """An engine cannot be had here; the message says why and what to do."""


class _WholeFloat32:
    """The process's switch for TF32 in cuDNN: off while anybody is inside, then as it was.

    Threads come and go in any order: the first one in switches, the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


_WHOLE_FLOAT32 = _WholeFloat32()


def whole_float32() -> AbstractContextManager[None]:
    """Let a GPU compute float32 convolutions with all 24 digits, as a CPU does.

    By default cuDNN takes eleven of them (TF32): this moves centres by up to a centimetre. The
    switch is the process's own: while one thread is inside, all threads compute so, and what it
    was before comes back when none is inside any more.
    """
    return _WHOLE_FLOAT32


def kept_by_size(make: Callable[[int], Graph]) -> Callable[[int], Graph]:
    """Return what gives the graph for a number of frames; the ones used last stay in memory.

    `make` must not hold the engine that keeps the result, so it is no method of it: the two would
    hold each other, and graphs and their memory would wait for the cycle collector.
    """
    return lru_cache(_MOST_SIZES)(make)


class Engine(ABC):
    """One way to compute a bundle's model on a device. One thread calls it at a time.

    Making one raises UnavailableError where it cannot run.
    """

    name: ClassVar[EngineName]

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        self.lidar = bundle.lidar.to(device)
        camera = bundle.rig.camera
        self._view = View(None, camera, CameraMatrices.of(camera, device))
        # Every frame asks for them, and to look them up through the bundle takes longer.
        self._image_size, self._scan_size = (camera.height, camera.width), bundle.lidar.shape

    @abstractmethod
    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""

    def estimate_frames(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of B images and B range images; see `observe`."""
        return self.estimate(self.observe(images, ranges, camera))

    def observe(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Observation:
        """Return the observation of images (B, H, W, C) uint8 and ranges (B, R, C) metres.

        Its images are upright and of the bundle's size, and its camera is theirs. Raises
        ValueError when range images have another shape than the bundle's LiDAR.
        """
        view = self._view_of(camera)
        return self._observed(self._as_trained(images, view), ranges, view)

    def _observed(
        self, images: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None, view: View
    ) -> Observation:
        """Return the observation of images that are as in the training, and their ranges."""
        pixels = None if images is None else self._put(images)
        measured = None if ranges is None else self._put(ranges)
        return observe(pixels, measured, view.camera, self.lidar, view.matrices)

    def _view_of(self, camera: Camera | None) -> View:
        """Return a camera as the bundle's images are. Mostly it is that of the frame before."""
        view = self._view  # Once: another thread that calls meanwhile may bring its own camera.
        if camera is not view.given:
            view = self._view = View.of(camera, self.bundle.rig.camera, self.device)
        return view

    def _as_trained(
        self, images: NDArray[np.uint8] | None, view: View
    ) -> NDArray[np.uint8] | None:
        """Return the images upright and in the bundle's resolution, what are no images as is.

        Resized here, they need not go to a GPU whole.
        """
        if images is None or not _are_images(images):
            return images
        return as_in_training(images, self._image_size, view.quarters)

    def _fitting(
        self, images: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None
    ) -> int:
        """Return how many frames these are, 0 unless they are as the bundle knows them."""
        counts = {len(part) for part in (images, ranges) if part is not None}
        fit = (images is None or _are_images(images)) and (
            ranges is None or (ranges.shape[1:] == self._scan_size and ranges.dtype.kind == 'f')
        )
        return counts.pop() if fit and len(counts) == 1 else 0

    def _refuse_other_sizes(self, observation: Observation) -> None:
        """Raise ValueError for an observation that a graph of the bundle's sizes cannot take."""
        sizes = tuple(observation.rgba.shape[2:]), tuple(observation.xyza.shape[2:])
        if sizes != (self._image_size, self._scan_size):
            raise ValueError(
                f'An observation of {sizes[0]} pixels and {sizes[1]} beams came, and engine '
                f'{self.name} takes {self._image_size} and {self._scan_size} (rows, columns). '
                'Predict frames, which are resized, or use engine torch.'
            )

    def twin(self) -> Self:
        """Return an engine of the same weights that another thread may call."""
        return self

    def _put(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        # torch takes neither reversed (BGR) nor read-only memory: those are copied here, once.
        whole = np.require(array, requirements=['C', 'W'])
        return torch.from_numpy(whole).to(self.device, non_blocking=True)


def _are_images(images: NDArray[np.uint8]) -> bool:
    known = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 3, 4)
    return known and images.size > 0


def _paint(images: NDArray[np.uint8], rgba: NDArray[np.generic]) -> None:
    """Write images (B, H, W, 1, 3 or 4) as RGBA: mono is grey, a missing alpha is full."""
    channels = images.shape[3]
    if channels == 4:
        rgba[:] = images
        return
    # numpy copies runs of three bytes slower than single ones with gaps between them.
    for channel in range(3):
        rgba[..., channel] = images[..., channel % channels]
    rgba[..., 3] = 255


class FrameArrays:
    """What a graph for B frames reads, as NumPy arrays that stay where they are.

    Named and shaped as `observe_flagged` takes it: image (B, H, W, 4) uint8, ranges (B, R, C),
    flags camera and lidar (B,), intrinsics (B, 3, 3), T_camera_lidar (B, 4, 4), float32. A graph
    of one sensor has no arrays of the other. A silent sensor's flag is 0, and what its array
    still holds does not count.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], view: View) -> None:
        self._arrays = arrays
        self._show(view)

    def write(
        self, images: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None, view: View
    ) -> None:
        """Write the graph's number of frames, and the camera if it is another than before."""
        if view is not self._shown:
            self._show(view)
        arrays = self._arrays
        if 'image' in arrays:
            arrays['camera'][:] = images is not None
            if images is not None:
                _paint(images, arrays['image'])
        if 'ranges' in arrays:
            arrays['lidar'][:] = ranges is not None
            if ranges is not None:
                arrays['ranges'][:] = ranges

    def _show(self, view: View) -> None:
        camera = view.camera
        for name, matrix in (
            ('intrinsics', camera.intrinsics()),
            ('T_camera_lidar', camera.extrinsics()),
        ):
            if name in self._arrays:
                self._arrays[name][:] = matrix.numpy()
        self._shown = view


class TorchEngine(Engine):
    """Eager torch: needs nothing, serves every model, and is what the others are held against."""

    name = 'torch'

    def __init__(
        self, bundle: Bundle, device: torch.device, precision: Precision = 'float32'
    ) -> None:
        super().__init__(bundle, device)
        self._reduced = precision == 'bfloat16'
        # A copy: the bundle stays on the CPU, for engines on other devices.
        model = copy.deepcopy(bundle.model).eval()
        self._model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""
        with (
            whole_float32(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._reduced),
        ):
            found: Estimate = self._model(observation.to(self.device))
        centers, covariance = found.centers.float().cpu(), found.covariance
        # Of a model that gives out a parameter, even inference mode leaves a gradient to ask for.
        return Estimate(
            centers.detach(), None if covariance is None else covariance.float().cpu().detach()
        )
