"""What `frameloom bench gpu` has found so far: printed part by part, and kept in a file after each.

A GPU is often lent for minutes. A part that fails is told and leaves the others alone, and what was measured before a
process is killed, or brought down by a driver, is in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from engines.errors import DeviceLost, FrameloomError

if TYPE_CHECKING:
    from rich.console import Console

Column = tuple[str, str, Callable[[Any], object]]
"""Heading, format, and what is read from a row; None is shown as nothing."""


@dataclass(frozen=True)
class Part:
    """A table: its name in the file, what was measured in words, its columns."""

    name: str
    title: str
    columns: Sequence[Column]


class Report:
    """Tables and problems, by name."""

    def __init__(self, console: Console, file: Path | None) -> None:
        """Begin with nothing."""
        self._console, self._file = console, file
        self.found: dict[str, Any] = {"problems": []}

    def say(self, line: str) -> None:
        """Print a line as it is."""
        self._console.print(line, markup=False, soft_wrap=True)

    def keep(self, name: str, value: Any) -> None:
        """Add something that is no table."""
        self.found[name] = value
        self._write()

    def problem(self, part: str, error: object) -> None:
        """Add why a part is missing, or is not whole."""
        self.found["problems"].append({"part": part, "words": str(error)})
        self._console.print(f"{part}: {error}", markup=False, soft_wrap=True, style="yellow")
        self._write()

    def measure(self, part: Part, *sources: Callable[[], Iterable[Any]]) -> None:
        """Measure a table, print it and keep it; a source of rows that fails keeps those it gave, and others go on.

        Raises:
            DeviceLost: nothing else can be measured in this process; what there is has been kept.
        """
        measured: list[Any] = []
        failures: list[FrameloomError] = []
        for rows in sources:
            try:
                for row in rows():
                    measured.append(row)
                    self.found.setdefault(part.name, []).append(asdict(row))
                    self._write()
            except FrameloomError as error:
                failures.append(error)
                if isinstance(error, DeviceLost):
                    break
        self._print(part, measured)
        for failure in failures:
            self.problem(part.name, failure)
        if failures and isinstance(failures[-1], DeviceLost):
            raise failures[-1]

    def _print(self, part: Part, rows: Sequence[Any]) -> None:
        if not rows:
            return
        self.say(part.title)
        self._console.print(as_table(part, rows))
        for row in rows:
            if words := getattr(row, "words", ""):
                self._console.print(f"  {words}", markup=False, soft_wrap=True, style="yellow")
        self._console.print()

    def _write(self) -> None:
        if self._file is not None:
            self._file.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")


def as_table(part: Part, rows: Sequence[Any]) -> Table:
    """Return rows under headings; columns that hold nothing are left out."""
    table = Table(box=None, pad_edge=False)
    values = [[read(row) for _, _, read in part.columns] for row in rows]
    shown = [place for place in range(len(part.columns)) if any(line[place] is not None for line in values)]
    for place in shown:
        is_text = all(isinstance(line[place], str) for line in values)
        table.add_column(part.columns[place][0], justify="left" if is_text else "right", overflow="fold")
    for line in values:
        table.add_row(*(_text(line[place], part.columns[place][1]) for place in shown))
    return table


def _text(value: object, form: str) -> str:
    return "" if value is None else format(value, form)
