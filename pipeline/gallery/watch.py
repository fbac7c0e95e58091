"""A gallery that may change while it is searched.

A thread asks four times a second whether anybody has changed the file, which takes microseconds. It reads what changed,
at most once a second, and puts a new matcher in the place of the old one: whoever searches never waits, and never sees
half a gallery.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery.calibration import Calibration
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.private_file import kind_of
from pipeline.gallery.records import EmbedderId, Snapshot
from pipeline.gallery.store import GalleryFile

LOOK_EVERY_S = 0.25
READ_EVERY_S = 1.0
"""Enrolling a folder changes the gallery many times a second; reading a large one takes about a second of a core."""
CLOSE_WITHIN_S = 1.0
"""How long `close` waits for the thread, which may be building an index; it is a daemon."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """A gallery at one moment."""

    matcher: Matcher
    calibration: Calibration | None
    """None: it was not calibrated."""


class WatchedGallery:
    """What is known, kept up to date; a gallery that does not exist yet is empty, and read when it appears."""

    def __init__(self, path: Path, embedder: EmbedderId) -> None:
        """Read the gallery and begin to watch it.

        Raises:
            GalleryError: the file exists and is no gallery of that embedder.
        """
        self._path = path
        self._embedder = embedder
        self._known = Known(Matcher(Snapshot.empty(embedder.dimensions), embedder.metric), None)
        self._file: GalleryFile | None = None
        self._seen: tuple[int, ...] = ()
        self._next_read = 0.0
        self._complaint: GalleryError | None = None
        self._first_look = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gallery", daemon=True)
        if (complaint := self._start()) is not None:
            self.close()
            raise complaint

    @property
    def known(self) -> Known:
        """The gallery as it is, or was about a second ago; one object, so its parts belong together."""
        return self._known

    @property
    def matcher(self) -> Matcher:
        """The search in it."""
        return self._known.matcher

    def close(self) -> None:
        """Stop watching; what is known stays."""
        self._closed.set()
        self._thread.join(CLOSE_WITHIN_S)

    def _start(self) -> GalleryError | None:
        """Start the thread; return what is wrong at its first look."""
        self._thread.start()
        self._first_look.wait()
        return self._complaint

    def _watch(self) -> None:
        """Look again and again, in the one thread that may use the file."""
        try:
            self._look_or_complain()
            self._first_look.set()
            while not self._closed.wait(LOOK_EVERY_S):
                self._look_or_complain()
        finally:
            self._first_look.set()
            self._let_go()

    def _look_or_complain(self) -> None:
        """Look; a gallery that cannot be read is told once, and what was known is kept."""
        try:
            self._look()
        except GalleryError as error:
            self._complain(error)
        except Exception as error:  # the thread must live on: the file may be put right
            failure = GalleryFailure(f"cannot read the gallery {self._path}: {error!r}")
            failure.__cause__ = error
            self._complain(failure)
        else:
            if self._complaint is not None:
                logger.info("the gallery %s is read again", self._path)
            self._complaint = None

    def _complain(self, error: GalleryError) -> None:
        self._let_go()
        if self._first_look.is_set() and str(error) != str(self._complaint):
            logger.warning("%s; the people read before stay known", error)
        self._complaint = error

    def _look(self) -> None:
        """Read the gallery if it is another file than before, or was changed, by SQLite or by a copy over it."""
        try:
            status = self._path.stat()
        except OSError as error:
            if self._file is None and self._complaint is None:
                return  # there has not been one yet
            raise kind_of(error)(f"cannot read the gallery {self._path}: {error.strerror}") from error
        if self._file is not None and self._seen == (*_identity(status), self._file.version()):
            return
        if time.monotonic() < self._next_read:
            return
        self._next_read = time.monotonic() + READ_EVERY_S
        self._let_go()
        identity = _identity(self._path.stat())  # letting go may have changed the file
        self._file = GalleryFile.open(self._path, self._embedder, read_only=True)
        self._seen = (*identity, self._file.version())  # first: a change while it is read is seen at the next look
        stored = self._file.calibration()
        calibration = None if stored is None else Calibration.from_document(stored)
        self._known = Known(Matcher(self._file.encodings(), self._embedder.metric), calibration)

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what is different for another file at the path, and for the same one with other contents."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
