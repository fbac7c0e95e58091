"""Worker: the thread around each source, stage and sink. How it is fed, timed, stopped and failed is the same for all.

An `AsyncStage` has two: `submit` and `collect` run apart, with a mailbox of requests in between, so that no thread
ever waits for "a new frame or a finished request", and no Python runs on the engine's own threads, where it would
stall them for the GIL.

An exception is caught here, once: it becomes the worker's failure, and the run stops in order. What has been started
is always collected, also then, so that no engine is closed under its work and no `submit` waits for room for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipeline.capture.source import Damaged, Source, SourceState
from pipeline.frame import Frame, Span
from pipeline.in_hand import InHand
from pipeline.ledger import Ledger
from pipeline.mailbox import EndOfSource, Mailbox, Notice, Sourced
from pipeline.sinks.sink import MissedEvents, Sink
from pipeline.stage import AsyncStage, Stage, Ticket
from pipeline.trace import StageTimes

MAIN_THREAD_IDLE_S = 0.02
"""A window must be kept alive at least this often."""
SUBMIT = ".submit"
"""What the name of an AsyncStage's first thread ends with."""
Item = TypeVar("Item", bound=Sourced)


class Thread(Protocol):
    """What a listener is told about: a worker of any kind."""

    name: str


def station_of(worker: Thread) -> str:
    """Return the name of the source, stage or sink that a worker is the thread, or one of two threads, of."""
    return worker.name.removesuffix(SUBMIT)


class Listener(Protocol):
    """Whom a worker reports to: the runner."""

    def ready(self, worker: Thread) -> None:
        """The worker can take frames now."""

    def failed(self, worker: Thread, error: BaseException) -> None:
        """The worker ends, or could not close, because of an error."""

    def finished(self, worker: Thread) -> None:
        """The worker's thread is about to end."""


@dataclass(frozen=True, slots=True)
class InFlight(Generic[Ticket]):
    """A frame whose work has been started; one that passes without it has no ticket."""

    frame: Frame
    ticket: Ticket | None
    started_at: float
    is_worked_on: bool = True
    is_last: bool = True
    """Whether no frame after it belongs to the same request."""

    @property
    def source(self) -> str:
        """Name of the frame's source."""
        return self.frame.source

    @property
    def captured_at(self) -> float:
        """Monotonic seconds of the frame."""
        return self.frame.captured_at


class Worker(threading.Thread, Generic[Item]):
    """A thread that takes items from a mailbox, has them worked on, and passes them on.

    Threads are daemons: where a library call hangs, the process can still end (`Runner.stop` counts them).
    """

    idle_s: float | None = None
    """How long to wait for an item before `_idle`; None: as long as it takes."""

    def __init__(self, name: str, inbox: Mailbox[Item], emit: Callable[[Any], object], listener: Listener) -> None:
        super().__init__(name=name, daemon=True)
        self.inbox = inbox
        self.times = StageTimes(station_of(self))
        self._emit = emit
        self._listener = listener

    def run(self) -> None:
        """Open, work until nothing more comes, close; report a failure once."""
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[None]:
        """Do what `run` does, on the caller's thread: a step takes one item, or waits for one up to `idle_s`."""
        try:
            self._open()
            self._listener.ready(self)
            while self._step():
                yield
        except BaseException as error:
            self._listener.failed(self, error)
            self._give_up()
            if isinstance(error, KeyboardInterrupt | GeneratorExit) and self.ident is None:
                raise  # it is the caller's, whose thread this is
        finally:
            self._finish()

    def _step(self) -> bool:
        item = self.inbox.get(self.idle_s)
        if isinstance(item, EndOfSource):
            self._end(item.source)
            self._emit(item)
        elif isinstance(item, Notice):
            self._notice(item)
        elif item is not None:
            try:
                self._work(item)
            except BaseException:
                self.inbox.drop(item, "stopped")
                raise
        elif self.inbox.over:
            return False
        else:
            self._idle()
        return True

    def _finish(self) -> None:
        try:
            self._close()
        except BaseException as error:
            self._listener.failed(self, error)
        self._listener.finished(self)

    def _give_up(self) -> None:
        """After a failure: let nobody wait for room."""
        self.inbox.close()

    def _open(self) -> None: ...

    def _idle(self) -> None: ...

    def _work(self, item: Item) -> None:
        raise NotImplementedError

    def _notice(self, notice: Notice) -> None:
        """Pass on what travels with the frames."""
        self._emit(notice)

    def _end(self, source: str) -> None: ...

    def _close(self) -> None: ...


