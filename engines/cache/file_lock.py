"""A lock between processes and threads: a file, locked by `flock`, that says who holds it, and what for.

The kernel lets go of it however its holder ends, so a killed process blocks nobody. Whoever waits tells so once: the
holder may be busy for minutes. The file is deleted under the lock, so a waiter may find itself with the lock of a
file that is gone; it then begins again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

LONGEST = 1000
"""Bytes that are read of what a holder says of itself."""


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of that file, waiting for it where somebody else has it.

    Args:
        path: the lock file; created, and deleted afterwards.
        what: what is done meanwhile, for who waits: `builds yolox-nano`.

    Raises:
        OSError: it cannot be created.
    """
    descriptor = _taken(path, what)
    if descriptor is None:
        descriptor = _waited_for(path, what)
    try:
        yield
    finally:
        _let_go(path, descriptor)


@contextlib.contextmanager
def locked_if_free(path: Path, what: str = "will soon be done") -> Iterator[bool]:
    """Hold the lock of that file if nobody else does; say whether it is held; see `locked`."""
    descriptor = _taken(path, what)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _let_go(path, descriptor)


def _taken(path: Path, what: str) -> int | None:
    """Return a descriptor that holds the lock; None: somebody else does."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor if _is_still(path, descriptor, what) else _taken(path, what)


def _waited_for(path: Path, what: str) -> int:
    descriptor = _open(path)
    holder = os.pread(descriptor, LONGEST, 0).decode(errors="replace").strip() or "another process"
    logger.warning("waiting for %s", holder)
    while True:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(path, descriptor, what):
            return descriptor
        descriptor = _open(path)


def _open(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_still(path: Path, descriptor: int, what: str) -> bool:
    """Sign a lock that was got, and say whether it is that of the file which is there now; else close it."""
    try:
        there = os.stat(path, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        there = False
    if not there:
        os.close(descriptor)
        return False
    with contextlib.suppress(OSError):  # a full disk: it is locked all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, which {what}\n".encode(), 0)
    return True


def _let_go(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor)):  # or it is another's by now
            path.unlink()
    os.close(descriptor)
