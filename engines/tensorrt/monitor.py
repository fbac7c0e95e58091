"""How far a build is: TensorRT tells of phases within phases, a person wants one number that only grows."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.tensorrt.build import Progress

logger = logging.getLogger(__name__)


@dataclass
class _Phase:
    """A phase, and the part of the whole that it fills."""

    start: float
    width: float
    steps: int
    done: int = 0

    @property
    def position(self) -> float:
        return self.start + self.width * min(self.done / self.steps, 1.0)

    @property
    def step(self) -> float:
        return self.width / self.steps


class OverallProgress:
    """Makes one share of the whole of what TensorRT's threads tell: a phase fills one step of the phase around it."""

    def __init__(self, progress: Progress | None) -> None:
        self._tell = progress
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = threading.Lock()

    def begin(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        with self._lock:
            around = self._phases.get(parent or "")
            start, width = (around.position, around.step) if around else (0.0, 1.0)
            self._phases[name] = _Phase(start, width, max(steps, 1))
            self._report(name, start)

    def advance(self, name: str, step: int) -> None:
        """A step, counted from 0, is done."""
        with self._lock:
            if phase := self._phases.get(name):
                phase.done = max(phase.done, step + 1)
                self._report(name, phase.position)

    def end(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            if phase := self._phases.pop(name, None):
                self._report(name, phase.start + phase.width)

    def _report(self, name: str, share: float) -> None:
        self._share = min(max(self._share, share), 1.0)
        if self._tell is None:
            return
        try:
            self._tell(name, self._share)
        except BaseException as error:  # it must not reach TensorRT's C++ frames
            logger.warning("progress is no longer shown: %s", error)
            self._tell = None


def progress_monitor(trt: Any, progress: Progress | None, cancelled: threading.Event) -> Any:
    """Return a monitor for a builder's configuration; it must outlive the build, which it ends if `cancelled`."""
    overall = OverallProgress(progress)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            overall.begin(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            overall.advance(phase_name, step)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            overall.end(phase_name)

    return Monitor()
