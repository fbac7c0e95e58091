"""Receptive fields: the arithmetic gives what is known of networks, and what changing pixels one by one shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.spec import ModelSpec
from tools.visual.fields import Field, Fields, fields_of
from tools.visual.layers import Network

SIDE = 24
Step = tuple[str, list[Any], dict[str, Any]]
"""Operator, its further inputs (arrays; "picture" and "last" for tensors), its attributes."""


def graph_of(steps: list[Step], side: int = SIDE, channels: int = 3) -> onnx.ModelProto:
    """Each operator works on what the last one made."""
    nodes, weights, last = [], [], "picture"
    for number, (operator, others, attributes) in enumerate(steps):
        names = [last]
        for place, other in enumerate(others):
            if isinstance(other, str):
                names.append(other)
                continue
            names.append(f"weight{number}_{place}")
            weights.append(numpy_helper.from_array(np.asarray(other), names[-1]))
        last = f"t{number}"
        nodes.append(helper.make_node(operator, names, [last], **attributes))
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, channels, side, side])
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [picture], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def last_fields(model: onnx.ModelProto) -> Fields:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    return fields_of(model, "picture", shapes)[model.graph.output[0].name]


def conv(outputs: int, inputs: int, side: int, **attributes: Any) -> Step:
    return "Conv", [np.full((outputs, inputs, side, side), 0.1, np.float32)], attributes


def pads(count: int) -> list[int]:
    return [count] * 4


RESNET_STEM = [
    conv(2, 3, 7, strides=[2, 2], pads=pads(3)),
    ("Relu", [], {}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads(1)}),
]
DILATED = [conv(2, 3, 3, dilations=[2, 2], pads=pads(2)), conv(2, 2, 3, pads=pads(1))]
FOCUS: list[Step] = [
    ("Slice", [np.array([1]), np.array([SIDE]), np.array([2]), np.array([2])], {}),
    ("Slice", [np.array([0]), np.array([SIDE]), np.array([3]), np.array([2])], {}),
]
SHUFFLE: list[Step] = [
    conv(4, 3, 3, pads=pads(1)),
    ("Reshape", [np.array([1, 2, 2, SIDE, SIDE])], {}),
    ("Transpose", [], {"perm": [0, 2, 1, 3, 4]}),
    ("Reshape", [np.array([1, 4, SIDE, SIDE])], {}),
]
UNSHUFFLE: list[Step] = [
    ("Reshape", [np.array([1, 3, SIDE // 2, 2, SIDE // 2, 2])], {}),
    ("Transpose", [], {"perm": [0, 1, 3, 5, 2, 4]}),
    ("Reshape", [np.array([1, 12, SIDE // 2, SIDE // 2])], {}),
]
SHUFFLE_UP: list[Step] = [
    conv(4, 3, 3, strides=[2, 2], pads=pads(1)),
    ("Reshape", [np.array([1, 1, 2, 2, SIDE // 2, SIDE // 2])], {}),
    ("Transpose", [], {"perm": [0, 1, 4, 2, 5, 3]}),
    ("Reshape", [np.array([1, 1, SIDE, SIDE])], {}),
]
RESIDUAL: list[Step] = [conv(3, 3, 5, pads=pads(2)), conv(3, 3, 3, pads=pads(1)), ("Add", ["picture"], {})]
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
TWICE = [np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)]
UP = [conv(2, 3, 3, strides=[2, 2], pads=pads(1)), ("Resize", TWICE, NEAREST)]
SMOOTH_UP = [UP[0], ("Resize", TWICE, {"mode": "linear"})]
TRANSPOSED: list[Step] = [
    conv(2, 3, 3, strides=[2, 2], pads=pads(1)),
    ("ConvTranspose", [np.full((2, 1, 4, 4), 0.1, np.float32)], {"strides": [2, 2], "pads": pads(1)}),
]
PADDED: list[Step] = [("Pad", [np.array([0, 0, 3, 1, 0, 0, 2, 4])], {"mode": "constant"}), conv(1, 3, 3)]
SAME_PADDED = [conv(2, 3, 4, strides=[3, 3], auto_pad="SAME_UPPER")]
TENSORFLOW: list[Step] = [
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("MatMul", [np.full((3, 2), 0.5, np.float32)], {}),
    ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    conv(1, 2, 3),
]
TO_DEPTH: list[Step] = [("SpaceToDepth", [], {"blocksize": 2}), ("DepthToSpace", [], {"blocksize": 2})]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([conv(2, 3, 3, pads=pads(1))], (-1, 1, 1)),
        ([conv(2, 3, 3)], (0, 2, 1)),
        (RESNET_STEM, (-5, 5, 4)),  # 7, then (3 - 1) * 2 more: 11 pixels, one unit every 4
        (DILATED, (-3, 3, 1)),
        (RESIDUAL, (-3, 3, 1)),
        ([("MaxPool", [], {"kernel_shape": [25, 25], "pads": pads(12)})], (-12, 12, 1)),  # larger than the map
        (SHUFFLE, (-1, 1, 1)),
        (UNSHUFFLE, (0, 1, 2)),
        (PADDED[:1], (-3, -3, 1)),
        (SAME_PADDED, (0, 3, 3)),  # 24 / 3 = 8 units: (8 - 1) * 3 + 4 = 25, so one zero, at the end
        (TENSORFLOW, (0, 2, 1)),
    ],
    ids=lambda each: "",
)
def test_fields_are_those_computed_by_hand(steps: list[Step], expected: tuple[float, float, float]) -> None:
    first, last, step = expected
    assert last_fields(graph_of(steps))[2] == Field("height", first, last, step)


ALL = {
    "resnet": RESNET_STEM,
    "dilated": DILATED,
    "focus": FOCUS,
    "shuffle": SHUFFLE,
    "unshuffle": UNSHUFFLE,
    "shuffle up": SHUFFLE_UP,
    "residual": RESIDUAL,
    "up": UP,
    "smooth up": SMOOTH_UP,
    "transposed": TRANSPOSED,
    "padded": PADDED,
    "same": SAME_PADDED,
    "tensorflow": TENSORFLOW,
    "to depth": TO_DEPTH,
}


@pytest.mark.parametrize("steps", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("axis", [2, 3])
def test_a_unit_changes_with_pixels_in_its_field_and_with_no_others(steps: list[Step], axis: int) -> None:
    model = graph_of(steps)
    field = last_fields(model)[axis]
    assert field is not None
    changes = measured(model, axis)
    for unit, rows in enumerate(changes):
        first, last = field.of(unit)
        assert all(first <= row <= last for row in rows), unit
    middle = changes[len(changes) // 2]  # there padding takes nothing away
    first, last = field.of(len(changes) // 2)
    slack = (
        2 if steps[-1][0] in ("Resize", "ConvTranspose") else 1
    )  # one unit became several: the field is around theirs
    assert middle[0] - first <= slack
    assert last - middle[-1] <= slack


def measured(model: onnx.ModelProto, axis: int) -> list[list[int]]:
    """Return the rows (or columns) of the picture that each unit changes with."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    plain = np.ones((1, 3, SIDE, SIDE), np.float32)
    before = session.run(None, {"picture": plain})[0]
    others = tuple(each for each in range(4) if each != axis)
    found: list[list[int]] = [[] for _ in range(before.shape[axis])]
    for row in range(SIDE):
        picture = plain.copy()
        picture[(slice(None),) * axis + (row,)] = 5
        changed = (session.run(None, {"picture": picture})[0] != before).any(axis=others)
        for unit in np.flatnonzero(changed):
            found[unit].append(row)
    return found


