"""How fast a detector is, from its plan alone to the whole pipeline: what each layer around the plan costs.

- bare: the plan is run again and again on pictures that are on the GPU; several streams.
- transfers: `submit` and `result` with pictures of the model's size in host memory, all requests in flight.
- frames: `submit_frames` with whole frames, which the GPU cuts.
- pipeline: a run on frames that were decoded ahead, detections delivered and counted.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.cuda.choose import open_cuda
from engines.engine import GPU_REQUESTS, CutsFrames
from engines.tensorrt.loaded_plan import LoadedPlan
from engines.tensorrt.order import Order, recipe_for
from engines.tensorrt.workshop import obtain
from pipeline.infer.letterbox import Letterbox
from tools.gpu.bare import AHEAD, Bare
from tools.gpu.pipeline import pipeline_fps
from tools.gpu.timing import Effort, Requests, milliseconds, per_second, percentiles, plateau

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu
    from engines.cuda.layer import Cuda
    from engines.engine import Batch, Engine, EngineOptions, Pending, Uncut
    from engines.tensorrt.flavour import Flavour
    from pipeline.picture import Picture
    from tools.engines.models import Wanted

INPUTS = 32
"""Different pictures that take turns."""


@dataclass(frozen=True)
class Layers:
    """Pictures per second with more and more around the plan; the plan is the one that a run uses."""

    precision: str
    batch: int
    """Most pictures at once."""
    bare: float
    """The faster of one picture at a time and `batch`."""
    transfers: float
    frames: float | None
    """None where the letterbox cannot be compiled."""
    pipeline: float
    recorded: float
    """The pipeline that also draws and records."""
    of_bare: float
    """`pipeline` as a part of `bare`."""
    memory_mib: float
    """What the open engine takes of the GPU's memory."""


@dataclass(frozen=True)
class AtBatch:
    """Pictures per second at one batch size; on a plan for the largest of the sweep."""

    precision: str
    batch: int
    bare: float
    transfers: float
    is_plateau: bool
    """Whether `bare` is within 5 % of the best, and no smaller batch is."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from `submit` to the result, one request of one picture at a time."""

    precision: str
    of: str
    graphs: bool
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Graphs:
    """Pictures per second, one picture a request, with and without CUDA graphs."""

    precision: str
    what: str
    on: float
    off: float


