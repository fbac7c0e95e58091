"""LineFile: whole lines in a file that others may move, empty or delete, on a disk that may be full.

A block of lines is written by one system call, whole or not at all: where the disk is full, the part that was written
is cut off again, the block is counted as lost, and writing is tried again a second later (`DiskSpace`). Before each
block two calls of `stat`, 3 microseconds, say whether the file at the path is still the one that is open: logrotate
has moved it (a new one is begun) or emptied it (O_APPEND goes on at its new end). Not at intervals: what is written
to a deleted file in between would be lost.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import SinkError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, the user's part of it used up, the file as large as it may get: all may pass."""
RETRY_S = 1.0
"""Time from one attempt to write on a full disk to the next."""
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
PRIVATE, ORDINARY = 0o600, 0o666
logger = logging.getLogger(__name__)


class DiskSpace:
    """Whether it is worth trying to write, and what was lost while it was not; said once in a run."""

    def __init__(self, path: Path, purpose: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with room.

        Args:
            path: of the file, for the message.
            purpose: what writes it (`sinks.events`), for the message.
            clock: monotonic seconds.
        """
        self.lost = 0
        """Lines."""
        self._path, self._purpose, self._clock = path, purpose, clock
        self._retry_at: float | None = None
        self._is_said = False

    def is_worth_trying(self) -> bool:
        """Whether there was room the last time, or that is a while ago."""
        return self._retry_at is None or self._clock() >= self._retry_at

    def has_room(self) -> None:
        """Something could be written."""
        self._retry_at = None

    def is_full(self, error: OSError) -> None:
        """Something did not fit; it is lost, `lose` counts it.

        Raises:
            SinkError: that is not why it could not be written.
        """
        if error.errno not in FULL:
            raise SinkError(f"{self._purpose}: cannot write to {self._path}: {error.strerror}") from error
        self._retry_at = self._clock() + RETRY_S
        if not self._is_said:
            self._is_said = True
            logger.warning(
                "%s: cannot write to %s: %s; what does not fit is left out, until there is room",
                self._purpose,
                self._path,
                error.strerror,
            )

    def lose(self, lines: int) -> None:
        """Count lines that were not written."""
        self.lost += lines

    def remark(self, what: str = "lines") -> str | None:
        """Return how much is missing; None: nothing."""
        if not self.lost:
            return None
        return f"{self._purpose}: {self.lost} {what} are missing in {self._path}: the disk was full"


class LineFile:
    """One file of lines. The content of an existing one stays until the first line replaces it."""

    def __init__(
        self,
        path: Path,
        purpose: str,
        *,
        header: bytes = b"",
        is_private: bool = False,
        rotate_bytes: int | None = None,
        keep_files: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet.

        Args:
            path: of the file; a device or a pipe is written to as it is.
            purpose: what writes it (`sinks.events`), for messages.
            header: first line of each file.
            is_private: whether nobody else may read it.
            rotate_bytes: begin a new file instead of one that is larger, and keep the old one as `<path>.1`, an older
                log of another run too; None: never.
            keep_files: how many old ones are kept.
            clock: monotonic seconds.
        """
        self.path = path
        self.begun = False
        self.space = DiskSpace(path, purpose, clock)
        self._purpose = purpose
        self._header = header
        self._is_private = is_private
        self._rotate_bytes, self._keep_files = rotate_bytes, keep_files
        self._rotations = 0
        self._file: int | None = None
        self._is_regular = True
        self._is_stuck = False

    @property
    def is_open(self) -> bool:
        """Whether it can be written."""
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes in the open file."""
        assert self._file is not None
        return os.fstat(self._file).st_size

    @property
    def files(self) -> list[Path]:
        """The file, once something was written, and the old ones of this run that are still there."""
        old = [_numbered(self.path, number) for number in range(1, min(self._rotations, self._keep_files) + 1)]
        return [self.path, *filter(Path.exists, old)] if self.begun else []

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            SinkError: that cannot be.
        """
        try:
            self._file = self._opened(NEW_FILE)
        except OSError as error:
            raise SinkError(f"{self._purpose}: cannot write to {self.path}: {error.strerror}") from error
        self._is_regular = stat.S_ISREG(os.fstat(self._file).st_mode)

    def begin(self) -> None:
        """Replace what an older run wrote, by the header; nothing after the first time."""
        if not self.begun:
            self.write(b"", 0)

    def write(self, block: bytes, lines: int = 1, *, is_last: bool = False) -> bool:
        """Write lines, all or none.

        Args:
            block: the lines, each with its end.
            lines: how many these are.
            is_last: whether this is the last chance: try also where the disk was full a moment ago.

        Returns:
            False where the disk is full: the lines are counted as lost.

        Raises:
            SinkError: they cannot be written for another reason.
        """
        assert self._file is not None
        if not self.begun:
            self.begun = True
            self._clear_away()
        if not is_last and not self.space.is_worth_trying():
            self.space.lose(lines)
            return False
        try:
            self._follow(len(block))
            text = self._header + block if self._header and self._is_regular and not self.size else block
            self._append(text)
        except OSError as error:
            self.space.lose(lines)
            self.space.is_full(error)
            return False
        self.space.has_room()
        return True

    def close(self) -> None:
        """Close the file; nothing is waiting to be written."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _append(self, text: bytes) -> None:
        assert self._file is not None
        rest = memoryview(text)
        try:
            while rest:  # a full disk takes a part and refuses the next write
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            written = len(text) - len(rest)
            with contextlib.suppress(OSError):  # a pipe cannot be cut
                if written:
                    os.ftruncate(self._file, max(0, self.size - written))
            raise

    def _clear_away(self) -> None:
        """Make room for this run: older lines are dropped, or kept as an old file where files are rotated."""
        assert self._file is not None
        if self._rotate_bytes is not None and self._is_regular and self.size:
            self._rotate()
        else:
            with contextlib.suppress(OSError):  # nor emptied
                os.ftruncate(self._file, 0)

    def _follow(self, coming: int) -> None:
        """See that the open file is the one at the path, and not too large."""
        assert self._file is not None
        if not self._is_regular:
            return
        ours = os.fstat(self._file)
        try:
            there = os.stat(self.path)
            is_ours = (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)
        except OSError:
            is_ours = False
        if not is_ours:
            self._replace()
        elif self._rotate_bytes is not None and ours.st_size and ours.st_size + coming > self._rotate_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """Make this file `<path>.1`, that one `.2` and so on, and begin a new one."""
        try:
            for number in range(self._keep_files - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(_numbered(self.path, number), _numbered(self.path, number + 1))
            os.replace(self.path, _numbered(self.path, 1))
        except OSError as error:
            self._complain("cannot be rotated", error)
            self._rotate_bytes = None  # each attempt would move the old ones on
            return
        self._rotations += 1
        self._replace()

    def _replace(self) -> None:
        """Go on in the file that is at the path now, or in a new one; where neither is possible in the one we have."""
        try:
            file = self._opened(NEW_FILE)
        except OSError as error:
            self._complain("is gone, and no new one can be made", error)
            return
        self.close()
        self._file = file
        self._is_stuck = False

    def _opened(self, flags: int) -> int:
        file = os.open(self.path, flags, PRIVATE if self._is_private else ORDINARY)
        if self._is_private and stat.S_ISREG(os.fstat(file).st_mode):
            os.fchmod(file, PRIVATE)  # also where it was there before
        return file

    def _complain(self, what: str, error: OSError) -> None:
        if not self._is_stuck:
            self._is_stuck = True
            logger.warning("%s: %s %s: %s", self._purpose, self.path, what, error.strerror)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
