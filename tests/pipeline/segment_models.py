"""A network that segments by colour, in each layout that exporters write: red, green and blue are its classes.

It really runs: what it says of a picture is known because its scores are the picture's channels, made small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.arrays import Image

SIZE = (64, 96)
"""Height and width of its input."""
COLOURS = ("red", "green", "blue")
LAYOUTS: dict[str, tuple[list[tuple[str, dict[str, Any]]], str, str]] = {
    "logits": ([], "classes", "logits"),
    "softmax": ([("Softmax", {"axis": 1})], "classes", "probabilities"),
    "channels-last": ([("Transpose", {"perm": [0, 2, 3, 1]})], "classes", "logits"),
    "softmax-last": (
        [("Transpose", {"perm": [0, 2, 3, 1]}), ("Softmax", {"axis": 3})],
        "classes",
        "probabilities",
    ),
    "class-map": ([("ArgMax", {"axis": 1, "keepdims": 0})], "class-map", "logits"),
    "class-map-1": ([("ArgMax", {"axis": 1, "keepdims": 1})], "class-map", "logits"),
    "class-map-int32": (
        [("ArgMax", {"axis": 1, "keepdims": 0}), ("Cast", {"to": TensorProto.INT32})],
        "class-map",
        "logits",
    ),
    "class-map-float": (
        [("ArgMax", {"axis": 1, "keepdims": 0}), ("Cast", {"to": TensorProto.FLOAT})],
        "class-map",
        "logits",
    ),
    "mask-logits": ([("red", {})], "mask", "logits"),
    "mask": ([("red", {}), ("Sigmoid", {})], "mask", "probabilities"),
    "mask-last": (
        [("red", {}), ("Sigmoid", {}), ("Transpose", {"perm": [0, 2, 3, 1]})],
        "mask",
        "probabilities",
    ),
    "two-logits": ([("pair", {})], "classes", "logits"),
    "two-softmax": ([("pair", {}), ("Softmax", {"axis": 1})], "classes", "probabilities"),
}
"""What is done to the scores of three classes, then the kind and scores that should be recognised."""
WEIGHTS = {
    "red": [[1.0, -0.5, -0.5]],
    "pair": [[-0.5, 0.5, 0.5], [1.0, -0.5, -0.5]],
}
"""Of red against the rest, for the layouts of one class."""


def colour_model(
    path: Path,
    layout: str = "logits",
    *,
    stride: int = 1,
    size: tuple[int | str, int | str] = SIZE,
    metadata: Mapping[str, str] | None = None,
    sharpness: float = 10.0,
) -> Path:
    """Write the network; its input is normalised pixels, RGB.

    Args:
        path: of the file.
        layout: one of `LAYOUTS`.
        stride: how much smaller than the input its map is.
        size: height and width of its input.
        metadata: of the file.
        sharpness: what the channels are multiplied by.
    """
    nodes = [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("Mul", ["small", "sharpness"], ["scores"]),
    ]
    tensors = [numpy_helper.from_array(np.array(sharpness, np.float32), "sharpness")]
    last = "scores"
    for number, (kind, attributes) in enumerate(LAYOUTS[layout][0]):
        name = f"step{number}"
        if kind in WEIGHTS:
            weights = np.array(WEIGHTS[kind], np.float32)[:, :, None, None]
            tensors.append(numpy_helper.from_array(weights, f"weights{number}"))
            nodes.append(helper.make_node("Conv", [last, f"weights{number}"], [name]))
        else:
            nodes.append(helper.make_node(kind, [last], [name], **attributes))
        last = name
    nodes[-1].output[0] = "map"
    kinds = {"class-map": TensorProto.INT64, "class-map-1": TensorProto.INT64, "class-map-int32": TensorProto.INT32}
    axes = 3 if layout in ("class-map", "class-map-int32", "class-map-float") else 4
    output = helper.make_tensor_value_info("map", kinds.get(layout, TensorProto.FLOAT), [None] * axes)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "colours", [images], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def coloured(classes: Image) -> Image:
    """Return (H, W, 3) uint8 BGR that shows classes 0, 1 and 2 as red, green and blue."""
    colours = np.array([(30, 40, 220), (40, 210, 30), (220, 30, 40)], np.uint8)
    return colours[classes]


def three_parts(height: int = 180, width: int = 240) -> Image:
    """Return (H, W) uint8 classes: red left, green right, a blue disk in the middle."""
    classes = np.zeros((height, width), np.uint8)
    classes[:, width // 2 :] = 1
    cv2.circle(classes, (width // 2, height // 2), height // 4, 2, -1)
    return classes


def agreement(found: Image, expected: Image, *, border: int = 0) -> float:
    """Return the part of the pixels that agree, of those that are further than `border` from another class."""
    kernel = np.ones((2 * border + 1, 2 * border + 1), np.uint8)
    inside = cv2.erode(expected, kernel) == cv2.dilate(expected, kernel)
    return float((found == expected)[inside].mean())
