"""SizedEngines: one model compiled for several input sizes, the ones used last kept.

A CPU engine is compiled for one size, in 0.3 to 0.6 s, and holds threads and memory; pictures come in any shape.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from engines import graph
from engines.engine import Engine, EngineInfo, EngineOptions, Outputs, Pending, open_engine, shapes_of
from engines.errors import BackendUnavailable, EngineError, UnknownHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.spec import ModelSpec
    from engines.trust.parity import Judge

logger = logging.getLogger(__name__)

Size = tuple[int, int]
Reader = TypeVar("Reader")
Started = TypeVar("Started")

PLACEHOLDER = 128
"""A side that a file declares smaller than this is what its exporter happened to write, not what it was made for."""


@dataclass
class SizedEngine(Generic[Reader]):
    """An engine for one input size, and what reads its outputs."""

    engine: Engine
    reader: Reader
    in_flight: int = 0


class SizedEngines(Generic[Reader]):
    """Opens engines on demand. One thread may `submit` while another collects."""

    def __init__(
        self,
        spec: ModelSpec,
        options: EngineOptions,
        reader: Callable[[Mapping[str, tuple[int, ...]], Size], Reader],
        keep: int = 8,
        judge: Judge | None = None,
    ) -> None:
        """Nothing is compiled here.

        Args:
            spec: the model.
            options: how to run it; their `input_size` is not used.
            reader: makes what reads the outputs, from their shapes and the input's size; it raises UnknownHead where
                they cannot be read.
            keep: engines kept; more only while all of them work.
            judge: how a compiled engine's outputs are compared with its file's.
        """
        self._judge = judge
        self._spec, self._options, self._make_reader, self._keep = spec, options, reader, keep
        self._lock = threading.Lock()
        self._open: OrderedDict[Size, SizedEngine[Reader]] = OrderedDict()
        self.only_size: Size | None = None
        """The one size that the model runs at, once another was refused."""

    def infos(self) -> list[EngineInfo]:
        """Return what runs the model, an entry per input size, the one used last at the end."""
        return [engine.describe() for engine in self.engines]

    def describe(self) -> str:
        """Name the model, what runs it, and the sizes it is compiled for."""
        infos = self.infos()
        if not infos:
            return f"{self._spec.name}, not compiled yet"
        others = [f"{info.input_shape[2]}x{info.input_shape[1]}" for info in infos[:-1]]
        return f"{infos[-1]}" + (f", also at {', '.join(others)}" if others else "")

    def at(self, size: Size) -> SizedEngine[Reader]:
        """Return the engine for a size, or for the only one; compile it where it is not open.

        Raises:
            EngineError: it cannot be compiled or run.
            UnknownHead: its outputs cannot be read.
        """
        size = self.only_size or size
        with self._lock:
            if size in self._open:
                self._open.move_to_end(size)
                return self._open[size]
        try:
            opened = self._compile(size)  # not under the lock: whoever collects would wait for the compiler
        except BackendUnavailable:
            raise
        except (EngineError, UnknownHead) as reason:
            if not self._keeps_its_own_size(size, reason):
                raise
            return self.at(size)
        with self._lock:
            self._open[size] = opened
            idle = [each for each, sized in self._open.items() if not sized.in_flight and sized is not opened]
            dropped = [self._open.pop(each) for each in idle[: max(0, len(self._open) - self._keep)]]
        for sized in dropped:
            sized.engine.close()
        return opened

    def submit(self, sized: SizedEngine[Reader], start: Callable[[Engine], Started]) -> Started:
        """Let `start` begin a request; the engine stays open until `collect`."""
        with self._lock:
            sized.in_flight += 1
        try:
            return start(sized.engine)
        except BaseException:
            self._done(sized)
            raise

    def collect(self, sized: SizedEngine[Reader], pending: Pending) -> Outputs:
        """Wait for a request's outputs."""
        try:
            return pending.result()
        finally:
            self._done(sized)

    def _done(self, sized: SizedEngine[Reader]) -> None:
        with self._lock:
            sized.in_flight -= 1

    def _keeps_its_own_size(self, refused: Size, reason: Exception) -> bool:
        own = declared_size(self._spec)
        if own is None or own == refused or min(own) < PLACEHOLDER:
            return False
        self.only_size = own
        logger.warning("%s runs at its own size only, %dx%d, not at %dx%d", self._spec.name, *own, *refused)
        logger.info("%s", reason)
        return True

    def _compile(self, size: Size) -> SizedEngine[Reader]:
        engine = open_engine(self._spec, replace(self._options, input_size=size), self._judge)
        try:
            blank = np.full((1, *engine.input_size, 3), self._spec.input.pad, np.uint8)
            outputs = engine.infer(blank)  # also the warm-up: a first request is the slowest
            shapes = shapes_of(outputs)
            return SizedEngine(engine, self._make_reader(shapes, engine.input_size))
        except BaseException:
            engine.close()
            raise

    @property
    def engines(self) -> list[Engine]:
        """Those that are open, the one used last at the end."""
        with self._lock:
            return [sized.engine for sized in self._open.values()]

    def close(self) -> None:
        """Give the engines back."""
        for engine in self.engines:
            engine.close()
        self._open.clear()


def declared_size(spec: ModelSpec) -> Size | None:
    """Return the height and width that a file itself declares; None where it leaves one open."""
    height, width = graph.declared_size(graph.load(spec.path))
    return (height, width) if height and width else None
