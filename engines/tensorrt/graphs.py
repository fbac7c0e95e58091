"""CUDA graphs: the work for a number of pictures is recorded once, and from then on launched as a whole.

TensorRT's rules, which decide the shape of this: a graph belongs to the shapes that its execution context had when it
was recorded, and a context whose shapes change leaves its graphs undefined; after each change of shape one run must
come before a recording. So there is a context for each number of pictures, used for nothing else, and a lane keeps the
few that were used last. They share the lane's scratch memory: a lane runs one at a time.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from engines.errors import DeviceLost, EngineError

if TYPE_CHECKING:
    from engines.cuda.layer import Cuda, Graph, Stream
    from engines.tensorrt.plan_context import PlanContext

logger = logging.getLogger(__name__)

KEPT = 8
"""Contexts per lane: with batches of up to 8 pictures none is ever made twice."""

Shapes = dict[str, tuple[int, ...]]


class Work(NamedTuple):
    """What is done for one number of pictures; each differs in what it copies."""

    upload: bool
    """Whether pictures come from the host; else the letterbox has put them into place."""
    outputs: tuple[str, ...]
    """What is copied back."""


@dataclass
class Shaped:
    """An execution context that is set to a number of pictures."""

    context: PlanContext
    shapes: Shapes = field(default_factory=dict)
    """Of all tensors."""
    has_run: bool = False
    graphs: dict[Work, Graph] = field(default_factory=dict)


class Recording:
    """Whether graphs are used; all lanes of an engine share one."""

    def __init__(self, wanted: bool) -> None:
        """Begin with what was asked for."""
        self.on = wanted

    def give_up(self, reason: EngineError) -> None:
        """Use none from here on, and say why, once."""
        if self.on:
            self.on = False
            logger.warning("CUDA graphs are off from here on, each run is started step by step: %s", reason)


class Contexts:
    """The contexts of a lane, by number of pictures."""

    def __init__(
        self,
        create: Callable[[], PlanContext],
        recording: Recording,
        cuda: Cuda,
        stream: Stream,
    ) -> None:
        """Make none yet.

        Args:
            create: makes a context that knows its memory.
            recording: whether graphs are used; without, one context is enough.
            cuda: where the graphs are.
            stream: of the lane.
        """
        self._create = create
        self._recording = recording
        self._cuda = cuda
        self._stream = stream
        self._kept: OrderedDict[int, Shaped] = OrderedDict()

    def of(self, count: int) -> Shaped:
        """Return the context for this many pictures: a new one, or the one that was not used for longest."""
        if (shaped := self._kept.get(count)) is not None:
            self._kept.move_to_end(count)
            return shaped
        shaped = self._new() or self._least_recent()
        try:
            shaped.shapes = shaped.context.set_count(count)
        except BaseException:
            shaped.context.release()
            raise
        self._kept[count] = shaped
        return shaped

    def _new(self) -> Shaped | None:
        """Return a further context; None where there are enough, or no more can be had."""
        if self._kept and (not self._recording.on or len(self._kept) >= KEPT):
            return None
        try:
            return Shaped(self._create())
        except DeviceLost:
            raise
        except EngineError as error:
            if not self._kept:
                raise
            self._recording.give_up(error)
            return None

    def _least_recent(self) -> Shaped:
        _, shaped = self._kept.popitem(last=False)
        self._forget(shaped)
        return shaped

    def graph(self, shaped: Shaped, work: Work, do: Callable[[], None]) -> Graph | None:
        """Return the graph of some work, recorded if it can be; None: it is to be done step by step this time.

        Nothing may be in flight on the stream where it is recorded.
        """
        if not self._recording.on or not shaped.has_run:
            return None
        if work not in shaped.graphs:
            try:
                shaped.context.check_recordable(self._cuda.handle_of(self._stream))
                shaped.graphs[work] = self._record(do)
            except DeviceLost:
                raise
            except EngineError as error:
                self._recording.give_up(error)
                return None
        return shaped.graphs[work]

    def _record(self, do: Callable[[], None]) -> Graph:
        self._cuda.begin_capture(self._stream)
        try:
            do()
        except BaseException:
            with contextlib.suppress(EngineError):  # the stream must be usable again, whatever was recorded
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
            raise
        return self._cuda.end_capture(self._stream)

    def _forget(self, shaped: Shaped) -> None:
        shaped.has_run = False
        while shaped.graphs:
            self._cuda.destroy_graph(shaped.graphs.popitem()[1])

    def release(self) -> None:
        """Give all back; nothing may be in flight."""
        while self._kept:
            _, shaped = self._kept.popitem()
            with contextlib.suppress(EngineError):  # a lost device takes its graphs along
                self._forget(shaped)
            shaped.context.release()
