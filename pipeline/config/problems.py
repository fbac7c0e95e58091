"""Where settings come from, and how a mistake in one is shown.

config.yaml:12:15: detect.confidence: 1.4 is too large: at most 1 [number 0..1]
   12 |   confidence: 1.4
      |               ^^^
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

from engines.masking import mask_passwords

_EXCERPT = 100  # columns of a long line that are shown


@dataclass(frozen=True)
class Span:
    """A part of one line, 0-based; without `end`, to the end of the line."""

    line: int
    column: int
    end: int | None


@dataclass(frozen=True)
class Origin:
    """Where a setting comes from: a file (then with places), an option, or "default"."""

    name: str
    key: Span | None = None
    value: Span | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.key.line + 1}:{self.key.column + 1}" if self.key else self.name


@dataclass(frozen=True)
class Problem:
    """Something wrong, and where."""

    origin: Origin
    text: str
    span: Span | None = None


def report(problems: Iterable[Problem], lines: Sequence[str] = ()) -> str:
    """All problems, those of the file first, in its order."""
    order = sorted(dict.fromkeys(problems), key=lambda p: (p.span.line, p.span.column) if p.span else (len(lines), 0))
    return "\n".join(_block(problem, lines) for problem in order)


def _block(problem: Problem, lines: Sequence[str]) -> str:
    """The message; for a place in a file also its line, with the place marked."""
    span = problem.span
    if span is None:
        return _printable(mask_passwords(f"{problem.origin.name}: {problem.text}"))
    head = _printable(mask_passwords(f"{problem.origin.name}:{span.line + 1}:{span.column + 1}: {problem.text}"))
    line = mask_passwords(lines[span.line], same_length=True) if span.line < len(lines) else ""
    end = len(line.rstrip()) if span.end is None else span.end
    start = max(0, span.column - _EXCERPT // 2) if len(line) > _EXCERPT else 0
    stop = start + _EXCERPT
    before, marked, after = (
        _printable(part) for part in (line[start : span.column], line[span.column : min(end, stop)], line[end:stop])
    )
    carets = "^" * max(1, cell_len(marked))
    return f"{head}\n{span.line + 1:5} | {before}{marked}{after}\n{'':5} | {' ' * cell_len(before)}{carets}"


def _printable(text: str) -> str:
    """The text without what would move the cursor; a tab becomes a space."""
    return "".join(c if c.isprintable() else " " if c == "\t" else repr(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value as a person would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return repr(str(value)) if isinstance(value, str | Path) else str(value)
