"""Input paths, checked in words that FFmpeg and OpenCV do not find."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pipeline.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 12
"""Enough to know a container by."""


def check_readable(path: Path) -> None:
    """Refuse what cannot be a file of pictures. A pipe is let through unread: its bytes come only once.

    Raises:
        SourceError: missing, a directory, unreadable, empty.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{path} is a directory")
        if stat.S_ISREG(mode) and not beginning(path):
            raise SourceError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise SourceError(f"no such file: {path}") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def beginning(path: Path) -> bytes:
    """Return the first bytes of a regular file, nothing of anything else."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
