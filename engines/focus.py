"""YOLOX and YOLOv5 begin by cutting the picture into its four pixel phases (the "focus" layer) and convolving those.

That is one 6 x 6 convolution of stride 2; as slices it took 12 % of yolox-nano's whole time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.graph import attributes, constants, picture_input

if TYPE_CHECKING:
    import numpy.typing as npt

FOUR_PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def fuse_focus(model: onnx.ModelProto) -> bool:
    """Replace slices, concatenation and 3 x 3 convolution at the graph's start by one 6 x 6 convolution of stride 2.

    Phase (dy, dx) of the picture becomes every second weight, beginning at (dy, dx), of the larger kernel; a padding
    of one at half the size is a padding of two. Nothing is changed where the graph does not begin so.

    Returns:
        Whether it did.
    """
    graph, picture = model.graph, picture_input(model).name
    makers = {output: node for node in graph.node for output in node.output}
    known = constants(model)
    for conv in graph.node:
        concat = makers.get(conv.input[0]) if conv.op_type == "Conv" else None
        if concat is None or not _joins_channels(concat) or conv.input[1] not in known:
            continue
        phases = [_phase(name, picture, makers, known) for name in concat.input]
        weights = known[conv.input[1]]
        starts = [phase for phase in phases if phase is not None]
        if len(phases) != 4 or sorted(starts) != FOUR_PHASES or not _is_plain_3x3(conv, weights):
            continue
        channels = weights.shape[1] // 4
        kernel = np.zeros((weights.shape[0], channels, 6, 6), weights.dtype)
        for group, phase in enumerate(starts):
            kernel[:, :, phase[0] :: 2, phase[1] :: 2] = weights[:, group * channels : (group + 1) * channels]
        _replace_convolution(graph, conv, picture, kernel)
        _remove_unused(graph)
        return True
    return False


def _phase(
    name: str, picture: str, makers: dict[str, onnx.NodeProto], known: dict[str, npt.NDArray[Any]]
) -> tuple[int, int] | None:
    """Follow slices of step 2 from `name` back to the picture; return where they start in y and x."""
    starts = {}
    while name != picture:
        node = makers.get(name)
        if node is None or node.op_type != "Slice" or len(node.input) != 5:
            return None
        start, end, axes, steps = (known.get(operand) for operand in node.input[1:])
        if start is None or end is None or axes is None or steps is None:
            return None
        if any(array.size != 1 for array in (start, end, axes, steps)) or steps.item() != 2 or end.item() < 2**31 - 1:
            return None
        if int(axes.item()) in starts:  # every fourth row
            return None
        starts[int(axes.item())] = int(start.item())
        name = node.input[0]
    return (starts[2], starts[3]) if set(starts) == {2, 3} else None


def _joins_channels(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and attributes(node)["axis"] in (1, -3)


def _is_plain_3x3(conv: onnx.NodeProto, weights: npt.NDArray[Any]) -> bool:
    unstated = {"strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0], "auto_pad": b"NOTSET"}
    plain = {**unstated, "pads": [1, 1, 1, 1]}
    stated = {**unstated, **attributes(conv)}
    return weights.shape[2:] == (3, 3) and all(stated[key] == value for key, value in plain.items())


def _replace_convolution(graph: onnx.GraphProto, conv: onnx.NodeProto, picture: str, kernel: npt.NDArray[Any]) -> None:
    name = f"{conv.input[1]}_focus"
    graph.initializer.append(numpy_helper.from_array(kernel, name))
    fused = helper.make_node(
        "Conv",
        [picture, name, *conv.input[2:]],
        list(conv.output),
        name=conv.name,
        kernel_shape=[6, 6],
        strides=[2, 2],
        pads=[2, 2, 2, 2],
    )
    place = list(graph.node).index(conv)
    graph.node.remove(conv)
    graph.node.insert(place, fused)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that no longer lead to an output."""
    while True:
        used = _names_used(graph)
        idle = [node for node in graph.node if not used.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    unused = {tensor.name for tensor in graph.initializer} - used
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unused]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in unused]:  # old files list them as inputs, too
        graph.input.remove(value)


def _names_used(graph: onnx.GraphProto) -> set[str]:
    """Return the names that nodes read or that are outputs, also those that the branches of an If or Loop read."""
    names = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    inner = [attribute for node in graph.node for attribute in node.attribute]
    branches = [branch for attribute in inner for branch in (attribute.g, *attribute.graphs)]
    return names.union(*(_names_used(branch) for branch in branches if branch.node or branch.output))
