"""A plan alone: pictures are on the GPU from the beginning, outputs stay there, and nothing but the plan is run.

What comes of it is the most that anything around the plan can reach on this GPU.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from engines.cuda.layer import Cuda, Graph
    from engines.engine import Batch
    from engines.tensorrt.loaded_plan import LoadedPlan
    from engines.tensorrt.plan_context import PlanContext

AHEAD = 8
"""Runs put on a stream at a time: the GPU never waits for Python, and Python not long for the GPU."""


class Bare:
    """Several streams that run one plan on the same number of pictures each; as `gpu_timing.Work`."""

    def __init__(
        self, plan: LoadedPlan, cuda: Cuda, pictures: Batch, lanes: int, *, graphs: bool, ahead: int = AHEAD
    ) -> None:
        """Load the pictures; the context must be current, also for everything else here.

        Args:
            plan: what is run.
            cuda: where.
            pictures: N x H x W x 3 uint8.
            lanes: how many streams.
            graphs: whether a run is recorded and launched as a CUDA graph.
            ahead: runs that are put on a stream at a time.
        """
        self._cuda, self._count, self._ahead, self._next = cuda, len(pictures), ahead, 0
        with ExitStack() as opened:
            self._lanes = [_Lane(plan, cuda, pictures, graphs, opened) for _ in range(lanes)]
            self._opened = opened.pop_all()

    def step(self) -> int:
        """Wait until the next stream has nothing left, and put runs on it; return how many pictures those are."""
        lane = self._lanes[self._next]
        self._next = (self._next + 1) % len(self._lanes)
        self._cuda.synchronise(lane.stream)
        for _ in range(self._ahead):
            lane.run()
        return self._ahead * self._count

    def finish(self) -> None:
        """Wait for all streams."""
        for lane in self._lanes:
            self._cuda.synchronise(lane.stream)

    def close(self) -> None:
        """Give everything back."""
        with contextlib.ExitStack() as last:
            last.callback(self._opened.close)
            self.finish()


class _Lane:
    """A stream with memory and a context of its own."""

    def __init__(self, plan: LoadedPlan, cuda: Cuda, pictures: Batch, graphs: bool, opened: ExitStack) -> None:
        self._cuda = cuda
        self.stream = cuda.create_stream()
        opened.callback(cuda.destroy_stream, self.stream)
        addresses = {name: self._taken(plan.bytes_of(name, shape), opened) for name, shape in plan.largest.items()}
        scratch = self._taken(plan.scratch_bytes, opened)
        self._context: PlanContext = plan.create_context()
        opened.callback(self._context.release)
        self._context.use(scratch, addresses)
        self._context.set_count(len(pictures))
        cuda.upload(addresses[plan.input], np.ascontiguousarray(pictures), self.stream)
        self._start()  # TensorRT wants a run with a shape before it may be recorded
        cuda.synchronise(self.stream)
        self._graph: Graph | None = self._recorded(opened) if graphs else None

    def _taken(self, size: int, opened: ExitStack) -> int:
        address = self._cuda.allocate(max(size, 1))
        opened.callback(self._cuda.release, address)
        return address

    def _recorded(self, opened: ExitStack) -> Any:
        self._cuda.begin_capture(self.stream)
        try:
            self._start()
        finally:
            graph = self._cuda.end_capture(self.stream)
            opened.callback(self._cuda.destroy_graph, graph)
        return graph

    def _start(self) -> None:
        self._context.run(self._cuda.handle_of(self.stream))

    def run(self) -> None:
        """Put one run on the stream."""
        if self._graph is None:
            self._start()
        else:
            self._cuda.launch_graph(self._graph, self.stream)
