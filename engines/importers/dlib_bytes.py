"""Numbers, texts and tensors as dlib writes them (its serialize.h, float_details.h and tensor.h).

- An integer is a control byte (bit 7: negative; the low four bits: how many bytes follow, 1 to 8) and its magnitude,
  little-endian.
- A floating-point number is two integers: mantissa m and exponent e, m * 2^e.
- A text is its length and its bytes. A flag is the letter 0 or 1.
- A tensor is the integer 2, four sizes, and float32 values, little-endian.

Nothing that is read decides how much is read or kept: the reader is told what must come, and anything else is an error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from engines.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

TENSOR_VERSION, ALIAS_VERSION = 2, 1
LARGEST_EXPONENT = 900
"""Larger ones mean infinity or nonsense."""


class DlibBytes:
    """Reads a file's bytes from front to back. Every method raises ModelError where something else is there."""

    def __init__(self, content: bytes, name: str) -> None:
        """`name` is what messages call the file."""
        self._content = content
        self._name = name
        self._position = 0

    def integer(self) -> int:
        """Read an integer of any size."""
        start = self._position
        control = self._take(1)[0]
        length = control & 0x0F
        if not 1 <= length <= 8 or control & 0x70:
            self._refuse(start, f"no integer begins with {control:#04x}")
        magnitude = int.from_bytes(self._take(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def number(self) -> float:
        """Read a floating-point number."""
        start = self._position
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > LARGEST_EXPONENT:
            self._refuse(start, f"a number has the exponent {exponent}")
        return math.ldexp(mantissa, exponent)

    def integers(self, what: str, *wanted: int) -> None:
        """Read integers that must be these."""
        start = self._position
        found = tuple(self.integer() for _ in wanted)
        if found != wanted:
            self._refuse(start, f"{what} should be {_listed(wanted)}, not {_listed(found)}")

    def numbers(self, what: str, *wanted: float) -> None:
        """Read floating-point numbers that must be these, as precisely as float32 holds them."""
        start = self._position
        found = [self.number() for _ in wanted]
        if not np.allclose(found, wanted, rtol=1e-6, atol=0):
            self._refuse(start, f"{what} should be {list(wanted)}, not {found}")

    def text(self, wanted: str) -> None:
        """Read a text that must be this one."""
        start = self._position
        length = self.integer()
        found = self._take(length) if length == len(wanted) else b""
        if found != wanted.encode():
            self._refuse(start, f"{wanted!r} should be here")

    def flags(self, count: int) -> None:
        """Read flags whose values do not matter."""
        start = self._position
        if set(found := self._take(count)) - set(b"01"):
            self._refuse(start, f"flags should be 0 or 1, not {found!r}")

    def tensor(self, *shape: int) -> npt.NDArray[np.float32]:
        """Read a tensor that must have these four sizes."""
        self.integers("a tensor's version", TENSOR_VERSION)
        self.integers("a tensor's shape", *shape)
        return np.frombuffer(self._take(4 * math.prod(shape)), "<f4").reshape(shape)

    def alias(self, *shape: int) -> None:
        """Read the description of a part of a tensor that must have these four sizes."""
        self.integers("a part's version", ALIAS_VERSION)
        self.integers("a part's shape", *shape)

    def end(self) -> None:
        """Nothing may follow."""
        if left := len(self._content) - self._position:
            self._refuse(self._position, f"the file should end here, but has {left} bytes more")

    def _take(self, count: int) -> bytes:
        piece = self._content[self._position : self._position + count]
        if len(piece) < count:
            self._refuse(len(self._content), "the file ends too early")
        self._position += count
        return piece

    def _refuse(self, position: int, why: str) -> NoReturn:
        raise ModelError(
            f"{self._name} is not dlib's face recognition network, or is damaged: at byte {position} {why}"
        )


def _listed(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))
