"""LoadedPlan: a plan that TensorRT has accepted, and what it says about itself: pictures, outputs, batches.

TensorRT reports failures as None or False and lines in its log; here they become errors that carry those lines. A plan
may hold code for the host: that is never allowed to run (`engine_host_code_allowed` stays False).
"""

from __future__ import annotations

import logging
import math
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.candidates import CANDIDATES, ROWS
from engines.errors import EngineError, EngineStale
from engines.graph import load
from engines.tensorrt.flavour import device_memory
from engines.tensorrt.log import collecting_logger
from engines.tensorrt.outputs import Wanted
from engines.tensorrt.plan_context import PlanContext

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from engines.cache.kept_kernels import KeptKernels
    from engines.spec import ModelSpec
    from engines.tensorrt.flavour import Flavour
    from engines.tensorrt.graphs import Shapes

logger = logging.getLogger(__name__)

DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""TensorRT's names of types that numpy has, too."""
OF_THE_GPU = re.compile(
    r"out ?of ?memory|could not be allocated|\bCuda (Runtime|Driver)\b|cuda ?error|CUDA_ERROR_", re.IGNORECASE
)
"""What TensorRT says where it is CUDA that failed, and not the plan."""


class LoadedPlan:
    """A plan on the GPU. Contexts are made of it; they must be gone before `release`."""

    def __init__(self, spec: ModelSpec, plan: bytes, flavour: Flavour, kernels: KeptKernels | None = None) -> None:
        """Load; the GPU's context must be current.

        Args:
            spec: the model.
            plan: of it.
            flavour: of the plan.
            kernels: where those of TensorRT-RTX are kept that runs compile; None: nowhere.

        Raises:
            EngineStale: the runtime refuses the plan, or it was not made by this project.
            EngineError: the GPU has no room for it now, or fails: the plan may well be good.
            ModelError: the model's file cannot be read.
        """
        self.name = spec.name
        self._trt = flavour.trt
        self._engine: Any = None
        self._kernels = kernels
        self._compiled: Any = None
        try:
            self._load(spec, plan, flavour)
        except BaseException:
            self.release()
            raise

    def _load(self, spec: ModelSpec, plan: bytes, flavour: Flavour) -> None:
        self._log = collecting_logger(flavour.trt)
        self._making = threading.Lock()
        self._runtime = flavour.trt.Runtime(self._log)
        if flavour.backend == "tensorrt-rtx":
            self._check_validity(plan)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._refused(f"is not accepted by {flavour.backend} {flavour.version}", self.said())
        self._create = self._maker(flavour)
        self.input, outputs = self._tensors()
        self.types = {name: self._type_of(name) for name in (self.input, *outputs)}
        self.most, self.input_size = self._pictures()
        shown = tuple(sorted((name for name in outputs if name not in (CANDIDATES, ROWS)), key=_place_in(spec)))
        if not shown:
            raise self._stale("has no outputs; build it again")
        self.outputs = outputs
        self.largest = self._largest()
        self.wanted = Wanted(shown, {CANDIDATES, ROWS} <= set(outputs))

    def _refused(self, what: str, words: str) -> EngineError:
        """Return the error for a plan that cannot be loaded: only one that never can is stale, and built again."""
        if OF_THE_GPU.search(words):
            return EngineError(
                f"the plan of {self.name} cannot be loaded now, not enough GPU memory or a GPU that fails; end what "
                f"else runs on it, or look at `nvidia-smi`: {words}"
            )
        return self._stale(f"{what}, build it again: {words}")

    def _stale(self, what: str) -> EngineStale:
        return EngineStale(f"the plan of {self.name} {what}")

    def _check_validity(self, plan: bytes) -> None:
        validity, bits = self._runtime.get_engine_validity(plan)
        if validity == self._trt.EngineValidity.INVALID:
            known = self._trt.EngineInvalidityDiagnostics.__members__
            reasons = [name for name, bit in known.items() if int(bits) & int(bit.value)]
            if not reasons:
                raise self._refused("is not valid on this GPU", self.said())
            raise self._stale(f"is not valid on this GPU ({', '.join(reasons)}), build it again: {self.said()}")
        if validity == self._trt.EngineValidity.SUBOPTIMAL:
            logger.info("the plan of %s would be faster if it were built for this GPU", self.name)

    def _maker(self, flavour: Flavour) -> Any:
        """Return what makes contexts whose scratch memory is given to them.

        TensorRT-RTX compiles kernels when it runs. A recorded graph keeps those it was recorded with, so the ones for
        a shape are compiled before its first run (EAGER), and the contexts share what has been compiled.
        """
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if flavour.backend != "tensorrt-rtx":
            return lambda: self._engine.create_execution_context(strategy)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._compiled = config.create_runtime_cache()
        kept = self._kernels.read() if self._kernels else b""
        if kept and not self._compiled.deserialize(kept):
            logger.info("kernels of %s are compiled again: %s", self.name, self.said())
        config.set_runtime_cache(self._compiled)
        return lambda: self._engine.create_execution_context(config)

    def keep_kernels(self) -> None:
        """Keep what runs have compiled so far, if that can be had: only time hangs on it."""
        if self._kernels is None or self._compiled is None:
            return
        content = self._compiled.serialize()
        if content is None:
            logger.info("compiled kernels of %s cannot be kept: %s", self.name, self.said())
        else:
            self._kernels.write(bytes(memoryview(content)))

    def _tensors(self) -> tuple[str, tuple[str, ...]]:
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT for name in names}
        inputs = [name for name in names if is_input[name]]
        if len(inputs) != 1:
            raise self._stale(f"takes {inputs}, not pictures alone; build it again")
        return inputs[0], tuple(name for name in names if not is_input[name])

    def _type_of(self, name: str) -> npt.DTypeLike:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise self._stale(f"has {kind} values in {name!r}; build it again")
        return DTYPES[kind]

    def _pictures(self) -> tuple[int, tuple[int, int]]:
        """Return the most pictures at once, and their height and width."""
        shape = tuple(self._engine.get_tensor_shape(self.input))
        if len(shape) != 4 or shape[3] != 3 or min(shape[1:]) < 1 or self.types[self.input] is not np.uint8:
            took = f"{np.dtype(self.types[self.input])} {shape}"
            raise self._stale(f"takes {took}, not uint8 pictures; build it again")
        most = shape[0] if shape[0] > 0 else next(iter(self._engine.get_tensor_profile_shape(self.input, 0)[2]))
        return most, (shape[1], shape[2])

    def _largest(self) -> Shapes:
        """Return the shapes of all tensors for as many pictures as there may be."""
        context = self.create_context()
        try:
            return context.set_count(self.most)
        finally:
            context.release()

    def bytes_of(self, name: str, shape: tuple[int, ...]) -> int:
        """Return the size of a tensor of this shape."""
        return math.prod(shape) * np.dtype(self.types[name]).itemsize

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a context needs while it runs."""
        return device_memory(self._engine)

    def create_context(self) -> PlanContext:
        """Return an execution context without scratch memory.

        Raises:
            EngineError: there is no memory for it.
        """
        with self._making:
            context = self._create()
        if context is None:
            raise EngineError(f"TensorRT made no execution context for {self.name}: {self.said()}")
        return PlanContext(self, context)

    def said(self) -> str:
        """Return what TensorRT has logged since it was last asked."""
        words: str = self._log.words()
        return words

    def release(self) -> None:
        """Give the plan back: the engine, then the runtime that made it."""
        self._create = None
        self._compiled = None
        self._engine = None
        self._runtime = None


def _place_in(spec: ModelSpec) -> Callable[[str], int]:
    """Return a key that sorts outputs as the model's file has them: a plan keeps names, and promises no order."""
    names = [output.name for output in load(spec.path).graph.output]
    return lambda name: names.index(name) if name in names else len(names)
