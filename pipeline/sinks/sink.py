"""Sink: where results go. A sink runs on a thread of its own, behind its own mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.mailbox import Remains

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.capture.source import SourceInfo, SourceState
    from pipeline.frame import Frame


@dataclass(frozen=True)
class MissedEvents(Remains):
    """What happened in a frame that a sink does not get, because it was dropped."""

    lines: tuple[dict[str, Any], ...]
    """As `pipeline.sinks.records.event_lines` gives them."""


class Sink:
    """One receiver of every delivered frame.

    `open`, `consume`, `end` and `close` are called on the sink's thread (`main_thread`: the one that waits for the
    run), `report` after all of them.
    """

    name = "sink"
    main_thread = False

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse, before anything starts, what cannot work (an output folder that cannot be written).

        Raises:
            SinkError, ConfigError: with what to do.
        """

    def open(self) -> None:
        """Get ready."""

    def consume(self, frame: Frame) -> None:
        """Take one frame; its pixels belong to all."""
        raise NotImplementedError

    def source_changed(self, state: SourceState) -> None:
        """Take the new state of a live source; the frames that it sent before may come after it."""

    def missed(self, events: MissedEvents) -> None:
        """Take the events of a frame that was dropped, in its place among the others."""

    def end(self, source: str) -> None:
        """The source's last frame has been consumed."""

    def idle(self) -> None:
        """Called on `main_thread` sinks when no frame came for a while: keep a window alive."""

    def close(self) -> None:
        """Finish files. Called once, also after a failure."""

    def report(self, summary: dict[str, Any]) -> None:
        """Take the run's summary, last of all."""

    @property
    def files(self) -> list[Path]:
        """The files written, for the summary on the terminal."""
        return []

    @property
    def dropped(self) -> int:
        """What it has given up of what it took: events that a full spool or a dead receiver cost."""
        return 0

    def remark(self) -> str | None:
        """Return, after the end, what the user should know (12 events wait for the broker); None: all is well."""
        return None
