"""The best rows of a detector's output, chosen where the output is: on a GPU, so that only they are copied back.

yolox-nano's output has 3549 rows of 85 numbers, 1.2 MB for each picture; a head reads a few dozen of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.graph import dimensions

if TYPE_CHECKING:
    from engines.engine import Candidates

CANDIDATES = "candidates"
"""Name of the output with the best rows: N x k x columns, float32, the best first."""
ROWS = "candidate_rows"
"""Name of the output that says which rows of the full output they are: N x k, int64."""
MOST = 3840
"""TensorRT ranks no more."""
FIRST_OPSET = 11
"""Sorted TopK and GatherElements."""
AXES_ARE_AN_INPUT = 18
"""Opset from which ReduceMax takes its axes so."""
TO_THE_END = 2**63 - 1


def add_candidates(model: onnx.ModelProto, candidates: Candidates) -> None:
    """Append nodes that rank the rows of the only output, and two outputs: `CANDIDATES` and `ROWS`.

    k is `candidates.count`, or the number of rows where there are no more.

    Raises:
        ModelError: the model has not one output N x rows x columns with such columns, or k is larger than `MOST`.
    """
    name, rows, columns = _only_output(model)
    _check(candidates, rows, columns)
    k = min(candidates.count, rows)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < FIRST_OPSET:
        raise ModelError(f"candidates need an ONNX file of opset {FIRST_OPSET} or newer, this one has {opset}")
    add = _Appender(model.graph)
    classes = add.slice(name, "classes", candidates.classes, TO_THE_END)
    rank = add.maximum(classes, "rank", axes_are_an_input=opset >= AXES_ARE_AN_INPUT)
    if candidates.objectness is not None:
        objectness = add.slice(name, "objectness", candidates.objectness, candidates.objectness + 1)
        rank = add.node("Mul", [rank, objectness], "rank_with_objectness")
    flat = add.node("Reshape", [rank, add.constant("rows", [0, rows])], "ranks")
    add.node("TopK", [flat, add.constant("k", [k])], "best", ROWS, axis=1, largest=1, sorted=1)
    column = add.node("Reshape", [ROWS, add.constant("column", [0, k, 1])], "rows_column")
    whole = add.node("Tile", [column, add.constant("repeats", [1, 1, columns])], "rows_everywhere")
    add.node("GatherElements", [name, whole], CANDIDATES, axis=1)
    batch = dimensions(_value(model, name))[0] or "N"
    model.graph.output.append(helper.make_tensor_value_info(CANDIDATES, TensorProto.FLOAT, [batch, k, columns]))
    model.graph.output.append(helper.make_tensor_value_info(ROWS, TensorProto.INT64, [batch, k]))


def _only_output(model: onnx.ModelProto) -> tuple[str, int, int]:
    """Return name, rows and columns."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    seen = ", ".join(f"{value.name} {dimensions(value)}" for value in inferred)
    shape = dimensions(inferred[0])
    if len(inferred) != 1 or len(shape) != 3 or shape[1] is None or shape[2] is None:
        raise ModelError(f"candidates can be chosen from one output, N x rows x columns; outputs seen: {seen}")
    return inferred[0].name, shape[1], shape[2]


def _check(candidates: Candidates, rows: int, columns: int) -> None:
    if not 0 <= candidates.classes < columns:
        raise ModelError(f"class scores cannot begin at column {candidates.classes}: the output has {columns} columns")
    if candidates.objectness is not None and not 0 <= candidates.objectness < columns:
        raise ModelError(f"there is no column {candidates.objectness} for objectness: the output has {columns} columns")
    if candidates.count < 1:
        raise ModelError(f"at least one candidate must be chosen, not {candidates.count}")
    if (k := min(candidates.count, rows)) > MOST:
        raise ModelError(f"TensorRT chooses at most {MOST} candidates, not {k}; ask for fewer")


def _value(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    found: onnx.ValueInfoProto = next(value for value in model.graph.output if value.name == name)
    return found


class _Appender:
    """Adds nodes and constants behind a graph, under names that no model has."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph

    def constant(self, name: str, values: list[int]) -> str:
        full = f"{CANDIDATES}_{name}"
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), full))
        return full

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node; outputs that are no outputs of the model get a prefix. Return the first one's name."""
        names = [name if name in (CANDIDATES, ROWS) else f"{CANDIDATES}_{name}" for name in outputs]
        self._graph.node.append(helper.make_node(operator, inputs, names, name=names[0], **attributes))
        return names[0]

    def slice(self, name: str, output: str, start: int, end: int) -> str:
        """Cut columns out."""
        bounds = [self.constant(f"{output}_start", [start]), self.constant(f"{output}_end", [end])]
        return self.node("Slice", [name, *bounds, self.constant(f"{output}_axis", [2])], output)

    def maximum(self, name: str, output: str, *, axes_are_an_input: bool) -> str:
        """Take the largest column."""
        if axes_are_an_input:
            return self.node("ReduceMax", [name, self.constant("columns", [2])], output, keepdims=1)
        return self.node("ReduceMax", [name], output, axes=[2], keepdims=1)
