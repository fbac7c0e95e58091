"""FakeGpu: a GPU made of host memory, with real asynchrony: each stream is a queue that a thread of its own works off.

So whoever reads a result before he has synchronised, uses pinned memory again too early, or gives back what is still
in use, is found out. Addresses are addresses of this process: a function that runs on a stream can use them. How to
use it: see `fake_driver`.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engines.cuda.driver import Gpu

Bytes = npt.NDArray[np.uint8]
Work = Callable[[], None]

INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_HANDLE = 1, 2, 201, 400
NOT_FOUND, NOT_READY, ILLEGAL_ADDRESS, LAUNCH_FAILED = 500, 600, 700, 719
CAPTURE_INVALIDATED, CAPTURE_UNMATCHED = 901, 903
ERRORS = {
    0: ("CUDA_SUCCESS", "no error"),
    INVALID_VALUE: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    OUT_OF_MEMORY: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    INVALID_CONTEXT: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    INVALID_HANDLE: ("CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"),
    NOT_FOUND: ("CUDA_ERROR_NOT_FOUND", "named symbol not found"),
    NOT_READY: ("CUDA_ERROR_NOT_READY", "device not ready"),
    214: ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"),
    ILLEGAL_ADDRESS: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    LAUNCH_FAILED: ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
    CAPTURE_INVALIDATED: (
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        "operation failed due to a previous error during capture",
    ),
    CAPTURE_UNMATCHED: ("CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "the capture was not initiated in this stream"),
    999: ("CUDA_ERROR_UNKNOWN", "unknown error"),
}
"""What the driver calls its codes, and its texts."""
DEAD = 0xDD
"""What memory is filled with when it is given back."""
PATIENCE_S = 20.0
"""Nothing in a test takes this long: who waits longer, waits for a stream that a test has paused and forgotten."""


class CudaError(Exception):
    """A call failed with a CUDA code; raised on a stream, the device is lost with it."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{ERRORS[code][0]}: {why}")
        self.code = code


@dataclass
class Graph:
    """What was captured."""

    steps: list[Work]
    launches: int = 0


@dataclass
class Kernel:
    """A kernel on the host: `run(grid, block, *arguments)`, and the arguments' types for who packs them."""

    types: tuple[type[ctypes._SimpleCData], ...]  # type: ignore[type-arg]
    run: Callable[..., None]


