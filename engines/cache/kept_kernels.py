"""Kernels that were compiled while a plan ran, kept for the next process: TensorRT-RTX leaves that work to the runtime.

Only time hangs on them, so nothing here raises: what cannot be kept, or is not as it was written, is compiled again.
The file is the sha256 of what follows, then what TensorRT-RTX has written, which it checks against the GPU itself.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from engines.cache.file_lock import locked_if_free
from engines.cache.whole_files import read_whole, write_whole

logger = logging.getLogger(__name__)

KERNELS = ".kernels"
"""Ending of such a file; its name begins with the first `OF_PLAN` digits of its plan's sha256."""
OF_PLAN = 16
_SHA256_BYTES = hashlib.sha256().digest_size


class KeptKernels:
    """Those of one plan on one kind of GPU."""

    def __init__(self, path: Path, lock: Path) -> None:
        """Keep them in that file; who writes holds the lock."""
        self._path = path
        self._lock = lock
        self._content = b""

    def read(self) -> bytes:
        """Return what was kept last; nothing where there is none, or it is damaged."""
        try:
            file = read_whole(self._path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            logger.info("%s cannot be read, so kernels are compiled again: %s", self._path, error.strerror)
            return b""
        sha256, content = file[:_SHA256_BYTES], file[_SHA256_BYTES:]
        if hashlib.sha256(content).digest() != sha256:
            logger.info("%s is damaged, so kernels are compiled again", self._path)
            return b""
        self._content = content
        return content

    def write(self, content: bytes) -> None:
        """Keep this from here on, unless it is what is there, or somebody else is writing."""
        if content == self._content:
            return
        try:
            with locked_if_free(self._lock, "keeps compiled kernels") as free:
                if free:
                    write_whole(self._path, hashlib.sha256(content).digest() + content)
                    self._content = content
        except OSError as error:
            logger.info("compiled kernels cannot be kept as %s: %s", self._path, error.strerror)
