"""ONNX files whose outputs are known beforehand, so that what recognition makes of values is tested without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def constant_model(
    path: Path,
    outputs: Mapping[str, Array],
    size: tuple[int | str, int | str],
    metadata: Mapping[str, str] | None = None,
    *,
    dark: Mapping[str, Array] | None = None,
) -> Path:
    """Write a model of that input size that gives `outputs` for every picture.

    With `dark` it gives those instead where the input's mean value is 2 or less, as it is for pixels divided by 255.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "two"], ["is_bright"]),
    ]
    constants = [numpy_helper.from_array(np.array(2, np.float32), "two")]
    for name, bright in outputs.items():
        other = bright if dark is None else dark[name]
        constants += [numpy_helper.from_array(bright, f"{name}_bright"), numpy_helper.from_array(other, f"{name}_dark")]
        nodes.append(helper.make_node("Where", ["is_bright", f"{name}_bright", f"{name}_dark"], [name]))
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path
