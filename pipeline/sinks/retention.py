"""Retention: what was recorded is deleted again, oldest first, when it is too old or all takes too much.

What is on the disk is looked up when a file begins or ends; in between only what is being written grows. Looking
takes 17 us a file, and frames wait meanwhile: where there are thousands, only the first look is real (20,000 files:
0.34 s), and after it the list is kept up. Files that are being written or read are never deleted, nor is anything that
`find` does not call our own.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)
MANY = 1000
"""Recordings on the disk above which they are not looked up again: what others write or delete there goes unseen."""


@dataclass(frozen=True)
class Kept:
    """One recording on the disk, with what belongs to it."""

    paths: tuple[Path, ...]
    """In the order of deletion."""
    size: int
    """Bytes."""
    ended_at: float
    """UTC seconds when it was last written."""

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Kept | None:
        """Look at files; None where none of them is there."""
        there, size, ended_at = [], 0, 0.0
        for path in paths:
            with suppress(OSError):
                found = os.stat(path, follow_symlinks=False)
                there.append(path)
                size, ended_at = size + found.st_size, max(ended_at, found.st_mtime)
        return cls(tuple(there), size, ended_at) if there else None


class Retention:
    """Deletes the oldest of what a rule no longer allows."""

    def __init__(
        self,
        purpose: str,
        root: Path,
        find: Callable[[], Iterable[Kept]],
        most_bytes: float | None = None,
        most_age_s: float | None = None,
        clock: Callable[[], float] = time.time,
        deleted: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Delete nothing yet.

        Args:
            purpose: what asked for it (`clips`), for messages.
            root: folders below it that become empty are deleted, too.
            find: returns all that there is, in any order.
            most_bytes: that all may take together; None: any.
            most_age_s: seconds after which one is deleted; None: never.
            clock: returns UTC seconds.
            deleted: is told of each file that is gone.
        """
        self._purpose, self._root, self._find, self._clock = purpose, root, find, clock
        self._deleted = deleted
        self._most_bytes, self._most_age_s = most_bytes, most_age_s
        self._kept: OrderedDict[Path, Kept] = OrderedDict()
        """By the first of their files, the oldest first."""
        self._size = 0
        """Bytes of all of them."""
        self._refused: set[Path] = set()

    @property
    def is_on(self) -> bool:
        """Whether anything is ever deleted."""
        return self._most_bytes is not None or self._most_age_s is not None

    def look(self, spare: Collection[Path] = ()) -> None:
        """See what is there, apart from `spare`: what is being written is told to `make_room`."""
        if len(self._kept) > MANY:
            for path in spare:
                self._forget(path)
        elif self.is_on:
            kept = [each for each in self._find() if not any(path in spare for path in each.paths)]
            kept.sort(key=lambda each: each.ended_at)
            self._kept = OrderedDict((each.paths[0], each) for each in kept)
            self._size = sum(each.size for each in kept)

    def add(self, paths: Iterable[Path]) -> None:
        """Know of one that has just been finished; nothing where its files are not there."""
        kept = Kept.of(paths) if self.is_on else None
        if kept is not None:
            self._forget(kept.paths[0])
            self._kept[kept.paths[0]] = kept
            self._size += kept.size

    def make_room(self, growing: int = 0) -> bool:
        """Delete the oldest until the rule holds.

        Args:
            growing: bytes of what is being written now.

        Returns:
            False where it does not hold although there is nothing left to delete.
        """
        while self._kept and (self._is_too_much(growing) or self._is_too_old(next(iter(self._kept.values())))):
            self._delete(next(iter(self._kept.values())))
        return not self._is_too_much(growing)

    def _is_too_much(self, growing: int) -> bool:
        return self._most_bytes is not None and self._size + growing > self._most_bytes

    def _is_too_old(self, kept: Kept) -> bool:
        return self._most_age_s is not None and kept.ended_at < self._clock() - self._most_age_s

    def _forget(self, path: Path) -> None:
        kept = self._kept.pop(path, None)
        self._size -= 0 if kept is None else kept.size

    def _delete(self, kept: Kept) -> None:
        self._forget(kept.paths[0])
        for path in kept.paths:
            try:
                path.unlink(missing_ok=True)
                self._deleted(path)
            except OSError as error:
                if path not in self._refused:
                    logger.warning("%s: cannot delete %s: %s", self._purpose, path, error.strerror)
                self._refused.add(path)
        for folder in kept.paths[0].parents:
            if folder == self._root or self._root not in folder.parents:
                return
            with suppress(OSError):  # something else is in it
                folder.rmdir()
