"""Wiring: the workers of a run, and the mailboxes between them.

    source ──┐
    source ──┼── mailbox ── stage ── mailbox ── stage ── delivery ──┬── mailbox ── sink
    source ──┘                                                      └── mailbox ── sink

Built from the end to the beginning, because every station is told where its frames go, and how much room is there.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.frame import Frame
from pipeline.in_hand import PASSING, InHand
from pipeline.mailbox import Mailbox, Notice, Policy, Remains, Sourced
from pipeline.sinks.records import event_lines
from pipeline.sinks.sink import MissedEvents
from pipeline.stage import AsyncStage, Stage
from pipeline.worker import (
    CollectWorker,
    InFlight,
    Listener,
    SinkWorker,
    SourceWorker,
    StageWorker,
    SubmitWorker,
)

if TYPE_CHECKING:
    from pipeline.capture.source import Source
    from pipeline.governor import Governor
    from pipeline.ledger import Ledger
    from pipeline.sinks.sink import Sink

logger = logging.getLogger(__name__)

LANE = 2
"""Frames that wait before a stage; more would only add latency."""
SINK_LANE = 4
"""Frames that wait before a sink: room for a keyframe that takes longer."""
BURST = 16
"""Frames that may wait besides, where frames bypass a busy stage: they leave it together with the one before them."""
OUTLET = "iteration"
"""What the reader of an outlet is called among the sinks' drops."""


