"""What TensorRT cannot build, seen in the file before anything is built, and said with what to do about it.

TensorRT's own words for these are assertions about its inner parts. What is not seen here, it refuses itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

from engines.errors import EngineBuildError, ModelError
from engines.graph import attributes, constants, picture_input
from engines.operators import foreign, named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from engines.tensorrt.recipe import PlanPrecision

BRANCHES = frozenset({"If", "Loop", "Scan"})
QUANTISED_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
TAKEN = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
"""Types of a picture that a plan can be given; bytes inside a network are beyond TensorRT."""

_Objection = tuple["list[onnx.NodeProto]", str]
"""Nodes, if there are any, and what to say of them."""


def refuse_unbuildable(path: Path, precision: PlanPrecision) -> None:
    """Look into an ONNX file for what TensorRT has nothing for; the checker of `engines.graph.load` may not know it.

    Raises:
        EngineBuildError: with the nodes and what to do.
    """
    if path.suffix == ".dat":
        return
    try:
        model = onnx.load(path)
    except Exception:  # `load` says what is wrong with it
        return
    for nodes, words in _objections(model):
        if nodes:
            raise EngineBuildError(f"TensorRT cannot build {path}: {words.format(named(nodes))}")
    if (value := _picture(model)) is not None and (kind := value.type.tensor_type.elem_type) not in TAKEN:
        raise EngineBuildError(
            f"TensorRT cannot build {path}: its input {value.name} is {TensorProto.DataType.Name(kind).lower()}; "
            "export it in float32: Frameloom makes the other precisions itself"
        )
    if is_quantised(model) and precision != "int8":
        raise EngineBuildError(f"{path} is in int8 already: build it with precision int8, not {precision}")


def _picture(model: onnx.ModelProto) -> onnx.ValueInfoProto | None:
    try:
        return picture_input(model)
    except ModelError:  # said where it is prepared
        return None


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether the file itself says what is to be int8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _objections(model: onnx.ModelProto) -> Iterator[_Objection]:
    nodes = list(model.graph.node)
    yield (
        [node for node in nodes if "NMS" in node.op_type or node.op_type == "NonMaxSuppression"],
        "it does non-maximum suppression itself ({}); export it without NMS: Frameloom does NMS itself",
    )
    yield (
        foreign(model),
        "it has operators that are not ONNX's own ({}), which would need a plugin; export it with ONNX's alone",
    )
    yield (
        [node for node in nodes if node.op_type in BRANCHES],
        "it branches or loops ({}); export it with constant shapes, or simplify it, so that no branch is left",
    )
    yield (
        [node for node in nodes if node.op_type in QUANTISED_OPERATORS],
        "it computes with quantised operators ({}); export it with QuantizeLinear and DequantizeLinear (QDQ)",
    )
    yield from _quantisation(model)


def _quantisation(model: onnx.ModelProto) -> Iterator[_Objection]:
    """Name what TensorRT has no kernels for in a file that is quantised; uint8 it may take for int8 without a word."""
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if not pairs:
        return
    known = constants(model)
    biases = [node for node in pairs if known.get(node.input[0], np.empty(0)).dtype == np.int32]
    others = [(node, _zero_point(node, known)) for node in pairs if node not in biases]
    again = "quantise it with symmetric int8 activations (QInt8, ActivationSymmetric)"
    yield biases, "its biases are quantised ({}); quantise it without them (QuantizeBias: False)"
    yield [node for node, zero in others if zero.dtype == np.uint8], "its activations are uint8 ({}); " + again
    yield [node for node, zero in others if zero.any()], "its zero points are not 0 ({}); " + again


def _zero_point(node: onnx.NodeProto, known: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return a node's zero point; where it has none, ONNX's default, which is uint8 for what QuantizeLinear makes."""
    if len(node.input) > 2 and node.input[2] in known:
        return known[node.input[2]]
    default = node.op_type == "QuantizeLinear" and len(node.input) < 3 and "output_dtype" not in attributes(node)
    return np.zeros((), np.uint8 if default else np.int8)
