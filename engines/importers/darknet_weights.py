"""The weights of a Darknet network (`.weights`): a header, then float32 values in the order of the layers.

The header is the version (major, minor, revision: int32 each) and how many pictures were seen in training: int64 from
version 0.2 on, int32 before. Nothing says which layer a value is for, or how many there are: only the network does. So
the number of values is compared with what the network asks for before the first one is used. All is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

VERSION = struct.Struct("<3i")
LARGEST_VERSION = 1000
"""Larger numbers once marked transposed matrices, which no layer here has; else it is another file."""


class Weights:
    """Gives the values from front to back."""

    def __init__(self, path: Path, wanted: Sequence[int], network: str) -> None:
        """Read the file.

        Args:
            path: of the file.
            wanted: how many values each layer with weights asks for.
            network: what messages call the file that asks for them.

        Raises:
            ModelError: it cannot be read, has another header, or another number of values.
        """
        try:
            with path.open("rb") as file:
                header = _header_bytes(file.read(VERSION.size), str(path))
                held, rest = divmod(path.stat().st_size - header, 4)
                if rest or held != sum(wanted):
                    raise ModelError(_mismatch(str(path), network, held, rest, wanted))
                file.seek(header)
                self._values = np.fromfile(file, "<f4", held)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if not np.isfinite(self._values).all():
            raise ModelError(f"{path} is damaged: some of its weights are not finite")
        self._position = 0

    def take(self, *shape: int) -> npt.NDArray[np.float64]:
        """Return the next values; no more than were wanted."""
        count = int(np.prod(shape))
        values = self._values[self._position : self._position + count]
        self._position += count
        return values.reshape(shape).astype(np.float64)


def _header_bytes(opening: bytes, path: str) -> int:
    """Return how long the header is."""
    if len(opening) < VERSION.size:
        raise ModelError(f"{path} is not a file of Darknet weights: it has only {len(opening)} bytes")
    major, minor, revision = VERSION.unpack(opening)
    if not (0 <= major < LARGEST_VERSION and 0 <= minor < LARGEST_VERSION):
        swapped = struct.unpack(">3i", opening)
        big = all(0 <= each < LARGEST_VERSION for each in swapped)
        why = "it was written by a big-endian machine" if big else f"its version would be {major}.{minor}.{revision}"
        raise ModelError(f"{path} is not a file of Darknet weights that can be read here: {why}")
    return VERSION.size + (8 if 10 * major + minor >= 2 else 4)


def _mismatch(path: str, network: str, held: int, rest: int, wanted: Sequence[int]) -> str:
    """Say that the file does not belong to the network, with both numbers."""
    asked = sum(wanted)
    if rest:
        return f"{path} is cut off or damaged: it ends in the middle of a value, after {held} of {asked}"
    both = f"{path} holds {held} weights, {network} asks for {asked}"
    if held in (sums := list(accumulate(wanted))):
        layers = f"{sums.index(held) + 1} of {len(wanted)} layers with weights"
        return f"{both}: these are the first {layers}, to begin a training with; take those of the trained network"
    if held < asked:
        return f"{both}: the file is cut off, or belongs to another network"
    return f"{both}: it belongs to another network (do the numbers of classes and filters agree?)"
