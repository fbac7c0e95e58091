"""Small ONNX files that answer as face finders do: a known answer, or a finder of white squares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from engines.spec import ModelSpec

Array = npt.NDArray[Any]
SQUARE = 32
"""Side of the squares that `square_finder` finds, in pixels of its input."""
FRACTIONS = ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75))
"""Where in the square it says that the landmarks are."""


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec(path.stem, path, "face-detect")


def answering(folder: Path, answers: Mapping[str, Array], size: tuple[int, int]) -> ModelSpec:
    """A model of a fixed input size that gives the same outputs for every picture."""
    nodes = [helper.make_node("ReduceMin", ["x"], ["low"], keepdims=0), helper.make_node("Sub", ["low", "low"], ["0"])]
    nodes += [helper.make_node("Add", [f"{name}_told", "0"], [name]) for name in answers]
    told = [numpy_helper.from_array(array.astype(np.float32), f"{name}_told") for name, array in answers.items()]
    return _save(folder, nodes, told, [1, 3, *size], {name: array.shape for name, array in answers.items()})


def square_finder(folder: Path, shape: tuple[int | str, ...] = (1, 3, "h", "w")) -> ModelSpec:
    """A model with CenterFace's four outputs that finds white squares of `SQUARE` pixels, at any input size.

    The heatmap is the mean brightness of the square around each cell's centre, the rest is the same everywhere.
    """
    margin = SQUARE // 2 - 2
    pads: dict[str, Any] = {
        "kernel_shape": [SQUARE, SQUARE],
        "strides": [4, 4],
        "pads": [margin] * 4,
        "count_include_pad": 1,
    }
    told = {"mean": np.full((1, 3, 1, 1), 1 / 3 / 255), "log_side": np.full((1, 2, 1, 1), np.log(SQUARE / 4))}
    told["nothing"] = np.zeros((1, 2, 1, 1))
    told["fractions"] = np.array(FRACTIONS)[:, ::-1].reshape(1, 10, 1, 1)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["bright"], **pads),
        helper.make_node("Conv", ["bright", "mean"], ["heat"]),
        helper.make_node("Sub", ["heat", "heat"], ["0"]),
        helper.make_node("Add", ["0", "log_side"], ["scale"]),
        helper.make_node("Add", ["0", "nothing"], ["offset"]),
        helper.make_node("Add", ["0", "fractions"], ["landmarks"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in told.items()]
    outputs = {"heat": 1, "scale": 2, "offset": 2, "landmarks": 10}
    return _save(folder, nodes, tensors, shape, {name: (None, count, None, None) for name, count in outputs.items()})


def _save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    shape: Any,
    outputs: Mapping[str, tuple[int | None, ...]],
) -> ModelSpec:
    made = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, each) for name, each in outputs.items()]
    taken = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "finder", taken, made, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "finder.onnx"
    onnx.save(model, path)
    return spec_of(path)
