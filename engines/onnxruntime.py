"""ONNX Runtime on a CPU: runs anywhere, and is the reference the others are compared with.

Spinning is off: a waiting thread that spins takes the core that decodes and encodes (medians of 28-57 ms became
49-113 ms under load). Several requests in flight share the threads: two at one thread each move more frames than
one at two.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from engines.backend_words import in_one_line, refusal
from engines.engine import Batch, EngineInfo, EngineOptions, Outputs, check_batch
from engines.errors import BackendUnavailable, EngineError
from engines.prepare import PICTURES, prepare, take_uint8_pictures

if TYPE_CHECKING:
    import onnxruntime as ort

    from engines.spec import ModelSpec

QUIET = 4
"""ONNX Runtime's severity `fatal`: errors are raised, too, and need not be on the terminal twice."""


class ONNXRuntimeEngine:
    """A model run by ONNX Runtime; see `engines.engine.Engine` for the methods."""

    batch = 1
    cuts_frames = False

    def __init__(self, spec: ModelSpec, options: EngineOptions, network: onnx.ModelProto | None = None) -> None:
        """Load; see `engines.engine.open_engine` for what is raised.

        Args:
            spec: the model.
            options: how to run it.
            network: for int8: what to run; None: what was accepted of this model (`engines.int8.kept`).
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise BackendUnavailable(f"onnxruntime cannot be imported ({error}): pip install onnxruntime") from error
        wanted = options.precision if options.precision != "auto" else spec.precision
        if wanted not in ("auto", "fp32", "int8"):
            raise BackendUnavailable(f"onnxruntime on a CPU runs the file as it is (fp32), or int8, not {wanted}")
        if options.device not in ("auto", "cpu", "CPU"):
            raise BackendUnavailable(f"onnxruntime runs on the CPU here, not on device {options.device!r}")
        self._spec = spec
        self._threads = options.threads or os.cpu_count() or 1
        self.requests = options.requests or self._threads + 1
        precision = "int8" if wanted == "int8" else "fp32"
        self._session = self._load(ort, options, self._network(precision, options) if network is None else network)
        shape = self._session.get_inputs()[0].shape
        self._batch = shape[0] if isinstance(shape[0], int) else None
        self.input_size = (int(shape[1]), int(shape[2]))
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._closed = False
        self._room = threading.Semaphore(self.requests)
        self._runners = ThreadPoolExecutor(self._streams, thread_name_prefix="onnxruntime")
        self._info = EngineInfo(
            model=spec.name,
            backend="onnxruntime",
            version=ort.__version__,
            device="CPU",
            precision=precision,
            threads=self._threads,
            requests=self.requests,
            input_shape=(self._batch, *self.input_size, 3),
            origin="compiled" if network is not None or precision != "int8" else "cache",
        )

    @property
    def _streams(self) -> int:
        return min(self._threads, self.requests)

    def _network(self, precision: str, options: EngineOptions) -> onnx.ModelProto:
        if precision == "fp32":
            return prepare(self._spec, options.input_size)
        from engines.int8.kept import accepted

        return accepted(self._spec, "onnxruntime", options.input_size)

    def _load(self, ort: Any, options: EngineOptions, network: onnx.ModelProto) -> ort.InferenceSession:
        model = onnx.ModelProto()
        model.CopyFrom(network)  # it is changed
        take_uint8_pictures(model, self._spec.input)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = max(1, self._threads // self._streams)
        settings.inter_op_num_threads = 1
        settings.log_severity_level = QUIET
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(
                model.SerializeToString(), sess_options=settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base
            raise refusal("onnxruntime", ort.__version__, self._spec.path, model, error, options.input_size) from error

    def infer(self, batch: Batch) -> Outputs:
        """Run the model; the pictures side by side where its batch is fixed to 1."""
        check_batch(batch, self._info.input_shape)
        if self._closed:
            raise EngineError("the engine is closed")
        if self._batch is None or len(batch) == 1:
            return self._run(batch)
        try:
            each = list(self._runners.map(self._run, np.split(batch, len(batch))))
        except (CancelledError, RuntimeError) as error:
            raise EngineError("the engine is closed") from error
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self._outputs}

    def submit(self, batch: Batch) -> ONNXRuntimeRequest:
        """Start the model on a copy of the batch."""
        check_batch(batch, self._info.input_shape)
        if self._batch is not None and len(batch) != self._batch:
            raise ValueError(f"this model takes {self._batch} picture at a time, not {len(batch)}")
        self._room.acquire()
        try:
            return ONNXRuntimeRequest(self._runners.submit(self._run, batch.copy()), self._room)
        except RuntimeError as error:
            self._room.release()  # for the next who waits
            raise EngineError("the engine is closed") from error

    def _run(self, batch: Batch) -> Outputs:
        try:
            values = self._session.run(self._outputs, {PICTURES: np.ascontiguousarray(batch)})
        except Exception as error:  # its exceptions share no public base
            raise EngineError(f"onnxruntime failed while running {self._spec.path}: {in_one_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def describe(self) -> EngineInfo:
        """Say what this engine is."""
        return self._info

    def close(self) -> None:
        """Finish what runs; what has not begun is cancelled, and a `submit` that waits for room is refused."""
        self._closed = True
        self._runners.shutdown(wait=True, cancel_futures=True)
        self._room.release()


class ONNXRuntimeRequest:
    """A started request; `result` makes room for another."""

    def __init__(self, future: Future[Outputs], room: threading.Semaphore) -> None:
        self._future = future
        self._room = room

    def result(self) -> Outputs:
        """Wait for the outputs."""
        try:
            return self._future.result()
        except CancelledError as error:
            raise EngineError("the engine is closed") from error
        finally:
            self._room.release()
