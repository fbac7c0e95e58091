"""OpenVINO on a CPU: the fastest backend where the CPU has bf16.

What won by measurement (yolox-nano, 2 cores): one stream and thread per core, one request more than streams, no
pinning, and requests waited for in turn. OpenVINO takes bf16 by itself when no precision is given, so one always is;
for what an int8 network leaves in float, it is the one that `auto` would be. Requests are collected by `wait()` and
never by callback: a callback needs the GIL on OpenVINO's own thread.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backend_words import in_one_line, refusal
from engines.engine import Batch, EngineInfo, EngineOptions, Outputs, check_batch
from engines.errors import BackendUnavailable, EngineError
from engines.prepare import prepare

if TYPE_CHECKING:
    import onnx
    import openvino as ov

    from engines.spec import ModelSpec

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
INT8 = "int8"
INSTEAD = "try --backend onnxruntime"
"""It runs what OpenVINO refuses, or fails at, of valid models."""


@cache
def shared_core() -> ov.Core:
    """Return the process's one Core.

    One, and never given back: each gives the thread that first compiles with it a stack for signal handlers, and takes
    it away when it goes, also from under a newer one. The next signal (a Ctrl-C) then crashed the process.
    """
    import openvino as ov

    return ov.Core()


class OpenVINOEngine:
    """A model compiled by OpenVINO for the CPU; see `engines.engine.Engine` for the methods."""

    batch = 1
    cuts_frames = False

    def __init__(self, spec: ModelSpec, options: EngineOptions, network: onnx.ModelProto | None = None) -> None:
        """Compile; see `engines.engine.open_engine` for what is raised.

        Args:
            spec: the model.
            options: how to run it.
            network: for int8: what to run; None: what was accepted of this model (`engines.int8.kept`).
        """
        self._spec = spec
        try:
            import openvino as ov
        except ImportError as error:
            raise BackendUnavailable(f"openvino cannot be imported ({error}): pip install openvino") from error
        if options.device not in ("auto", "cpu", "CPU"):
            raise BackendUnavailable(f"openvino runs on the CPU here, not on device {options.device!r}")
        self._core = shared_core()
        self._precision = self._choose_precision(options)
        self._threads = options.threads or os.cpu_count() or 1
        self.requests = options.requests or self._threads + 1
        self._compiled = self._compile(ov, options, self._network(options) if network is None else network)
        shape = self._compiled.input(0).partial_shape
        self._batch = None if shape[0].is_dynamic else shape[0].get_length()
        self.input_size = (shape[1].get_length(), shape[2].get_length())
        self._closed = False
        self._idle: queue.SimpleQueue[ov.InferRequest | None] = queue.SimpleQueue()
        self._all = [self._compiled.create_infer_request() for _ in range(self.requests)]
        for request in self._all:
            self._idle.put(request)
        self._info = EngineInfo(
            model=spec.name,
            backend="openvino",
            version=ov.get_version(),
            device="CPU",
            precision=self._precision,
            threads=self._threads,
            requests=self.requests,
            input_shape=(self._batch, *self.input_size, 3),
            origin="compiled" if network is not None or self._precision != INT8 else "cache",
        )

    def _choose_precision(self, options: EngineOptions) -> str:
        wanted = options.precision if options.precision != "auto" else self._spec.precision
        if wanted == "auto":
            return self._fastest_float()
        if wanted not in (*PRECISIONS, INT8):
            raise BackendUnavailable(f"openvino on a CPU runs {', '.join(PRECISIONS)} or {INT8}, not {wanted}")
        return wanted

    def _fastest_float(self) -> str:
        return "bf16" if "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"

    def _network(self, options: EngineOptions) -> onnx.ModelProto:
        if self._precision != INT8:
            return prepare(self._spec, options.input_size)
        from engines.int8.kept import accepted

        return accepted(self._spec, "openvino", options.input_size)

    def _compile(self, ov: Any, options: EngineOptions, onnx_model: onnx.ModelProto) -> ov.CompiledModel:
        floats = PRECISIONS[self._fastest_float() if self._precision == INT8 else self._precision]
        self._names = [output.name for output in onnx_model.graph.output]  # OpenVINO's own may be an inner tensor's
        settings = {
            "INFERENCE_PRECISION_HINT": floats,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": min(self._threads, self.requests),
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = self._core.read_model(onnx_model.SerializeToString())
            compiled = self._core.compile_model(self._with_preprocessing(ov, model), "CPU", settings)
        except RuntimeError as error:
            advice = INSTEAD if options.backend == "openvino" or options.input_size is not None else ""
            raise refusal(
                "openvino", ov.get_version(), self._spec.path, onnx_model, error, options.input_size, advice
            ) from error
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != floats:
            raise BackendUnavailable(f"openvino cannot run {self._precision} on this CPU (it offers {used})")
        return compiled

    def _with_preprocessing(self, ov: Any, model: Any) -> Any:
        picture = self._spec.input
        steps = ov.preprocess.PrePostProcessor(model)
        tensor = steps.input(0)
        tensor.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        tensor.tensor().set_color_format(ov.preprocess.ColorFormat.BGR)
        tensor.model().set_layout(ov.Layout("NCHW"))
        tensor.preprocess().convert_element_type(ov.Type.f32)
        if picture.colour == "rgb":
            tensor.preprocess().convert_color(ov.preprocess.ColorFormat.RGB)
        if any(picture.mean):
            tensor.preprocess().mean(list(picture.mean))
        if any(deviation != 1 for deviation in picture.std):
            tensor.preprocess().scale(list(picture.std))
        return steps.build()

    def infer(self, batch: Batch) -> Outputs:
        """Run the model; the pictures side by side where its batch is fixed to 1."""
        check_batch(batch, self._info.input_shape)
        if self._batch is None or len(batch) == 1:
            return self.submit(batch).result()
        each = self._side_by_side(batch)
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self._names}

    def _side_by_side(self, batch: Batch) -> list[Outputs]:
        """Run each picture as a request; only the first may wait, or two callers might wait for each other's."""
        running: deque[OpenVINORequest] = deque()
        done = []
        try:
            for i in range(len(batch)):
                while (request := self._take_idle(wait=not running)) is None:
                    done.append(running.popleft().result())
                running.append(self._start(request, batch[i : i + 1]))
            while running:
                done.append(running.popleft().result())
        finally:
            for left in running:  # by a failure
                with contextlib.suppress(EngineError):
                    left.result()
        return done

    def submit(self, batch: Batch) -> OpenVINORequest:
        """Start the model on one batch."""
        check_batch(batch, self._info.input_shape)
        if self._batch is not None and len(batch) != self._batch:
            raise ValueError(f"this model takes {self._batch} picture at a time, not {len(batch)}")
        request = self._take_idle(wait=True)
        assert request is not None
        return self._start(request, batch)

    def _take_idle(self, *, wait: bool) -> ov.InferRequest | None:
        """Return a free request; None where there is none and waiting is not allowed."""
        try:
            request = self._idle.get(block=wait)
        except queue.Empty:
            return None
        if request is None or self._closed:
            self._idle.put(None)  # for the next who waits
            raise EngineError("the engine is closed")
        return request

    def _start(self, request: ov.InferRequest, batch: Batch) -> OpenVINORequest:
        try:
            if self._batch is None:
                request.set_input_tensor(self._tensor(batch))
            else:
                request.get_input_tensor().data[:] = batch
            request.start_async()
        except RuntimeError as error:
            self._idle.put(request)
            raise EngineError(f"openvino failed to start: {in_one_line(error)}") from error
        return OpenVINORequest(request, self._names, self._idle)

    @staticmethod
    def _tensor(batch: Batch) -> Any:
        import openvino as ov

        return ov.Tensor(np.ascontiguousarray(batch))

    def describe(self) -> EngineInfo:
        """Say what this engine is."""
        return self._info

    def close(self) -> None:
        """Wait for what is in flight; a `submit` that waits for room, or comes later, is refused."""
        self._closed = True
        for request in self._all:
            with contextlib.suppress(RuntimeError):  # told to whoever holds the request
                request.wait()
        self._idle.put(None)


class OpenVINORequest:
    """A started request; `result` gives its request object back to the engine."""

    def __init__(
        self, request: ov.InferRequest, names: list[str], idle: queue.SimpleQueue[ov.InferRequest | None]
    ) -> None:
        self._request = request
        self._names = names
        self._idle = idle

    def result(self) -> Outputs:
        """Wait, and copy the outputs out of the request's own memory."""
        try:
            self._request.wait()
            return {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self._names)}
        except RuntimeError as error:
            raise EngineError(f"openvino failed while running: {in_one_line(error)}; {INSTEAD}") from error
        finally:
            self._idle.put(self._request)
