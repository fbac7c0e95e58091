"""A stand-in for the module `cuda.bindings.driver`: as far as the project calls it, over a FakeGpu.

Each function returns a tuple that begins with its CUresult, as cuda-python's do.
"""

from __future__ import annotations

import ctypes
import enum
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.engines.cuda.fake_gpu import (
    ERRORS,
    INVALID_HANDLE,
    INVALID_VALUE,
    NOT_FOUND,
    NOT_READY,
    CudaError,
    FakeGpu,
    Graph,
)

CUresult = enum.IntEnum("CUresult", {name: code for code, (name, _) in ERRORS.items()})  # type: ignore[misc]


class CUstream_flags(enum.IntEnum):  # noqa: N801
    CU_STREAM_DEFAULT = 0
    CU_STREAM_NON_BLOCKING = 1


class CUevent_flags(enum.IntEnum):  # noqa: N801
    CU_EVENT_DEFAULT = 0


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


def cuda_python(gpus: list[FakeGpu]) -> types.ModuleType:
    """Return a module over these devices."""
    return _Module(gpus)


class _Module(types.ModuleType):
    CUresult = CUresult
    CUstream_flags = CUstream_flags
    CUevent_flags = CUevent_flags
    CUstreamCaptureMode = CUstreamCaptureMode
    CU_MEMHOSTALLOC_PORTABLE = 1

    def __init__(self, gpus: list[FakeGpu]) -> None:
        super().__init__("cuda.bindings.driver")
        self._gpus = gpus
        self._events: dict[int, float | None] = {}
        self._functions: dict[int, str] = {}

    def _gpu(self) -> FakeGpu:
        """The device whose context is current on this thread, else the first, which then refuses."""
        current = [gpu for gpu in self._gpus if gpu.current_context() == gpu.context]
        return current[0] if current else self._gpus[0]

    def _of(self, handle: int) -> FakeGpu:
        """The device of a stream."""
        return next((gpu for gpu in self._gpus if handle in gpu.streams), self._gpu())

    @staticmethod
    def _answer(call: Callable[[], Any]) -> tuple[Any, ...]:
        try:
            result = call()
        except CudaError as error:
            return (CUresult(error.code), None)
        return (
            (CUresult(0),)
            if result is None
            else (CUresult(0), *result)
            if isinstance(result, tuple)
            else (CUresult(0), result)
        )

    # device and context

    def cuInit(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return (CUresult(0),)

    def cuDeviceGet(self, index: int) -> tuple[Any, ...]:  # noqa: N802
        return (CUresult(0), index)

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        def retain() -> int:
            self._gpus[device].check(context=False)
            self._gpus[device].retained += 1
            return self._gpus[device].context

        return self._answer(retain)

    def cuDevicePrimaryCtxRelease(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        self._gpus[device].retained -= 1
        return (CUresult(0),)

    def cuCtxGetCurrent(self) -> tuple[Any, ...]:  # noqa: N802
        current = [gpu.current_context() for gpu in self._gpus if gpu.current_context()]
        return (CUresult(0), current[0] if current else 0)

    def cuCtxSetCurrent(self, context: int | None) -> tuple[Any, ...]:  # noqa: N802
        for gpu in self._gpus:
            gpu.set_current(context if context == gpu.context else 0)
        return (CUresult(0),)

    # memory

    def cuMemAlloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._gpu().allocate(size))

    def cuMemFree(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._gpu().free(int(address)))

    def cuMemHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._gpu().allocate_pinned(size))

    def cuMemFreeHost(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._gpu().free_pinned(int(address)))

    def cuMemGetInfo(self) -> tuple[Any, ...]:  # noqa: N802
        def info() -> tuple[int, int]:
            gpu = self._gpu()
            gpu.check()
            return gpu.gpu.memory_bytes - gpu.used, gpu.gpu.memory_bytes

        return self._answer(info)

    def cuMemcpyHtoDAsync(self, address: int, source: int, size: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).upload(int(address), int(source), size, int(stream)))

    def cuMemcpyDtoHAsync(self, target: int, address: int, size: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).download(int(target), int(address), size, int(stream)))

    def cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).fill(int(address), value, size, int(stream)))

    # streams and graphs

    def cuStreamCreate(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        if flags != CUstream_flags.CU_STREAM_NON_BLOCKING:
            return (CUresult(INVALID_VALUE), None)  # the project never wants one that waits for the default stream
        return self._answer(lambda: self._gpu().create_stream())

    def cuStreamDestroy(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).destroy_stream(int(stream)))

    def cuStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).synchronise(int(stream)))

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).begin_capture(int(stream)))

    def cuStreamEndCapture(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._keep(self._of(stream).end_capture(int(stream))))

    def cuGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._keep(Graph(self._gpu().graph(graph).steps)))

    def cuGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._of(stream).launch_graph(self._of(stream).graph(graph), int(stream)))

    def cuGraphDestroy(self, graph: int) -> tuple[Any, ...]:  # noqa: N802
        owner = next((gpu for gpu in self._gpus if graph in gpu.graphs), None)
        if owner is None:
            return (CUresult(INVALID_HANDLE),)
        del owner.graphs[graph]  # also where the device is lost: it is gone then
        return self._answer(lambda: owner.check())

    cuGraphExecDestroy = cuGraphDestroy  # noqa: N815

    @property
    def _graphs(self) -> dict[int, Graph]:
        """All that have not been destroyed."""
        return {handle: graph for gpu in self._gpus for handle, graph in gpu.graphs.items()}

    def _keep(self, graph: Graph) -> int:
        gpu = self._gpu()
        handle = gpu.new_handle()
        gpu.graphs[handle] = graph
        return handle

    # kernels

    def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:  # noqa: N802
        def load() -> int:
            self._gpu().check()
            if image[:4] != b"\x7fELF" and b".version" not in image:
                raise CudaError(INVALID_VALUE, "neither a cubin nor PTX")
            handle = self._gpu().new_handle()
            self._gpu().modules.add(handle)
            return handle

        return self._answer(load)

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple[Any, ...]:  # noqa: N802
        def find() -> int:
            gpu = self._gpu()
            if name.decode() not in gpu.kernels:
                raise CudaError(NOT_FOUND, name.decode())
            handle = gpu.new_handle()
            self._functions[handle] = name.decode()
            return handle

        return self._answer(find)

    def cuModuleUnload(self, module: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer(lambda: self._gpu().modules.remove(module))

    def cuLaunchKernel(self, function: int, *rest: Any) -> tuple[Any, ...]:  # noqa: N802
        *shape, _shared, stream, parameters, _extra = rest
        grid, block = tuple(shape[:3]), tuple(shape[3:6])

        def launch() -> None:
            gpu = self._of(stream)
            name = self._functions[function]
            kernel_types = gpu.kernels[name].types
            places = (ctypes.c_void_p * len(kernel_types)).from_address(int(parameters))
            values = [kind.from_address(place or 0).value for kind, place in zip(kernel_types, places, strict=True)]
            gpu.launch(name, grid, block, values, int(stream))

        return self._answer(launch)

    # events

    def cuEventCreate(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        def create() -> int:
            self._gpu().check()
            handle = self._gpu().new_handle()
            self._events[handle] = None
            return handle

        return self._answer(create)

    def cuEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        def note() -> None:
            self._events[event] = time.perf_counter()

        return self._answer(lambda: self._of(stream).stream(int(stream)).put(note))

    def cuEventElapsedTime(self, first: int, second: int) -> tuple[Any, ...]:  # noqa: N802
        start, end = self._events[first], self._events[second]
        if start is None or end is None:
            return (CUresult(NOT_READY), None)
        return (CUresult(0), float(np.float32((end - start) * 1000)))

    def cuEventDestroy(self, event: int) -> tuple[Any, ...]:  # noqa: N802
        return (CUresult(INVALID_HANDLE if self._events.pop(event, 0) == 0 else 0),)
