"""A detector of bright squares, laid out as YOLOX, small enough to be put into int8 in no time; and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.engine import Batch
from engines.spec import InputSpec, ModelSpec
from tests.engines.onnx_files import value

SIDE = 64
LABELS = ("cyan", "amber")
COLOURS = ((255, 200, 120), (120, 200, 255))
"""BGR of the squares of each class."""


def squares_detector(folder: Path, outlier: float = 0.0, name: str = "squares") -> ModelSpec:
    """Write the detector.

    Args:
        folder: where to.
        outlier: scale of a channel that no decision depends on: when it is large, 8 bits for the whole tensor leave
            nothing of the others, in two of its five layers.
        name: of the file.
    """
    tensors = {
        "c1": _matrix([[1 / 765, 1 / 765, 1 / 765], [1 / 255, 0, -1 / 255], [outlier / 255, 0, 0], [0, 1 / 2550, 0]]),
        "c2": np.einsum("ij,hw->ijhw", np.eye(4), np.full((8, 8), 1 / 64)),
        "h8": _matrix([[0] * 4, [0] * 4, [0] * 4, [0] * 4, [40, 0, 0, 0], [0, 20, 0, 0], [0, -20, 0, 0]]),
        "h16": _matrix([[0.1, 0, 0, 0.1]] * 7),
        "h32": _matrix([[0.1, 0, 0, 0.1]] * 7),
        "b8": np.array([0.5, 0.5, 0, 0, -20, 0, 0]),
        "never": np.array([0.5, 0.5, 0, 0, -20, 0, 0]),
    }
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "c1"], ["colours"], "first"),
        helper.make_node("Conv", ["colours", "c2"], ["m8"], "second", strides=[8, 8]),
        helper.make_node("AveragePool", ["m8"], ["m16"], "pool16", **pool),
        helper.make_node("AveragePool", ["m16"], ["m32"], "pool32", **pool),
        helper.make_node("Conv", ["m8", "h8", "b8"], ["o8"], "head8"),
        helper.make_node("Conv", ["m16", "h16", "never"], ["o16"], "head16"),
        helper.make_node("Conv", ["m32", "h32", "never"], ["o32"], "head32"),
        *(helper.make_node("Reshape", [f"o{each}", "flat"], [f"r{each}"], f"flat{each}") for each in (8, 16, 32)),
        helper.make_node("Concat", ["r8", "r16", "r32"], ["columns"], "join", axis=2),
        helper.make_node("Transpose", ["columns"], ["rows"], "turn", perm=[0, 2, 1]),
        helper.make_node("Split", ["rows", "parts"], ["boxes", "logits"], "part", axis=2),
        helper.make_node("Sigmoid", ["logits"], ["scores"], "squash"),
        helper.make_node("Concat", ["boxes", "scores"], ["output"], "output", axis=2),
    ]
    initializers = [numpy_helper.from_array(array.astype(np.float32), key) for key, array in tensors.items()]
    for key, numbers in {"flat": [1, 7, -1], "parts": [4, 3]}.items():
        initializers.append(numpy_helper.from_array(np.array(numbers, np.int64), key))
    taken, given = value("x", (1, 3, SIDE, SIDE)), value("output", (1, 84, 7))
    graph = helper.make_graph(nodes, name, [taken], [given], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return ModelSpec(
        name, path, "detect", InputSpec(colour="bgr", fit="letterbox-topleft"), head="yolox", labels=LABELS
    )


def _matrix(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64)[:, :, None, None]


def pictures(count: int, seed: int = 0, *, brightest: int = 255) -> Batch:
    """Return N x 64 x 64 x 3 uint8 BGR: noise with 4 squares of 8 x 8 each, as bright as `brightest` at most."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 60, (count, SIDE, SIDE, 3))
    for frame in frames:
        for place in random.choice(64, 4, replace=False):
            top, left = 8 * (place // 8), 8 * (place % 8)
            frame[top : top + 8, left : left + 8] = COLOURS[random.integers(2)]
    return np.asarray(frames * brightest // 255, np.uint8)


def write_pictures(folder: Path, frames: Batch) -> Path:
    """Write them as files 0.png, 1.png, ..."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder
