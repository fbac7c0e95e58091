"""Part: one file of a spool. A line is an event: its checksum (CRC-32, 8 hexadecimal digits), a blank, its payload."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".events"
CHUNK = 1 << 20


@dataclass(slots=True)
class Part:
    """One file: lines of consecutive events."""

    path: Path
    first: int
    """Number of its first event."""
    count: int = 0
    size: int = 0

    @property
    def end(self) -> int:
        """Number of the event after its last one."""
        return self.first + self.count


def counted(path: Path) -> Part:
    """Return a file that an earlier run left; a last line that was not written whole counts, and will be damaged."""
    part = Part(path, int(path.stem))
    last = b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            part.count += chunk.count(b"\n")
            part.size += len(chunk)
            last = chunk[-1:]
    part.count += last != b"\n"
    return part


def line_of(payload: bytes) -> bytes:
    """Return the line of a payload, which holds no line break."""
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def payload_of(line: bytes) -> bytes | None:
    """Return what a line holds; None where it is not what was written."""
    checksum, _, payload = line.removesuffix(b"\n").partition(b" ")
    try:
        return payload if line.endswith(b"\n") and int(checksum, 16) == zlib.crc32(payload) else None
    except ValueError:
        return None
