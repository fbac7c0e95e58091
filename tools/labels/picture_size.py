"""Size of a picture from its header: labels in fractions need it, and decoding 5,000 pictures for it takes minutes.

It is the size of what `read_image` gives: turned by its EXIF orientation. JPEG and PNG are read here; any other format,
and a PNG with EXIF data, is decoded.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from pipeline.capture.images import PNG, read_image

JPEG = b"\xff\xd8"
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
EXIF_SEGMENT = 0xE1
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


def picture_size(path: Path) -> tuple[int, int] | None:
    """Return width and height in pixels; None where it is no picture that can be read."""
    try:
        with path.open("rb") as file:
            start = file.read(len(PNG))
            size = None
            if start.startswith(JPEG):
                file.seek(len(JPEG))
                size = _jpeg_size(file)
            elif start == PNG:
                size = _png_size(file)
    except OSError:
        return None
    if size is not None:
        return size
    image = read_image(path)
    return None if image is None else (image.shape[1], image.shape[0])


def _png_size(file: BinaryIO) -> tuple[int, int] | None:
    """Read IHDR (PNG specification, 11.2.2); None where EXIF data may turn the picture, or what is there is odd."""
    size = None
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return None
        if kind in (b"IDAT", b"IEND"):
            return size
        data = file.read(length)
        file.seek(4, 1)
        if kind == b"IHDR" and len(data) == 13:
            size = struct.unpack(">II", data[:8])
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments to the frame header (ITU-T T.81, B.2.2); None where the file ends or is odd."""
    turned = False
    while (marker := _next_marker(file)) not in (None, START_OF_SCAN, END_OF_IMAGE):
        if marker in STANDALONE:
            continue
        head = file.read(2)
        if len(head) < 2 or (length := int.from_bytes(head, "big")) < 2:
            return None
        data = file.read(length - 2)
        if marker == EXIF_SEGMENT and data.startswith(b"Exif\0\0"):
            turned = _orientation(data[6:]) in TURNED
        if marker in FRAME_HEADERS and len(data) >= 5:
            height, width = struct.unpack(">HH", data[1:5])
            if not (width and height):  # the number of lines may follow the scan
                return None
            return (height, width) if turned else (width, height)
    return None


def _next_marker(file: BinaryIO) -> int | None:
    byte = file.read(1)
    if byte != b"\xff":
        return None
    while byte == b"\xff":  # fill bytes
        byte = file.read(1)
    return byte[0] if byte else None


def _orientation(tiff: bytes) -> int | None:
    """Return the EXIF orientation of the first directory (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    start = struct.unpack(f"{order}I", tiff[4:8])[0]
    count = int.from_bytes(tiff[start : start + 2], "little" if order == "<" else "big")
    for position in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack(f"{order}HHIH", tiff[position : position + 10])
        if tag == ORIENTATION:
            return int(value)
    return None
