"""What is done to a model before any backend sees it: each step leaves what it computes as it is.

- `engines.batch.set_batch`: the same network for another number of pictures at once.
- `set_input_size`: the same network for another height and width.
- `engines.focus.fuse_focus`: one convolution in place of YOLOX's first layers.
- `take_uint8_pictures`: cast, colour order, mean and scale and layout in front of the graph, for backends that have
  no pre-processor of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from engines.batch import set_batch
from engines.errors import ModelError
from engines.focus import fuse_focus
from engines.graph import dimensions, free_inputs, load, picture_input

if TYPE_CHECKING:
    from engines.spec import InputSpec, ModelSpec

_Step = tuple[str, list[npt.NDArray[Any]], dict[str, Any]]
"""Operator, further operands, attributes."""
PICTURES = "pictures"
"""Name of the uint8 input that `take_uint8_pictures` adds."""
FIRST_WITH_CONSTANT_WEIGHTS = 4
"""Version of ONNX's file format from which weights need not be inputs."""


def prepare(spec: ModelSpec, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Load a model and make it ready to be compiled for pictures of `size` (height, width; None: its own).

    Raises:
        ModelError: not an ONNX file, its first input takes no pictures, it has other inputs, it only takes batches,
            or it leaves its size open and none was given.
    """
    model = load(spec.path)
    _drop_filled_inputs(model)
    if spec.input.batch is not None:
        set_batch(model, spec.input.batch)
    _check_inputs(model)
    height, width = input_size(model, spec.input) if size is None else size
    set_input_size(model, height, width)
    fuse_focus(model)
    return model


def _drop_filled_inputs(model: onnx.ModelProto) -> None:
    """Let weights be constants: old files list them as inputs, too, which a caller might replace."""
    free = free_inputs(model)
    del model.graph.input[:]
    model.graph.input.extend(free)
    model.ir_version = max(model.ir_version, FIRST_WITH_CONSTANT_WEIGHTS)


def _check_inputs(model: onnx.ModelProto) -> None:
    """Refuse a model that would run on something else than one picture: OpenVINO leaves other inputs unset."""
    batch = dimensions(picture_input(model))[0]
    if batch not in (1, None):
        raise ModelError(f"the model only takes {batch} pictures at once; export it for one, or for any number")
    if len(free := free_inputs(model)) > 1:
        names = ", ".join(f"{value.name} {dimensions(value)}" for value in free)
        raise ModelError(
            f"the model wants more than a picture; its inputs: {names}; choose another model, a second input is not "
            "supported yet"
        )


def input_size(model: onnx.ModelProto, spec: InputSpec) -> tuple[int, int]:
    """Return height and width: the spec's, else the file's.

    Raises:
        ModelError: both leave them open.
    """
    shape = dimensions(picture_input(model))
    height, width = spec.height or shape[2], spec.width or shape[3]
    if height is None or width is None:
        raise ModelError(
            f"the model leaves its input size open {shape}; say which: --input-size 640 with `frameloom engines`, else "
            "--set detect.input_size=640"
        )
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


def take_uint8_pictures(model: onnx.ModelProto, spec: InputSpec, *, cast_first: bool = False) -> None:
    """Put nodes in front, so that the model takes uint8 N x H x W x 3 BGR under the name `pictures`.

    The layout changes first, on bytes, and channels are then swapped as whole planes: in the other order ONNX Runtime
    took 9 ms more for 416 x 416 RGB. TensorRT does nothing with bytes but cast them: for it, `cast_first`.
    """
    value = picture_input(model)
    batch, _, height, width = dimensions(value)
    per_channel = (3, 1, 1)
    cast: _Step = ("Cast", [], {"to": onnx.TensorProto.FLOAT})
    steps: list[_Step] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if spec.colour == "rgb":
        steps.append(("Gather", [np.array([2, 1, 0], np.int64)], {"axis": 1}))
    steps.insert(0 if cast_first else len(steps), cast)
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
