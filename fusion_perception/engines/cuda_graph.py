"""Replay one captured CUDA graph per frame: one copy to the GPU, one launch, one copy back."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from fusion_perception.engines.base import Engine, TorchEngine, UnavailableError
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.assembly import to_rgba
from fusion_perception.sensing.observation import Camera, Observation

# What precedes the ranges, in float32: two flags, intrinsics, pose, and room to stay aligned.
_CAMERA_AT, _LIDAR_AT, _INTRINSICS_AT, _POSE_AT, _HEAD = 0, 1, 2, 11, 32
_WARM_UPS = 3


class CudaGraphEngine(Engine):
    """One frame through static buffers; other batches, and images to be resized, run eager.

    The host buffer is pinned. It holds flags, intrinsics, pose and ranges as float32, then the
    image as (H, W, 4) uint8, so that a frame reaches the GPU in one copy.
    """

    name = 'cuda_graph'

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        if device.type != 'cuda':
            raise UnavailableError(
                "Engine 'cuda_graph' needs a CUDA GPU. Use engine auto or torch."
            )
        super().__init__(bundle, device)
        self._eager = TorchEngine(bundle, device)
        camera, (rows, columns) = bundle.rig.camera, bundle.lidar.shape
        numbers, pixels = _HEAD + rows * columns, (camera.height, camera.width, 4)
        size = 4 * numbers + math.prod(pixels)
        self._sent = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        self._received = torch.zeros(size, dtype=torch.uint8, device=device)
        # numpy writes into the pinned memory through these views.
        self._head, self._ranges, self._image = (
            view.numpy() for view in _views(self._sent, numbers, (rows, columns), pixels)
        )
        self._shown: Camera | None = None
        self._parts = _views(self._received, numbers, (rows, columns), pixels)
        self._capture()

    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU; not through the graph."""
        return self._eager.estimate(observation)

    def estimate_frame(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of one image and one range image; see `observe`."""
        if not self._fits(image, ranges):
            return super().estimate_frame(image, ranges, camera)
        self._head[_CAMERA_AT], self._head[_LIDAR_AT] = image is not None, ranges is not None
        self._show(self.camera_for(camera))
        if ranges is not None:
            self._ranges[...] = ranges
        if image is not None:
            self._image[..., : max(3, image.shape[2])] = image
            if image.shape[2] != 4:
                self._image[..., 3] = 255
        self._graph.replay()
        torch.cuda.current_stream(self.device).synchronize()
        found = self._answer.clone().split((3 * self._objects, 9 * self._objects))
        centers = found[0].reshape(1, -1, 3)
        return Estimate(centers, found[1].reshape(1, -1, 3, 3) if self._covariance else None)

    def twin(self) -> Self:
        """Return an engine of the same weights with buffers of its own."""
        return type(self)(self.bundle, self.device)

    def _fits(self, image: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None) -> bool:
        height, width, _ = self._image.shape
        if image is not None and (
            image.dtype != np.uint8
            or image.shape not in [(height, width, channels) for channels in (1, 3, 4)]
        ):
            return False
        if ranges is not None and ranges.shape != self._ranges.shape:
            return False
        return image is not None or ranges is not None

    def _show(self, camera: Camera) -> None:
        if camera == self._shown:
            return
        self._head[_INTRINSICS_AT:_POSE_AT] = camera.intrinsics().reshape(-1).numpy()
        self._head[_POSE_AT : _POSE_AT + 16] = camera.extrinsics().reshape(-1).numpy()
        self._shown = camera

    def _capture(self) -> None:
        """Record copy, forward pass and copy back; all memory it touches stays where it is."""
        self._show(self.bundle.rig.camera)
        self._objects = len(self.bundle.rig.classes)
        self._answer = torch.zeros(12 * self._objects, pin_memory=True)
        self._covariance = False
        current, beside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        beside.wait_stream(current)
        with torch.no_grad(), torch.cuda.device(self.device):
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self._step()
            current.wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode='thread_local'):
                self._step()

    def _step(self) -> None:
        self._received.copy_(self._sent, non_blocking=True)
        head, ranges, image = self._parts
        camera, lidar = head[_CAMERA_AT : _CAMERA_AT + 1], head[_LIDAR_AT : _LIDAR_AT + 1]
        height, width = self._image.shape[:2]
        observation = Observation(
            # An absent sensor is all zeros, whatever an earlier frame left in its place.
            rgba=to_rgba(image[None], height, width) * camera,
            xyza=self.lidar.xyza(ranges[None]) * lidar,
            camera=camera > 0,
            lidar=lidar > 0,
            intrinsics=head[_INTRINSICS_AT:_POSE_AT].view(1, 3, 3),
            T_camera_lidar=head[_POSE_AT : _POSE_AT + 16].view(1, 4, 4),
        )
        estimate: Estimate = self.bundle.model(observation)
        answer = [estimate.centers.flatten()]
        if estimate.covariance is not None:
            self._covariance = True
            answer.append(estimate.covariance.flatten())
        flat = torch.cat(answer)
        self._answer[: len(flat)].copy_(flat, non_blocking=True)


def _views(
    buffer: Tensor, numbers: int, ranges: tuple[int, int], pixels: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    floats = buffer[: 4 * numbers].view(torch.float32)
    image = buffer[4 * numbers :].view(pixels)
    return floats[:_HEAD], floats[_HEAD:].view(ranges), image