class Wiring:
    """What a run is made of, connected and not started.

    Args:
        sources: opened.
        stages: in the order a frame passes them.
        sinks: all get every delivered frame.
        policies: of all sources.
        max_frames: frames to capture of each source; None: all.
        max_age_s: older frames of `latest` lanes are dropped as `stale`; None: never.
        ledger: told of every frame.
        governor: told of every latency of a live source.
        listener: whom workers report to.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        stages: Sequence[Stage],
        sinks: Sequence[Sink],
        *,
        policies: Mapping[str, Policy],
        max_frames: int | None,
        max_age_s: float | None,
        ledger: Ledger,
        governor: Governor | None,
        listener: Listener,
    ) -> None:
        self.sink_drops: Counter[str] = Counter()
        """Frames that found a sink's mailbox full, by its name."""
        self.stage_workers: list[StageWorker | SubmitWorker | CollectWorker] = []
        """The last stage's first."""
        self.stage_boxes: list[Mailbox[Any]] = []
        self.outlets: list[Mailbox[Frame]] = []
        self._policies, self._max_age_s = policies, max_age_s
        self._ledger, self._governor, self._listener = ledger, governor, listener
        self._burst = BURST if any(isinstance(stage, AsyncStage) and stage.bypass for stage in stages) else 0
        self._delivery: list[Mailbox[Frame]] = []
        self._is_closed = False
        self._counting = threading.Lock()
        emit = self._connect(stages)
        self.source_workers = [SourceWorker(source, max_frames, ledger, emit, listener) for source in sources]
        self.sink_boxes = [self._delivery_box(sink.name, SINK_LANE) for sink in sinks]
        self.sink_workers = [SinkWorker(sink, box, listener) for sink, box in zip(sinks, self.sink_boxes, strict=True)]

    @property
    def workers(self) -> list[StageWorker | SubmitWorker | CollectWorker | SinkWorker | SourceWorker]:
        """All of them."""
        return [*self.stage_workers, *self.sink_workers, *self.source_workers]

    def outlet(self) -> Mailbox[Frame]:
        """Return a mailbox that gets every delivered frame too; before the run starts."""
        box = self._delivery_box(OUTLET, LANE)
        self.outlets.append(box)
        return box

    def close(self) -> None:
        """Let no more frames in: sources end, and what waits for a stage is dropped."""
        self._is_closed = True
        for box in self.stage_boxes:
            box.close()

    def _connect(self, stages: Sequence[Stage]) -> Callable[[Any], bool]:
        """Make the stages' workers, last first; return where the sources put their frames."""
        emit: Callable[[Any], bool] = self._deliver
        room: Callable[[str], int] = self._delivery_room
        make_room: Callable[[int], None] = self._make_delivery_room
        for stage in reversed(stages):
            inbox = self._mailbox(LANE, self._dropped)
            if isinstance(stage, AsyncStage):
                self._connect_async(stage, inbox, emit, InHand(self._policies, room), make_room)
            else:
                inbox.hold_back(_has_room(room))
                self.stage_workers.append(StageWorker(stage, inbox, emit, self._listener))
            for box in self.stage_boxes[-1:]:
                box.when_there_is_room(inbox.wake)
            self.stage_boxes.append(inbox)
            emit, room, make_room = inbox.put, inbox.room, inbox.grow
        return emit

    def _connect_async(
        self,
        stage: AsyncStage[Any],
        inbox: Mailbox[Frame],
        emit: Callable[[Any], bool],
        in_hand: InHand,
        make_room: Callable[[int], None],
    ) -> None:
        policies: dict[str, Policy] = dict.fromkeys(self._policies, "every")
        requests: Mailbox[InFlight[Any]] = Mailbox(policies, PASSING, self._dropped)
        self.stage_workers.append(CollectWorker(stage, requests, in_hand, emit, self._listener, inbox.wake))
        self.stage_workers.append(SubmitWorker(stage, inbox, requests, in_hand, self._listener, make_room))

    def _mailbox(self, capacity: int, on_drop: Callable[[Sourced | Remains, str], None]) -> Mailbox[Frame]:
        return Mailbox(self._policies, capacity + self._burst, on_drop, self._max_age_s, remains=_missed_events)

    def _delivery_box(self, name: str, capacity: int) -> Mailbox[Frame]:
        def count(item: Sourced | Remains, reason: str) -> None:
            with self._counting:
                self.sink_drops[name] += 1

        box = self._mailbox(capacity, count)
        for last_stage in self.stage_boxes[:1]:
            box.when_there_is_room(last_stage.wake)
        self._delivery.append(box)
        return box

    def _dropped(self, item: Sourced | Remains, reason: str) -> None:
        """Account for a frame that goes no further; where the run stops, its events go straight to the sinks."""
        if not isinstance(item, Remains):
            self._ledger.dropped(item, reason)
        missed = item if isinstance(item, Remains) else _missed_events(item)
        if reason == "stopped" and missed is not None:
            for box in self._delivery:
                box.put(missed)

    def _delivery_room(self, source: str) -> int:
        return min((box.room(source) for box in self._delivery), default=sys.maxsize)

    def _make_delivery_room(self, items: int) -> None:
        for box in self._delivery:
            box.grow(items)

    def _deliver(self, item: Frame | Notice) -> bool:
        if isinstance(item, Frame):
            item.free_since = self._ledger.delivered(item)
            self._govern(item)
        for box in self._delivery:
            box.put(item)
        return not self._is_closed

    def _govern(self, frame: Frame) -> None:
        if self._governor is None or self._policies[frame.source] == "every":
            return
        step = self._governor.observe(frame.free_since - frame.captured_at)
        if step is not None:
            logger.warning("latency: %s", step)
            frame.events.append(
                {
                    "event": "degraded" if step.down else "restored",
                    "rung": step.rung,
                    "level": step.level,
                    "latency_ms": round(step.latency_s * 1e3, 1),
                }
            )


def _missed_events(item: Sourced) -> MissedEvents | None:
    """Return what happened in a frame that is dropped: that somebody came in is not to be lost with a picture."""
    frame = item.frame if isinstance(item, InFlight) else item
    if not isinstance(frame, Frame) or not frame.events:
        return None
    return MissedEvents(frame.source, tuple(event_lines(frame)))


def _has_room(room: Callable[[str], int]) -> Callable[[str], bool]:
    return lambda source: room(source) > 0
