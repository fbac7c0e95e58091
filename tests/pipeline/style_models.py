"""Style networks so small that what they paint is known: each pixel times a factor, plus a shift, per colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.spec import InputSpec, ModelSpec
from pipeline.infer.picture_stylizer import RAW

OPEN = ("h", "w")
Sides = tuple[int | str, int | str]


def style_model(
    path: Path,
    *,
    factor: float = -1.0,
    shift: tuple[float, float, float] = (255.0, 255.0, 255.0),
    size: Sides = OPEN,
    pads: tuple[int, int] = (0, 0),
    channels: int = 3,
) -> Path:
    """Write RGB -> factor * RGB + shift; by default the negative.

    Args:
        path: of the file.
        factor: of each value.
        shift: of R, G and B.
        size: height and width that the file declares.
        pads: rows below and columns at the right by which the answer is larger; they are 0.
        channels: of the answer: as many as its first.
    """
    constants = [
        numpy_helper.from_array(np.array(factor, np.float32), "factor"),
        numpy_helper.from_array(np.array(shift, np.float32).reshape(1, 3, 1, 1), "shift"),
        numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, *pads], np.int64), "pads"),
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array([channels], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Mul", ["picture", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Slice", ["shifted", "first", "last", "axis"], ["sliced"]),
        helper.make_node("Pad", ["sliced", "pads"], ["styled"]),
    ]
    height, width = (
        side + pad if isinstance(side, int) else f"{side}_out" for side, pad in zip(size, pads, strict=True)
    )
    graph = helper.make_graph(
        nodes,
        "style",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, *size])],
        [helper.make_tensor_value_info("styled", TensorProto.FLOAT, ["n", channels, height, width])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def style_spec(folder: Path, fed: InputSpec | None = None, **options: object) -> ModelSpec:
    """Describe such a network, in a file of that folder."""
    path = style_model(folder / "style.onnx", **options)  # type: ignore[arg-type]
    return ModelSpec("style", path, "stylize", input=fed or RAW_BY_4)


RAW_BY_4 = InputSpec(colour=RAW.colour, fit=RAW.fit, multiple=4)