def test_a_gate_over_the_whole_map_leaves_units_where_they_are() -> None:
    steps: list[Step] = [
        conv(2, 3, 3, pads=pads(1)),
        ("GlobalAveragePool", [], {}),
        ("Sigmoid", [], {}),
        ("Mul", ["t0"], {}),
    ]
    assert last_fields(graph_of(steps[:3])) == (None,) * 4
    pooled: Step = ("AveragePool", [], {"kernel_shape": [SIDE, SIDE]})
    large = [np.zeros(0, np.float32), np.array([1, 1, SIDE, SIDE], np.float32)]
    for branch in ([pooled, ("Mul", ["t0"], {})], [pooled, ("Resize", large, {"mode": "linear"}), ("Add", ["t0"], {})]):
        assert last_fields(graph_of([steps[0], *branch]))[2] == Field("height", -1, 1)
    assert last_fields(graph_of(steps))[2:] == (Field("height", -1, 1), Field("width", -1, 1))


@pytest.mark.parametrize(
    "steps",
    [
        [("Reshape", [np.array([1, 3, SIDE * SIDE])], {})],
        [("ReduceMean", [], {"axes": [2, 3], "keepdims": 0})],
        [("Transpose", [], {"perm": [0, 1, 3, 2]}), ("MatMul", ["picture"], {})],
        [("Concat", ["picture"], {"axis": 2}), ("Concat", ["t0"], {"axis": 3})],
        [("CumSum", [np.array(2)], {})],
    ],
    ids=["flattened", "averaged", "attention", "beside each other", "unknown operator"],
)
def test_what_sees_all_has_no_place(steps: list[Step]) -> None:
    assert all(each is None or each.axis == "width" for each in last_fields(graph_of(steps)))


def test_the_fields_of_vgg16_are_the_published_ones(tmp_path: Path) -> None:
    """Araujo et al. 2019, table 1: 212 for VGG16 with its last pooling, which adds 16."""
    steps: list[Step] = []
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            steps.append(conv(1, 1 if steps else 3, 3, pads=pads(1)))
        steps.append(("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}))
    path = tmp_path / "vgg.onnx"
    onnx.save(graph_of(steps, side=224), path)
    network = Network(ModelSpec("vgg", path, "other"), None)
    last = network.layers[-1].field
    assert last is not None
    assert (last[0].side, last[0].step) == (212, 32)
    before_pooling = network.layers[-2].field
    assert before_pooling is not None
    assert (before_pooling[0].side, before_pooling[0].step) == (196, 16)
