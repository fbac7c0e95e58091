"""Steps on the ONNX graph before any backend sees it: each one leaves what the model computes as it is.

- `set_input_size`: the same network for another height and width.
- `fuse_focus`: YOLOX and YOLOv5 begin by cutting the picture into its four pixel phases (the "focus" layer) and
  convolving those. That is one 6 x 6 convolution of stride 2; as slices it took 12 % of yolox-nano's whole time.
- `take_uint8_pictures`: cast, colour order, mean and scale and layout in front of the graph, for backends that have
  no pre-processor of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from engines.spec import InputSpec, ModelSpec

PICTURES = "pictures"
"""Name of the uint8 input that `take_uint8_pictures` adds."""
FOUR_PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        ModelError: it is not one.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base
        raise ModelError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    return model


def prepare(spec: ModelSpec, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Load a model and make it ready to be compiled for pictures of `size` (height, width; None: its own).

    Raises:
        ModelError: not an ONNX file, its first input takes no pictures, it has other inputs, it only takes batches,
            or it leaves its size open and none was given.
    """
    model = load(spec.path)
    _check_inputs(model)
    height, width = input_size(model, spec.input) if size is None else size
    set_input_size(model, height, width)
    fuse_focus(model)
    return model


def picture_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return the input that takes the picture: the first that no initializer fills.

    Raises:
        ModelError: it is not N x 3 x H x W.
    """
    free = _free_inputs(model)
    shape = dimensions(free[0]) if free else []
    if len(shape) != 4 or shape[1] not in (3, None):
        seen = ", ".join(f"{value.name} {dimensions(value)}" for value in free) or "none"
        raise ModelError(f"the model takes no N x 3 x height x width picture; inputs seen: {seen}")
    first: onnx.ValueInfoProto = free[0]
    return first


def _free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    filled = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in filled]


def _check_inputs(model: onnx.ModelProto) -> None:
    """Refuse a model that would run on something else than one picture: OpenVINO leaves other inputs unset."""
    batch = dimensions(picture_input(model))[0]
    if batch not in (1, None):
        raise ModelError(f"the model only takes {batch} pictures at once; export it for one, or for any number")
    if len(free := _free_inputs(model)) > 1:
        names = ", ".join(f"{value.name} {dimensions(value)}" for value in free)
        raise ModelError(f"the model wants more than a picture, which is not supported; its inputs: {names}")


def dimensions(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return a tensor's shape; None where a dimension is open."""
    shape = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in shape]


def input_size(model: onnx.ModelProto, spec: InputSpec) -> tuple[int, int]:
    """Return height and width: the spec's, else the file's.

    Raises:
        ModelError: both leave them open.
    """
    shape = dimensions(picture_input(model))
    height, width = spec.height or shape[2], spec.width or shape[3]
    if height is None or width is None:
        raise ModelError(f"the model leaves its input size open {shape}; say which: --set detect.input_size=640")
    return height, width


def set_input_size(model: onnx.ModelProto, height: int, width: int) -> None:
    """Fix the picture's height and width; shapes that follow from them are left to the backend."""
    value = picture_input(model)
    if dimensions(value)[2:] == [height, width]:
        return
    axes = value.type.tensor_type.shape.dim
    axes[2].dim_value, axes[3].dim_value = height, width
    del model.graph.value_info[:]
    for output in model.graph.output:
        for axis in output.type.tensor_type.shape.dim:
            axis.ClearField("value")


def fuse_focus(model: onnx.ModelProto) -> bool:
    """Replace slices, concatenation and 3 x 3 convolution at the graph's start by one 6 x 6 convolution of stride 2.

    Phase (dy, dx) of the picture becomes every second weight, beginning at (dy, dx), of the larger kernel; a padding
    of one at half the size is a padding of two. Nothing is changed where the graph does not begin so.

    Returns:
        Whether it did.
    """
    graph, picture = model.graph, picture_input(model).name
    makers = {output: node for node in graph.node for output in node.output}
    constants = _constants(model)
    for conv in graph.node:
        concat = makers.get(conv.input[0]) if conv.op_type == "Conv" else None
        if concat is None or not _joins_channels(concat) or conv.input[1] not in constants:
            continue
        phases = [_phase(name, picture, makers, constants) for name in concat.input]
        weights = constants[conv.input[1]]
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


def take_uint8_pictures(model: onnx.ModelProto, spec: InputSpec) -> None:
    """Put nodes in front, so that the model takes uint8 N x H x W x 3 BGR under the name `pictures`.

    The layout changes first, on bytes, and channels are then swapped as whole planes: in the other order ONNX Runtime
    took 9 ms more for 416 x 416 RGB.
    """
    value = picture_input(model)
    batch, _, height, width = dimensions(value)
    per_channel = (3, 1, 1)
    steps: list[tuple[str, list[npt.NDArray[Any]], dict[str, Any]]] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if spec.colour == "rgb":
        steps.append(("Gather", [np.array([2, 1, 0], np.int64)], {"axis": 1}))
    steps.append(("Cast", [], {"to": onnx.TensorProto.FLOAT}))
    if any(spec.mean):
        steps.append(("Sub", [np.array(spec.mean, np.float32).reshape(per_channel)], {}))
    if any(deviation != 1 for deviation in spec.std):
        steps.append(("Mul", [1 / np.array(spec.std, np.float32).reshape(per_channel)], {}))
    nodes, name = [], PICTURES
    for number, (operator, operands, attributes) in enumerate(steps):
        constants = [f"{PICTURES}_{number}_{place}" for place in range(len(operands))]
        model.graph.initializer.extend(
            numpy_helper.from_array(array, constant) for array, constant in zip(operands, constants, strict=True)
        )
        output = value.name if number == len(steps) - 1 else f"{PICTURES}_{number}"
        nodes.append(helper.make_node(operator, [name, *constants], [output], **attributes))
        name = output
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    shape = [batch or "N", height, width, 3]
    model.graph.input.remove(value)
    model.graph.input.insert(0, helper.make_tensor_value_info(PICTURES, onnx.TensorProto.UINT8, shape))


def _constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return values


def _phase(
    name: str, picture: str, makers: dict[str, onnx.NodeProto], constants: dict[str, npt.NDArray[Any]]
) -> tuple[int, int] | None:
    """Follow slices of step 2 from `name` back to the picture; return where they start in y and x."""
    starts = {}
    while name != picture:
        node = makers.get(name)
        if node is None or node.op_type != "Slice" or len(node.input) != 5:
            return None
        start, end, axes, steps = (constants.get(operand) for operand in node.input[1:])
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
    return node.op_type == "Concat" and _attributes(node)["axis"] in (1, -3)


def _is_plain_3x3(conv: onnx.NodeProto, weights: npt.NDArray[Any]) -> bool:
    unstated = {"strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0], "auto_pad": b"NOTSET"}
    plain = {**unstated, "pads": [1, 1, 1, 1]}
    stated = {**unstated, **_attributes(conv)}
    return weights.shape[2:] == (3, 3) and all(stated[key] == value for key, value in plain.items())


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
