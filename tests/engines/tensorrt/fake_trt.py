"""A stand-in for the modules `tensorrt` and `tensorrt_rtx` at run time, over a FakeGpu.

A plan is a header and an ONNX file with a uint8 input; ONNX Runtime executes it when the fake stream comes to it, on
what is in the fake device memory then. As strict as the real one where the real one is, and stricter where that only
crashes: unset or wrong addresses, shapes outside the profile, recording before the first run with a shape, launching a
graph whose context has changed since, contexts that outlive the engine, an engine that outlives its runtime, and
scratch memory that two contexts use at once are all found.
"""

from __future__ import annotations

import enum
import json
import math
import types
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tests.engines.cuda.fake_gpu import CudaError, FakeGpu

MAGIC = b"fake plan\n"
SCRATCH = 4096
"""Bytes of device memory that each context wants."""

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "BF16", "INT64", "INT32", "INT8", "UINT8", "BOOL"])
TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
ExecutionContextAllocationStrategy = enum.Enum("ExecutionContextAllocationStrategy", ["STATIC", "USER_MANAGED"])
KernelSpecialization = enum.Enum("KernelSpecialization", ["LAZY", "EAGER", "NONE"])
EngineValidity = enum.Enum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"])


class EngineInvalidityDiagnostics(enum.Enum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def log(self, severity: int, line: str) -> None:
        raise NotImplementedError


KINDS = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.BOOL: DataType.BOOL,
}


def fake_plan(model: onnx.ModelProto, most: int = 1, order: list[str] | None = None) -> bytes:
    """Return a plan that runs `model` on 1 to `most` pictures; `order`: of its tensors, where not the model's own."""
    header = json.dumps({"most": most, "order": order}).encode()
    return MAGIC + header + b"\n" + bytes(model.SerializeToString())


@dataclass
class Knobs:
    """What a test makes it do, and what it has seen."""

    refuse: str = ""
    """A reason for loading no plan."""
    validity: EngineValidity = EngineValidity.VALID
    diagnostics: int = 0
    invalid_for: str = ""
    """What it says of a plan that is not valid."""
    fail_run: str = ""
    """A reason for starting no run."""
    fail_capture: str = ""
    """A reason for refusing to be recorded."""
    capturable: bool = True
    """What TensorRT-RTX says of that when it is asked."""
    compiled: list[int] = field(default_factory=list)
    """Numbers of pictures that TensorRT-RTX has compiled kernels for."""
    refuse_kernels: bool = False
    """Whether it takes none that an earlier process has compiled."""
    contexts_left: int = 1000
    """How many more contexts there is memory for."""
    runs: list[tuple[int, int, bool]] = field(default_factory=list)
    """Context (its number), pictures, and whether it was recorded, of each start."""
    wrong: list[str] = field(default_factory=list)
    """What the real one would have crashed at."""
    live: dict[str, int] = field(default_factory=lambda: {"runtime": 0, "engine": 0, "context": 0})


def fake_trt(gpu: FakeGpu, *, rtx: bool = False) -> Any:
    """Return a module; its attribute `knobs` is not the real one's."""
    module: Any = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt")
    module.__version__ = "1.7.1.116" if rtx else "11.4.0.106"
    module.knobs = knobs = Knobs()
    module.ILogger, module.DataType, module.TensorIOMode = ILogger, DataType, TensorIOMode
    module.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    module.Builder = object
    module.Runtime = lambda logger: (RtxRuntime if rtx else Runtime)(logger, gpu, knobs)
    if rtx:
        module.EngineValidity, module.EngineInvalidityDiagnostics = EngineValidity, EngineInvalidityDiagnostics
        module.DynamicShapesKernelSpecializationStrategy = KernelSpecialization
    return module


@dataclass
class _Family:
    """How much is left of what was made of something; outlives it."""

    kind: str
    children: int = 0


class _Counted:
    """Counts itself, and sees that what was made of it goes before it."""

    kind = ""

    def __init__(self, parent: _Family | None, gpu: FakeGpu, knobs: Knobs) -> None:
        self.gpu, self.knobs = gpu, knobs
        self.parent, self.family = parent, _Family(self.kind)
        knobs.live[self.kind] += 1
        if parent is not None:
            parent.children += 1

    def __del__(self) -> None:
        self.knobs.live[self.kind] -= 1
        if self.parent is not None:
            self.parent.children -= 1
        if self.family.children:
            self.knobs.wrong.append(f"the {self.kind} was destroyed before {self.family.children} made of it")
        if not self.gpu.lost and self.gpu.current_context() != self.gpu.context:
            self.knobs.wrong.append(f"the {self.kind} was destroyed on a thread without the CUDA context")


