"""What is in a TFLite file: tensors, and the operators between them, checked as far as that goes without the operators.

Nothing that is read decides how much is read or kept; weights are views into the file's bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelError
from engines.importers.tflite_bytes import IDENTIFIER, FlatBuffer, Table
from engines.importers.tflite_schema import CUSTOM, KINDS, NUMPY, OPERATORS, OPTIONS, QUANTISED, VERSION

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

MOST_TENSORS, MOST_OPERATORS = 1 << 16, 1 << 14
"""A table can be named any number of times in four bytes each: a small file must not become large in memory."""
MOST_AXES = 8
MOST_OPERANDS = 1 << 7
MOST_NAMED = 40
"""Kinds of operators that a message names."""
LARGEST_SIDE = 1 << 16
MOST_NUMBERS = 1 << 28
"""Of one tensor: 1 GB in float32."""
LONGEST_NAME = 100
NONE = -1
"""The number of a tensor that an operator is not given."""
TO_ONNX = "export the model to ONNX from what it was trained in, and give that file"


@dataclass(frozen=True)
class Tensor:
    """A tensor as it is declared."""

    name: str
    kind: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | None
    """Of a constant; None: it is computed, or an input."""


@dataclass(frozen=True)
class Operator:
    """An operator; tensors by their number, `NONE` where one is left out."""

    number: int
    kind: str
    """One of `OPERATORS`, or what a custom operator calls itself."""
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int]
    """Those of `OPTIONS`."""
    custom_options: bytes


@dataclass(frozen=True)
class Network:
    """A network: operators stand in the order of computation."""

    file: str
    """What messages call the file."""
    bytes: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def parse(content: bytes, name: str, known: Collection[str]) -> Network:
    """Read a file.

    Args:
        content: its bytes.
        name: what messages call it.
        known: kinds of operators that can be used; custom ones by their own name.

    Raises:
        ModelError: it is none, is damaged, is quantised, or has other operators.
    """
    buffer = FlatBuffer(content, name)
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{name} is not a TensorFlow Lite file: it does not begin as one; {TO_ONNX}")
    model = buffer.root()
    if (version := model.number(0, "<I")) != VERSION:
        raise ModelError(f"{name} is a TFLite file of version {version}, and only {VERSION} is read: {TO_ONNX}")
    graphs = model.tables(2, "networks", MOST_OPERATORS)
    if not graphs:
        buffer.refuse("it holds no network")
    codes = [_code(each) for each in model.tables(1, "kinds of operators", MOST_OPERATORS)]
    graph = graphs[0]  # the others are branches and loops of its operators
    operators = tuple(
        _operator(buffer, number, each, codes)
        for number, each in enumerate(graph.tables(3, "operators", MOST_OPERATORS))
    )
    buffers = model.tables(4, "buffers", MOST_TENSORS)
    tables = graph.tables(0, "tensors", MOST_TENSORS)
    used = {number for each in operators for number in (*each.inputs, *each.outputs)} - {NONE}
    inputs, outputs = (graph.integers(field, MOST_OPERANDS) for field in (1, 2))
    if not used.union(inputs, outputs) <= set(range(len(tables))):
        buffer.refuse(f"an operator names a tensor that is not among the {len(tables)}")
    _refuse_quantised(name, {_kind(tables[number]) for number in used.union(inputs, outputs)})
    _refuse_unknown(name, operators, known)
    tensors = tuple(_tensor(buffer, each, buffers) for each in tables)
    return Network(name, len(content), tensors, operators, inputs, outputs)


def _code(table: Table) -> tuple[str, bool]:
    """Return what an operator is called, and whether it is a custom one."""
    number = max(table.number(0, "<b"), table.number(3, "<i"))  # the first is the old field, of one byte
    kind = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"number {number}"
    return (table.text(1, LONGEST_NAME), True) if kind == CUSTOM else (kind, False)


def _operator(buffer: FlatBuffer, number: int, table: Table, codes: list[tuple[str, bool]]) -> Operator:
    code = table.number(0, "<I")
    if code >= len(codes):
        buffer.refuse(f"operator {number} is of kind {code}, and there are {len(codes)}")
    kind, custom = codes[code]
    stated = table.table(4)
    fields = enumerate(OPTIONS.get(kind, ()) if not custom else ())
    options = {
        option.name: stated.number(field, option.kind, option.default) if stated else option.default
        for field, option in fields
    }
    given = table.array(5, "u1")
    return Operator(
        number,
        kind,
        custom,
        table.integers(1, MOST_OPERANDS),
        table.integers(2, MOST_OPERANDS),
        options,
        b"" if given is None else given[:LONGEST_NAME].tobytes(),
    )


def _kind(table: Table) -> str:
    number = table.number(1, "<b")
    return KINDS[number] if 0 <= number < len(KINDS) else f"number {number}"


def _refuse_quantised(name: str, kinds: set[str]) -> None:
    if found := kinds & QUANTISED:
        raise ModelError(
            f"{name} is quantised (its tensors are {', '.join(sorted(found)).lower()}), and only TFLite files in "
            "float32 or float16 are read: give the model as it was before, and `frameloom engines quantize` makes int8"
        )


def _refuse_unknown(name: str, operators: tuple[Operator, ...], known: Collection[str]) -> None:
    """Refuse a file for all operators that cannot be used, each with how often it is there."""
    unknown = Counter(
        f"somebody's own {each.kind!r}" if each.custom else each.kind for each in operators if each.kind not in known
    )
    if unknown:
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(unknown.items())[:MOST_NAMED])
        listed += f" and {len(unknown) - MOST_NAMED} other kinds" if len(unknown) > MOST_NAMED else ""
        raise ModelError(f"{name} has operators that are not read from TFLite files here: {listed}; {TO_ONNX}")


def _tensor(buffer: FlatBuffer, table: Table, buffers: list[Table]) -> Tensor:
    kind, shape = _kind(table), table.integers(0, MOST_AXES)
    name = table.text(3, LONGEST_NAME)
    count = math.prod(shape)
    if not all(0 <= side <= LARGEST_SIDE for side in shape) or count > MOST_NUMBERS:
        buffer.refuse(f"tensor {name!r} has the shape {list(shape)}")
    place = table.number(2, "<I")
    if place >= len(buffers):
        buffer.refuse(f"tensor {name!r} lies in buffer {place}, and there are {len(buffers)}")
    values = _values(buffer, buffers[place], kind, shape, name)
    if values is not None and table.table(6) is not None:
        raise ModelError(f"{buffer.name} has weights without their zeros ({name!r}, sparse): {TO_ONNX}")
    return Tensor(name, kind, shape, values)


def _values(buffer: FlatBuffer, held: Table, kind: str, shape: tuple[int, ...], name: str) -> npt.NDArray[Any] | None:
    """Return a constant's values; None: it is none, or of a type that no operator here reads."""
    if held.number(1, "<Q") > 1:
        raise ModelError(f"{buffer.name} keeps its weights behind the tables, as files above 2 GB do: {TO_ONNX}")
    content = held.array(0, "u1")
    if content is None or not len(content) or kind not in NUMPY:
        return None
    wanted = math.prod(shape) * np.dtype(NUMPY[kind]).itemsize
    if len(content) != wanted:
        buffer.refuse(f"tensor {name!r} of shape {list(shape)} should have {wanted} bytes, and has {len(content)}")
    return content.view(NUMPY[kind]).reshape(shape)
