"""Take training steps on a GPU by replaying one captured CUDA graph instead of launching each."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from fusion_perception.learning.dataset import RawBatch

log = logging.getLogger(__name__)

Step = Callable[[RawBatch], None]
# Steps taken plainly before one is recorded: libraries choose and allocate in the first ones.
_WARM_UPS = 3


class StepGraph:
    """A step that is recorded once, and then replayed with a single launch per batch.

    A step of a small network is hundreds of kernels that take a GPU less time than the host takes
    to launch them. `step` must read all that changes from tensors that stay where they are, and
    never wait for the device. A batch of another shape is stepped plainly, as are all where
    recording fails.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._taken = 0
        self._failed = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._kept: RawBatch | None = None

    def __call__(self, raw: RawBatch) -> None:
        """Take one step."""
        if self._failed:
            self._step(raw)
        elif self._taken < _WARM_UPS:
            self._taken += 1
            # Not on the stream that everything else uses: recording would not forgive that.
            with _Beside(self._device):
                self._step(raw)
        elif self._graph is None or self._kept is None:
            self._record(raw)
        elif all(kept.shape == new.shape for kept, new in zip(self._kept, raw, strict=True)):
            torch._foreach_copy_(list(self._kept), list(raw))
            self._graph.replay()
        else:
            self._step(raw)

    def _record(self, raw: RawBatch) -> None:
        """Record the step, then take it."""
        self._kept = RawBatch(*(part.clone() for part in raw))
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode='thread_local'):
                self._step(self._kept)
        except RuntimeError as error:
            why = ' '.join(str(error).split())[:200]
            log.warning('This training goes on without a CUDA graph, more slowly: %s', why)
            self._failed = True
            self._step(raw)
            return
        self._graph = graph
        graph.replay()


class _Beside:
    """Work on a stream of its own, in order with what the usual one does before and after."""

    def __init__(self, device: torch.device) -> None:
        self._usual = torch.cuda.current_stream(device)
        self._stream = torch.cuda.Stream(device)
        self._inside = torch.cuda.stream(self._stream)

    def __enter__(self) -> None:
        self._stream.wait_stream(self._usual)
        self._inside.__enter__()

    def __exit__(self, *error: object) -> None:
        self._inside.__exit__(*error)
        self._usual.wait_stream(self._stream)
