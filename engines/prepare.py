"""What is done to a model before any backend sees it: each step leaves what it computes as it is.

- `engines.picture_planes`: pictures as float32 N x 3 x H x W, however the file takes them; outputs as float32.
- `engines.batch.set_batch`: the same network for another number of pictures at once.
- `set_input_size`: the same network for another height and width.
- `engines.other_inputs.fill_other_inputs`: constants for what it wants beside the picture.
- `engines.focus.fuse_focus`: one convolution in place of YOLOX's first layers.
- `take_uint8_pictures`: cast, colour order, mean and scale and layout in front of the graph, for backends that have
  no pre-processor of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from engines.batch import set_batch
from engines.errors import ModelError
from engines.focus import fuse_focus
from engines.graph import declared_size, dimensions, free_inputs, load, picture_input
from engines.in_front import Step, put_in_front
from engines.metadata import read_metadata
from engines.other_inputs import fill_other_inputs
from engines.picture_planes import give_float_outputs, take_float_planes

if TYPE_CHECKING:
    from engines.spec import InputSpec, ModelSpec

PICTURES = "pictures"
"""Name of the uint8 input that `take_uint8_pictures` adds."""
FIRST_WITH_CONSTANT_WEIGHTS = 4
"""Version of ONNX's file format from which weights need not be inputs."""


def prepare(spec: ModelSpec, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Load a model and make it ready to be compiled for pictures of `size` (height, width; None: its own).

    Raises:
        ModelError: not an ONNX file, no input takes pictures, what another input wants is not known, it only takes
            batches, or it leaves its size open and none was given.
    """
    model = load(spec.path)
    _drop_filled_inputs(model)
    take_float_planes(model, spec.input)
    if spec.input.batch is not None:
        set_batch(model, spec.input.batch)
    _refuse_batches(model)
    height, width = input_size(model, spec.input) if size is None else size
    set_input_size(model, height, width)
    fill_other_inputs(model, (height, width))
    give_float_outputs(model)
    fuse_focus(model)
    return model


def _drop_filled_inputs(model: onnx.ModelProto) -> None:
    """Let weights be constants: old files list them as inputs, too, which a caller might replace."""
    free = free_inputs(model)
    del model.graph.input[:]
    model.graph.input.extend(free)
    model.ir_version = max(model.ir_version, FIRST_WITH_CONSTANT_WEIGHTS)


def _refuse_batches(model: onnx.ModelProto) -> None:
    batch = dimensions(picture_input(model))[0]
    if batch not in (1, None):
        raise ModelError(f"the model only takes {batch} pictures at once; export it for one, or for any number")


def input_size(model: onnx.ModelProto, spec: InputSpec) -> tuple[int, int]:
    """Return height and width: the spec's, else the file's, else those that its metadata says it was exported for.

    Raises:
        ModelError: all leave them open.
    """
    declared = declared_size(model)
    metadata = read_metadata(model)
    exported = (None, None) if metadata.size is None else _rounded_up(metadata.size, metadata.stride or 1)
    height = spec.height or declared[0] or exported[0]
    width = spec.width or declared[1] or exported[1]
    if height is None or width is None:
        raise ModelError(
            f"the model leaves its input size open {dimensions(picture_input(model))}; say which: --input-size 640 "
            "with `frameloom engines` and `frameloom models inspect`, else --set detect.input_size=640"
        )
    return height, width


def _rounded_up(size: tuple[int, int], stride: int) -> tuple[int, int]:
    height, width = (-(-side // stride) * stride for side in size)
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
    cast: Step = ("Cast", [], {"to": onnx.TensorProto.FLOAT})
    steps: list[Step] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if spec.colour == "rgb":
        steps.append(("Gather", [np.array([2, 1, 0], np.int64)], {"axis": 1}))
    steps.insert(0 if cast_first else len(steps), cast)
    if any(spec.mean):
        steps.append(("Sub", [np.array(spec.mean, np.float32).reshape(per_channel)], {}))
    if any(deviation != 1 for deviation in spec.std):
        steps.append(("Mul", [1 / np.array(spec.std, np.float32).reshape(per_channel)], {}))
    shape = [batch or "N", height, width, 3]
    put_in_front(model, value, steps, helper.make_tensor_value_info(PICTURES, onnx.TensorProto.UINT8, shape))
