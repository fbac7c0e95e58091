"""The text of a Darknet network (`.cfg`): sections in square brackets, one for each layer, of lines `key = value`.

As Darknet reads it: `#` and `;` begin a comment, spaces mean nothing, the first of two equal keys counts, and keys that
nobody asks for are left alone (most of them are for training). Every complaint names file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from engines.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 1 << 20
"""The largest network of Darknet's authors has 13 KB."""
LARGEST = 1 << 16
"""No size, stride or number of filters is larger."""


class Option(NamedTuple):
    """The value of a key, and the line it is written on."""

    text: str
    line: int


@dataclass(frozen=True)
class Section:
    """One section: a layer, or the network as a whole."""

    file: str
    name: str
    line: int
    options: Mapping[str, Option]

    def text(self, key: str, default: str) -> str:
        """Return a value as it is written, in lower case."""
        return self.options[key].text.lower() if key in self.options else default

    def integer(self, key: str, default: int, *, least: int = 0) -> int:
        """Return a whole number of at least `least`.

        Raises:
            ModelError: it is something else.
        """
        return default if key not in self.options else self._whole(key, self.options[key].text, least)

    def integers(self, key: str) -> list[int]:
        """Return whole numbers with commas between them; empty where the key is not there."""
        return [self._whole(key, each, -LARGEST) for each in self._each(key)]

    def numbers(self, key: str) -> list[float]:
        """Return numbers with commas between them; empty where the key is not there."""
        values = []
        for each in self._each(key):
            try:
                value = float(each)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise self.wrong(f"{key} should be numbers with commas between them, not {each!r}", key)
            values.append(value)
        return values

    def wrong(self, why: str, key: str | None = None) -> ModelError:
        """Return the error for this section, or one key of it."""
        line = self.options[key].line if key is not None and key in self.options else self.line
        return ModelError(f"{self.file}, line {line}, [{self.name}]: {why}")

    def _each(self, key: str) -> list[str]:
        return [each for each in self.options[key].text.split(",") if each] if key in self.options else []

    def _whole(self, key: str, text: str, least: int) -> int:
        try:
            value = int(text)
        except ValueError:
            raise self.wrong(f"{key} should be a whole number, not {text!r}", key) from None
        if not least <= value <= LARGEST:
            raise self.wrong(f"{key} should be {least} to {LARGEST}, not {value}", key)
        return value


def read_sections(path: Path) -> list[Section]:
    """Read the file; the first section is `[net]`, the others are layers.

    Raises:
        ModelError: it cannot be read, or is no such text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES or b"\0" in content:
        raise ModelError(f"{path} is not a Darknet network: no text of at most {MOST_BYTES} bytes")
    sections: list[Section] = []
    for line, text in _lines(content):
        if text.startswith("["):
            if not text.endswith("]"):
                raise ModelError(f"{path}, line {line}: a section should end with ], not {text!r}")
            sections.append(Section(str(path), text[1:-1].lower(), line, {}))
            continue
        key, equals, value = text.partition("=")
        if not equals or not sections:
            what = "key = value" if sections else "[net]"
            raise ModelError(f"{path} is not a Darknet network: line {line} should be {what}, not {text[:40]!r}")
        options = sections[-1].options
        assert isinstance(options, dict)
        options.setdefault(key, Option(value, line))
    if not sections or sections[0].name not in ("net", "network"):
        first = f"[{sections[0].name}] on line {sections[0].line}" if sections else "nothing"
        raise ModelError(f"{path} is not a Darknet network: it should begin with [net], not {first}")
    return sections


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers, without spaces and comments."""
    for line, raw in enumerate(content.decode("utf-8-sig", "replace").splitlines(), start=1):
        text = "".join(raw.partition("#")[0].split())
        if text and not text.startswith(";"):
            yield line, text
