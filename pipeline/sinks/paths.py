"""Output folders, checked before a run starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pipeline.errors import ConfigError


def prepare_folder(folder: Path, purpose: str) -> None:
    """Create an output folder and prove that a file can be written there.

    Args:
        folder: to create, with its parents.
        purpose: the sink's name, for the message.

    Raises:
        ConfigError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        where = folder if str(folder) else Path(os.curdir)
        raise ConfigError(f"sinks.{purpose}: cannot write to folder {where}: {error.strerror}") from error