class Runtime(_Counted):
    kind = "runtime"

    def __init__(self, logger: ILogger, gpu: FakeGpu, knobs: Knobs) -> None:
        super().__init__(None, gpu, knobs)
        gpu.check()
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not _usable(self.gpu, self.logger):
            return None
        if self.knobs.refuse or not plan.startswith(MAGIC):
            reason = self.knobs.refuse or "Magic tag does not match"
            self.logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({reason})")
            return None
        assert not self.engine_host_code_allowed
        header, _, model = plan.removeprefix(MAGIC).partition(b"\n")
        make = RtxEngine if isinstance(self, RtxRuntime) else Engine
        return make(self, onnx.load_from_string(model), json.loads(header))


class RtxRuntime(Runtime):
    def get_engine_validity(self, plan: bytes) -> tuple[EngineValidity, int]:
        if self.knobs.invalid_for:
            self.logger.log(Severity.ERROR, self.knobs.invalid_for)
        return self.knobs.validity, self.knobs.diagnostics


class Engine(_Counted):
    kind = "engine"

    def __init__(self, runtime: Runtime, model: onnx.ModelProto, header: dict[str, Any]) -> None:
        super().__init__(runtime.family, runtime.gpu, runtime.knobs)
        self.program = Program(runtime.logger, model, header["most"])
        self.names = header["order"] or [*self.program.inputs, *self.program.outputs]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = SCRATCH

    def get_tensor_name(self, number: int) -> str:
        return str(self.names[number])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.program.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return KINDS[self.program.values[name].type.tensor_type.elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        axes = self.program.values[name].type.tensor_type.shape.dim
        return tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in axes)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        rest = self.get_tensor_shape(name)[1:]
        return [(1, *rest), (1, *rest), (self.program.most, *rest)]

    def create_execution_context(self, strategy: Any) -> Context | None:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return self._make(Context)

    def _make(self, kind: type[Context]) -> Context | None:
        if not _usable(self.gpu, self.program.logger):
            return None
        if not self.knobs.contexts_left:
            self.program.logger.log(Severity.ERROR, "createExecutionContext: Error Code 2: OutOfMemory")
            return None
        self.knobs.contexts_left -= 1
        return kind(self)


class RtxEngine(Engine):
    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self.knobs)

    def create_execution_context(self, config: Any) -> Context | None:
        assert config.strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        assert config.cache is not None
        made = self._make(RtxContext)
        if made is not None:
            made.cache = config.cache
        return made


class RuntimeConfig:
    strategy: Any = None
    cache: Any = None
    dynamic_shapes_kernel_specialization_strategy = KernelSpecialization.LAZY

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self._knobs)

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True