class Bench:
    """A detector in one precision on one GPU."""

    def __init__(
        self, flavour: Flavour, gpu: Gpu, detector: Wanted, pictures: Sequence[Picture], effort: Effort
    ) -> None:
        """Open nothing yet; `detector`: as a run opens it; `pictures`: decoded frames."""
        self._flavour, self._gpu, self._effort = flavour, gpu, effort
        self._detector, self._frames = detector, pictures
        self._precision = detector.options.precision

    def layers(self) -> Iterator[Layers]:
        """Measure each layer around the plan that a run uses."""
        options = self._detector.options
        free = self._free()
        with self._engine(options) as engine:
            memory = (free - self._free()) / 2**20
            batch, batches = engine.batch, sorted({1, engine.batch})
            transfers = max(self._transfers(engine, count) for count in batches)
            frames = [fps for count in batches if (fps := self._whole(engine, count)) is not None]
        with self._plan(options) as bare:
            fastest = max(bare(count, True) for count in batches)
        pipeline = pipeline_fps(self._detector.spec, options, self._frames, self._effort)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bench.mp4"
            recorded = pipeline_fps(self._detector.spec, options, self._frames, self._effort, file)
        yield Layers(
            self._precision,
            batch,
            fastest,
            transfers,
            max(frames, default=None),
            pipeline,
            recorded,
            pipeline / fastest,
            memory,
        )

    def sweep(self, batches: Sequence[int]) -> list[AtBatch]:
        """Measure each batch size that a plan for the largest takes."""
        options = replace(self._detector.options, batch=max(batches))
        with self._engine(options) as engine:
            counts = [count for count in batches if count <= engine.batch]
            transfers = {count: self._transfers(engine, count) for count in counts}
        with self._plan(options) as bare:
            fps = {count: bare(count, True) for count in counts}
        best = plateau(fps)
        return [AtBatch(self._precision, count, fps[count], transfers[count], count == best) for count in counts]

    def latencies(self) -> Iterator[Latency]:
        """Measure one request at a time, with CUDA graphs, where there are some, and without."""
        for graphs in (True, False) if self._can_record() else (False,):
            with self._engine(replace(self._detector.options, cuda_graph=graphs)) as engine:
                pictures = itertools.cycle(self._inputs(engine, 1))
                times = milliseconds(lambda: engine.submit(next(pictures)).result(), self._effort)  # noqa: B023
                yield Latency(self._precision, "a picture", graphs, *percentiles(times))
                if isinstance(engine, CutsFrames) and engine.cuts_frames:
                    uncut = itertools.cycle(self._uncut(engine))
                    start = engine.submit_frames
                    times = milliseconds(lambda: start([next(uncut)]).result(), self._effort)  # noqa: B023
                    yield Latency(self._precision, "a whole frame", graphs, *percentiles(times))

    def graphs(self) -> Iterator[Graphs]:
        """Measure one picture a request, with and without CUDA graphs; nothing where there are none."""
        if not self._can_record():
            return
        options = self._detector.options
        with self._plan(options) as bare:
            yield Graphs(self._precision, "bare", bare(1, True), bare(1, False))
        rates = []
        for graphs in (True, False):
            with self._engine(replace(options, cuda_graph=graphs)) as engine:
                rates.append(self._transfers(engine, 1))
        yield Graphs(self._precision, "transfers", *rates)

    @contextmanager
    def _engine(self, options: EngineOptions) -> Iterator[Engine]:
        from engines.tensorrt.plans import open_tensorrt  # brings onnxruntime's quantisation

        engine = open_tensorrt(self._flavour.backend, self._detector.spec, options, self._detector.judge)
        try:
            yield engine
        finally:
            engine.close()

    @contextmanager
    def _plan(self, options: EngineOptions) -> Iterator[Callable[[int, bool], float]]:
        """Load the plan that an engine with these options has; yield what measures it, given a batch and graphs."""
        order = Order(
            self._flavour,
            self._detector.spec,
            options,
            recipe_for(self._flavour.backend, self._detector.spec, options),
            self._gpu,
        )
        entry, _ = obtain(order)
        with self._cuda() as cuda, ExitStack() as opened:
            plan = LoadedPlan(self._detector.spec, entry.plan, self._flavour)
            opened.callback(plan.release)
            lanes = options.requests or GPU_REQUESTS

            def fps(count: int, graphs: bool) -> float:
                pictures = self._cut(plan.input_size, count)
                recorded, ahead = graphs and cuda.has_graphs, min(AHEAD, self._effort.steps)
                bare = Bare(plan, cuda, pictures, lanes, graphs=recorded, ahead=ahead)
                try:
                    return per_second(bare, self._effort)
                finally:
                    bare.close()

            yield fps

    @contextmanager
    def _cuda(self) -> Iterator[Cuda]:
        cuda = open_cuda(self._detector.options.cuda, self._gpu)
        try:
            cuda.activate()
            yield cuda
        finally:
            cuda.close()

    def _can_record(self) -> bool:
        with self._cuda() as cuda:
            return cuda.has_graphs

    def _free(self) -> int:
        with self._cuda() as cuda:
            return cuda.memory()[0]

    def _transfers(self, engine: Engine, count: int) -> float:
        batches = itertools.cycle(self._inputs(engine, count))
        return per_second(Requests(lambda: engine.submit(next(batches)), count, engine.requests), self._effort)

    def _whole(self, engine: Engine, count: int) -> float | None:
        if not (isinstance(engine, CutsFrames) and engine.cuts_frames):
            return None
        frames, start = itertools.cycle(self._uncut(engine)), engine.submit_frames

        def submit() -> Pending:
            return start(list(itertools.islice(frames, count)))

        return per_second(Requests(submit, count, engine.requests), self._effort)

    def _inputs(self, engine: Engine, count: int) -> list[Batch]:
        """Return batches of so many pictures of the model's size."""
        return [self._cut(engine.input_size, count, first) for first in range(0, max(INPUTS, count), count)]

    def _cut(self, size: tuple[int, int], count: int, first: int = 0) -> Batch:
        chosen = (self._frames[(first + number) % len(self._frames)] for number in range(count))
        cut = np.full((count, *size, 3), self._detector.spec.input.pad, np.uint8)
        for picture, place in zip(chosen, cut, strict=True):
            self._letterbox(picture, size).cut(picture, place)
        return cut

    def _uncut(self, engine: Engine) -> list[Uncut]:
        pad = self._detector.spec.input.pad
        return [self._letterbox(each, engine.input_size).uncut(each, pad) for each in self._frames[:INPUTS]]

    def _letterbox(self, picture: Picture, size: tuple[int, int]) -> Letterbox:
        return Letterbox.plan((picture.height, picture.width), size, self._detector.spec.input.fit)
