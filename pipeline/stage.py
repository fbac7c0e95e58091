"""Stage: one station that a frame passes. Write one by overriding `process`; see `pipeline.worker` for its thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from pipeline.frame import Frame

Ticket = TypeVar("Ticket")


class Stage:
    """One station. A custom stage needs a `name` and `process`; the rest is optional.

    `open`, `process`, `end` and `close` are all called on the stage's own thread.
    """

    name = "stage"

    def open(self) -> None:
        """Get ready: load what is needed. Frames come after this."""

    def process(self, frame: Frame) -> None:
        """Add to the frame. Its pixels belong to all: draw on a copy."""
        raise NotImplementedError

    def end(self, source: str) -> None:
        """Forget what is kept for a source: its last frame has passed."""

    def close(self) -> None:
        """Give back what `open` took. Called once, also after a failure."""

    def describe(self) -> str | None:
        """Return a line for the summary, such as which engine ran; None: nothing to say."""
        return None


class AsyncStage(Stage, Generic[Ticket]):
    """A station that starts work on one frame while it waits for others.

    `open`, `wants` and `submit` are called on one thread, `collect`, `skip` and `end` on another, in order. Every
    ticket is collected, also when the run stops; `close` comes after the last, on that other thread, so it may free
    what requests use.
    """

    in_flight = 1
    """Requests that may wait to be collected, of all sources; read after `open`."""
    batch = 1
    """Most frames that one request may take, where so many are waiting; read after `open`. Not with `bypass`."""
    bypass = False
    """Whether frames of live sources pass without the work, instead of being dropped, while others are in flight."""

    def wants(self, frame: Frame) -> bool:
        """Return whether to work on a frame; one that is not worked on is given to `skip`."""
        return True

    def submit(self, frame: Frame) -> Ticket:
        """Start the work on a frame; wait here if the engine has no room."""
        raise NotImplementedError

    def submit_together(self, frames: Sequence[Frame]) -> Sequence[Ticket]:
        """Start the work on up to `batch` frames, of any sources, as one request; return a ticket for each."""
        return [self.submit(frame) for frame in frames]

    def collect(self, frame: Frame, ticket: Ticket) -> None:
        """Wait for the work's result and add it to the frame."""
        raise NotImplementedError

    def skip(self, frame: Frame) -> None:
        """Let a frame pass that was not worked on, in its place among the others."""
