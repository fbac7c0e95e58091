"""Output paths, checked before a run starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.capture.source import SourceInfo

MEGABYTE = 1_000_000
"""Bytes: as disks are sold, and as every setting in megabytes counts them."""


def prepare_folder(folder: Path, purpose: str) -> None:
    """Create an output folder and prove that a file can be written there.

    Args:
        folder: to create, with its parents.
        purpose: what asked for it (`sinks.frames`), for the message.

    Raises:
        ConfigError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{purpose}: cannot write to folder {folder}: {error.strerror}") from error


def prepare_file(path: Path, purpose: str) -> None:
    """Prove that an output file can be written; one that exists is not touched yet.

    Raises:
        ConfigError: it cannot.
    """
    if path.is_dir():
        raise ConfigError(f"{purpose}: {path} is a folder: name a file in it")
    if os.path.exists(path):  # also a device or a pipe, in whose folder nothing can be created
        if not os.access(path, os.W_OK):
            raise ConfigError(f"{purpose}: cannot write to {path}: Permission denied")
    else:
        prepare_folder(path.parent, purpose)


def refuse_sources(paths: Iterable[Path], sources: Sequence[SourceInfo], purpose: str) -> None:
    """See that no file that is to be written is one that is read.

    Raises:
        ConfigError: one is.
    """
    read = {Path(url).resolve() for source in sources if "://" not in (url := source.url.removeprefix("file://"))}
    for path in paths:
        if path.resolve() in read:
            raise ConfigError(f"{purpose}: {path} is also a source: it would be overwritten")


def file_of_source(path: Path, source: str, sources: Sequence[SourceInfo]) -> Path:
    """Return a source's own file: the path where there is one source, else out-<source>.txt."""
    return path if len(sources) == 1 else path.with_name(f"{path.stem}-{source}{path.suffix}")