class StageWorker(Worker[Frame]):
    """Runs a Stage."""

    def __init__(self, stage: Stage, inbox: Mailbox[Frame], emit: Callable[[Any], object], listener: Listener) -> None:
        super().__init__(stage.name, inbox, emit, listener)
        self._stage = stage

    def _open(self) -> None:
        self._stage.open()

    def _work(self, frame: Frame) -> None:
        started, cpu = time.monotonic(), time.thread_time()
        self._stage.process(frame)
        ended = time.monotonic()
        self.times.cpu_s += time.thread_time() - cpu
        self.times.add(frame.source, frame.index, frame.free_since, started, ended)
        frame.spans.append(Span(self.name, started, ended))
        frame.free_since = ended
        self._emit(frame)

    def _end(self, source: str) -> None:
        self._stage.end(source)

    def _close(self) -> None:
        self._stage.close()


class SubmitWorker(Worker[Frame]):
    """The first half of an AsyncStage."""

    def __init__(
        self,
        stage: AsyncStage[Any],
        inbox: Mailbox[Frame],
        requests: Mailbox[InFlight[Any]],
        in_hand: InHand,
        listener: Listener,
        make_room: Callable[[int], object],
    ) -> None:
        super().__init__(stage.name + SUBMIT, inbox, requests.put, listener)
        self._make_room = make_room
        self._stage = stage
        self._requests = requests
        self._in_hand = in_hand
        inbox.hold_back(in_hand.fits)

    def _open(self) -> None:
        self._stage.open()
        self._in_hand.in_flight = max(1, self._stage.in_flight)
        self._in_hand.bypass = self._stage.bypass
        self._batch = 1 if self._stage.bypass else max(1, self._stage.batch)
        frames = self._in_hand.room_for_each(self._batch)
        self._requests.grow(frames)
        self._make_room(frames)
        if self._batch > 1:
            self.inbox.grow(self._batch)

    def _work(self, frame: Frame) -> None:
        started, cpu = time.monotonic(), time.thread_time()
        taken, wanted = [frame], [self._begin(frame)]
        try:
            while any(wanted) and sum(wanted) < self._batch:
                more = self.inbox.get_waiting(lambda source: self._in_hand.may_join(source, frame.source))
                if more is None:
                    break
                taken.append(more)
                wanted.append(self._begin(more, joins=True))
            worked_on = [each for each, is_wanted in zip(taken, wanted, strict=True) if is_wanted]
            tickets = iter(self._stage.submit_together(worked_on) if worked_on else ())
        except BaseException:
            for each in taken[1:]:
                self.inbox.drop(each, "stopped")  # the first one by the caller
            raise
        self.times.cpu_s += time.thread_time() - cpu
        last = max((place for place, is_wanted in enumerate(wanted) if is_wanted), default=0)
        for place, (each, is_wanted) in enumerate(zip(taken, wanted, strict=True)):
            ticket = next(tickets) if is_wanted else None
            self._requests.put(InFlight(each, ticket, started, is_wanted, place == last))

    def _begin(self, frame: Frame, *, joins: bool = False) -> bool:
        """Count a frame that was taken; return whether it is to be worked on."""
        is_worked_on = self._stage.wants(frame) and self._in_hand.may_work(frame.source)
        self._in_hand.begin(frame.source, is_worked_on, joins=joins)
        return is_worked_on

    def _close(self) -> None:
        self._requests.end()


