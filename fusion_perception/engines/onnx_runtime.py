"""Compute the model with ONNX Runtime, on the CPU or through its GPU providers."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.engines.base import (
    Engine,
    EngineName,
    FrameArrays,
    UnavailableError,
    kept_by_size,
)
from fusion_perception.engines.onnx_graph import export, graph_of
from fusion_perception.engines.views import View
from fusion_perception.models.base import Estimate
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.observation import Camera, Observation

if TYPE_CHECKING:
    import onnxruntime

_INSTALL = 'Install it with `pip install onnx onnxruntime`, or use engine auto or torch.'
_SPIN_US = 50
_CPU: tuple[str, dict[str, str]] = ('CPUExecutionProvider', {})
# By default it rounds float32 to eleven digits, which moves centres by millimetres.
_CUDA = ('CUDAExecutionProvider', {'use_tf32': '0'})
# In the order in which they are tried, each with its options.
Providers = list[tuple[str, dict[str, str]]]


class OnnxEngine(Engine):
    """Exported graphs, one for frames and one per batch size. Several threads may call it."""

    name: ClassVar[EngineName] = 'onnxruntime'

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self._providers = self.providers(device)
        # Its inputs and outputs lie on the CPU, whatever computes between.
        super().__init__(bundle, torch.device('cpu'))
        self._threads = torch.get_num_threads()
        self._exporting, self._framing = threading.Lock(), threading.Lock()
        self._sessions = kept_by_size(
            partial(_session_for, bundle, self._providers, self._threads)
        )
        session = open_session(graph_of(bundle, 'frame'), self._providers, self._threads)
        self._frame = _FrameGraph(session, self._view)

    @staticmethod
    def providers(device: torch.device) -> Providers:
        """Return what computes on a device; raise UnavailableError where that is not installed."""
        there = _installed_providers('onnxruntime')
        if device.type == 'cpu':
            return [_CPU]
        if 'CUDAExecutionProvider' not in there:
            raise UnavailableError(
                "Engine 'onnxruntime' finds no CUDA provider. Install onnxruntime-gpu, set "
                'device to cpu, or use engine auto.'
            )
        return [_CUDA, _CPU]

    def estimate_frames(
        self,
        images: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> Estimate:
        """Return the estimate of B images and B range images; see `observe`.

        A single frame of the bundle's size goes into a graph as it is.
        """
        view = self._view_of(camera)
        images = self._as_trained(images, view)
        if self._fitting(images, ranges) != 1:
            return self.estimate(self._observed(images, ranges, view))
        with self._framing:
            return _estimate(self._frame(images, ranges, view))

    def estimate(self, observation: Observation) -> Estimate:
        """Return the estimate of a batch, float32 on the CPU."""
        self._refuse_other_sizes(observation)
        with self._exporting:  # Tracing a model is no matter for two threads.
            session = self._sessions(len(observation))
        given = {
            entry.name: getattr(observation, entry.name).cpu().contiguous().numpy()
            for entry in session.get_inputs()
        }
        return _estimate(session.run(None, given))


class _FrameGraph:
    """A session for frames whose inputs and outputs lie in arrays that stay where they are.

    To hand new ones over for each frame takes ONNX Runtime as long as several convolutions.
    """

    def __init__(self, session: onnxruntime.InferenceSession, view: View) -> None:
        from onnxruntime import OrtValue

        self._session, self._bound = session, session.io_binding()
        inputs = {
            entry.name: np.zeros(
                entry.shape, np.uint8 if entry.type == 'tensor(uint8)' else np.float32
            )
            for entry in session.get_inputs()
        }
        outputs = session.get_outputs()
        self._outputs = [np.zeros(entry.shape, np.float32) for entry in outputs]
        for name, array in inputs.items():
            self._bound.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for entry, array in zip(outputs, self._outputs, strict=True):
            self._bound.bind_ortvalue_output(entry.name, OrtValue.ortvalue_from_numpy(array))
        self._inputs = FrameArrays(inputs, view)

    def __call__(
        self, images: NDArray[np.uint8] | None, ranges: NDArray[np.float32] | None, view: View
    ) -> list[NDArray[np.float32]]:
        """Return the outputs for one frame of the graph's size."""
        self._inputs.write(images, ranges, view)
        self._session.run_with_iobinding(self._bound)
        return [array.copy() for array in self._outputs]


class TensorRTEngine(OnnxEngine):
    """The exported graph, compiled for this GPU by ONNX Runtime's TensorRT provider."""

    name: ClassVar[EngineName] = 'tensorrt'

    @staticmethod
    def providers(device: torch.device) -> Providers:
        """Return what computes on a device; raise UnavailableError where that is not installed."""
        if device.type != 'cuda':
            raise UnavailableError("Engine 'tensorrt' needs a CUDA GPU. Use engine auto or torch.")
        if 'TensorrtExecutionProvider' not in _installed_providers('tensorrt'):
            raise UnavailableError(
                "Engine 'tensorrt' finds no TensorRT provider in onnxruntime. Install "
                'onnxruntime-gpu and TensorRT, or use engine auto.'
            )
        return [('TensorrtExecutionProvider', {}), _CUDA, _CPU]


def _estimate(arrays: list[NDArray[np.float32]]) -> Estimate:
    found = [torch.from_numpy(array) for array in arrays]
    return Estimate(found[0], found[1] if len(found) > 1 else None)


def _session_for(
    bundle: Bundle, providers: Providers, threads: int, batch: int
) -> onnxruntime.InferenceSession:
    graph = graph_of(bundle, 'observation') if batch == 1 else export(bundle, batch)
    return open_session(graph, providers, threads)


def open_session(graph: bytes, providers: Providers, threads: int) -> onnxruntime.InferenceSession:
    """Return a session that computes with so many threads and rests between two calls.

    Raises UnavailableError where the first provider is installed and cannot be loaded: ONNX
    Runtime would go on with the next one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that spin within a call hand over in no time. Between calls they would burn a core,
    # and for long where other programs want the core they would keep it from the work itself.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.add_session_config_entry('session.intra_op.spin_duration_us', str(_SPIN_US))
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    wanted, taken = providers[0][0], session.get_providers()
    if wanted not in taken:
        raise UnavailableError(
            f'{wanted} of ONNX Runtime cannot be loaded here; it took {", ".join(taken)}. Most '
            'often a library of CUDA, cuDNN or TensorRT is missing, or is of another version than '
            'it was built for. Use engine auto or torch.'
        )
    return session


def _installed_providers(engine: EngineName) -> list[str]:
    # From 1.29 on it would leave an identifier in the user's home, and report to its makers.
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    try:
        import onnx  # noqa: F401  The exporter needs it.
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(
            f"Engine '{engine}' lacks a package ({error}). {_INSTALL}"
        ) from None
    found: list[str] = onnxruntime.get_available_providers()
    return found
