"""CsvTable: a row for each detection and each face, for spreadsheets and data frames.

RFC 4180 as the csv module writes it, UTF-8. The rows of a frame are written by one system call, all or none, at once:
`line_file` says what happens on a full disk. Spreadsheets take a cell that begins with = + - or @ for a formula, and
names come from galleries, models and files that others may have made. Such texts, never numbers, get an apostrophe in
front (source: OWASP, CSV Injection); the event log has them as they are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.capture.source import SourceInfo
from pipeline.frame import Frame
from pipeline.sinks.line_file import LineFile
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.records import frame_line
from pipeline.sinks.sink import Sink

COLUMNS = (
    *("source", "frame", "pts", "wall_time", "kind", "class", "score", "track", "name", "similarity"),
    *("x1", "y1", "x2", "y2", "speed", "speed_m_s", "file"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text must not begin with."""


class CsvTable(Sink):
    """The table of a run, of all its sources."""

    name = "csv"

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._table = LineFile(path, "sinks.csv", header=to_csv([dict(zip(COLUMNS, COLUMNS, strict=True))]))

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the file can be written."""
        prepare_file(self._table.path, "sinks.csv")

    def open(self) -> None:
        """Open the file. The content of an existing one stays until the first frame replaces it."""
        self._table.open()

    def consume(self, frame: Frame) -> None:
        """Write the frame's rows."""
        self._table.begin()
        if rows := list(rows_of(frame)):
            self._table.write(to_csv(rows), len(rows))

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    @property
    def files(self) -> list[Path]:
        """The table."""
        return self._table.files

    @property
    def dropped(self) -> int:
        """Rows that a full disk cost."""
        return self._table.space.lost

    def remark(self) -> str | None:
        """Say how many rows are missing."""
        return self._table.space.remark("rows")


def rows_of(frame: Frame) -> Iterator[dict[str, Any]]:
    """Yield a row for each detection, then one for each face, by the names of `COLUMNS`; what is not known is left."""
    record = frame_line(frame)
    common = {name: record.get(name) for name in ("source", "frame", "pts", "wall_time", "file")}
    for kind, found in (("object", record["detections"]), ("face", record["faces"])):
        for each in found:
            place = dict(zip(("x1", "y1", "x2", "y2"), each["box"], strict=True))
            yield common | each | place | {"kind": kind}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as text; a file name that is no UTF-8 is written with backslashes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
