"""What YOLO's class numbers are called: a data.yaml, or a file of names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

DESCRIPTIONS = (".yaml", ".yml")
NAME_FILES = ("classes.txt", "obj.names", "classes.names")
Names = dict[int, str]


def read_lines(path: Path) -> list[str]:
    """Read a text file.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text: {error}") from error


def load_description(path: Path) -> dict[str, Any]:
    """Read a data.yaml.

    Raises:
        ConfigError: it is none.
    """
    try:
        content = yaml.safe_load("\n".join(read_lines(path)))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no data.yaml: expected a mapping with 'names' and 'val'")
    return content


def read_names(path: Path | None) -> Names | None:
    """Read a file of names; None where none was given.

    Raises:
        ConfigError: it holds no names.
    """
    if path is None:
        return None
    if path.suffix.lower() in DESCRIPTIONS:
        names = names_in(path, load_description(path))
    else:
        names = {number: line.strip() for number, line in enumerate(read_lines(path)) if line.strip()}
    if not names:
        raise ConfigError(f"{path} holds no names: expected one a line, or YAML with 'names'")
    return names


def names_in(path: Path | None, content: dict[str, Any]) -> Names | None:
    """Return the `names` of a data.yaml; None where it has none.

    Raises:
        ConfigError: they are neither a list nor a mapping from numbers.
    """
    names = content.get("names")
    if not names:
        return None
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    try:
        named = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        named = {}
    if not named:
        raise ConfigError(f"{path}: 'names' must be a list of names, or say number: name")
    return named


def names_beside(places: Iterable[Path]) -> Names | None:
    """Return the names in the first of the usual files in these folders; None where there is none."""
    files = (place / name for place in places for name in NAME_FILES)
    return read_names(next((file for file in files if file.is_file()), None))


def keypoint_numbers(content: dict[str, Any]) -> int | None:
    """Return how many numbers stand behind the box in labels for pose; None where a data.yaml describes no such."""
    match content.get("kpt_shape"):
        case [int(points), int(values)]:
            return points * values
    return None
