"""Engine: a compiled model that takes uint8 pictures and gives its raw outputs.

`open_engine` picks a backend, says which and why, and never silently replaces one that was asked for. Input is
uint8 N x H x W x 3 in BGR order, straight from the letterbox: colour order, mean and scale, and the change of
layout are compiled into the engine, so no Python touches float pixels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from engines.cuda.driver import driver
from engines.errors import BackendUnavailable, EngineBuildError, EngineError, UnsupportedModel

if TYPE_CHECKING:
    from engines.cuda.layer import Choice
    from engines.spec import ModelSpec, Precision
    from engines.trust.parity import Judge

logger = logging.getLogger(__name__)

ON_GPU = ("tensorrt", "tensorrt-rtx")
GPU_REQUESTS = 3
"""One being loaded, one running, one being read."""

Backend = Literal["auto", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
Batch = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[Any]]


def shapes_of(outputs: Outputs) -> dict[str, tuple[int, ...]]:
    """Return the shape of each output by its name."""
    return {name: array.shape for name, array in outputs.items()}


class Pending(Protocol):
    """A request that has been started."""

    def result(self) -> Outputs:
        """Wait for it and return its outputs; call it exactly once. The arrays belong to the caller."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is: everything a person needs who asks why a result differs."""

    model: str
    backend: str
    version: str
    device: str
    precision: str
    threads: int
    """Of the CPU; 0 where they do not matter."""
    requests: int
    input_shape: tuple[int | None, int, int, int]
    """N x H x W x 3; N is None where any batch size may be given at once."""
    origin: str
    """Where the compiled model came from: `compiled`, `cache`."""

    def __str__(self) -> str:
        height, width = self.input_shape[1:3]
        threads = f"{self.threads} threads, " if self.threads else ""
        return (
            f"{self.model} {width}x{height} on {self.backend} {self.version.split('-')[0]}, {self.device} "
            f"{self.precision}, {threads}{self.requests} requests in flight ({self.origin})"
        )


@dataclass(frozen=True)
class Candidates:
    """Which rows of a detector's one output, N x rows x columns, are worth being copied back from a GPU.

    A row's rank is its largest class score, times its objectness where it has one. The best `count` rows of each
    picture are copied, all others are given as zeros: no head takes a row of score 0 for an object.
    """

    classes: int
    """The first column of class scores; they go on to the last column."""
    objectness: int | None = None
    """Column of the objectness."""
    count: int = 1000


@dataclass(frozen=True)
class Uncut:
    """A whole frame, and how it becomes a model's input: what an engine takes that does the letterbox itself."""

    planes: tuple[Batch, ...]
    """One H x W x 3 BGR array, or Y, U and V of 4:2:0: H x W and twice ceil(H / 2) x ceil(W / 2). Rows may have
    padding; bytes within a row are contiguous."""
    content: tuple[int, int]
    """Height and width of the resized picture inside the input."""
    offset: tuple[int, int]
    """Its top and left."""
    pad: int
    """Value of the rest, 0..255."""
    to_bgr: npt.NDArray[np.float32] | None = None
    """With Y, U and V: 3 x 4, BGR = to_bgr @ (y, u, v, 1), as `cv2.transform` takes it."""


class Engine(Protocol):
    """A running model."""

    cuts_frames: bool
    """Whether it is a `CutsFrames`, and its kernel compiled: it is then given whole frames rather than pictures."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""

    @property
    def requests(self) -> int:
        """How many requests may be in flight."""

    @property
    def batch(self) -> int:
        """How many pictures a request should hold where so many wait; 1 on a CPU, which gains nothing by more."""

    def infer(self, batch: Batch) -> Outputs:
        """Run the model on N x H x W x 3 uint8 BGR and return its outputs by name, in the model's own order.

        Raises:
            ValueError: the batch is not of that shape and type.
        """

    def submit(self, batch: Batch) -> Pending:
        """Start the same without waiting for it; waits only where `requests` are in flight already.

        The batch is copied: it may be reused at once. N must be 1 unless the model takes any.
        """

    def describe(self) -> EngineInfo:
        """Return backend, device, precision and versions."""

    def close(self) -> None:
        """Give back threads and memory."""


@runtime_checkable
class CutsFrames(Engine, Protocol):
    """An engine that can be given whole frames and cuts its input out of them on the GPU."""

    def submit_frames(self, frames: Sequence[Uncut]) -> Pending:
        """Start a request on whole frames, one picture each; as `Engine.submit` else."""


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model; None leaves the choice to the backend."""

    backend: Backend = "auto"
    precision: Precision = "auto"
    device: str = "auto"
    threads: int | None = None
    requests: int | None = None
    input_size: tuple[int, int] | None = None
    """Height and width, where they should differ from the model's own."""
    candidates: Candidates | None = None
    """What `submit` may leave out of the outputs; `infer` never leaves anything out. CPU backends give all."""
    batch: int | None = None
    """Most pictures at once that a GPU engine is built for; more are run one after another."""
    cuda: Choice = "auto"
    cuda_graph: bool = True
    """Whether a GPU's work for a batch size is recorded once and launched as a whole."""


