"""Runner: starts, drains and stops what `pipeline.wiring` has connected, and accounts for every frame.

A run ends when every source has ended and the last frame has been through (each source's `EndOfSource` travels
behind its last frame), when `stop` is called, or when something fails. A supervisor thread does the ending, so that
a signal handler, a key in the window and a failing stage all only have to say so. Stopping takes at most 2 s: after
1.5 s a thread that a library call holds is abandoned and counted.

When a run stops, frames that wait for a stage are dropped, requests that an engine has begun are finished, and what
has reached a sink is written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.capture.source import Source, SourceState
from pipeline.errors import FrameloomError, StageError
from pipeline.frame import Frame
from pipeline.governor import Governor
from pipeline.ledger import Ledger
from pipeline.mailbox import Mailbox, Policy
from pipeline.sinks.sink import Sink
from pipeline.stage import Stage
from pipeline.trace import StageTimes, Tracer
from pipeline.wiring import Wiring
from pipeline.worker import (
    MAIN_THREAD_IDLE_S,
    SinkWorker,
    SourceWorker,
    Thread,
    station_of,
)

logger = logging.getLogger(__name__)

SOURCES_WITHIN_S = 0.3
"""Seconds after a stop by which all sources must have been told."""
STAGES_WITHIN_S = 1.0
"""By then sources and stages must have ended; the sinks wait for them, for their last frames."""
SINKS_WITHIN_S = 1.3
"""By then sinks must have written what waits for them; the rest is dropped."""
ABANDONED_AFTER_S = 1.5
"""By then every thread must have ended."""
LAST_WORDS_WITHIN_S = 1.8
"""By then sources must be closed and sinks have taken the summary."""
STOP_WITHIN_S = 2.0
"""What is promised to whoever stops a run."""
SIGNALS_SEEN_S = 0.25
"""How long the main thread waits at a time: a signal that comes just before a wait does not end it (CPython)."""
AnyWorker = TypeVar("AnyWorker", SourceWorker, SinkWorker)


class Runner:
    """Runs sources through stages into sinks.

    Args:
        sources: opened; their names differ.
        stages: in the order a frame passes them.
        sinks: all get every delivered frame.
        policies: per source `every` or `latest`; default: `latest` for live sources.
        max_frames: frames to capture of each source; None: all.
        max_age_s: older frames of `latest` lanes are dropped as `stale`; None: never.
        tracer: told of every piece of work.
        governor: told of every latency of a live source.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        stages: Sequence[Stage],
        sinks: Sequence[Sink],
        *,
        policies: Mapping[str, Policy] | None = None,
        max_frames: int | None = None,
        max_age_s: float | None = None,
        tracer: Tracer | None = None,
        governor: Governor | None = None,
    ) -> None:
        self.sources, self.stages, self.sinks = list(sources), list(stages), list(sinks)
        self.ledger = Ledger([source.info.name for source in sources])
        self.error: FrameloomError | None = None
        self.abandoned = 0
        self.started = False
        self.states: dict[str, SourceState] = {}
        self._changed = threading.Condition(threading.RLock())  # re-entered by `stop` in a signal handler
        self._stopping_since: float | None = None
        self._done = threading.Event()
        self._wiring = Wiring(
            sources,
            stages,
            sinks,
            policies={source.info.name: _policy(source, policies or {}) for source in sources},
            max_frames=max_frames,
            max_age_s=max_age_s,
            ledger=self.ledger,
            governor=governor,
            listener=self,
        )
        for source in sources:
            source.report = self._source_changed
        workers = self._wiring.sink_workers
        self._main_worker = next((worker for worker in workers if worker.sink.main_thread), None)
        self._main_steps: Iterator[None] = iter(()) if self._main_worker is None else self._main_worker.steps()
        for worker in self._wiring.workers:
            worker.times.tracer = tracer
        self._alive: set[Thread] = set(self._wiring.workers)
        self._starting: set[Thread] = {*self._wiring.stage_workers, *self._wiring.sink_workers}

    def _source_changed(self, state: SourceState) -> None:
        self.states[state.source] = state
        for box in self._wiring.sink_boxes:
            box.put(state)

    @property
    def is_ready(self) -> bool:
        """Whether every stage and sink can take frames, and nobody has asked for the end."""
        with self._changed:
            return self.started and not self._starting and not self._stopping

    @property
    def _stopping(self) -> bool:
        return self._stopping_since is not None

    def outlet(self) -> Mailbox[Frame]:
        """Return a mailbox that gets every delivered frame too, for a reader of your own; before `start`."""
        return self._wiring.outlet()

    # ------------------------------------------------------------------ running

    def start(self) -> None:
        """Start all threads and return; the sources begin when every stage and sink is ready."""
        self.started = True
        if self._stopping:
            self._alive.clear()
            self._main_steps = iter(())
        else:
            for worker in (*self._wiring.stage_workers, *self._wiring.sink_workers):
                if worker is not self._main_worker:
                    worker.start()
        threading.Thread(target=self._supervise, name="supervisor", daemon=True).start()

    def stop(self) -> None:
        """Ask the run to end; returns at once. Legal at any time, from any thread or signal handler."""
        with self._changed:
            if self._stopping_since is None:
                self._stopping_since = time.monotonic()
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the run, or for so long; say whether it has ended.

        A window lives on the thread that calls this; while it does, `timeout_s` does not count.

        Raises:
            RuntimeError: the run was not started.
        """
        if not self.started:
            raise RuntimeError("a run that was not started has no end to wait for: call start() first")
        for _ in self._main_steps:
            pass
        if timeout_s is not None:
            return self._done.wait(timeout_s)
        while not self._done.wait(SIGNALS_SEEN_S):
            pass
        return True

    @property
    def attend_every_s(self) -> float:
        """How often `attend` must be called by who does not `wait`: for a window's sake, else for signals'."""
        return SIGNALS_SEEN_S if self._main_worker is None else MAIN_THREAD_IDLE_S

    def attend(self) -> None:
        """Let the window live for a moment on this thread, between other things."""
        next(self._main_steps, None)

    def run(self) -> dict[str, Any]:
        """Start, wait, and return the summary; where waiting is interrupted, stop.

        Raises:
            FrameloomError: what made the run fail.
        """
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            self._done.wait()
            raise
        if self.error is not None:
            raise self.error
        return self.summary()

    # ------------------------------------------------------------------ what workers report

    def ready(self, worker: Thread) -> None:
        """A worker can take frames."""
        with self._changed:
            self._starting.discard(worker)
            self._changed.notify_all()

    def failed(self, worker: Thread, error: BaseException) -> None:
        """A worker ends because of an error; the first one is the run's.

        What a source says after it was told to stop is no error, and what an abandoned thread says comes too late.
        """
        with self._changed:
            interrupted = self._stopping and isinstance(worker, SourceWorker)
            if self.error is None and not interrupted and not self._done.is_set():
                self.error = _as_failure(worker, error)
        self.stop()

    def finished(self, worker: Thread) -> None:
        """A worker's thread ends."""
        with self._changed:
            self._alive.discard(worker)
            self._starting.discard(worker)
            self._changed.notify_all()

    # ------------------------------------------------------------------ supervising

    def _supervise(self) -> None:
        try:
            self._wait_for(lambda: not self._starting or self._stopping)
            for worker in self._wiring.source_workers:
                if self._stopping:
                    self.finished(worker)
                else:
                    worker.start()
            self._wait_for(lambda: not self._alive or self._stopping)
            if self._stopping:
                self._shut_down()
            self._conclude()
        except Exception as error:
            self.failed(threading.current_thread(), error)
        finally:
            self._done.set()

    def _wait_for(self, condition: Callable[[], bool], within_s: float | None = None) -> None:
        """Wait until the condition holds, or so many seconds have passed since the run began to stop."""
        with self._changed:
            if within_s is not None:
                self._changed.wait_for(lambda: condition() or self._stopping)
                within_s += (self._stopping_since or 0.0) - time.monotonic()
            self._changed.wait_for(condition, within_s)

    def _shut_down(self) -> None:
        self._wiring.close()
        self._aside(
            lambda: self._for_each(self._wiring.source_workers, lambda worker: worker.source.stop()), SOURCES_WITHIN_S
        )
        for outlet in self._wiring.outlets:
            outlet.end()
        upstream: set[Thread] = {*self._wiring.source_workers, *self._wiring.stage_workers}
        self._wait_for(lambda: not self._alive & upstream, STAGES_WITHIN_S)
        for sink_box in self._wiring.sink_boxes:
            sink_box.end()
        self._wait_for(lambda: not self._alive, SINKS_WITHIN_S)
        for sink_box in self._wiring.sink_boxes:
            sink_box.close()
        self._wait_for(lambda: not self._alive, ABANDONED_AFTER_S)

    def _conclude(self) -> None:
        sources = [worker for worker in self._wiring.source_workers if worker not in self._alive]
        self._aside(lambda: self._for_each(sources, lambda worker: worker.source.close()), LAST_WORDS_WITHIN_S)
        self._count_abandoned()
        if self.abandoned:
            self.ledger.settle()
        summary = self.summary()
        sinks = [worker for worker in self._wiring.sink_workers if worker not in self._alive]
        self._aside(lambda: self._for_each(sinks, lambda worker: worker.sink.report(summary)), LAST_WORDS_WITHIN_S)
        self._count_abandoned()

    def _count_abandoned(self) -> None:
        self.abandoned = len(self._alive) + sum(source.abandoned for source in self.sources)

    def _aside(self, call: Callable[[], None], within_s: float) -> None:
        """Make calls that a library may hold on a thread of their own: they must not keep a stop waiting."""

        def run() -> None:
            call()
            self.finished(thread)

        thread = threading.Thread(target=run, name="aside", daemon=True)
        with self._changed:
            self._alive.add(thread)
        thread.start()
        self._wait_for(lambda: thread not in self._alive, within_s)

    def _for_each(self, workers: Sequence[AnyWorker], call: Callable[[AnyWorker], None]) -> None:
        for worker in workers:
            try:
                call(worker)
            except Exception as error:
                self.failed(worker, error)

    # ------------------------------------------------------------------ what is told at the end

    def summary(self) -> dict[str, Any]:
        """Return frames, fps, latency and stage percentiles, as in the last line of `events.jsonl`."""
        return {
            "fps": self.ledger.fps(),
            "latency_ms": self.ledger.latency().percentiles(),
            "stages": {name: times.wall.percentiles() for name, times in self.stage_times().items()},
            "waits": {name: times.waits.percentiles() for name, times in self.stage_times().items()},
            "sources": self.ledger.counts(),
            "sink_drops": self._dropped_by_sinks(),
            "abandoned": self.abandoned,
        }

    @property
    def sink_drops(self) -> Counter[str]:
        """Frames that found a sink's mailbox full, by its name."""
        return self._wiring.sink_drops

    def _dropped_by_sinks(self) -> dict[str, int]:
        """Count what each sink did not get, or has given up."""
        return dict(self._wiring.sink_drops + Counter({sink.name: sink.dropped for sink in self.sinks}))

    def stage_times(self) -> dict[str, StageTimes]:
        """Return the times of each station, in the order of a frame."""
        stations: dict[str, StageTimes] = {}
        for worker in (*self._wiring.source_workers, *reversed(self._wiring.stage_workers), *self._wiring.sink_workers):
            name = worker.times.station
            stations.setdefault(name, StageTimes(name)).merge(worker.times)
        return stations

    def descriptions(self) -> list[str]:
        """Return what the stages say of themselves: which engine ran, at which precision."""
        return [text for stage in self.stages if (text := stage.describe())]

    def files(self) -> list[Path]:
        """Return the files that the sinks wrote."""
        return [path for sink in self.sinks for path in sink.files]

    def remarks(self) -> list[str]:
        """Return what sources and sinks have to say after their end."""
        said = [*(source.remark() for source in self.sources), *(sink.remark() for sink in self.sinks)]
        return [remark for remark in said if remark]


def _policy(source: Source, policies: Mapping[str, Policy]) -> Policy:
    return policies.get(source.info.name, "latest" if source.info.live else "every")


def _as_failure(worker: Thread, error: BaseException) -> FrameloomError:
    if isinstance(error, FrameloomError):
        if isinstance(worker, SourceWorker):
            error.request_was_wrong = False  # it was opened: what went wrong is the run
        return error
    failure = StageError(f"{station_of(worker)} failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
