"""Lane: what one request in flight needs, taken once for the largest batch and used again and again.

A stream, memory for pictures and outputs on the device and page-locked on the host, scratch memory, and execution
contexts. A lane runs one request at a time; several lanes make copies and computing overlap.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import DeviceLost, EngineError
from engines.tensorrt.graphs import Contexts, Recording, Shaped, Shapes, Work
from engines.tensorrt.memory import FrameMemory, Mirrored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.cuda.layer import Bytes, Cuda
    from engines.cuda.letterbox import GpuLetterbox
    from engines.engine import Batch, Outputs, Uncut
    from engines.tensorrt.loaded_plan import LoadedPlan
    from engines.tensorrt.plan_context import PlanContext


class Lane:
    """One request at a time. Each method needs the GPU's context to be current."""

    def __init__(self, plan: LoadedPlan, cuda: Cuda, recording: Recording, letterbox: GpuLetterbox | None) -> None:
        """Take everything, or nothing.

        Raises:
            EngineError: no memory; DeviceLost.
        """
        self._plan = plan
        self._cuda = cuda
        self._letterbox = letterbox
        self._tensors: dict[str, Mirrored] = {}
        self._outputs: tuple[str, ...] = ()
        self._shapes: Shapes = {}
        self._in_flight = False
        with ExitStack() as taken:
            self._stream = cuda.create_stream()
            taken.callback(cuda.destroy_stream, self._stream)
            for name, shape in plan.largest.items():
                self._tensors[name] = Mirrored(cuda, max(plan.bytes_of(name, shape), 1))
                taken.callback(self._tensors[name].release)
            self._scratch = cuda.allocate(max(plan.scratch_bytes, 1))
            taken.callback(cuda.release, self._scratch)
            self._frames = FrameMemory(cuda)
            taken.callback(self._frames.release)
            self._contexts = Contexts(self._create_context, recording, cuda, self._stream)
            taken.callback(self._contexts.release)
            self._taken = taken.pop_all()

    def _create_context(self) -> PlanContext:
        context = self._plan.create_context()
        try:
            context.use(self._scratch, {name: memory.device for name, memory in self._tensors.items()})
        except BaseException:
            context.release()
            raise
        return context

    def start(self, part: Batch | Sequence[Uncut], outputs: tuple[str, ...]) -> None:
        """Start on a batch, or on whole frames; both may be used again at once.

        Args:
            part: at most as many pictures as the plan takes.
            outputs: what is to be copied back.

        Raises:
            EngineError: nothing is in flight then; DeviceLost.
        """
        self._wait()  # only after an interrupt between a start and its end
        self._in_flight = True
        try:
            self._start(part, outputs)
        except DeviceLost:
            raise
        except BaseException:
            self._wait()  # also tells whether the device is lost
            raise

    def _wait(self) -> None:
        if self._in_flight:
            self._cuda.synchronise(self._stream)
            self._in_flight = False

    def _start(self, part: Batch | Sequence[Uncut], outputs: tuple[str, ...]) -> None:
        shaped = self._contexts.of(len(part))
        self._shapes, self._outputs = shaped.shapes, outputs
        work = Work(upload=isinstance(part, np.ndarray), outputs=outputs)
        graph = self._contexts.graph(shaped, work, lambda: self._enqueue(shaped, work))
        self._put(part)
        if graph is None:
            self._enqueue(shaped, work)
            shaped.has_run = True
        else:
            self._cuda.launch_graph(graph, self._stream)

    def _put(self, part: Batch | Sequence[Uncut]) -> None:
        """Put pictures where the work finds them: on the host, or, cut out of frames, on the device."""
        pictures = self._tensors[self._plan.input]
        if isinstance(part, np.ndarray):
            np.copyto(pictures.host[: part.size].reshape(part.shape), part)
            return
        assert self._letterbox is not None
        size = self._plan.input_size
        places = self._frames.upload(part, self._stream)
        for number, (place, frame) in enumerate(zip(places, part, strict=True)):
            target = pictures.device + number * size[0] * size[1] * 3
            self._letterbox.cut(place, frame, target, size, self._stream)

    def _enqueue(self, shaped: Shaped, work: Work) -> None:
        if work.upload:
            self._cuda.upload(self._device_of(self._plan.input), self._host_of(self._plan.input), self._stream)
        shaped.context.run(self._cuda.handle_of(self._stream))
        for name in work.outputs:
            self._cuda.download(self._host_of(name), self._device_of(name), self._stream)

    def _device_of(self, name: str) -> int:
        return self._tensors[name].device

    def _host_of(self, name: str) -> Bytes:
        """Return the part of a tensor's host memory that this many pictures use."""
        return self._tensors[name].host[: self._plan.bytes_of(name, self._shapes[name])]

    def collect(self) -> Outputs:
        """Wait, and return the outputs of what was started, in arrays of their own.

        Raises:
            EngineError: it failed; DeviceLost.
        """
        self._wait()
        copied = {
            name: self._host_of(name).view(self._plan.types[name]).reshape(self._shapes[name]).copy()
            for name in self._outputs
        }
        return self._plan.wanted.given(copied, self._shapes)

    @property
    def bytes_used(self) -> tuple[int, int]:
        """Device memory, and page-locked host memory; without frames, and without what TensorRT keeps for itself."""
        tensors = sum(memory.size for memory in self._tensors.values())
        return tensors + self._plan.scratch_bytes, tensors

    def release(self) -> None:
        """Wait for what is in flight and give everything back; a lost device takes it along."""
        with contextlib.suppress(EngineError):
            self._wait()
        with contextlib.suppress(EngineError):
            self._taken.close()
