"""Nodes in front of a model: a chain from a new input to the one that it takes the place of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

Step = tuple[str, list[npt.NDArray[Any]], dict[str, Any]]
"""Operator, further operands, attributes."""


def put_in_front(
    model: onnx.ModelProto, replaced: onnx.ValueInfoProto, steps: Sequence[Step], taken: onnx.ValueInfoProto
) -> None:
    """Let a model take `taken` as its first input, from which `steps` make what it took as `replaced`.

    What is added is named after the new input; an input of the model that is called so already gets another name.
    """
    if steps and replaced.name == taken.name:
        _rename(model.graph, replaced)
    nodes, name = [], taken.name
    for number, (operator, operands, attributes) in enumerate(steps):
        made = f"{taken.name}_{number}"
        constants = [f"{made}_{place}" for place in range(len(operands))]
        model.graph.initializer.extend(
            numpy_helper.from_array(array, constant) for array, constant in zip(operands, constants, strict=True)
        )
        output = replaced.name if number == len(steps) - 1 else made
        nodes.append(helper.make_node(operator, [name, *constants], [output], name=made, **attributes))
        name = output
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    model.graph.input.remove(replaced)
    model.graph.input.insert(0, taken)


def _rename(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> None:
    old, value.name = value.name, f"{value.name}_replaced"
    for node in graph.node:
        node.input[:] = [value.name if name == old else name for name in node.input]
