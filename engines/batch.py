"""The same network for another number of pictures at once.

Many files are exported for one picture and would do for any number, did not their input say 1, and a reshape near the
end repeat it. Others would mix pictures, or fail. So the pictures are followed from the input to the outputs: at each
node they must stay apart on the first axis. A node that is not known to keep them apart is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import onnx
from onnx import numpy_helper

from engines.errors import ModelError
from engines.graph import attributes, constants, dimensions, picture_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

ARITHMETIC = frozenset(["Add", "Clip", "Div", "Max", "Mul", "Pow", "Sqrt", "Sub"])
ACTIVATIONS = frozenset(["Dropout", "HardSwish", "Identity", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"])
ELEMENTWISE = ARITHMETIC | ACTIVATIONS
REDUCTIONS = frozenset(["ReduceL2", "ReduceMean", "ReduceSum"])
POOLS = frozenset(["AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"])
NORMALISATIONS = frozenset(["BatchNormalization", "InstanceNormalization"])
EACH_PICTURE = frozenset(["Conv", "ConvTranspose"]) | POOLS | NORMALISATIONS
"""Operators that treat each element of the first axis of their first input alike and alone."""
RESIZES = frozenset(["Resize", "Upsample"])
HAVE_BRANCHES = frozenset({"If", "Loop", "Scan"})

Shape = list["int | None"]


def set_batch(model: onnx.ModelProto, batch: int | Literal["any"]) -> None:
    """Declare `batch` pictures at once, on the input and on the outputs.

    Raises:
        ModelError: the network itself is made for another number.
    """
    picture = picture_input(model)
    declared, wanted = dimensions(picture)[0], None if batch == "any" else batch
    if declared == wanted:
        return
    follow = _Follow(model, declared)
    carried = follow.from_input(picture.name) if declared is not None else {each.name for each in model.graph.output}
    follow.remove_replaced()
    del model.graph.value_info[:]
    for value in (picture, *(output for output in model.graph.output if output.name in carried)):
        if axes := value.type.tensor_type.shape.dim:
            axes[0].Clear()
            if wanted is None:
                axes[0].dim_param = "N"
            else:
                axes[0].dim_value = wanted


def _are_later(axes: Sequence[float] | None, rank: int) -> bool:
    """Whether axes are known, and the first is none of them."""
    return axes is not None and len(axes) > 0 and all(axis % rank for axis in axes)


class _Follow:
    """Follows pictures through a graph that declares `declared` of them."""

    def __init__(self, model: onnx.ModelProto, declared: int | None) -> None:
        self._graph = model.graph
        self._declared = declared
        self._replaced: set[str] = set()
        self._constants = constants(model)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        known = [value for value in values if value.type.tensor_type.HasField("shape")]
        self._shapes: dict[str, Shape] = {value.name: dimensions(value) for value in known}
        self._shapes.update({name: list(array.shape) for name, array in self._constants.items()})

    def from_input(self, picture: str) -> set[str]:
        """Return the names of all tensors that hold pictures on their first axis; reshapes are made to follow.

        Raises:
            ModelError: at the first node that may not keep them apart.
        """
        carried = {picture}
        for node in self._graph.node:
            if node.op_type in HAVE_BRANCHES:
                self._refuse(node)
            if carried.isdisjoint(node.input):
                continue
            pictures = [name for name in node.input if name in carried]
            others = [name for name in node.input if name and name not in carried]
            if not self._keeps_apart(node, pictures, others):
                self._refuse(node)
            carried.update(node.output)
        return carried

    def _keeps_apart(self, node: onnx.NodeProto, pictures: list[str], others: list[str]) -> bool:
        if any(name not in self._shapes for name in (*pictures, *others)):
            return False
        stated = attributes(node)
        ranks = {len(self._shapes[name]) for name in pictures}
        if len(ranks) != 1 or not (rank := ranks.pop()):
            return False
        if node.op_type in ELEMENTWISE:
            return all(self._is_below(name, rank) for name in others)
        if node.op_type == "Concat":
            return not others and stated["axis"] % rank != 0
        if pictures != [node.input[0]]:
            return False
        if node.op_type == "Reshape":
            return self._reshape_follows(node, stated)
        if node.op_type == "Flatten":
            return bool(stated.get("axis", 1) % rank == 1)
        if node.op_type == "Transpose":
            return bool(stated.get("perm", [1])[0] == 0)
        if node.op_type in REDUCTIONS:
            return _are_later(self._stated(node, 1, "axes"), rank)
        if node.op_type == "Slice":
            return _are_later(self._stated(node, 3, "axes"), rank)
        if node.op_type == "Split":
            return bool(stated.get("axis", 0) % rank)
        if node.op_type == "Softmax":
            return bool(stated.get("axis", 1) % rank)  # from opset 13 on the default is -1, which is later, too
        if node.op_type == "Pad":
            return self._pads_later_axes(node, rank)
        if node.op_type in RESIZES:
            return self._resizes_later_axes(node, stated, rank)
        if node.op_type == "Gemm":
            return not stated.get("transA") and all(self._is_below(name, 2) for name in node.input[2:])
        if node.op_type == "MatMul":
            return rank >= 2 >= len(self._shapes[node.input[1]])
        return node.op_type in EACH_PICTURE

    def _stated(self, node: onnx.NodeProto, place: int, attribute: str) -> Sequence[float] | None:
        """Return what older operators state by an attribute and newer ones by an input; None where it is unknown."""
        if len(node.input) > place and node.input[place]:
            constant = self._constants.get(node.input[place])
            return None if constant is None else list(constant.flat)
        found: Sequence[float] | None = attributes(node).get(attribute)
        return found

    def _pads_later_axes(self, node: onnx.NodeProto, rank: int) -> bool:
        if len(node.input) > 3 and node.input[3]:
            return _are_later(self._stated(node, 3, "axes"), rank)
        pads = self._stated(node, 1, "pads")
        return pads is not None and len(pads) == 2 * rank and pads[0] == pads[rank] == 0

    def _resizes_later_axes(self, node: onnx.NodeProto, stated: dict[str, Any], rank: int) -> bool:
        """Whether the first axis is not named, or scaled by 1; a size stated for it would be a number of pictures."""
        if stated.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
            return False
        if "axes" in stated:
            return _are_later(stated["axes"], rank)
        scales = self._stated(node, 1 if len(node.input) == 2 else 2, "scales")
        return scales is not None and len(scales) == rank and scales[0] == 1

    def _is_below(self, name: str, rank: int) -> bool:
        """Whether a tensor is broadcast along the first axis of one of this rank."""
        shape = self._shapes[name]
        return len(shape) < rank or (len(shape) == rank and shape[0] == 1)

    def _reshape_follows(self, node: onnx.NodeProto, stated: dict[str, Any]) -> bool:
        """Let a reshape copy the first dimension (0) instead of naming it; 0 and -1 there are as good already."""
        target: npt.NDArray[np.int64] | None = self._constants.get(node.input[1]) if len(node.input) == 2 else None
        if target is None or stated.get("allowzero") or self._shapes.get(node.output[0], [])[:1] != [self._declared]:
            return False
        if target[0] > 0:
            name = f"{node.output[0]}_any_batch"
            self._graph.initializer.append(numpy_helper.from_array(np.array([0, *target[1:]], np.int64), name))
            self._replaced.add(node.input[1])
            node.input[1] = name
        return True

    def remove_replaced(self) -> None:
        """Remove the targets of reshapes that no node reads any more: runtimes warn of them."""
        unused = self._replaced.difference(*(node.input for node in self._graph.node))
        for tensor in [tensor for tensor in self._graph.initializer if tensor.name in unused]:
            self._graph.initializer.remove(tensor)
        for value in [value for value in self._graph.input if value.name in unused]:  # old files list them, too
            self._graph.input.remove(value)

    def _refuse(self, node: onnx.NodeProto) -> NoReturn:
        raise ModelError(
            f"the model only takes {self._declared} pictures at once: its {node.op_type} {node.name!r} may not keep "
            "another number of them apart; export it for any"
        )
