"""Stand-ins for `pycuda.driver`, `pycuda.compiler` and libcuda, as far as the project calls them, over a FakeGpu.

What bites users of the real one bites here: objects are made in the context on top of pycuda's own stack of the
thread and are given back only while it is there, errors are nothing but text, and a thread that ends with something
on that stack brings the process down (here: a complaint).
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import types
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.cuda.fake_gpu import (
    ERRORS,
    LAUNCH_FAILED,
    NOT_READY,
    OUT_OF_MEMORY,
    CudaError,
    FakeGpu,
    host_memory,
)


class Error(Exception):
    """As pycuda's: only text."""


class LogicError(Error): ...


class LaunchError(Error): ...


class RuntimeError(Error): ...  # noqa: A001


class MemoryError(Error): ...  # noqa: A001


class CompileError(Error): ...


KINDS: dict[int, type[Error]] = {OUT_OF_MEMORY: MemoryError, LAUNCH_FAILED: LaunchError, 999: Error}


class Libcuda:
    """What ctypes gives for libcuda, with the functions that the adapter calls itself."""

    def __init__(self, gpus: list[FakeGpu]) -> None:
        self._gpus = gpus

    def cuCtxGetCurrent(self, out: Any) -> int:  # noqa: N802
        out._obj.value = next((gpu.current_context() for gpu in self._gpus if gpu.current_context()), None)
        return 0

    def cuCtxSetCurrent(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        for gpu in self._gpus:
            gpu.set_current(gpu.context if context.value == gpu.context else 0)
        return 0

    def cuGetErrorString(self, code: int, out: Any) -> int:  # noqa: N802
        if code not in ERRORS:
            return 1
        out._obj.value = ERRORS[code][1].encode()
        return 0


def pycuda(gpus: list[FakeGpu]) -> dict[str, types.ModuleType]:
    """Return the modules `pycuda`, `pycuda.driver` and `pycuda.compiler` over these devices."""
    package, driver, compiler = (types.ModuleType(name) for name in ("pycuda", "pycuda.driver", "pycuda.compiler"))
    stacks = _Stacks()

    class Device:
        def __init__(self, index: int) -> None:
            self._gpu = gpus[index]

        def retain_primary_context(self) -> Context:
            _guard("cuDevicePrimaryCtxRetain", lambda: self._gpu.check(context=False))
            self._gpu.retained += 1
            return Context(self._gpu, stacks)

    def current() -> FakeGpu:
        """The device of the driver's current context."""
        return next((gpu for gpu in gpus if gpu.current_context() == gpu.context), gpus[0])

    def of(stream: Stream) -> FakeGpu:
        return next((gpu for gpu in gpus if stream.handle in gpu.streams), current())

    def on_stack() -> Context:
        return stacks.top() or _raise(
            LogicError("explicit_context_dependent failed: invalid device context - no currently active context?")
        )

    def memcpy_htod_async(dest: int, src: Any, stream: Stream) -> None:
        array = np.asarray(src)
        _guard("cuMemcpyHtoDAsync", lambda: of(stream).upload(dest, array.ctypes.data, array.nbytes, stream.handle))

    def memcpy_dtoh_async(dest: Any, src: int, stream: Stream) -> None:
        array = np.asarray(dest)
        _guard("cuMemcpyDtoHAsync", lambda: of(stream).download(array.ctypes.data, src, array.nbytes, stream.handle))

    def memset_d8_async(dest: int, data: int, size: int, stream: Stream) -> None:
        _guard("cuMemsetD8Async", lambda: of(stream).fill(dest, data, size, stream.handle))

    def mem_get_info() -> tuple[int, int]:
        gpu = current()
        _guard("cuMemGetInfo", gpu.check)
        return gpu.gpu.memory_bytes - gpu.used, gpu.gpu.memory_bytes

    def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        assert mem_flags == driver.host_alloc_flags.PORTABLE
        allocation = PagelockedHostAllocation(on_stack(), shape)
        return allocation.array

    driver.__dict__.update(
        Error=Error, LogicError=LogicError, LaunchError=LaunchError, RuntimeError=RuntimeError, MemoryError=MemoryError,
        CompileError=CompileError, init=lambda flags=0: None, Device=Device, Context=Context,
        Stream=lambda flags=0: Stream(on_stack()), Event=lambda flags=0: Event(on_stack()),
        mem_alloc=lambda size: DeviceAllocation(on_stack(), size), pagelocked_empty=pagelocked_empty,
        host_alloc_flags=types.SimpleNamespace(PORTABLE=1), memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async, memset_d8_async=memset_d8_async, mem_get_info=mem_get_info,
        module_from_buffer=lambda buffer: Module(on_stack(), buffer),
    )  # fmt: skip
    compiler.__dict__.update(compile=_compile)
    package.__dict__.update(driver=driver, compiler=compiler, VERSION_TEXT="2026.1 (fake)")
    return {"pycuda": package, "pycuda.driver": driver, "pycuda.compiler": compiler}


def _raise(error: Exception) -> Any:
    raise error


def _guard(routine: str, call: Any) -> Any:
    """Call, and turn a code into pycuda's exception for it."""
    try:
        return call()
    except CudaError as error:
        raise KINDS.get(error.code, LogicError)(f"{routine} failed: {ERRORS[error.code][1]}") from error


class _Stacks:
    """pycuda's own stack of contexts of each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of_thread(self) -> list[Context]:
        if not hasattr(self._local, "stack"):
            self._local.stack = stack = _Stack()
            weakref.finalize(stack.owner, _ended_with, stack.contexts)
        contexts: list[Context] = self._local.stack.contexts
        return contexts

    def top(self) -> Context | None:
        stack = self.of_thread()
        return stack[-1] if stack else None


def _ended_with(left: list[Context]) -> None:
    for context in left:
        context.gpu.complain("a thread ended with a context on pycuda's stack: the process would abort")


class _Stack:
    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.owner = _Owner()


class _Owner:
    """Dies with the thread's local storage."""


class Context:
    """A retained primary context."""

    def __init__(self, gpu: FakeGpu, stacks: _Stacks) -> None:
        self.gpu, self._stacks, self.valid = gpu, stacks, True
        self.thread = threading.get_ident()

    def push(self) -> None:
        if self._stacks.of_thread():
            self.gpu.stack.pop()
        self.gpu.stack.append(self.gpu.context)
        self._stacks.of_thread().append(self)

    def pop(self) -> None:
        stack = self._stacks.of_thread()
        if not stack:
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        if self.gpu.lost:  # it fails before it has taken anything off its own stack
            _guard("cuCtxPopCurrent", lambda: self.gpu.check(context=False))
        stack.pop()
        if self.gpu.stack:
            self.gpu.stack.pop()
        if stack:
            self.gpu.stack.append(stack[-1].gpu.context)

    def detach(self) -> None:
        """Releases only where it is on top of this thread's stack, or on the thread that retained it; else it leaks."""
        stack = self._stacks.of_thread()
        if not self.valid:
            raise LogicError("context::detach failed: invalid device context - cannot detach from invalid context")
        on_top = bool(stack) and stack[-1] is self
        if on_top or self.thread == threading.get_ident():
            if not on_top:
                self.gpu.stack.append(self.gpu.context)
            self.gpu.retained -= 1
        self.valid = False
        if on_top:
            stack.pop()  # the driver's own stack keeps it

    def can_give_back(self) -> bool:
        """As scoped_context_activation: what is given back elsewhere is silently leaked."""
        return self.valid and (self._stacks.top() is self or self.thread == threading.get_ident())


class _Dependent:
    def __init__(self, context: Context) -> None:
        self._context = context


class Stream(_Dependent):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.handle = _guard("cuStreamCreate", context.gpu.create_stream)

    def synchronize(self) -> None:
        _guard("cuStreamSynchronize", lambda: self._context.gpu.synchronise(self.handle))

    def __del__(self) -> None:
        if hasattr(self, "handle") and self._context.can_give_back() and not self._context.gpu.lost:
            self._context.push()
            self._context.gpu.destroy_stream(self.handle)
            self._context.pop()


class DeviceAllocation(_Dependent):
    def __init__(self, context: Context, size: int) -> None:
        super().__init__(context)
        self._address = _guard("cuMemAlloc", lambda: context.gpu.allocate(size))

    def __int__(self) -> int:
        return int(self._address)

    def free(self) -> None:
        """A clean-up that fails is only printed by the real one."""
        if self._context.can_give_back() and not self._context.gpu.lost:
            self._context.gpu.free(self._address)


class PagelockedHostAllocation(_Dependent):
    def __init__(self, context: Context, size: int) -> None:
        super().__init__(context)
        self._address = _guard("cuMemHostAlloc", lambda: context.gpu.allocate_pinned(size))
        self.array = _Based(host_memory(self._address, size), self)

    def free(self) -> None:
        if self._context.can_give_back() and not self._context.gpu.lost:
            self._context.gpu.free_pinned(self._address)


def _Based(memory: Any, base: PagelockedHostAllocation) -> Any:  # noqa: N802
    """An array whose `base` is the allocation, as pycuda makes it."""
    array = memory.view(_Array)
    array.allocation = base
    return array


class _Array(np.ndarray[Any, Any]):
    allocation: PagelockedHostAllocation | None = None

    @property
    def base(self) -> Any:
        return self.allocation if self.allocation is not None else super().base


class Event(_Dependent):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.at: float | None = None

    def record(self, stream: Stream) -> Event:
        def note() -> None:
            self.at = time.perf_counter()

        _guard("cuEventRecord", lambda: self._context.gpu.stream(stream.handle).put(note))
        return self

    def time_since(self, other: Event) -> float:
        if self.at is None or other.at is None:
            _guard("cuEventElapsedTime", lambda: _raise(CudaError(NOT_READY, "events")))
        assert self.at is not None
        assert other.at is not None
        return (self.at - other.at) * 1000


class Module(_Dependent):
    def __init__(self, context: Context, buffer: bytes) -> None:
        super().__init__(context)
        assert buffer[:4] == b"\x7fELF"

    def get_function(self, name: str) -> Function:
        if name not in self._context.gpu.kernels:
            raise LogicError("cuModuleGetFunction failed: named symbol not found")
        return Function(self, name)


class Function:
    def __init__(self, module: Module, name: str) -> None:
        self._gpu, self._name, self._format = module._context.gpu, name, ""

    def prepare(self, arg_types: Sequence[Any]) -> Function:
        self._format = "".join(np.dtype(each).char for each in arg_types)
        return self

    def prepared_async_call(self, grid: Any, block: Any, stream: Stream, *args: Any) -> None:
        kernel = self._gpu.kernels[self._name]
        packed = struct.pack("@" + self._format, *args)
        format_ = "@" + "".join(str(getattr(each, "_type_")) for each in kernel.types)  # noqa: B009
        assert len(packed) == struct.calcsize(format_), f"{self._name} takes {format_}, not {self._format}"
        values = list(struct.unpack(format_, packed))
        _guard("cuLaunchKernel", lambda: self._gpu.launch(self._name, grid, block, values, stream.handle))


def _compile(source: str, *, no_extern_c: bool, arch: str, cache_dir: bool, nvcc: str = "nvcc") -> bytes:
    """Compile with the real nvcc where there is one, as the real one does."""
    if shutil.which(nvcc) is None:
        raise OSError(f"{nvcc} was not found (is it on the PATH?)")
    assert no_extern_c
    assert cache_dir is False
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernel.cu"
        place.write_text(source)
        command = [nvcc, "--cubin", "-arch", arch, place.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"nvcc compilation of {place} failed\n[stderr:\n{done.stderr}]")
        return place.with_suffix(".cubin").read_bytes()