class CollectWorker(Worker[InFlight[Any]]):
    """The second half of an AsyncStage: frames leave in the order they came.

    Its mailbox is ended by the `SubmitWorker`, never closed: what was started is collected, whatever happens. So it is
    the one that closes the stage.
    """

    def __init__(
        self,
        stage: AsyncStage[Any],
        requests: Mailbox[InFlight[Any]],
        in_hand: InHand,
        emit: Callable[[Any], object],
        listener: Listener,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(stage.name, requests, emit, listener)
        self._stage = stage
        self._in_hand = in_hand
        self._wake = wake

    def _work(self, item: InFlight[Any]) -> None:
        frame = item.frame
        cpu = time.thread_time()
        if item.is_worked_on:
            self._stage.collect(frame, item.ticket)
        else:
            self._stage.skip(frame)
        ended = time.monotonic()
        self.times.cpu_s += time.thread_time() - cpu
        if item.is_worked_on:
            self.times.add(frame.source, frame.index, frame.free_since, item.started_at, ended)
            frame.spans.append(Span(self.name, item.started_at, ended))
        frame.free_since = ended
        self._emit(frame)
        self._in_hand.finish(frame.source, item.is_worked_on, is_last=item.is_last)
        self._wake()

    def _end(self, source: str) -> None:
        self._stage.end(source)

    def _give_up(self) -> None:
        """Collect what is started, for nothing."""
        while (item := self.inbox.get()) is not None:
            if isinstance(item, InFlight):
                self.inbox.drop(item, "stopped")
                if item.is_worked_on:
                    with suppress(Exception):
                        self._stage.collect(item.frame, item.ticket)

    def _close(self) -> None:
        self._stage.close()


class SinkWorker(Worker[Frame]):
    """Runs a Sink; one that wants the main thread is run there instead of being started."""

    def __init__(self, sink: Sink, inbox: Mailbox[Frame], listener: Listener) -> None:
        super().__init__(sink.name, inbox, lambda item: None, listener)
        self.sink = sink
        if sink.main_thread:
            self.idle_s = MAIN_THREAD_IDLE_S

    def _open(self) -> None:
        self.sink.open()

    def _idle(self) -> None:
        self.sink.idle()

    def _work(self, frame: Frame) -> None:
        started, cpu = time.monotonic(), time.thread_time()
        self.sink.consume(frame)
        self.times.cpu_s += time.thread_time() - cpu
        self.times.add(frame.source, frame.index, frame.free_since, started, time.monotonic())

    def _notice(self, notice: Notice) -> None:
        if isinstance(notice, SourceState):
            self.sink.source_changed(notice)
        elif isinstance(notice, MissedEvents):
            self.sink.missed(notice)

    def _end(self, source: str) -> None:
        self.sink.end(source)

    def _close(self) -> None:
        self.sink.close()


class SourceWorker(threading.Thread):
    """A source's thread: captures, counts, and sends the end after the last frame."""

    def __init__(
        self, source: Source, max_frames: int | None, ledger: Ledger, emit: Callable[[Any], bool], listener: Listener
    ) -> None:
        super().__init__(name=f"capture.{source.info.name}", daemon=True)
        self.source = source
        self.times = StageTimes("capture")
        self._max_frames = max_frames
        self._ledger = ledger
        self._emit = emit
        self._listener = listener

    def run(self) -> None:
        """Capture until the source ends, `max_frames` are reached, or nobody takes frames any more."""
        try:
            self._capture()
        except BaseException as error:
            self._listener.failed(self, error)
        finally:
            self._emit(EndOfSource(self.source.info.name))
            self._listener.finished(self)

    def _capture(self) -> None:
        captured = 0
        items = self.source.frames()
        while self._max_frames is None or captured < self._max_frames:
            started, cpu = time.monotonic(), time.thread_time()
            item = next(items, None)
            self.times.cpu_s += time.thread_time() - cpu
            if item is None:
                return
            captured += 1
            self._ledger.captured(item)
            if isinstance(item, Damaged):
                self._ledger.dropped(item, "corrupt")
                continue
            began = max(started, item.captured_at) if self.source.info.live else started
            self.times.add(item.source, item.index, began, began, time.monotonic())
            item.free_since = time.monotonic()
            if not self._emit(item):
                return
