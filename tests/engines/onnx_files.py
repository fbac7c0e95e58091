"""Small ONNX files for tests: built by hand, each with one property that matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.spec import InputSpec, ModelSpec

FOUR = ((0, 0), (1, 0), (0, 1), (1, 1))
"""YOLOX's order of phases (y, x)."""
TO_THE_END = 2**63 - 1


def spec_of(path: Path, **fields: Any) -> ModelSpec:
    """Describe a file; `fields` are those of its input."""
    return ModelSpec(name=path.stem, path=path, task="detect", input=InputSpec(**{"colour": "bgr", **fields}))


def identity(folder: Path, shape: Sequence[int | str | None] = (1, 3, 8, 6), kind: int = TensorProto.FLOAT) -> Path:
    """A model that returns the pixels it is given."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(folder, [node], [value("x", shape, kind)], [value("y", shape, kind)], [])


def focus(
    folder: Path,
    *,
    phases: Sequence[tuple[int, int]] = FOUR,
    step: int = 2,
    axes: tuple[int, int] = (2, 3),
    kernel: int = 3,
    join: int = 1,
    attributes: dict[str, Any] | None = None,
    extra: bool = False,
    old: bool = False,
) -> Path:
    """A model that begins as YOLOX does: slices, concatenation, convolution; each option breaks the pattern.

    Args:
        folder: where to write it.
        phases: start of each slice in y and x.
        step: of the slices.
        axes: which the slices cut.
        kernel: side of the convolution.
        join: axis of the concatenation.
        attributes: of the convolution; default: padded so that the size stays.
        extra: whether something else than a phase is concatenated, too.
        old: whether constants are listed as inputs, as before IR 4.
    """
    constants = {"end": [TO_THE_END], "step": [step], "axis0": [axes[0]], "axis1": [axes[1]], "s0": [0], "s1": [1]}
    tensors = [numpy_helper.from_array(np.array(array, np.int64), name) for name, array in constants.items()]
    nodes, parts = [], []
    for number, (y, x) in enumerate(phases):
        nodes.append(helper.make_node("Slice", ["x", f"s{y}", "end", "axis0", "step"], [f"rows{number}"]))
        nodes.append(helper.make_node("Slice", [f"rows{number}", f"s{x}", "end", "axis1", "step"], [f"part{number}"]))
        parts.append(f"part{number}")
    if extra:
        nodes.append(helper.make_node("Relu", [parts[0]], ["more"]))
        parts.append("more")
    nodes.append(helper.make_node("Concat", parts, ["joined"], axis=join))
    of_each = [2 - y if axes[0] == 1 else 3 for y, _ in phases] + [3] * extra
    channels = sum(of_each) if join == 1 else 3
    random = np.random.default_rng(0)
    weights = random.normal(size=(5, channels, kernel, kernel)).astype(np.float32)
    tensors += [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.arange(5, dtype=np.float32), "b")]
    padding = {"pads": [kernel // 2] * 4} if attributes is None else attributes
    nodes.append(helper.make_node("Conv", ["joined", "w", "b"], ["y"], **padding))
    inputs = [value("x", (1, 3, 16, 24))]
    if old:
        inputs += [value(tensor.name, tensor.dims, tensor.data_type) for tensor in tensors]
    return save(folder, nodes, inputs, [value("y", (None,) * 4)], tensors)


def value(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Declare a tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    tensors: Sequence[onnx.TensorProto],
) -> Path:
    """Write a checked model."""
    graph = helper.make_graph(nodes, "made-for-a-test", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "made.onnx"
    onnx.save(model, path)
    return path
