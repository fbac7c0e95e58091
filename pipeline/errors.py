"""Everything that can go wrong with a request or a run.

    FrameloomError                   (engines.errors)
    ├── ConfigError                  correct the configuration: the message shows the place
    ├── SourceError                  a source cannot be opened or read
    │   ├── OpenTimeout              (also TimeoutError) it does not answer
    │   ├── ReadTimeout              (also TimeoutError) it stopped sending
    │   ├── Disconnected             (also ConnectionError) it closed the connection
    │   ├── AuthenticationFailed     (also PermissionError) wrong user or password
    │   └── DecodeError              what it sends is no picture
    ├── SinkError                    a result cannot be written or shown
    ├── StageError                   a stage failed while working: the cause is chained
    └── GalleryError                 the gallery does not fit the request
        └── GalleryFailure           its disk fails or is full, it is damaged, or others do not let go of it

A message says what happened, shows the value, and says what to do.
"""

from __future__ import annotations

from engines.errors import FrameloomError

__all__ = [
    "AuthenticationFailed",
    "ConfigError",
    "DecodeError",
    "Disconnected",
    "FrameloomError",
    "GalleryError",
    "GalleryFailure",
    "OpenTimeout",
    "ReadTimeout",
    "SinkError",
    "SourceError",
    "StageError",
]


class ConfigError(FrameloomError):
    """The configuration or a command-line option is wrong."""

    request_was_wrong = True


class SourceError(FrameloomError):
    """A source cannot be opened or read.

    Raised while opening, it is the request that was wrong (a missing file, a text named .mp4).
    """

    request_was_wrong = True


class OpenTimeout(SourceError, TimeoutError):
    """The source did not answer in time."""


class ReadTimeout(SourceError, TimeoutError):
    """The source stopped sending."""


class Disconnected(SourceError, ConnectionError):
    """The source closed the connection."""


class AuthenticationFailed(SourceError, PermissionError):
    """The source refused the user or the password."""


class DecodeError(SourceError):
    """What the source sends is no picture."""


class SinkError(FrameloomError):
    """A result cannot be written or shown."""


class StageError(FrameloomError):
    """A stage failed while working; `__cause__` is the original exception."""


class GalleryError(FrameloomError):
    """The gallery does not fit the request."""

    request_was_wrong = True


class GalleryFailure(GalleryError):
    """The request was right, but the gallery's disk fails or is full, it is damaged, or others do not let go of it."""

    request_was_wrong = False
