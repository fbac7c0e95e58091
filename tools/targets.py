"""Files that a command is told to write: what cannot be written is said before the work, not after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError


def check_target(option: str, path: Path | None) -> None:
    """See that a file can be written, as far as that shows without writing it; None: none is to be.

    Raises:
        ConfigError: it is a folder, its folder does not exist, or writing is not permitted.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path}: that is a folder, name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}, make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{option} {path}: you may not write there")


def check_targets(paths: Mapping[str, Path | None]) -> None:
    """See the same of several files, by option; all that cannot be written are said at once.

    Raises:
        ConfigError: there are such files.
    """
    problems = []
    for option, path in paths.items():
        try:
            check_target(option, path)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
