"""Reading ONNX graphs: load one, find the input that takes the picture, look up shapes, constants and attributes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper

from engines import onnx_file
from engines.errors import ModelError
from engines.importers import darknet, darknet_files, dlib, tflite
from engines.picture_layout import layout_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, dlib's face recognition network (`.dat`), a Darknet network, or a TFLite file.

    Raises:
        ModelError: it is not one.
    """
    if path.suffix == ".dat":
        return dlib.read(path)
    if path.suffix in darknet_files.SUFFIXES:
        return darknet.read(path)
    if path.suffix == tflite.SUFFIX:
        return tflite.read(path)
    return onnx_file.read(path)


def picture_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return the input that takes the picture: the first with the axes of one (see `engines.picture_layout`).

    Raises:
        ModelError: there is none.
    """
    free = free_inputs(model)
    for value in free:
        if layout_of(dimensions(value)) is not None:
            return value
    seen = ", ".join(f"{value.name} {dimensions(value)}" for value in free) or "none"
    raise ModelError(f"the model takes no N x 3 x height x width picture; inputs seen: {seen}")


def declared_size(model: onnx.ModelProto) -> tuple[int | None, int | None]:
    """Return the height and width of the pictures that a model declares; None where one is open.

    Raises:
        ModelError: it takes no pictures.
    """
    shape = dimensions(picture_input(model))
    layout = layout_of(shape)
    assert layout is not None
    return shape[layout.height], shape[layout.width]


def free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that no initializer fills; old files list those, too."""
    filled = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in filled]


def dimensions(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return a tensor's shape; None where a dimension is open."""
    shape = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in shape]


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Return the constant tensors by name."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return values


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the stated attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own, for what tells them apart by it."""
    shared = Counter(node.name for node in graph.node)
    for number, node in enumerate(graph.node):
        if not node.name or shared[node.name] > 1:
            node.name = f"{node.name or node.op_type}#{number}"
