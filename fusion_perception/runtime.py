"""Run a bundle: decoded sensor arrays in, object centres out, on a chosen device."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.observation import Camera, Observation, Prediction

Device = Literal['auto', 'cpu', 'cuda']
Precision = Literal['float32', 'bfloat16']


def choose_device(device: str) -> torch.device:
    """Return the device that a name means; 'auto' takes CUDA where it is.

    Raises ValueError when CUDA is asked for and not there.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no CUDA GPU. Use 'cpu'.")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"There is no device '{device}'. Use 'auto', 'cpu' or 'cuda'.") from None


class Runtime:
    """A model ready to predict. Not thread-safe: one thread calls it at a time."""

    def __init__(
        self, bundle: Bundle, device: Device = 'auto', precision: Precision = 'float32'
    ) -> None:
        self.bundle = bundle
        self._chosen: Device = device
        self.device = choose_device(device)
        self.precision = precision
        self._lidar = bundle.lidar.to(self.device)
        self._model = bundle.model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def twin(self) -> Runtime:
        """Return a runtime of the same weights, to be called by another thread."""
        return Runtime(self.bundle, self._chosen, self.precision)

    def observe(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Observation:
        """Return the observation of one image (H, W, C) uint8 and one range image (R, C) metres.

        `camera` describes the camera at its real resolution, as camera_info does; its images are
        resized to the bundle's and its intrinsics with them. Without it, the bundle's is assumed.
        Raises ValueError when the range image has another shape than the bundle's LiDAR.
        """
        trained_for = self.bundle.rig.camera
        camera = (camera or trained_for).resized(trained_for.width, trained_for.height)
        images = None if image is None else self._put(image)
        measured = None if ranges is None else self._put(ranges)
        return observe(images, measured, camera, self._lidar)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Prediction:
        """Predict a batch; the result lies on the CPU.

        Raises ValueError for a mode the model cannot serve and for centres that are not finite.
        """
        mode = tuple(self.bundle.model.mode_for(seen) for seen in observation.modes())
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == 'bfloat16'
        ):
            estimate = self._model(observation.to(self.device))
        centers = estimate.centers.float().cpu()
        if not centers.isfinite().all():
            raise ValueError(
                'The model gave centres that are not finite. Check the input for NaN, and the '
                'bundle with `fusion doctor --bundle`.'
            )
        covariance = estimate.covariance
        return Prediction(
            centers=centers,
            covariance=None if covariance is None else covariance.float().cpu(),
            classes=self.bundle.rig.classes,
            mode=mode,
        )

    def warm_up(self, frames: int = 3) -> None:
        """Predict blank frames, so that the first real one is as fast as the hundredth."""
        camera = self.bundle.rig.camera
        image = np.zeros((camera.height, camera.width, 4), np.uint8)
        ranges = np.full(self.bundle.lidar.shape, self.bundle.lidar.max_range, np.float32)
        for mode in sorted(self.bundle.model.modes):
            for _ in range(frames):
                self.predict(
                    self.observe(
                        None if mode == 'lidar_only' else image,
                        None if mode == 'camera_only' else ranges,
                    )
                )

    def _put(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        # torch takes neither reversed (BGR) nor read-only memory: those are copied here, once.
        whole = np.require(array, requirements=['C', 'W'])
        return torch.from_numpy(whole).unsqueeze(0).to(self.device, non_blocking=True)
