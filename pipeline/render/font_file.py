"""Is a file a font? OpenCV does not look: given a text file or random bytes for a font, the process is killed.

What is looked at is the head of the file: its first four bytes, that the tables which letters are drawn from are
there, and that they lie inside the file. Source: the OpenType specification, "Organization of an OpenType Font".
"""

from __future__ import annotations

import struct
from pathlib import Path

from pipeline.errors import ConfigError

SINGLE = (b"\0\1\0\0", b"true", b"OTTO")
COLLECTION = b"ttcf"
NEEDED = {b"cmap", b"head", b"hhea", b"hmtx", b"maxp"}
OUTLINES = ({b"glyf", b"loca"}, {b"CFF "})
MOST_TABLES = 200
"""Fonts have 10 to 30."""


def check_font(path: Path) -> None:
    """See that a file is a whole TrueType or OpenType font.

    Raises:
        ConfigError: it is not, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"render.font: {path} cannot be read: {error.strerror}") from error
    tables = _tables(data)
    if tables is None or not tables.keys() >= NEEDED or not any(tables.keys() >= each for each in OUTLINES):
        raise ConfigError(f"render.font: {path} is no TrueType or OpenType font: name a .ttf, .otf or .ttc file")
    if any(start + length > len(data) for start, length in tables.values()):
        raise ConfigError(f"render.font: {path} is cut off: parts of the font lie beyond its end ({len(data)} bytes)")


def _tables(data: bytes) -> dict[bytes, tuple[int, int]] | None:
    """Return start and length of each table of the first font in a file; None where it has no such head."""
    try:
        start = struct.unpack_from(">I", data, 12)[0] if data[:4] == COLLECTION else 0
        if data[start : start + 4] not in SINGLE:
            return None
        (count,) = struct.unpack_from(">H", data, start + 4)
        entries = [struct.unpack_from(">4s4xII", data, start + 12 + 16 * row) for row in range(count)]
    except struct.error:
        return None
    return {tag: (begin, length) for tag, begin, length in entries} if count <= MOST_TABLES else None
