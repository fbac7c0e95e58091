"""The GPU by cuda-python (`cuda.bindings`, 12.6 and later): thin wrappers, no CUDA toolkit needed.

Every function of it returns a tuple that begins with a result code. The calls used here are the same in CUDA 12 and 13.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.cuda.faults import OUT_OF_MEMORY, check_contiguous, fault, no_room
from engines.cuda.nvrtc import compile_source
from engines.errors import BackendUnavailable, DeviceLost, EngineBuildError, EngineError

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.cuda.driver import Gpu
    from engines.cuda.layer import Bytes

INSTALL = "pip install 'cuda-python[all]>=12.6'"


class CudaPython:
    """A GPU by cuda-python; see `engines.cuda.layer.Cuda` for the methods."""

    name = "cuda-python"
    has_graphs = True

    def __init__(self, gpu: Gpu) -> None:
        """Retain the primary context.

        Raises:
            BackendUnavailable: cuda-python is not installed, or older than 12.6.
            EngineError: the device refuses.
        """
        self.gpu = gpu
        try:
            self._cuda: Any = importlib.import_module("cuda.bindings.driver")
        except ImportError as error:
            raise BackendUnavailable(f"cuda-python cannot be imported ({error}): {INSTALL}") from error
        self._modules: list[Any] = []
        self._do("starting CUDA", self._cuda.cuInit, 0)
        self._device = self._do("looking for it", self._cuda.cuDeviceGet, gpu.index)
        self._context = self._do("retaining its context", self._cuda.cuDevicePrimaryCtxRetain, self._device)

    def _call(self, function: Any, *arguments: Any) -> tuple[Any, list[Any]]:
        """Call the driver; return its code and what it gives after that."""
        try:
            code, *results = function(*arguments)
        except RuntimeError as error:  # cuda-python looks for the driver, and for each of its functions, by itself
            raise BackendUnavailable(
                f"cuda-python cannot use this NVIDIA driver ({error}): update the driver, or take an older cuda-python"
            ) from error
        return code, results

    def _do(self, doing: str, function: Any, *arguments: Any) -> Any:
        """Call the driver; return nothing, the one value it gives, or a list of them."""
        code, results = self._call(function, *arguments)
        if code:
            raise fault(int(code), code.name, doing, self.gpu)
        return results[0] if len(results) == 1 else results

    def activate(self) -> None:
        """Set the primary context, unless it is current."""
        current = self._do("asking for the context", self._cuda.cuCtxGetCurrent)
        if int(current) != int(self._context):
            self._do("activating the context", self._cuda.cuCtxSetCurrent, self._context)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Set the primary context for a block."""
        before = self._do("asking for the context", self._cuda.cuCtxGetCurrent)
        others = int(before) != int(self._context)
        if others:
            self._do("activating the context", self._cuda.cuCtxSetCurrent, self._context)
        try:
            yield
        finally:
            if others:
                self._cuda.cuCtxSetCurrent(before)  # whatever it answers: there is nothing to be done about it

    def allocate(self, size: int) -> int:
        """Allocate device memory."""
        code, results = self._call(self._cuda.cuMemAlloc, size)
        if int(code) == OUT_OF_MEMORY:
            raise no_room(size, *self.memory(), self.gpu)
        if code:
            raise fault(int(code), code.name, f"allocating {size} bytes", self.gpu)
        return int(results[0])

    def release(self, address: int) -> None:
        """Free device memory."""
        self._do("freeing memory", self._cuda.cuMemFree, address)

    def allocate_pinned(self, size: int) -> Bytes:
        """Allocate page-locked memory that counts as such in every context."""
        portable = self._cuda.CU_MEMHOSTALLOC_PORTABLE
        address = self._do(f"page-locking {size} bytes of host memory", self._cuda.cuMemHostAlloc, size, portable)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def release_pinned(self, memory: Bytes) -> None:
        """Free page-locked memory."""
        self._do("freeing page-locked memory", self._cuda.cuMemFreeHost, memory.ctypes.data)

    def create_stream(self) -> Any:
        """Create a non-blocking stream."""
        flag = int(self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return self._do("creating a stream", self._cuda.cuStreamCreate, flag)

    def handle_of(self, stream: Any) -> int:
        """Return the stream's address."""
        return int(stream)

    def destroy_stream(self, stream: Any) -> None:
        """Destroy a stream."""
        self._do("destroying a stream", self._cuda.cuStreamDestroy, stream)

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        """Copy to the device."""
        check_contiguous(source)
        doing = f"copying {source.nbytes} bytes to it"
        self._do(doing, self._cuda.cuMemcpyHtoDAsync, address, source.ctypes.data, source.nbytes, stream)

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        """Copy from the device."""
        check_contiguous(target)
        doing = f"copying {target.nbytes} bytes from it"
        self._do(doing, self._cuda.cuMemcpyDtoHAsync, target.ctypes.data, address, target.nbytes, stream)

    def fill(self, address: int, value: int, size: int, stream: Any) -> None:
        """Set bytes."""
        self._do(f"setting {size} bytes", self._cuda.cuMemsetD8Async, address, value, size, stream)

    def synchronise(self, stream: Any) -> None:
        """Wait for a stream, without the GIL."""
        self._do("waiting for its work", self._cuda.cuStreamSynchronize, stream)

    def begin_capture(self, stream: Any) -> None:
        """Record; other threads may go on to allocate meanwhile, which in CUDA's default mode would spoil it."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._do("beginning to record a graph", self._cuda.cuStreamBeginCapture, stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Make an executable graph of what was recorded."""
        graph = self._do("recording a graph", self._cuda.cuStreamEndCapture, stream)
        try:
            return self._do("making a graph ready", self._cuda.cuGraphInstantiate, graph, 0)
        finally:
            self._cuda.cuGraphDestroy(graph)

    def launch_graph(self, graph: Any, stream: Any) -> None:
        """Launch a graph."""
        self._do("launching a graph", self._cuda.cuGraphLaunch, graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Destroy a graph."""
        self._do("destroying a graph", self._cuda.cuGraphExecDestroy, graph)

    def compile_kernel(self, source: str, name: str) -> Any:
        """Compile by NVRTC, and load."""
        image = compile_source(source, self.gpu.compute_capability, name)
        try:
            module = self._do(f"loading {name}", self._cuda.cuModuleLoadData, image)
            self._modules.append(module)
            return self._do(f"looking for {name}", self._cuda.cuModuleGetFunction, module, name.encode())
        except DeviceLost:
            raise
        except EngineError as error:
            raise EngineBuildError(f"the driver refused the compiled kernel: {error}") from error

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: Any,
    ) -> None:
        """Start a kernel; CUDA copies the arguments before the call returns."""
        values = [np.array(argument) for argument in arguments]
        places = np.array([value.ctypes.data for value in values], np.uint64)
        self._do(
            "launching a kernel", self._cuda.cuLaunchKernel, kernel, *grid, *block, 0, stream, places.ctypes.data, 0
        )

    def create_event(self) -> Any:
        """Create an event with timing."""
        flag = int(self._cuda.CUevent_flags.CU_EVENT_DEFAULT)
        return self._do("creating an event", self._cuda.cuEventCreate, flag)

    def record(self, event: Any, stream: Any) -> None:
        """Record an event."""
        self._do("recording an event", self._cuda.cuEventRecord, event, stream)

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Return the time between two events."""
        return float(self._do("measuring time", self._cuda.cuEventElapsedTime, first, second))

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes."""
        free, total = self._do("asking for its memory", self._cuda.cuMemGetInfo)
        return int(free), int(total)

    def close(self) -> None:
        """Unload the kernels and release the context, which this thread then has no more."""
        self.activate()
        while self._modules:
            self._do("unloading a kernel", self._cuda.cuModuleUnload, self._modules.pop())
        self._do("letting the context go", self._cuda.cuCtxSetCurrent, None)
        self._do("releasing the context", self._cuda.cuDevicePrimaryCtxRelease, self._device)
