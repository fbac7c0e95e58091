"""A model that takes pictures in another way gets nodes in front, so that it takes float32 N x 3 x H x W as all do.

The same at its end: outputs in half or double precision become float32. What the model computes stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from engines.errors import ModelError
from engines.graph import dimensions, picture_input
from engines.in_front import Step, put_in_front
from engines.operators import opset_of
from engines.picture_layout import CHANNELS, PictureLayout, layout_of

if TYPE_CHECKING:
    from engines.spec import InputSpec

OTHER_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.DOUBLE})
PLANES = "planes"
"""Name of the float32 input that is put in front."""
AXES_ARE_AN_INPUT = 13
"""Opset from which Squeeze is told its axes by an operand."""


def take_float_planes(model: onnx.ModelProto, spec: InputSpec) -> None:
    """Let a model take float32 N x 3 x H x W as its first input; `spec` says how that will be normalised.

    Raises:
        ModelError: it takes no pictures, or such as cannot be made of normalised floats.
    """
    value = picture_input(model)
    shape, kind = dimensions(value), value.type.tensor_type.elem_type
    layout = layout_of(shape)
    assert layout is not None
    _refuse_other_kind(value.name, kind, spec)
    taken = value
    if steps := _steps(layout, kind, opset_of(model) or 0):
        batch = 1 if layout.batch is None else shape[layout.batch] or "N"
        sides = shape[layout.height] or "H", shape[layout.width] or "W"
        taken = helper.make_tensor_value_info(PLANES, TensorProto.FLOAT, [batch, CHANNELS, *sides])
    put_in_front(model, value, steps, taken)


def _refuse_other_kind(name: str, kind: int, spec: InputSpec) -> None:
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8, *OTHER_FLOATS):
        given = TensorProto.DataType.Name(kind).lower()
        raise ModelError(f"the model takes pictures as {given} ({name}): export it with a float32 or uint8 input")
    if kind == TensorProto.UINT8 and (any(spec.mean) or any(deviation != 1 for deviation in spec.std)):
        raise ModelError(
            f"the model's input {name} is uint8, 0..255, so nothing can be normalised in front of it: set mean to 0 "
            f"and std to 1 (they are {list(spec.mean)} and {list(spec.std)})"
        )


def _steps(layout: PictureLayout, kind: int, opset: int) -> list[Step]:
    """Return what makes the model's own input of float32 N x 3 x H x W."""
    steps: list[Step] = []
    if kind != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": kind}))
    if layout.batch is None:
        as_input = opset >= AXES_ARE_AN_INPUT
        steps.append(("Squeeze", [np.array([0])] if as_input else [], {} if as_input else {"axes": [0]}))
    places = [axis for axis in layout if axis is not None]
    permutation = [places.index(place) for place in range(len(places))]
    if permutation != sorted(permutation):
        steps.append(("Transpose", [], {"perm": permutation}))
    return steps


def give_float_outputs(model: onnx.ModelProto) -> None:
    """Let outputs in half or double precision be float32, under their own names."""
    for output in model.graph.output:
        if output.type.tensor_type.elem_type not in OTHER_FLOATS:
            continue
        computed = f"{output.name}_as_computed"
        _rename(model.graph, output.name, computed)
        made = f"{output.name}_as_float"
        model.graph.node.append(helper.make_node("Cast", [computed], [output.name], name=made, to=TensorProto.FLOAT))
        output.type.tensor_type.elem_type = TensorProto.FLOAT


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor where it is made and wherever it is read, also in the branches of nodes."""
    for each in (*graph.initializer, *graph.value_info):
        each.name = new if each.name == old else each.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                _rename(branch, old, new)
                for value in branch.output:
                    value.name = new if value.name == old else value.name
