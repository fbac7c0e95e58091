"""The folder of compiled engines: `<name>.plan`, and beside it `<name>.json`, its manifest.

A plan is read together with its manifest, and only where the two belong together. All writing is done under a lock
for each name, so a process that is killed leaves at most an unfinished file, which is never read, or a plan whose
manifest does not fit it.

A plan is code. The folder is its user's alone, so that nobody else can put one there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from engines.cache.file_lock import locked, locked_if_free
from engines.cache.manifest import Key, Manifest
from engines.cache.whole_files import read_whole, trusted_users, write_whole
from engines.errors import EngineBuildError
from engines.model_files import cache_root

logger = logging.getLogger(__name__)

PLAN, MANIFEST, LOCK = ".plan", ".json", ".lock"
UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors of a folder that is not ours to write."""


@dataclass(frozen=True)
class Cached:
    """An engine of the cache."""

    path: Path
    manifest: Manifest
    plan: bytes = field(repr=False)
    """What the file held when its sha256 was checked."""


class Damaged(Exception):
    """A plan and its manifest do not belong together, or one of them is not whole; the message says how."""


class CacheFolder:
    """Plans and manifests by name."""

    def __init__(self, folder: Path | None = None) -> None:
        """Look into `folder`; None: that of the user's cache."""
        self.folder = folder or cache_root() / "engines"

    def read(self, path: Path) -> Cached:
        """Read a plan of this folder and its manifest, and see that they belong together.

        Raises:
            Damaged: they do not.
        """
        manifest = self.manifest_of(path)
        try:
            plan = read_whole(path)
        except OSError as error:
            raise Damaged(f"{path} cannot be read: {error.strerror}") from error
        sha256 = hashlib.sha256(plan).hexdigest()
        if sha256 != manifest.plan_sha256:
            raise Damaged(
                f"{path} is damaged: its sha256 is {sha256}, and was {manifest.plan_sha256} when it was built"
            )
        return Cached(path, manifest, plan)

    def manifest_of(self, path: Path) -> Manifest:
        """Read the manifest of a plan.

        Raises:
            Damaged: there is none, it is not whole, or it belongs to another plan.
        """
        file = path.with_suffix(MANIFEST)
        try:
            manifest = Manifest.model_validate_json(read_whole(file))
        except OSError as error:
            raise Damaged(f"{path} cannot be trusted: its manifest {file.name}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise Damaged(f"{file} is no manifest: {place}: {first['msg']}") from error
        if manifest.name != path.stem:
            raise Damaged(f"{file} is the manifest of {manifest.name}, not of {path.stem}")
        return manifest

    def plans(self) -> list[Path]:
        """Return where each plan is or, where only its manifest is there, would be."""
        if not self.folder.is_dir():
            return []
        files = (file for file in self.folder.iterdir() if file.suffix in (PLAN, MANIFEST))
        return [self.plan_path(name) for name in sorted({file.stem for file in files if not file.name.startswith(".")})]

    @contextlib.contextmanager
    def lock(self, key: Key, what: str) -> Iterator[None]:
        """Let nobody else build or store the engine of this key; wait where somebody does, and say so.

        Args:
            key: of the engine.
            what: what is done meanwhile, for who waits: `builds yolox-nano`.

        Where the folder is not ours to write there is nothing to be locked, and so no lock.

        Raises:
            EngineBuildError: the disk is full or broken.
        """
        with contextlib.ExitStack() as held:
            if self.is_writable():
                try:
                    held.enter_context(locked(self._lock(key.name), what))
                except OSError as error:
                    raise _unkept(self.folder, error) from error
            yield

    @contextlib.contextmanager
    def if_free(self, name: str) -> Iterator[bool]:
        """Hold the lock of a name, for cleaning, unless somebody else does, or it cannot be a lock."""
        lock = self._lock(name)
        if not is_file(lock) and lock.exists():
            yield False
            return
        try:
            with locked_if_free(lock, f"cleans {self.folder}") as free:
                yield free
        except OSError as error:
            raise EngineBuildError(f"{self.folder} cannot be cleaned: {error.strerror}") from error

    def is_writable(self) -> bool:
        """Whether engines can be kept; makes the folder, and says once where it is not ours to write.

        Raises:
            EngineBuildError: the disk is full or broken; or see `check_trusted`.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise _unkept(self.folder, error) from error
        self.check_trusted()
        if os.access(self.folder, os.W_OK | os.X_OK):
            return True
        _warn_once(self.folder)
        return False

    def check_writable(self) -> None:
        """Refuse to build for nothing.

        Raises:
            EngineBuildError: engines cannot be kept.
        """
        if not self.is_writable():
            raise EngineBuildError(
                f"{self.folder} cannot be written, so what is built could not be kept: set FRAMELOOM_CACHE to a folder "
                "of yours"
            )

    def check_trusted(self) -> None:
        """Refuse a folder that others could put engines into.

        Raises:
            EngineBuildError: it belongs to somebody else, or others may write it.
        """
        try:
            status = self.folder.stat()
        except OSError:
            return  # nothing is read from what is not there
        if status.st_uid not in trusted_users():
            raise EngineBuildError(
                f"{self.folder} belongs to user {status.st_uid}, who could put engines there that run as you: set "
                "FRAMELOOM_CACHE to a folder of yours"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EngineBuildError(
                f"other users may write {self.folder}, and could put engines there that run as you: chmod 700 "
                f"{self.folder}, after a look at what is in it"
            )

    def write(self, path: Path, content: bytes) -> None:
        """Give a file its content, whole or not at all; the caller holds the lock.

        Raises:
            EngineBuildError: the disk is full or broken.
        """
        try:
            write_whole(path, content)
        except OSError as error:
            raise _unkept(path, error) from error

    def plan_path(self, name: str) -> Path:
        """Return where the plan of that name is, or would be."""
        return self.folder / f"{name}{PLAN}"

    def _lock(self, name: str) -> Path:
        return self.folder / f".{name}{LOCK}"


def is_file(path: Path) -> bool:
    """Whether it is a file or a link, and so something that may be deleted; what else is there is told, once."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return True
    _say_once(path)
    return False


@functools.cache
def _say_once(path: Path) -> None:
    logger.warning("%s is no file, and stays as it is", path)


@functools.cache
def _warn_once(folder: Path) -> None:
    logger.warning(
        "%s cannot be written, so compiled engines are not kept and every run builds its own: set FRAMELOOM_CACHE to "
        "a folder of yours",
        folder,
    )


def _unkept(path: Path, error: OSError) -> EngineBuildError:
    return EngineBuildError(
        f"the compiled engine cannot be kept as {path}: {error.strerror}; make room with `frameloom engines clean`, "
        "or set FRAMELOOM_CACHE to a folder on another disk"
    )
