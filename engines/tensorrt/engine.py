"""A TensorRT plan as an engine: several lanes in flight, nothing between the picture and the GPU but one copy.

A `submit` takes an idle lane, copies the pictures into the lane's page-locked memory and puts everything on its
stream: upload, run, download. `result` waits for that stream, copies the outputs out and gives the lane back. With
three lanes one can be loaded and one be read while the GPU works on the third.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from engines.cuda import driver as nvidia
from engines.cuda.letterbox import GpuLetterbox
from engines.engine import GPU_REQUESTS, Batch, EngineInfo, EngineOptions, Outputs, Uncut, check_batch
from engines.errors import DeviceLost, EngineBuildError, EngineError
from engines.tensorrt.flavour import Flavour, guard
from engines.tensorrt.graphs import Recording
from engines.tensorrt.lane import Lane
from engines.tensorrt.lanes import Lanes
from engines.tensorrt.loaded_plan import LoadedPlan
from engines.tensorrt.memory import check_frame, own
from engines.tensorrt.request import TensorRTRequest

if TYPE_CHECKING:
    from engines.cache.kept_kernels import KeptKernels
    from engines.cuda.layer import Cuda
    from engines.spec import ModelSpec

logger = logging.getLogger(__name__)


class TensorRTEngine:
    """A plan on a GPU; see `engines.engine.Engine` and `CutsFrames` for the methods.

    Each leaves the CUDA context of the thread that calls as it was, for whoever else uses CUDA there.

    Opening runs one picture and the largest batch on each lane. A number of pictures between them is new to a lane when
    it first comes: that request makes an execution context, and TensorRT-RTX compiles kernels for it unless an earlier
    one, or an earlier process, has. The second request of its kind (number, pictures or frames, outputs) on a lane then
    records the graph. To do all that at once would make every start as slow as all of them together, for groups that
    may never come.
    """

    def __init__(
        self,
        spec: ModelSpec,
        plan: bytes,
        flavour: Flavour,
        cuda: Cuda,
        options: EngineOptions,
        precision: str,
        origin: str,
        kernels: KeptKernels | None = None,
    ) -> None:
        """Load a plan and run it once: what cannot run fails here, and the first frame is as fast as the second.

        Args:
            spec: the model that the plan was built from.
            plan: as TensorRT wrote it, from a source that is trusted.
            flavour: which TensorRT wrote it.
            cuda: the GPU; the engine owns it from here on and closes it, also where this raises.
            options: of these `requests`, `candidates` and `cuda_graph` are used.
            precision: what the plan was built for, to be told.
            origin: where it came from, to be told.
            kernels: TensorRT-RTX: where what a run compiles is kept for the next process.

        Raises:
            BackendUnavailable: there is no driver.
            EngineStale: TensorRT refuses the plan: it is for another GPU or version, or damaged.
            EngineError: it cannot run, for want of memory as a rule; DeviceLost.
        """
        self._cuda = cuda
        self._closing = threading.Lock()
        with ExitStack() as thread, ExitStack() as opened:
            opened.callback(cuda.close)
            guard(flavour, nvidia.driver())
            thread.enter_context(cuda.active())
            self._plan = LoadedPlan(spec, plan, flavour, kernels)
            opened.callback(self._plan.release)
            self.input_size = self._plan.input_size
            self.batch = self._plan.most
            self.requests = options.requests or GPU_REQUESTS
            self._names = self._plan.wanted.everything if options.candidates is None else self._plan.wanted.best
            letterbox = self._letterbox()
            self.cuts_frames = letterbox is not None
            recording = Recording(options.cuda_graph and cuda.has_graphs)
            lanes = [self._lane(recording, letterbox, opened) for _ in range(self.requests)]
            self._plan.keep_kernels()  # a process that is killed later has done this work for the next
            self._lanes = Lanes(lanes)
            opened.callback(self._keep_kernels)
            self._opened = opened.pop_all()
        self._info = EngineInfo(
            model=spec.name,
            backend=flavour.backend,
            version=flavour.version,
            device=f"{cuda.gpu.name} (cuda:{cuda.gpu.index})",
            precision=precision,
            threads=0,
            requests=self.requests,
            input_shape=(None if self.batch > 1 else 1, *self.input_size, 3),
            origin=origin,
        )
        on_device, pinned = (size / 2**20 for size in lanes[0].bytes_used)
        sizes = f"{on_device:.1f} MiB on the GPU and {pinned:.1f} MiB of page-locked memory"
        how = f"{cuda.name}{', CUDA graphs' if recording.on else ''}"
        logger.info("%s: %d lanes, each with %s, by %s", spec.name, self.requests, sizes, how)

    def _keep_kernels(self) -> None:
        if not self._lanes.lost:
            self._plan.keep_kernels()

    def _letterbox(self) -> GpuLetterbox | None:
        try:
            return GpuLetterbox(self._cuda)
        except EngineBuildError as reason:
            logger.info("frames are cut on the CPU: %s", reason)
            return None

    def _lane(self, recording: Recording, letterbox: GpuLetterbox | None, opened: ExitStack) -> Lane:
        lane = Lane(self._plan, self._cuda, recording, letterbox)
        opened.callback(lane.release)
        for count in {1, self.batch}:
            lane.start(np.zeros((count, *self.input_size, 3), np.uint8), self._names)
            lane.collect()
        return lane

    def infer(self, batch: Batch) -> Outputs:
        """Run the model; more pictures than the plan takes at once are run in parts."""
        check_batch(batch, self._info.input_shape)
        return self._start(batch, self._plan.wanted.everything).result()

    def submit(self, batch: Batch) -> TensorRTRequest:
        """Start the model on a copy of the batch; parts after the first are run when the result is asked for."""
        check_batch(batch, self._info.input_shape)
        return self._start(batch, self._names)

    def submit_frames(self, frames: Sequence[Uncut]) -> TensorRTRequest:
        """Start the model on what the GPU cuts out of copies of the frames.

        Raises:
            ValueError: a frame's planes do not belong together, or there is none.
            EngineError: `cuts_frames` is False.
        """
        if not self.cuts_frames:
            raise EngineError("this engine cannot cut frames on the GPU (the log says why): give it pictures")
        if not frames:
            raise ValueError("a request needs at least one frame")
        for frame in frames:
            check_frame(frame, self.input_size)
        return self._start(frames, self._names)

    def _start(self, pictures: Batch | Sequence[Uncut], names: tuple[str, ...]) -> TensorRTRequest:
        """Start on the first part. A request never takes a second lane: two that wait for each other's would hang."""
        most = self.batch
        lane = self._lanes.take()
        try:
            waiting = deque(own(pictures[first : first + most]) for first in range(most, len(pictures), most))
            with self._cuda.active():
                lane.start(pictures[:most], names)
        except BaseException as error:
            if isinstance(error, DeviceLost):
                self._lanes.end(error)
            self._lanes.give_back(lane)
            raise
        request = TensorRTRequest(lane, self._lanes, waiting, names, self._cuda)
        self._lanes.fly(lane, request)
        return request

    def describe(self) -> EngineInfo:
        """Say what this engine is."""
        return self._info

    def close(self) -> None:
        """Wait for what is in flight, which keeps its results; a `submit` that waits, or comes later, is refused."""
        self._lanes.end(EngineError("the engine is closed"))
        with self._closing, ExitStack() as thread:
            self._lanes.settle()
            with contextlib.suppress(EngineError):  # nothing can be given back to a device that is gone
                thread.enter_context(self._cuda.active())
            with contextlib.suppress(EngineError):
                self._opened.close()