class RuntimeCache:
    """Its kernels are the numbers of pictures that they are for."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._counts: set[int] = set()

    def deserialize(self, blob: bytes) -> bool:
        if self._knobs.refuse_kernels:
            return False
        self._counts = set(json.loads(blob))
        return True

    def serialize(self) -> bytes | None:
        return None if self._knobs.refuse_kernels else json.dumps(sorted(self._counts)).encode()

    def _compile(self, count: int) -> None:
        if count not in self._counts:
            self._counts.add(count)
            self._knobs.compiled.append(count)


class Program:
    """The network, executed by ONNX Runtime; shared by an engine and its contexts, and by what is in flight."""

    def __init__(self, logger: ILogger, model: onnx.ModelProto, most: int) -> None:
        import onnxruntime as ort

        self.logger, self.most = logger, most
        filled = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in filled]
        self.outputs = [value.name for value in model.graph.output]
        self.values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        self._shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}

    def run(self, pictures: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        values = self._session.run(self.outputs, {self.inputs[0]: pictures})
        return dict(zip(self.outputs, values, strict=True))

    def shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        if shape not in self._shapes:
            outputs = self.run(np.zeros(shape, np.uint8))
            self._shapes[shape] = {name: array.shape for name, array in outputs.items()}
        return self._shapes[shape]


class Context(_Counted):
    """As of TensorRT 10.3: before, `device_memory` was set."""

    kind = "context"
    cache: RuntimeCache | None = None

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.family, engine.gpu, engine.knobs)
        self.number = 1000 - self.knobs.contexts_left
        self.device_memory, self.device_memory_size = 0, 0
        self._program = engine.program
        self._state = _State()

    def __del__(self) -> None:
        super().__del__()
        if self._state.in_flight and not self.gpu.lost:
            self.knobs.wrong.append("a context was destroyed while it was running")
        self._state.changes += 1  # a graph of it must not be launched any more

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = self._program.values[name].type.tensor_type.shape.dim
        fixed = [axis.dim_value if axis.HasField("dim_value") else None for axis in declared]
        most = self._program.most
        fits = len(shape) == len(fixed) and all(wanted in (None, is_) for wanted, is_ in zip(fixed, shape, strict=True))
        if not fits or not 1 <= shape[0] <= most:
            return self._refuse(f"setInputShape: Error Code 3: {shape} is not within the profile, at most {most}")
        if shape != self._state.shape:
            self._state.shape = shape
            self._state.flushed = False
            self._state.changes += 1
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if not self._state.shape:
            return tuple(-1 for _ in self._program.values[name].type.tensor_type.shape.dim)
        return self._state.shape if name in self._program.inputs else self._program.shapes(self._state.shape)[name]

    def set_device_memory(self, memory: int, size: int) -> None:
        self.device_memory, self.device_memory_size = memory, size

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._program.values or not address:
            return self._refuse(f"setTensorAddress: Error Code 3: {name!r} at {address:#x}")
        self._state.addresses[name] = address
        self._state.changes += 1
        return True

    def execute_async_v3(self, handle: int) -> bool:
        if not _usable(self.gpu, self._program.logger):
            return False
        if self.knobs.fail_run:
            return self._refuse(f"enqueueV3: Error Code 1: {self.knobs.fail_run}")
        state, program = self._state, self._program
        if missing := [name for name in program.values if name not in state.addresses]:
            return self._refuse(f"enqueueV3: Error Code 3: no address for {missing}")
        if not state.shape:
            return self._refuse("enqueueV3: Error Code 3: the input shape is not set")
        if not self.device_memory or self.device_memory_size < SCRATCH:
            return self._refuse("enqueueV3: Error Code 3: no device memory was given to a USER_MANAGED context")
        recorded = self.gpu.stream(handle).captured is not None
        if recorded and (self.knobs.fail_capture or not state.flushed):
            why = self.knobs.fail_capture or "operation not permitted when stream is capturing: the shape is new"
            return self._refuse(f"enqueueV3: Error Code 1: Cuda Runtime ({why})")
        if self.cache is not None:
            self.cache._compile(state.shape[0])
        self.knobs.runs.append((self.number, state.shape[0], recorded))
        state.flushed = True
        state.in_flight += not recorded
        self.gpu.enqueue(handle, _Run(self, recorded))
        return True

    def _refuse(self, line: str) -> bool:
        self._program.logger.log(Severity.ERROR, line)
        return False


class RtxContext(Context):
    def is_stream_capturable(self, handle: int) -> bool:
        assert self.gpu.stream(handle).captured is None
        return self.knobs.capturable


def _usable(gpu: FakeGpu, logger: ILogger) -> bool:
    """Whether CUDA answers on this thread; TensorRT tells its log if not."""
    try:
        gpu.check()
    except CudaError as error:
        logger.log(Severity.ERROR, f"Error Code 1: Cuda Runtime ({error})")
        return False
    return True


@dataclass
class _State:
    """What a context knows; outlives it in what is still in flight."""

    shape: tuple[int, ...] = ()
    addresses: dict[str, int] = field(default_factory=dict)
    flushed: bool = False
    changes: int = 0
    in_flight: int = 0


class _Run:
    """One run on the stream, with all as it was when it was started."""

    def __init__(self, context: Context, recorded: bool) -> None:
        self._gpu, self._knobs, self._state = context.gpu, context.knobs, context._state
        self._program, self._scratch = context._program, context.device_memory
        self._recorded, self._changes = recorded, context._state.changes
        self._shape, self._addresses = context._state.shape, dict(context._state.addresses)

    def __call__(self) -> None:
        try:
            self._run()
        finally:
            self._state.in_flight -= not self._recorded

    def _run(self) -> None:
        if self._recorded and self._state.changes != self._changes:
            self._knobs.wrong.append("a graph was launched whose context had changed")
        scratch = self._gpu.memory(self._scratch, SCRATCH)
        ticket = np.random.default_rng().bytes(SCRATCH)
        scratch[:] = np.frombuffer(ticket, np.uint8)
        (name,) = self._program.inputs
        pictures = self._gpu.memory(self._addresses[name], math.prod(self._shape)).reshape(self._shape)
        for name, array in self._program.run(pictures.copy()).items():
            values = np.ascontiguousarray(array)
            target = self._gpu.memory(self._addresses[name], values.nbytes)
            target[:] = values.reshape(-1).view(np.uint8)
        if scratch.tobytes() != ticket:
            self._knobs.wrong.append("two contexts used the same scratch memory at once")
