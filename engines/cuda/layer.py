"""Cuda: what this project needs of a GPU; cuda-python and pycuda each have a module that does it.

Everything happens in the device's primary context, which is retained and never created, so that TensorRT, torch and
others in the same process share it. Whoever calls must have called `activate` on the same thread before. Addresses are
plain integers; streams, events, graphs and kernels are whatever the library has for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu

Choice = Literal["auto", "cuda-python", "pycuda"]
Bytes = npt.NDArray[np.uint8]
Stream = Any
Event = Any
Graph = Any
Kernel = Any


class Cuda(Protocol):
    """One GPU. Any method raises `DeviceLost` once the device or its context is gone, `EngineError` else."""

    name: str
    """`cuda-python` or `pycuda`."""
    gpu: Gpu
    has_graphs: bool
    """Whether work can be captured and launched again as a whole."""

    def activate(self) -> None:
        """Make the primary context current on the calling thread; costs nothing where it is."""

    def active(self) -> AbstractContextManager[None]:
        """Let the primary context be current on the calling thread for a block, and after it what was before."""

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the device; EngineError says how much was free where it is full."""

    def release(self, address: int) -> None:
        """Give memory of `allocate` back."""

    def allocate_pinned(self, size: int) -> Bytes:
        """Return `size` bytes of page-locked host memory."""

    def release_pinned(self, memory: Bytes) -> None:
        """Give memory of `allocate_pinned` back; no view of it may be used any more."""

    def create_stream(self) -> Stream:
        """Return a stream that does not wait for the default one."""

    def handle_of(self, stream: Stream) -> int:
        """Return the stream as the integer that TensorRT takes."""

    def destroy_stream(self, stream: Stream) -> None:
        """Give it back; nothing may be in flight on it."""

    def upload(self, address: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """Copy a contiguous array to the device; asynchronous where it is pinned."""

    def download(self, target: npt.NDArray[Any], address: int, stream: Stream) -> None:
        """Copy from the device into a contiguous array; asynchronous where it is pinned."""

    def fill(self, address: int, value: int, size: int, stream: Stream) -> None:
        """Set `size` bytes."""

    def synchronise(self, stream: Stream) -> None:
        """Wait until everything on the stream is done; this is where a failed kernel is told."""

    def begin_capture(self, stream: Stream) -> None:
        """From here on, what is put on the stream is recorded instead of done."""

    def end_capture(self, stream: Stream) -> Graph:
        """Return what was recorded, ready to be launched."""

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        """Do what was recorded."""

    def destroy_graph(self, graph: Graph) -> None:
        """Give it back."""

    def compile_kernel(self, source: str, name: str) -> Kernel:
        """Compile CUDA C++ for this device and return the `extern "C"` function of that name.

        Raises:
            EngineBuildError: no compiler is installed, or it refuses the source; with the compiler's lines.
        """

    def launch(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: Stream,
    ) -> None:
        """Start a kernel; each argument is a numpy scalar of the parameter's type (addresses: np.uint64)."""

    def create_event(self) -> Event:
        """Return an event that measures time."""

    def record(self, event: Event, stream: Stream) -> None:
        """Note when the stream has come this far."""

    def elapsed_ms(self, first: Event, second: Event) -> float:
        """Return the milliseconds between two events that both have happened."""

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes of the device."""

    def close(self) -> None:
        """Let the primary context go; what was allocated must have been released."""