@dataclass
class Stream:
    """A queue and its thread."""

    handle: int
    gpu: FakeGpu
    captured: list[Work] | None = None
    """What is recorded while it is being captured."""
    left: int = 0
    """How much is waiting or being done."""
    _queue: queue.SimpleQueue[Work | None] = field(default_factory=queue.SimpleQueue)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, name=f"fake stream {self.handle}", daemon=True).start()

    def put(self, work: Work) -> None:
        """Add work, or record it."""
        if self.captured is not None:
            self.captured.append(work)
            return
        with self._changed:
            self.left += 1
        self._queue.put(work)

    def wait(self) -> None:
        """Until nothing is left."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.left == 0, PATIENCE_S):
                raise AssertionError("waited for a stream that does not get on: is it paused?")

    def end(self) -> None:
        """Let the thread go once the queue is empty."""
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            self.gpu.running.wait(PATIENCE_S)
            if self.gpu.delay_s:
                time.sleep(self.gpu.delay_s)
            try:
                if not self.gpu.lost:
                    work()
            except CudaError as error:
                self.gpu.failures.append(error)
                self.gpu.lose(error.code)
            except Exception as error:  # a kernel that crashes takes the context with it
                self.gpu.failures.append(error)
                self.gpu.lose(LAUNCH_FAILED)
            with self._changed:
                self.left -= 1
                self._changed.notify_all()


class FakeGpu:
    """A device; see the module. `problems()` must be empty when everything has been closed."""

    def __init__(self, index: int = 0, memory_bytes: int = 1 << 30, compute_capability: str = "8.9") -> None:
        self.gpu = Gpu(index, f"Fake GPU {index}", compute_capability, memory_bytes, "580.65.06")
        self.context = 0xC0DE00 + index
        """Handle of the primary context."""
        self.retained = 0
        self.kernels: dict[str, Kernel] = {}
        """What `cuModuleGetFunction` finds; `host_kernels.letterbox_kernels()` makes some."""
        self.launched: list[tuple[str, tuple[int, int, int], tuple[int, int, int]]] = []
        """Name, grid and block of every kernel started."""
        self.delay_s = 0.0
        """How long each piece of work waits before it is done."""
        self.lost = 0
        """The code that every call gives from now on; 0: all is well."""
        self.failures: list[Exception] = []
        """What went wrong on streams."""
        self.running = threading.Event()
        self.running.set()
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, Graph] = {}
        self.modules: set[int] = set()
        """What has been loaded, by handle."""
        self.most_used = 0
        self._complaints: list[str] = []
        self._device: dict[int, Bytes] = {}
        self._pinned: dict[int, Bytes] = {}
        self._buried: list[Bytes] = []  # kept, so that a late access does not crash the test
        self._lock = threading.RLock()
        self._handles = itertools.count(0x5000, 16)
        self.current = threading.local()
        """`.stack`: the driver's stack of contexts of each thread."""

    # for those who test with it

    def enqueue(self, handle: int, work: Work) -> None:
        """Put `work` on the stream of that handle, or record it where the stream is being captured."""
        self.stream(handle).put(work)

    def memory(self, address: int, size: int) -> Bytes:
        """Return a view of device memory; a range not wholly inside one live allocation is an illegal address."""
        return self._within(self._device, address, size, "device")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """All streams stand still inside; whoever synchronises waits."""
        self.running.clear()
        try:
            yield
        finally:
            self.running.set()

    def lose(self, code: int = ILLEGAL_ADDRESS) -> None:
        """From now on every call gives `code`, as after a kernel that has crashed; nothing is run any more."""
        self.lost = self.lost or code

    @property
    def used(self) -> int:
        """Bytes of device memory in use."""
        with self._lock:
            return sum(len(memory) for memory in self._device.values())

    def problems(self) -> list[str]:
        """Return what was not given back, and what was given back too early."""
        with self._lock:
            kept = [f"{len(memory)} bytes at {address:#x} not freed" for address, memory in self._device.items()]
            kept += [f"{len(memory)} pinned bytes not freed" for memory in self._pinned.values()]
            kept += [f"stream {handle:#x} not destroyed" for handle in self.streams]
            kept += [f"graph {handle:#x} not destroyed" for handle in self.graphs]
            kept += [f"module {handle:#x} not unloaded" for handle in self.modules]
            if self.retained:
                kept.append(f"primary context retained {self.retained} times too often")
            return kept + self._complaints

    def complain(self, text: str) -> None:
        """Note something that CUDA lets pass, and the project must not do."""
        self._complaints.append(text)

    # for the modules over it

    def check(self, *, context: bool = True) -> None:
        """Fail as each call does on a lost device, or without a context."""
        if self.lost:
            raise CudaError(self.lost, "the device is lost")
        if context and (self.current_context() != self.context or not self.retained):
            raise CudaError(INVALID_CONTEXT, f"no context is current on {threading.current_thread().name}")

    @property
    def stack(self) -> list[int]:
        """The driver's stack of contexts of this thread."""
        if not hasattr(self.current, "stack"):
            self.current.stack = []
        stack: list[int] = self.current.stack
        return stack

    def current_context(self) -> int:
        """Return the context on top; 0: none."""
        return self.stack[-1] if self.stack else 0

    def set_current(self, context: int) -> None:
        """As cuCtxSetCurrent: replaces the top, and 0 pops it."""
        if self.stack:
            self.stack.pop()
        if context:
            self.stack.append(context)

    def allocate(self, size: int) -> int:
        """Return the address of new device memory, full of rubbish."""
        self.check()
        if size <= 0:
            raise CudaError(INVALID_VALUE, f"{size} bytes")
        if self.used + size > self.gpu.memory_bytes:
            raise CudaError(OUT_OF_MEMORY, f"{size} bytes")
        address = self._new(self._device, size)
        self.most_used = max(self.most_used, self.used)
        return address

    def free(self, address: int) -> None:
        """Give device memory back."""
        self.check()
        self._bury(self._device, address)

    def allocate_pinned(self, size: int) -> int:
        """Return the address of new pinned memory."""
        self.check()
        return self._new(self._pinned, size)

    def free_pinned(self, address: int) -> None:
        """Give pinned memory back."""
        self.check()
        self._bury(self._pinned, address)

    def create_stream(self) -> int:
        """Start a stream."""
        self.check()
        handle = self.new_handle()
        self.streams[handle] = Stream(handle, self)
        return handle

    def stream(self, handle: int) -> Stream:
        """Return the stream; CUDA_ERROR_INVALID_HANDLE where there is none."""
        self.check()
        if handle not in self.streams:
            raise CudaError(INVALID_HANDLE, f"stream {handle:#x}")
        return self.streams[handle]

    def destroy_stream(self, handle: int) -> None:
        """End a stream."""
        stream = self.stream(handle)
        if stream.left:
            self.complain(f"stream {handle:#x} was destroyed with {stream.left} pieces of work in flight")
        del self.streams[handle]
        stream.end()

    def synchronise(self, handle: int) -> None:
        """Wait for a stream."""
        self.stream(handle).wait()
        self.check()

    def upload(self, address: int, source: int, size: int, handle: int) -> None:
        """Copy to the device: pageable memory is read at once, pinned memory when the stream has come so far."""
        stream = self.stream(handle)
        if self._is_pinned(source):
            stream.put(lambda: self._copy(self.memory(address, size), self._pinned_memory(source, size)))
        else:
            data = host_memory(source, size).copy()
            stream.put(lambda: self._copy(self.memory(address, size), data))

    def download(self, target: int, address: int, size: int, handle: int) -> None:
        """Copy from the device: into pageable memory at once, into pinned memory when the stream has come so far."""
        stream = self.stream(handle)
        if self._is_pinned(target):
            stream.put(lambda: self._copy(self._pinned_memory(target, size), self.memory(address, size)))
            return
        if stream.captured is not None:
            raise CudaError(CAPTURE_INVALIDATED, "pageable memory in a capture")
        self.synchronise(handle)
        self._copy(host_memory(target, size), self.memory(address, size))

    def fill(self, address: int, value: int, size: int, handle: int) -> None:
        """Set bytes."""
        self.stream(handle).put(lambda: self.memory(address, size).fill(value))

    def launch(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], values: list[int | float], handle: int
    ) -> None:
        """Start a kernel with copies of its arguments."""
        kernel = self.kernels[name]
        self.launched.append((name, grid, block))
        self.stream(handle).put(lambda: kernel.run(grid, block, *values))

    def begin_capture(self, handle: int) -> None:
        """Record from here on."""
        stream = self.stream(handle)
        if stream.left:
            self.complain("a capture began with work in flight")
        stream.captured = []

    def end_capture(self, handle: int) -> Graph:
        """Return what was recorded."""
        stream = self.stream(handle)
        if stream.captured is None:
            raise CudaError(CAPTURE_UNMATCHED, f"stream {handle:#x}")
        steps, stream.captured = stream.captured, None
        return Graph(steps)

    def graph(self, handle: int) -> Graph:
        """Return the graph; CUDA_ERROR_INVALID_HANDLE where there is none."""
        self.check()
        if handle not in self.graphs:
            raise CudaError(INVALID_HANDLE, f"graph {handle:#x}")
        return self.graphs[handle]

    def launch_graph(self, graph: Graph, handle: int) -> None:
        """Do what was recorded, one after another."""
        stream = self.stream(handle)
        graph.launches += 1
        for step in graph.steps:
            stream.put(step)

    def new_handle(self) -> int:
        """Return a number that no other handle has."""
        return next(self._handles)

    @staticmethod
    def _copy(target: Bytes, source: Bytes) -> None:
        target[:] = source

    def _new(self, kind: dict[int, Bytes], size: int) -> int:
        memory = np.full(size, DEAD, np.uint8)
        with self._lock:
            kind[memory.ctypes.data] = memory
        return memory.ctypes.data

    def _bury(self, kind: dict[int, Bytes], address: int) -> None:
        with self._lock:
            memory = kind.pop(address, None)
            if memory is None:
                self.complain(f"{address:#x} was freed that is not allocated")
                raise CudaError(INVALID_VALUE, f"{address:#x} is not allocated")
            memory.fill(DEAD)
            self._buried.append(memory)

    def _is_pinned(self, address: int) -> bool:
        with self._lock:
            return any(start <= address < start + len(memory) for start, memory in self._pinned.items())

    def _pinned_memory(self, address: int, size: int) -> Bytes:
        return self._within(self._pinned, address, size, "pinned")

    def _within(self, kind: dict[int, Bytes], address: int, size: int, what: str) -> Bytes:
        with self._lock:
            for start, memory in kind.items():
                if start <= address and address + size <= start + len(memory):
                    return memory[address - start : address - start + size]
        raise CudaError(ILLEGAL_ADDRESS, f"{size} bytes at {address:#x} are not in one live piece of {what} memory")


def host_memory(address: int, size: int) -> Bytes:
    """Return a view of any memory of this process."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
