"""Small detectors as users bring them: real ONNX files whose boxes are known, with what each export has of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx_files import value

SIDE = 64
CELLS = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
BOX = (16.0, 8.0, 48.0, 56.0)
"""Of the one object, xyxy in pixels of the input."""
CLASS, SCORE = 1, 0.875
NAMES = "{0: 'cat', 1: 'red door', 2: 'dog'}"


def rows(classes: int = 3) -> npt.NDArray[np.float32]:
    """YOLOv8's output for that object: [1, 4 + classes, cells]."""
    x1, y1, x2, y2 = BOX
    made = np.zeros((1, 4 + classes, CELLS), np.float32)
    made[0, :4] = np.array([[SIDE / 2, SIDE / 2, 8, 8]]).T
    made[0, :4, 27] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    made[0, 4 + CLASS, 27] = SCORE
    return made


def detector(
    path: Path,
    output: npt.NDArray[np.float32] | None = None,
    *,
    shape: Sequence[int | str | None] = (1, 3, SIDE, SIDE),
    opset: int = 13,
    ir_version: int = 8,
    metadata: Mapping[str, str] | None = None,
    nodes: Sequence[onnx.NodeProto] = (),
    domains: Sequence[str] = (),
) -> Path:
    """Write a model that says the same of every picture.

    Args:
        path: where to.
        output: what it says; default: one red door.
        shape: of its input.
        opset: version of its operators.
        ir_version: version of the file format.
        metadata: what it says of itself.
        nodes: more of them, between `said` and `output0`; default: none.
        domains: of their operators.
    """
    output = rows() if output is None else output
    tensors = [numpy_helper.from_array(output, "answer"), numpy_helper.from_array(np.zeros(1, np.float32), "nothing")]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
            helper.make_node("Add", ["answer", "zero"], ["said" if nodes else "output0"]),
            *nodes,
        ],
        "made-for-a-test",
        [value("images", shape)],
        [value("output0", output.shape if not nodes else (None,) * output.ndim)],
        tensors,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name="a test")
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def classifier(path: Path) -> Path:
    """A model with 1000 class scores."""
    scores = np.full((1, 1000), 0.001, np.float32)
    return detector(path, scores)


def with_weights_beside(path: Path, name: str = "weights.bin") -> Path:
    """A model that keeps its weights in a file beside it."""
    model = onnx.load(detector(path))
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    return path


def foreign_operator(path: Path, domain: str = "TRT") -> Path:
    """A model that ends in an operator of somebody's own."""
    node = helper.make_node("EfficientNMS_TRT", ["said"], ["output0"], name="/nms", domain=domain)
    return detector(path, nodes=[node], domains=[domain] if domain else [])


def fails_when_run(path: Path) -> Path:
    """A model of open size whose reshape holds for one size only, which is not the one that it names."""
    target = numpy_helper.from_array(np.array([1, 3, 50]), "target")
    model = onnx.load(detector(path, shape=(1, 3, "h", "w"), metadata={"imgsz": f"[{SIDE}, {SIDE}]"}))
    model.graph.initializer.append(target)
    model.graph.node.append(helper.make_node("Reshape", ["images", "target"], ["flat"], name="/flat"))
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, (1, 3, 50)))
    onnx.save(model, path)
    return path


def arguments(**values: Any) -> list[str]:
    """Options for `--set`."""
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]
