"""Tables of a FlatBuffer, the format of TFLite files, every offset checked before it is followed.

- Numbers are little-endian. An offset counts from where it stands, and a file begins with one to the root table.
- A table begins with the distance back to its vtable: two bytes for the vtable's size, two for the table's, then two
  for each field, counted from the table's begin; 0, or a vtable that ends before: the field has its default.
- A vector is a count and its elements; those that are tables themselves are offsets to them.

Google's own reader for Python checks nothing, and takes an offset before the file's begin as one from its end. Which
tables hold which is the schema's to say, never the file's: so nothing here can run in a circle.

Source: FlatBuffers, "Internals" (flatbuffers.dev/internals).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from engines.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

IDENTIFIER = b"TFL3"
"""What stands at byte 4 of a TFLite file."""
OFFSET, DISTANCE, FIELD = "<I", "<i", "<H"


class FlatBuffer:
    """A file's bytes. Every method raises ModelError where what is to be read lies outside."""

    def __init__(self, content: bytes, name: str) -> None:
        """`name` is what messages call the file."""
        self.content = content
        self.name = name

    def root(self) -> Table:
        """Return the root table."""
        return Table(self, self.follow(0))

    def number(self, kind: str, position: int) -> int:
        """Read a number; `kind` is one of struct's formats."""
        self.check(position, struct.calcsize(kind))
        value: int = struct.unpack_from(kind, self.content, position)[0]
        return value

    def follow(self, position: int) -> int:
        """Return where the offset that stands at a position leads to."""
        return position + self.number(OFFSET, position)

    def check(self, position: int, count: int) -> None:
        """See that so many bytes are there from a position on."""
        if not 0 <= position <= len(self.content) - count:
            self.refuse(f"of {len(self.content)} bytes, it needs {count} at {position}")

    def refuse(self, why: str) -> NoReturn:
        """Raise ModelError for a file whose tables do not hold together."""
        raise ModelError(f"{self.name} is cut off or damaged ({why}): copy or download it again")


class Table:
    """A table; fields by their number, in the order of the schema."""

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        self._buffer = buffer
        self._position = position
        self._vtable = position - buffer.number(DISTANCE, position)
        self._vtable_size = buffer.number(FIELD, self._vtable)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Return a number, by one of struct's formats."""
        place = self._place(field)
        return default if place is None else self._buffer.number(kind, place)

    def table(self, field: int) -> Table | None:
        """Return the table that a field leads to; None: to none."""
        place = self._place(field)
        return None if place is None else Table(self._buffer, self._buffer.follow(place))

    def tables(self, field: int, what: str, most: int) -> list[Table]:
        """Return a vector of tables; empty where there is none.

        Raises:
            ModelError: there are more than `most`.
        """
        first, count = self._vector(field)
        if count > most:
            raise ModelError(f"{self._buffer.name} has {count} {what}, and at most {most} are read: export it to ONNX")
        self._buffer.check(first, 4 * count)
        return [Table(self._buffer, self._buffer.follow(first + 4 * number)) for number in range(count)]

    def array(self, field: int, kind: str) -> npt.NDArray[Any] | None:
        """Return a vector of numbers, as numpy's type `kind`, without copying it; None: there is none."""
        if self._place(field) is None:
            return None
        first, count = self._vector(field)
        self._buffer.check(first, count * np.dtype(kind).itemsize)
        return np.frombuffer(self._buffer.content, kind, count, first)

    def integers(self, field: int, most: int) -> tuple[int, ...]:
        """Return a short vector of int32; empty where there is none."""
        first, count = self._vector(field)
        if count > most:
            self._buffer.refuse(f"a list has {count} numbers, at most {most} are to be expected")
        self._buffer.check(first, 4 * count)
        return struct.unpack_from(f"<{count}i", self._buffer.content, first)

    def text(self, field: int, most: int) -> str:
        """Return a text, cut off after `most` characters; what cannot be printed is shown as a question mark."""
        first, count = self._vector(field)
        self._buffer.check(first, count)
        text = self._buffer.content[first : first + min(count, 4 * most)].decode("utf-8", "replace")[:most]
        return "".join(each if each.isprintable() else "?" for each in text)

    def _place(self, field: int) -> int | None:
        """Return where a field stands; None: it has its default."""
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_size:
            return None
        offset = self._buffer.number(FIELD, self._vtable + entry)
        return self._position + offset if offset else None

    def _vector(self, field: int) -> tuple[int, int]:
        """Return where the elements begin, and how many there are."""
        place = self._place(field)
        if place is None:
            return 0, 0
        vector = self._buffer.follow(place)
        return vector + 4, self._buffer.number(OFFSET, vector)