def usual_requests(options: EngineOptions) -> int:
    """Return how many requests an engine keeps in flight where nobody says: on a CPU one more than it has threads."""
    if options.requests is not None:
        return options.requests
    on_gpu = options.backend in ON_GPU or (options.backend == "auto" and driver().problem is None)
    return GPU_REQUESTS if on_gpu else (options.threads or os.cpu_count() or 1) + 1


def open_engine(spec: ModelSpec, options: EngineOptions | None = None, judge: Judge | None = None) -> Engine:
    """Compile a model for this machine.

    Args:
        spec: the model.
        options: backend, precision and so on. With `auto`, TensorRT comes before OpenVINO before ONNX Runtime;
            each that is skipped is logged with its reason, as a warning where it is here and failed or refused the
            model.
        judge: how outputs are read as boxes, for backends whose engines are compared with the model file.

    Raises:
        BackendUnavailable: what was asked for does not exist here; the message says how to get it.
        EngineBuildError: the backend refused the model.
        ParityFailed: what the backend made of the model says something else than the model.
    """
    options = options or EngineOptions()
    if options.backend != "auto":
        return _open_with(options.backend, spec, options, judge)
    skipped: dict[str, list[str]] = {}
    """Backends by the reason, which several may share."""
    for backend in _in_order():
        try:
            return _open_with(backend, spec, options, judge)
        except BackendUnavailable as reason:
            logger.info("%s skipped: %s", backend, reason)
            skipped.setdefault(str(reason), []).append(backend)
        except EngineError as reason:
            if not _another_may(backend, reason, options):
                raise
            logger.warning("%s skipped, though it is here: %s", backend, reason)
            skipped.setdefault(str(reason), []).append(backend)
    wanted = options.precision if options.precision != "auto" else spec.precision
    raise BackendUnavailable("no backend can run this model here: " + _in_sum(skipped, wanted))


def _another_may(backend: Backend, reason: EngineError, options: EngineOptions) -> bool:
    """Say whether the next backend may run what this one, which is here, has failed at.

    OpenVINO refuses models that ONNX Runtime runs (a GatherElements whose index is narrower than its data). What is
    wrong with the file itself, or with a size that it is not for, is said at once: all refuse that, or fail later.
    """
    if backend in ON_GPU:
        return True
    refused = isinstance(reason, EngineBuildError) and not isinstance(reason, UnsupportedModel)
    return backend == "openvino" and refused and options.input_size is None


def _in_sum(skipped: dict[str, list[str]], precision: Precision) -> str:
    """Return why each backend was skipped.

    For int8 on a machine without a GPU, what the CPU backends lack comes first: a command makes that.
    """
    each = [(f"{', '.join(backends)}: {reason}", backends) for reason, backends in skipped.items()]
    if precision == "int8" and driver().problem is not None:
        here = [text for text, backends in each if not set(backends) <= set(ON_GPU)]
        return "; ".join([*here, f"{', '.join(ON_GPU)}: no NVIDIA GPU can be used"])
    return "; ".join(text for text, _ in each)


def _in_order() -> tuple[Backend, ...]:
    return ("tensorrt", "tensorrt-rtx", "openvino", "onnxruntime")


def _open_with(backend: Backend, spec: ModelSpec, options: EngineOptions, judge: Judge | None) -> Engine:
    if backend == "openvino":
        from engines.openvino import OpenVINOEngine

        return _as_accepted(OpenVINOEngine(spec, options), spec, options)
    if backend == "onnxruntime":
        from engines.onnxruntime import ONNXRuntimeEngine

        return _as_accepted(ONNXRuntimeEngine(spec, options), spec, options)
    if backend in ("tensorrt", "tensorrt-rtx"):
        from engines.tensorrt.plans import open_tensorrt

        return open_tensorrt(backend, spec, options, judge)
    raise BackendUnavailable(f"unknown backend {backend!r}; choose one of {', '.join(get_args(Backend))}")


def _as_accepted(engine: Engine, spec: ModelSpec, options: EngineOptions) -> Engine:
    """Return an engine on a CPU; one in int8 only if it still says what it said when it was accepted."""
    if engine.describe().precision == "int8":
        from engines.int8.kept import check

        check(engine, spec, options.input_size)
    return engine


def check_batch(batch: Batch, shape: tuple[int | None, int, int, int]) -> None:
    """Refuse a batch that does not fit `shape`, before a backend says so in its own words.

    Raises:
        ValueError: with both shapes.
    """
    fits = batch.ndim == 4 and batch.shape[1:] == shape[1:] and len(batch) > 0
    if not fits or batch.dtype != np.uint8:
        raise ValueError(f"the engine takes uint8 {shape}, not {batch.dtype} {batch.shape}")
