"""Inputs beside the picture: sizes, by which a model scales its boxes. They become constants for the model's own input.

So boxes come in pixels of the input, as every other model's do, and no caller has to know of them. What each means is
the convention of those who export it; where both orders are in use, only square inputs are taken.

- `orig_target_sizes`: width, height. RT-DETR and what descends from it (D-FINE, DEIM, DEIMv2); seen on a real DEIMv2.
- `im_shape`, `scale_factor`: height, width of the input, and input by original. Paddle divides the one by the other.
- `image_shape`: height, width. Keras' YOLOv3, as in ONNX's model zoo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.graph import dimensions, free_inputs, picture_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import onnx

WIDTH_FIRST = frozenset({"orig_target_sizes"})
HEIGHT_FIRST = frozenset({"im_shape", "image_shape"})
SQUARE_ONLY = frozenset({"orig_image_size", "orig_size", "orig_sizes", "target_sizes"})
FACTORS = frozenset({"scale_factor"})
NUMBERS = 2


def numbers_of(name: str, size: tuple[int, int]) -> tuple[float, float] | None:
    """Return what an input is to be given for pictures of `size` (height, width); None: it is not known.

    Raises:
        ModelError: its order is not known, and matters.
    """
    height, width = size
    if name in WIDTH_FIRST:
        return width, height
    if name in HEIGHT_FIRST:
        return height, width
    if name in FACTORS:
        return 1, 1
    if name not in SQUARE_ONLY:
        return None
    if height != width:
        raise ModelError(
            f"the model's second input {name} may mean height, width or width, height, and its input is "
            f"{height}x{width}: run it at a square size, or export it without that input"
        )
    return height, width


def fill_other_inputs(model: onnx.ModelProto, size: tuple[int, int]) -> None:
    """Give every input but the picture its numbers.

    Args:
        model: takes pictures as N x 3 x H x W; where N is open, there are as many rows of numbers as pictures.
        size: height and width of the pictures.

    Raises:
        ModelError: what an input wants is not known.
    """
    picture = picture_input(model)
    for value in [each for each in free_inputs(model) if each.name != picture.name]:
        numbers, shape = numbers_of(value.name, size), dimensions(value)
        if numbers is None or len(shape) not in (1, 2) or shape[-1] not in (NUMBERS, None):
            raise _unknown(free_inputs(model), value.name)
        row = np.array(numbers, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        model.graph.input.remove(value)
        batch = dimensions(picture)[0]
        if len(shape) == 2 and shape[0] is None and batch is None:
            _repeat_for_each(model, picture.name, value.name, row[None])
        else:
            rows = row if len(shape) == 1 else np.tile(row, (shape[0] or batch or 1, 1))
            model.graph.initializer.append(numpy_helper.from_array(rows, value.name))


def _repeat_for_each(model: onnx.ModelProto, picture: str, name: str, row: npt.NDArray[Any]) -> None:
    """Make as many rows as there are pictures."""
    made = {part: f"{name}_{part}" for part in ("row", "first", "numbers", "shape", "pictures", "rows")}
    for part, array in (("row", row), ("first", np.array([0])), ("numbers", np.array([NUMBERS]))):
        model.graph.initializer.append(numpy_helper.from_array(array, made[part]))
    nodes = [
        helper.make_node("Shape", [picture], [made["shape"]]),
        helper.make_node("Gather", [made["shape"], made["first"]], [made["pictures"]], axis=0),
        helper.make_node("Concat", [made["pictures"], made["numbers"]], [made["rows"]], axis=0),
        helper.make_node("Expand", [made["row"], made["rows"]], [name]),
    ]
    for node in reversed(nodes):
        node.name = f"{node.output[0]}#{node.op_type}"
        model.graph.node.insert(0, node)


def _unknown(free: Sequence[onnx.ValueInfoProto], name: str) -> ModelError:
    seen = ", ".join(
        f"{value.name} {dimensions(value)} {TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()}"
        for value in free
    )
    known = ", ".join(sorted(WIDTH_FIRST | HEIGHT_FIRST | FACTORS | SQUARE_ONLY))
    return ModelError(
        f"the model wants more than a picture, and what its input {name} is to be given is not known (its inputs: "
        f"{seen}; known: {known}); export it without that input, or choose another model"
    )
