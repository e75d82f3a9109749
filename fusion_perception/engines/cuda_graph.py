"""Replay a captured CUDA graph: one copy to the GPU, one launch, one copy back."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from fusion_perception.engines.base import (
    Engine,
    FrameArrays,
    UnavailableError,
    kept_by_size,
    whole_float32,
)
from fusion_perception.engines.views import View
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.models.dense_fusion import DenseFusion
from fusion_perception.sensing.assembly import CameraMatrices, observe, observe_flagged
from fusion_perception.sensing.observation import Camera, Lidar, Observation

log = logging.getLogger(__name__)

# What precedes the ranges, in float32: two flags, intrinsics, pose, and room to stay aligned.
_CAMERA_AT, _LIDAR_AT, _INTRINSICS_AT, _POSE_AT, _HEAD = 0, 1, 2, 11, 32
_WARM_UPS = 3

OfFrames = Callable[[Tensor, Tensor, Tensor], Estimate]
OfBatch = Callable[[Observation], Estimate]
Copy = Callable[[Tensor, Tensor], object]


class Way(NamedTuple):
    """How a frame and a batch are computed, and what lies in one memory gets into another."""

    of_frame: OfFrames
    of_batch: OfBatch
    copy: Copy


class CudaGraphEngine(Engine):
    """Frames, or a batch of observations, through static buffers; a graph for each number."""

    name = 'cuda_graph'

    def __init__(self, bundle: Bundle, device: torch.device, way: Way | None = None) -> None:
        if device.type != 'cuda':
            raise UnavailableError(
                "Engine 'cuda_graph' needs a CUDA GPU. Use engine auto or torch."
            )
        super().__init__(bundle, device)
        self._way, self._frame = self._quickest() if way is None else (way, self._of_frame(way))
        seen = (self._way, bundle, self.lidar, self._view)
        self._frames = kept_by_size(partial(_of_frames, *seen))
        self._batches = kept_by_size(partial(_of_batch, *seen))

    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""
        self._refuse_other_sizes(observation)
        return self._batches(len(observation))(observation.to(self.device))

    def estimate_frames(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of B images and B range images; see `observe`."""
        view = self._view_of(camera)
        images = self._as_trained(images, view)
        count = self._fitting(images, ranges)
        if not count:
            return self.estimate(self._observed(images, ranges, view))
        graph = self._frame if count == 1 else self._frames(count)
        return graph(images, ranges, view)

    def twin(self) -> Self:
        """Return an engine of the same weights with buffers of its own."""
        return type(self)(self.bundle, self.device, self._way)

    def _quickest(self) -> tuple[Way, _FrameGraph]:
        """Return the first way to compute that can be had here, and its graph of a frame."""
        why = ''
        for way in self._ways():
            try:
                return way, self._of_frame(way)
            except Exception as error:  # Whatever a compiler raises; it has no base.
                why = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
                log.info('Engine cuda_graph takes a simpler way here: %s', why)
        raise RuntimeError(why)

    def _ways(self) -> Iterator[Way]:
        model = copy.deepcopy(self.bundle.model).to(self.device).eval()
        if isinstance(model, DenseFusion):
            try:
                from fusion_perception.engines import pinned
                from fusion_perception.engines.fused_dense_fusion import FusedDenseFusion
            except ImportError as error:
                log.info('Engine cuda_graph takes a simpler way here: %s', error)
            else:
                fused = FusedDenseFusion(model, self.device)
                yield Way(fused.compiled(partial(_assembled, self.lidar)), fused, pinned.copy)
                yield Way(_assembling(self.lidar, fused), fused, pinned.copy)
        yield Way(_assembling(self.lidar, model), model, _copy)

    def _of_frame(self, way: Way) -> _FrameGraph:
        return _FrameGraph(way.of_frame, way.copy, self.bundle, 1, self._view)


def _of_frames(way: Way, bundle: Bundle, lidar: Lidar, view: View, count: int) -> _FrameGraph:
    # To compile it for each number would take longer than most recordings to evaluate.
    return _FrameGraph(_assembling(lidar, way.of_batch), way.copy, bundle, count, view)


def _of_batch(way: Way, bundle: Bundle, lidar: Lidar, view: View, count: int) -> _BatchGraph:
    device = view.matrices.intrinsics.device
    like = observe(
        torch.zeros(
            count, view.camera.height, view.camera.width, 4, dtype=torch.uint8, device=device
        ),
        torch.zeros(count, *lidar.shape, device=device),
        view.camera,
        lidar,
        view.matrices,
    )
    return _BatchGraph(way, like, len(bundle.rig.classes))


def _assembling(lidar: Lidar, of_batch: OfBatch) -> OfFrames:
    return lambda *sent: of_batch(_assembled(lidar, *sent))


