"""What every engine does: sensor arrays or observations in, an estimate on the CPU out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.assembly import CameraMatrices, observe, resize
from fusion_perception.sensing.observation import Camera, Observation

EngineName = Literal['torch', 'onnxruntime', 'cuda_graph', 'tensorrt']
EngineChoice = Literal['auto', 'torch', 'onnxruntime', 'cuda_graph', 'tensorrt']
Precision = Literal['float32', 'bfloat16']


class UnavailableError(ValueError):
    """An engine cannot be had here; the message says why and what to do."""


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let a GPU compute float32 convolutions with all 24 digits, as a CPU does.

    By default cuDNN takes eleven of them (TF32): this moves centres by up to a centimetre. The
    switch is the process's own; another thread's convolutions meanwhile are as exact.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class View(NamedTuple):
    """A camera as it was given, and at the bundle's resolution."""

    given: Camera | None
    camera: Camera
    matrices: CameraMatrices


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

    def estimate_frame(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of one image and one range image; see `observe`."""
        return self.estimate(self.observe(image, ranges, camera))

    def observe(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Observation:
        """Return the observation of one image (H, W, C) uint8 and one range image (R, C) metres.

        Raises ValueError when the range image has another shape than the bundle's LiDAR.
        """
        image = self._sized_as_trained(image)
        images = None if image is None else self._put(image)
        measured = None if ranges is None else self._put(ranges)
        view = self._view_of(camera)
        return observe(images, measured, view.camera, self.lidar, view.matrices)

    def _view_of(self, camera: Camera | None) -> View:
        """Return a camera at the bundle's resolution; without one, the bundle's own.

        Mostly it is the one of the frame before.
        """
        view = self._view
        if camera is not view.given:
            trained_for = self.bundle.rig.camera
            sized = (
                trained_for
                if camera is None
                else camera.resized(trained_for.width, trained_for.height)
            )
            view = View(camera, sized, CameraMatrices.of(sized, self.device))
            self._view = view
        return view

    def _sized_as_trained(self, image: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Return the image in the bundle's resolution, what is no image as it is.

        Resized here, it need not go to a GPU whole.
        """
        if image is None or not _is_image(image) or image.shape[:2] == self._image_size:
            return image
        # BGR that is read backwards as RGB is turned round when it is small.
        backwards = image.strides[2] < 0
        whole = np.require(image[..., ::-1] if backwards else image, requirements=['C', 'W'])
        sized = resize(torch.from_numpy(whole)[None], *self._image_size)[0].numpy()
        return sized[..., ::-1] if backwards and sized.shape[2] > 1 else sized

    def _fits(self, image: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None) -> bool:
        """Say if there is a frame, of an image and ranges as the bundle knows them."""
        if image is None and ranges is None:
            return False
        return (image is None or _is_image(image)) and (
            ranges is None or ranges.shape == self._scan_size
        )

    def twin(self) -> Self:
        """Return an engine of the same weights that another thread may call."""
        return self

    def _put(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        # torch takes neither reversed (BGR) nor read-only memory: those are copied here, once.
        whole = np.require(array, requirements=['C', 'W'])
        return torch.from_numpy(whole).unsqueeze(0).to(self.device, non_blocking=True)


def _is_image(image: NDArray[np.uint8]) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3, 4)


def _paint(image: NDArray[np.uint8], rgba: NDArray[np.uint8]) -> None:
    """Write an image (H, W, 1, 3 or 4) into one of four channels; mono is grey, alpha is full."""
    rgba[..., : max(3, image.shape[2])] = image
    if image.shape[2] != 4:
        rgba[..., 3] = 255


class FrameArrays:
    """What a graph for one frame reads, as NumPy arrays that stay where they are.

    Named and shaped as `observe_flagged` takes it: image (1, H, W, 4) uint8, ranges (1, R, C),
    flags camera and lidar (1,), intrinsics (1, 3, 3), T_camera_lidar (1, 4, 4), float32. A graph
    of one sensor has no arrays of the other. A silent sensor's flag is 0, and what its array
    still holds does not count.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], view: View) -> None:
        self._arrays = arrays
        self._show(view)

    def write(
        self, image: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None, view: View
    ) -> None:
        """Write one frame of the graph's size, and the camera if it is not the one before's."""
        if view is not self._shown:
            self._show(view)
        arrays = self._arrays
        if 'image' in arrays:
            arrays['camera'][0] = image is not None
            if image is not None:
                _paint(image, arrays['image'][0])
        if 'ranges' in arrays:
            arrays['lidar'][0] = ranges is not None
            if ranges is not None:
                arrays['ranges'][0] = ranges

    def _show(self, view: View) -> None:
        camera = view.camera
        for name, matrix in (
            ('intrinsics', camera.intrinsics()),
            ('T_camera_lidar', camera.extrinsics()),
        ):
            if name in self._arrays:
                self._arrays[name][0] = matrix.numpy()
        self._shown = view


class TorchEngine(Engine):
    """Eager torch: needs nothing, serves every model, and is what the others are held against."""

    name = 'torch'

    def __init__(
        self, bundle: Bundle, device: torch.device, precision: Precision = 'float32'
    ) -> None:
        super().__init__(bundle, device)
        self._reduced = precision == 'bfloat16'
        self._model = bundle.model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""
        with (
            whole_float32(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._reduced),
        ):
            found: Estimate = self._model(observation.to(self.device))
        covariance = found.covariance
        return Estimate(
            found.centers.float().cpu(), None if covariance is None else covariance.float().cpu()
        )
