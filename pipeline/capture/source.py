"""Source: where frames come from. A source is opened, iterated once, and closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.mailbox import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.frame import Frame


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame; None where it cannot be known."""

    name: str
    url: str
    live: bool = False
    """Whether it goes on without us: a frame that is not taken is lost."""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    frames: int | None = None
    folders: frozenset[Path] = frozenset()
    """Folders whose images it reads, resolved."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A picture that was captured and cannot be used; it counts as dropped `corrupt`."""

    source: str
    captured_at: float


State = Literal["connecting", "streaming", "stalled", "waiting", "stopped"]
Reason = Literal["dns", "refused", "auth", "timeout", "eof", "decode", "unsupported"]


@dataclass(frozen=True)
class SourceState(Notice):
    """A live source's state has changed."""

    state: State
    reason: Reason | None = None
    """Why it does not stream, while it waits to connect again."""
    wall_time: float = 0.0
    """UTC seconds of the change."""


class Source:
    """A file, a folder of images, a camera, a stream. Your own has an `info`, `frames`, and what else it needs.

    `open` and `close` are called on the thread that builds the run, `frames` on the source's own.
    """

    info: SourceInfo
    report: Callable[[SourceState], None] = staticmethod(lambda state: None)
    """Whom a live source tells of each change of state; set by the run, called on the source's thread."""

    def open(self) -> None:
        """Open it and complete `info`.

        Raises:
            SourceError: it cannot be opened; the message says what it is instead.
        """

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield what it gives until it ends or `stop` is called.

        Raises:
            SourceError: it ended in a way that makes the run fail.
        """
        raise NotImplementedError

    def remark(self) -> str | None:
        """Return, after the end, what the user should know (half of a file could not be read); None: all is well."""
        return None

    def stop(self) -> None:
        """End `frames` as soon as possible; called from any thread."""

    def close(self) -> None:
        """Give back what `open` took."""

    @property
    def abandoned(self) -> int:
        """Threads of its own that a library call still held when it was closed."""
        return 0


class Wrapped(Source):
    """A source in front of another; override `frames`."""

    def __init__(self, source: Source) -> None:
        self.inner = source
        self.info = source.info

    def open(self) -> None:
        """Open it."""
        self.inner.open()
        self.info = self.inner.info

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield what it gives."""
        self.inner.report = self.report
        return self.inner.frames()

    def remark(self) -> str | None:
        """Return what it says."""
        return self.inner.remark()

    def stop(self) -> None:
        """End it."""
        self.inner.stop()

    def close(self) -> None:
        """Close it."""
        self.inner.close()

    @property
    def abandoned(self) -> int:
        """Its abandoned threads."""
        return self.inner.abandoned
