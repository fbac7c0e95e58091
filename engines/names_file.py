"""Names of classes in a text file beside a model: `best.names` or `best.txt` beside `best.onnx`, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engines.metadata import LONGEST_LABEL, MOST_LABELS

if TYPE_CHECKING:
    from pathlib import Path

NAMES, TEXT = ".names", ".txt"
MOST_BYTES = 1 << 20


class NamesFile(NamedTuple):
    """A file of names, and what is in it."""

    path: Path
    names: tuple[str, ...]


def names_beside(model_file: Path, classes: int) -> NamesFile | None:
    """Return the names in such a file beside a model; None: there is none, or it is no list of names.

    Any text may be called `.txt`: it only counts where it has a line for each class.

    Args:
        model_file: of which the classes are.
        classes: how many it has; 0: it does not say.
    """
    for suffix in (NAMES, TEXT):
        path = model_file.with_suffix(suffix)
        names = _read(path) if path.is_file() else ()
        if names and (suffix == NAMES or len(names) == classes):
            return NamesFile(path, names)
    return None


def _read(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return ()
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    names = tuple(" ".join(line.split()) for line in lines)
    are_names = len(names) <= MOST_LABELS and all(name.isprintable() and len(name) <= LONGEST_LABEL for name in names)
    return names if are_names else ()
