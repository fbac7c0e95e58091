"""A number in the picture: 64 cells, black or white, along its top edge; 56 bits of value, 8 of check.

A server stamps the wall clock (microseconds) into each picture it sends, so the latency of a whole chain is read from
pixels and depends on nobody's clock but the machine's. The cells survive H.264 and JPEG. NumPy's arrays are used, but
the module is not imported: the RTSP server also runs under Pythons that have none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CELLS = 64
ROWS = 16
"""Height of the strip, in pixels: one macroblock."""
BLACK, WHITE = 16, 236
MARGIN = 4
"""Rows at the strip's upper and lower edge that are not read: the encoder smears over edges."""


def wall_us() -> int:
    """The wall clock, in microseconds since 1970: what the servers stamp."""
    return time.time_ns() // 1000


def strip_row(value: int, width: int) -> bytes:
    """One row of the strip for a picture `width` wide; ValueError where that is too narrow or the value too big."""
    cell = width // CELLS
    if cell == 0:
        raise ValueError(f"a bar code needs {CELLS} pixels, not {width}")
    if not 0 <= value < 1 << 56:
        raise ValueError(f"{value} does not fit into 56 bits")
    bits = f"{value << 8 | _check(value):0{CELLS}b}"
    return b"".join(bytes([WHITE if bit == "1" else BLACK]) * cell for bit in bits)


def stamp(image: np.ndarray[Any, Any], value: int) -> None:
    """Draw the value into a luma plane (H, W) or a BGR picture (H, W, 3), in place."""
    row = strip_row(value, image.shape[1])
    cells = memoryview(row) if image.ndim == 2 else memoryview(row).cast("B", (len(row), 1))
    image[:ROWS, : len(row)] = cells


def read(image: np.ndarray[Any, Any]) -> int | None:
    """The value in a luma plane (H, W) or a BGR picture (H, W, 3); None where there is none or it is damaged."""
    cell = image.shape[1] // CELLS
    if cell == 0 or image.shape[0] < ROWS:
        return None
    luma = image if image.ndim == 2 else image[:, :, 1]
    centres = luma[MARGIN : ROWS - MARGIN, cell // 2 : CELLS * cell : cell]
    bits = "".join("1" if level > 127 else "0" for level in centres.mean(axis=0).tolist())
    value, check = divmod(int(bits, 2), 256)
    return value if check == _check(value) else None


def age_s(image: np.ndarray[Any, Any]) -> float | None:
    """Seconds since a server stamped the picture; None where the bar code cannot be read."""
    value = read(image)
    return None if value is None else (wall_us() - value) / 1e6


def _check(value: int) -> int:
    check = 0xA5  # not 0: a black strip must not read as a value
    for byte in value.to_bytes(7, "big"):
        check ^= byte
    return check
