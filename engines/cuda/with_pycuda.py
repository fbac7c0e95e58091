"""The GPU by pycuda: an equal choice where it is what is installed (it is built against the machine's CUDA toolkit).

pycuda keeps a stack of contexts of its own for each thread, and brings the process down when a thread ends with
something on it. So nothing is ever left there: the context is made current by the driver's own `cuCtxSetCurrent`, which
pycuda does not have, and put on pycuda's stack only for as long as objects are made or given back, which need it.
`pycuda.autoinit` would make a context that TensorRT and torch do not share.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import engines.cuda.driver
from engines.cuda.faults import LOST, check_contiguous, fault, no_room
from engines.errors import BackendUnavailable, DeviceLost, EngineBuildError, EngineError

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.cuda.driver import Gpu
    from engines.cuda.layer import Bytes

INSTALL = "pip install pycuda, with a CUDA toolkit at hand: it is compiled"
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING; pycuda has no name for it."""


class _Held:
    """The only reference to an object of pycuda, which is destroyed by dropping it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class PyCuda:
    """A GPU by pycuda; see `engines.cuda.layer.Cuda` for the methods."""

    name = "pycuda"
    has_graphs = False
    """Not every pycuda can record a stream, and none that can could be tried: work goes out piece by piece."""

    def __init__(self, gpu: Gpu) -> None:
        """Retain the primary context.

        Raises:
            BackendUnavailable: pycuda is not installed, finds no driver, or is too old for primary contexts.
            EngineError: the device refuses.
        """
        self.gpu = gpu
        try:
            self._cuda: Any = importlib.import_module("pycuda.driver")
        except ImportError as error:  # also where there is no driver
            raise BackendUnavailable(f"pycuda cannot be imported ({error}): {INSTALL}") from error
        if not hasattr(self._cuda.Device, "retain_primary_context"):
            raise BackendUnavailable("this pycuda cannot share the primary context: pip install -U pycuda")
        self._libcuda: Any = engines.cuda.driver.load()
        self._lost: DeviceLost | None = None
        self._memory: dict[int, Any] = {}
        self._kernels: list[_Held] = []
        with self._reported("starting CUDA"):
            self._cuda.init()
            self._context = self._cuda.Device(gpu.index).retain_primary_context()
        with self._on_stack("asking for the context"):
            self._handle = self._current()

    def _current(self) -> int:
        """Return the driver's current context of this thread; 0: none."""
        context = ctypes.c_void_p()
        self._libcuda.cuCtxGetCurrent(ctypes.byref(context))
        return context.value or 0

    @contextlib.contextmanager
    def _reported(self, doing: str) -> Iterator[None]:
        """Turn pycuda's errors, which are only text, into this project's."""
        if self._lost is not None:
            raise DeviceLost(str(self._lost))
        try:
            yield
        except self._cuda.Error as error:
            failure = fault(self._code_of(str(error)), str(error), doing, self.gpu)
            self._lost = failure if isinstance(failure, DeviceLost) else None
            raise failure from error

    def _code_of(self, text: str) -> int:
        """Return the code of a lost device that `cuMemAlloc failed: <the driver's own text>` tells of; 0: another."""
        reason = text.partition(" failed: ")[2]
        for code in LOST:
            words = ctypes.c_char_p()
            self._libcuda.cuGetErrorString(code, ctypes.byref(words))
            if words.value and reason.startswith(words.value.decode()):
                return code
        return 0

    @contextlib.contextmanager
    def _on_stack(self, doing: str) -> Iterator[None]:
        """Have the context on pycuda's own stack meanwhile, where its objects look for it."""
        with self._reported(doing):
            self._context.push()
            try:
                yield
            finally:
                self._take_from_stack()

    def _take_from_stack(self) -> None:
        try:
            self._context.pop()
        except self._cuda.Error:  # a lost device; `detach` asks it nothing
            self._context.detach()
            raise

    def activate(self) -> None:
        """Set the primary context, unless it is current."""
        if self._current() != self._handle:
            self._libcuda.cuCtxSetCurrent(ctypes.c_void_p(self._handle))

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Set the primary context for a block."""
        before = self._current()
        self.activate()
        try:
            yield
        finally:
            if before != self._handle:
                self._libcuda.cuCtxSetCurrent(ctypes.c_void_p(before))

    def allocate(self, size: int) -> int:
        """Allocate device memory."""
        try:
            with self._on_stack(f"allocating {size} bytes"):
                allocation = self._cuda.mem_alloc(size)
        except DeviceLost:
            raise
        except EngineError as error:
            if isinstance(error.__cause__, self._cuda.MemoryError):
                raise no_room(size, *self.memory(), self.gpu) from error
            raise
        self._memory[int(allocation)] = allocation
        return int(allocation)

    def release(self, address: int) -> None:
        """Free device memory."""
        self._free(address, "freeing memory")

    def allocate_pinned(self, size: int) -> Bytes:
        """Allocate page-locked memory that counts as such in every context."""
        with self._on_stack(f"page-locking {size} bytes of host memory"):
            memory: Bytes = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=self._cuda.host_alloc_flags.PORTABLE)
        self._memory[memory.ctypes.data] = memory.base
        return memory

    def release_pinned(self, memory: Bytes) -> None:
        """Free page-locked memory."""
        self._free(memory.ctypes.data, "freeing page-locked memory")

    def _free(self, address: int, doing: str) -> None:
        if address not in self._memory:
            raise EngineError(f"CUDA failed while {doing}: nothing is allocated at {address:#x} on {self.gpu}")
        with self._on_stack(doing):
            self._memory.pop(address).free()

    def create_stream(self) -> Any:
        """Create a non-blocking stream."""
        with self._on_stack("creating a stream"):
            return _Held(self._cuda.Stream(NON_BLOCKING))

    def handle_of(self, stream: Any) -> int:
        """Return the stream's address."""
        return int(stream.inner.handle)

    def destroy_stream(self, stream: Any) -> None:
        """Destroy a stream."""
        with self._on_stack("destroying a stream"):
            stream.inner = None

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        """Copy to the device."""
        check_contiguous(source)
        with self._reported(f"copying {source.nbytes} bytes to it"):
            self._cuda.memcpy_htod_async(address, source, stream.inner)

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        """Copy from the device."""
        check_contiguous(target)
        with self._reported(f"copying {target.nbytes} bytes from it"):
            self._cuda.memcpy_dtoh_async(target, address, stream.inner)

    def fill(self, address: int, value: int, size: int, stream: Any) -> None:
        """Set bytes."""
        with self._reported(f"setting {size} bytes"):
            self._cuda.memset_d8_async(address, value, size, stream.inner)

    def synchronise(self, stream: Any) -> None:
        """Wait for a stream, without the GIL."""
        with self._reported("waiting for its work"):
            stream.inner.synchronize()

    def begin_capture(self, stream: Any) -> NoReturn:
        """Not to be had."""
        raise EngineError("graphs cannot be recorded by pycuda here: ask `has_graphs` first")

    def end_capture(self, stream: Any) -> NoReturn:
        """Not to be had."""
        self.begin_capture(stream)

    def launch_graph(self, graph: Any, stream: Any) -> NoReturn:
        """Not to be had."""
        self.begin_capture(stream)

    def destroy_graph(self, graph: Any) -> NoReturn:
        """Not to be had."""
        self.begin_capture(None)

    def compile_kernel(self, source: str, name: str) -> Any:
        """Compile by the CUDA toolkit's nvcc, and load; without pycuda's cache on disk."""
        arch = "sm_" + self.gpu.compute_capability.replace(".", "")
        try:
            compiler = importlib.import_module("pycuda.compiler")
            image = compiler.compile(source, no_extern_c=True, arch=arch, cache_dir=False)
            with self._on_stack(f"loading {name}"):
                function = self._cuda.module_from_buffer(image).get_function(name)
        except DeviceLost:
            raise
        except (ImportError, OSError) as error:
            raise EngineBuildError(f"{name} cannot be compiled, nvcc is missing ({error}): put it on PATH") from error
        except (self._cuda.Error, EngineError) as error:
            raise EngineBuildError(f"{name} cannot be compiled for {arch}: {error}") from error
        kernel = _Held(function)
        self._kernels.append(kernel)
        return kernel

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: Any,
    ) -> None:
        """Start a kernel.

        By `prepare` and not by calling it: newer pycuda caches the packed arguments of calls by their values, by which
        an int32 and a uint64 are the same.
        """
        with self._reported("launching a kernel"):
            kernel.inner.prepare([type(argument) for argument in arguments])
            kernel.inner.prepared_async_call(grid, block, stream.inner, *arguments)

    def create_event(self) -> Any:
        """Create an event with timing."""
        with self._on_stack("creating an event"):
            return self._cuda.Event()

    def record(self, event: Any, stream: Any) -> None:
        """Record an event."""
        with self._reported("recording an event"):
            event.record(stream.inner)

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Return the time between two events."""
        with self._reported("measuring time"):
            return float(second.time_since(first))

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes."""
        with self._reported("asking for its memory"):
            free, total = self._cuda.mem_get_info()
            return int(free), int(total)

    def close(self) -> None:
        """Unload the kernels and release the context, which this thread then has no more."""
        with self._on_stack("unloading kernels"):
            while self._kernels:
                self._kernels.pop().inner = None
        nothing = ctypes.c_void_p(None)
        if self._current() == self._handle:
            self._libcuda.cuCtxSetCurrent(nothing)
        with self._reported("releasing the context"):
            self._context.push()  # on another thread than the one that retained it, `detach` only works from the stack
            self._context.detach()
        self._libcuda.cuCtxSetCurrent(nothing)  # `detach` takes it from pycuda's stack only
