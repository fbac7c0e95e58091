"""Checkpoints: all there is of a training, in one file that is whole or not there.

What a checkpoint was made with (settings, data) is its identity: with another one a training cannot go on.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engines.errors import FrameloomError
from pipeline.errors import ConfigError

UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What PyTorch raises for a damaged checkpoint."""
NAME = "checkpoint.pt"


def new_checkpoint(folder: Path, *, resume: bool) -> Path:
    """Make the output folder and return the checkpoint's path; an existing one is never overwritten unasked.

    Raises:
        ConfigError: there is one and it is not to be gone on with, or the folder cannot be made.
    """
    path = folder / NAME
    if path.exists() and not resume:
        raise ConfigError(f"{path} exists: --resume goes on with it, another --out leaves it alone")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return path


def save(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any], *, private: bool = False) -> None:
    """Write a checkpoint in place of the last one.

    Args:
        path: of the file.
        identity: plain values by name; `load` compares them.
        state: state dictionaries and plain values by name.
        private: whether only its owner may read it.

    Raises:
        FrameloomError: it cannot be written; the last one is as it was.
    """
    scratch = path.with_name(f"{path.name}.tmp")
    try:
        with scratch.open("wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            torch.save({"identity": dict(identity), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise FrameloomError(f"the checkpoint {path} cannot be written: {error.strerror}") from error


def load(path: Path, device: str) -> dict[str, Any]:
    """Read a checkpoint; no code in it is run.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"there is nothing to resume: {path}: {error.strerror}") from error
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if not isinstance(state["identity"], dict):
            raise TypeError("no identity")
    except UNREADABLE as error:
        raise damaged(path) from error
    return dict(state)


def damaged(path: Path) -> ConfigError:
    """Say that a checkpoint cannot be used."""
    return ConfigError(f"{path} is damaged, or another program's; leave out --resume")


def check_identity(path: Path, made_with: Mapping[str, Any], now: Mapping[str, Any], quiet: str = "") -> None:
    """Refuse to go on with other settings or data.

    Args:
        path: of the checkpoint.
        made_with: its identity.
        now: the one of this training.
        quiet: of keys that end so, the values are not told.

    Raises:
        ConfigError: naming the first difference.
    """
    for key, value in now.items():
        if key not in made_with:
            raise damaged(path)
        if made_with[key] != value:
            shown = "" if quiet and key.endswith(quiet) else f": {made_with[key]}, now {value}"
            raise ConfigError(f"{path} was made with other {key.replace('_', '-')}{shown}; leave out --resume")
