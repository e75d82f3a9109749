"""Replay a captured CUDA graph: one copy to the GPU, one launch, one copy back."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from fusion_perception.engines.base import Engine, FrameArrays, UnavailableError, whole_float32
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.models.dense_fusion import DenseFusion
from fusion_perception.sensing.assembly import CameraMatrices, observe_flagged
from fusion_perception.sensing.observation import Camera, Observation

log = logging.getLogger(__name__)

# What precedes the ranges, in float32: two flags, intrinsics, pose, and room to stay aligned.
_CAMERA_AT, _LIDAR_AT, _INTRINSICS_AT, _POSE_AT, _HEAD = 0, 1, 2, 11, 32
_WARM_UPS = 3
# Graphs of so many batch sizes stay in memory.
_MOST_SIZES = 8

OfFrame = Callable[[Tensor, Tensor, Tensor], Estimate]
OfBatch = Callable[[Observation], Estimate]
Copy = Callable[[Tensor, Tensor], object]


class Way(NamedTuple):
    """How frames and batches are computed, and what lies in one memory gets into another."""

    of_frame: OfFrame
    of_batch: OfBatch
    copy: Copy


class CudaGraphEngine(Engine):
    """One frame, or a batch, through static buffers.

    The host buffer is pinned. It holds flags, intrinsics, pose and ranges as float32, then the
    image as (H, W, 4) uint8, so that a frame reaches the GPU in one copy.
    """

    name = 'cuda_graph'

    def __init__(self, bundle: Bundle, device: torch.device, way: Way | None = None) -> None:
        if device.type != 'cuda':
            raise UnavailableError(
                "Engine 'cuda_graph' needs a CUDA GPU. Use engine auto or torch."
            )
        super().__init__(bundle, device)
        bundle.model.to(device).eval()
        camera, (rows, columns) = bundle.rig.camera, bundle.lidar.shape
        numbers, pixels = _HEAD + rows * columns, (camera.height, camera.width, 4)
        size = 4 * numbers + math.prod(pixels)
        self._sent = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        self._received = torch.zeros(size, dtype=torch.uint8, device=device)
        # numpy writes into the pinned memory through these views.
        sent = _named(*_views(self._sent, numbers, (rows, columns), pixels))
        self._frame = FrameArrays({name: part.numpy() for name, part in sent.items()}, self._view)
        self._parts = _views(self._received, numbers, (rows, columns), pixels)
        self._batches: OrderedDict[int, _BatchGraph] = OrderedDict()
        self._way, self._graph = self._quickest() if way is None else (way, self._record(way))

    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""
        observation = observation.to(self.device)
        size = len(observation)
        graph = self._batches.pop(size, None) or _BatchGraph(self._way, observation)
        self._batches[size] = graph
        if len(self._batches) > _MOST_SIZES:
            self._batches.popitem(last=False)
        return graph(observation)

    def estimate_frame(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of one image and one range image; see `observe`."""
        image = self._sized_as_trained(image)
        if not self._fits(image, ranges):
            return super().estimate_frame(image, ranges, camera)
        self._frame.write(image, ranges, self._view_of(camera))
        return self._graph()

    def twin(self) -> Self:
        """Return an engine of the same weights with buffers of its own."""
        return type(self)(self.bundle, self.device, self._way)

    def _quickest(self) -> tuple[Way, _Recorded]:
        """Return the first way to compute that can be had here, and its recording of a frame."""
        why = ''
        for way in self._ways():
            try:
                return way, self._record(way)
            except Exception as error:  # Whatever a compiler raises; it has no base.
                why = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
                log.info('Engine cuda_graph takes a simpler way here: %s', why)
        raise RuntimeError(why)

    def _ways(self) -> Iterator[Way]:
        model = self.bundle.model
        if isinstance(model, DenseFusion):
            try:
                from fusion_perception.engines import pinned
                from fusion_perception.engines.fused_dense_fusion import FusedDenseFusion
            except ImportError as error:
                log.info('Engine cuda_graph takes a simpler way here: %s', error)
            else:
                fused = FusedDenseFusion(model, self.device)
                yield Way(fused.compiled(self._assembled), fused, pinned.copy)
                yield Way(self._assembling(fused), fused, pinned.copy)
        yield Way(self._assembling(model), model, _copy)

    def _record(self, way: Way) -> _Recorded:
        def work() -> Estimate:
            way.copy(self._sent.view(torch.int32), self._received.view(torch.int32))
            return way.of_frame(*self._parts)

        return _Recorded(work, way.copy, len(self.bundle.rig.classes), 1, self.device)

    def _assembling(self, of_batch: OfBatch) -> OfFrame:
        return lambda *sent: of_batch(self._assembled(*sent))

    def _assembled(self, head: Tensor, ranges: Tensor, image: Tensor) -> Observation:
        frame = _named(head, ranges, image)
        matrices = CameraMatrices(frame['intrinsics'], frame['T_camera_lidar'])
        return observe_flagged(
            frame['image'],
            frame['ranges'],
            frame['camera'],
            frame['lidar'],
            matrices,
            self.lidar,
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


class _BatchGraph:
    """The estimate of batches of one size, through tensors of their own."""

    def __init__(self, way: Way, like: Observation) -> None:
        self._given = Observation(*(part.clone() for part in vars(like).values()))
        with torch.no_grad():
            objects = way.of_batch(like).centers.shape[1]
        self._recorded = _Recorded(
            lambda: way.of_batch(self._given), way.copy, objects, len(like), like.rgba.device
        )

    def __call__(self, observation: Observation) -> Estimate:
        # All in one kernel.
        torch._foreach_copy_(list(vars(self._given).values()), list(vars(observation).values()))
        return self._recorded()


def _copy(source: Tensor, target: Tensor) -> object:
    return target.copy_(source, non_blocking=True)


def _named(head: Tensor, ranges: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Return what lies in a buffer under the names of FrameArrays."""
    return {
        'camera': head[_CAMERA_AT : _CAMERA_AT + 1],
        'lidar': head[_LIDAR_AT : _LIDAR_AT + 1],
        'intrinsics': head[_INTRINSICS_AT:_POSE_AT].view(1, 3, 3),
        'T_camera_lidar': head[_POSE_AT : _POSE_AT + 16].view(1, 4, 4),
        'ranges': ranges[None],
        'image': image[None],
    }


def _views(
    buffer: Tensor, numbers: int, ranges: tuple[int, int], pixels: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    floats = buffer[: 4 * numbers].view(torch.float32)
    image = buffer[4 * numbers :].view(pixels)
    return floats[:_HEAD], floats[_HEAD:].view(ranges), image