def _assembled(lidar: Lidar, head: Tensor, ranges: Tensor, images: Tensor) -> Observation:
    frames = _named(head, ranges, images)
    matrices = CameraMatrices(frames['intrinsics'], frames['T_camera_lidar'])
    return observe_flagged(
        frames['image'],
        frames['ranges'],
        frames['camera'],
        frames['lidar'],
        matrices,
        lidar,
    )


class _Recorded:
    """Something that gives an estimate, recorded once; all memory it touches stays where it is."""

    def __init__(
        self,
        work: Callable[[], Estimate],
        copy: Copy,
        objects: int,
        count: int,
        device: torch.device,
    ) -> None:
        self._copy, self._device = copy, device
        numbers = count * objects
        answer = torch.zeros(12 * numbers, pin_memory=True)
        self._centers, self._covariance = answer[: 3 * numbers], answer[3 * numbers :]
        # numpy copies so few numbers in a fraction of the time.
        self._answers = (
            self._centers.numpy().reshape(count, objects, 3),
            self._covariance.numpy().reshape(count, objects, 3, 3),
        )
        self._sure = False
        current, beside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        beside.wait_stream(current)
        with torch.no_grad(), torch.cuda.device(device), whole_float32():
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self._keep(work())
            current.wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode='thread_local'):
                self._keep(work())

    def __call__(self) -> Estimate:
        """Replay it and return the estimate, on the CPU."""
        self._graph.replay()
        torch.cuda.current_stream(self._device).synchronize()
        centers, covariance = self._answers
        return Estimate(
            torch.from_numpy(centers.copy()),
            torch.from_numpy(covariance.copy()) if self._sure else None,
        )

    def _keep(self, estimate: Estimate) -> None:
        self._sure = estimate.covariance is not None
        self._copy(estimate.centers.flatten(), self._centers)
        if estimate.covariance is not None:
            self._copy(estimate.covariance.flatten(), self._covariance)


class _FrameGraph:
    """The estimate of so many frames, which reach the GPU in one copy.

    The host's buffer is pinned. It holds the flags, intrinsics and pose of each frame and then
    their ranges as float32, then the images as (H, W, 4) uint8.
    """

    def __init__(self, work: OfFrames, copy: Copy, bundle: Bundle, count: int, view: View) -> None:
        camera, device = bundle.rig.camera, view.matrices.intrinsics.device
        scans, pixels = (count, *bundle.lidar.shape), (count, camera.height, camera.width, 4)
        size = 4 * (count * _HEAD + math.prod(scans)) + math.prod(pixels)
        sent = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        received = torch.zeros(size, dtype=torch.uint8, device=device)
        # numpy writes into the pinned memory through these views.
        named = _named(*_views(sent, scans, pixels))
        self._frames = FrameArrays({name: part.numpy() for name, part in named.items()}, view)
        parts = _views(received, scans, pixels)

        def estimate() -> Estimate:
            copy(sent.view(torch.int32), received.view(torch.int32))
            return work(*parts)

        self._recorded = _Recorded(estimate, copy, len(bundle.rig.classes), count, device)

    def __call__(
        self, images: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None, view: View
    ) -> Estimate:
        self._frames.write(images, ranges, view)
        return self._recorded()


class _BatchGraph:
    """The estimate of batches of one size, through tensors of their own."""

    def __init__(self, way: Way, like: Observation, objects: int) -> None:
        self._given = Observation(*(part.clone() for part in vars(like).values()))
        self._recorded = _Recorded(
            lambda: way.of_batch(self._given), way.copy, objects, len(like), like.rgba.device
        )

    def __call__(self, observation: Observation) -> Estimate:
        # All in one kernel.
        torch._foreach_copy_(list(vars(self._given).values()), list(vars(observation).values()))
        return self._recorded()


def _copy(source: Tensor, target: Tensor) -> object:
    return target.copy_(source, non_blocking=True)


def _named(head: Tensor, ranges: Tensor, images: Tensor) -> dict[str, Tensor]:
    """Return what lies in a buffer under the names of FrameArrays."""
    return {
        'camera': head[:, _CAMERA_AT],
        'lidar': head[:, _LIDAR_AT],
        'intrinsics': head[:, _INTRINSICS_AT:_POSE_AT].view(-1, 3, 3),
        'T_camera_lidar': head[:, _POSE_AT : _POSE_AT + 16].view(-1, 4, 4),
        'ranges': ranges,
        'image': images,
    }


def _views(
    buffer: Tensor, scans: tuple[int, int, int], pixels: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return heads (B, _HEAD), ranges (B, R, C) and images (B, H, W, 4) of a buffer."""
    heads = scans[0] * _HEAD
    numbers = heads + math.prod(scans)
    floats = buffer[: 4 * numbers].view(torch.float32)
    images = buffer[4 * numbers :].view(pixels)
    return floats[:heads].view(-1, _HEAD), floats[heads:].view(scans), images
