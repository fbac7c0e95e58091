"""Source: where frames come from. A source is opened, iterated once, and closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class Source(Protocol):
    """A file, a folder of images, a camera, a stream.

    `open` and `close` are called on the thread that builds the run, `frames` on the source's own.
    """

    info: SourceInfo

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

    def remark(self) -> str | None:
        """Return, after the end, what the user should know (half of a file could not be read); None: all is well."""

    def stop(self) -> None:
        """End `frames` as soon as possible; called from any thread."""

    def close(self) -> None:
        """Give back what `open` took."""
