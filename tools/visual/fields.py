"""Receptive fields: which pixels of the picture the units of each tensor of a network depend on.

The arithmetic follows the graph from the picture, axis by axis: unit i of an axis sees the pixels from
`first + i * step` to `last + i * step`. A window of k at stride s, with d between its taps and p zeros before it, makes
of that `first - p * step`, `last + (d * (k - 1) - p) * step` and `s * step`. Where paths meet, the field is the one
around both.
Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill, 2019).

It is the largest field that the graph allows; most of what a unit answers to lies near its middle. Two things are left
out, for with them every unit would see everything and be nowhere: what goes through an average over a whole map (a gate
of squeeze-and-excitation), and the statistics of a normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from engines.graph import attributes, constants

Axis = Literal["height", "width"]
Shape = tuple[int, ...]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Field:
    """What the units along one axis of a tensor see of one axis of the picture."""

    axis: Axis
    """Of the picture."""
    first: float = 0
    """Pixel at which unit 0's field begins; below 0: outside, where a convolution puts zeros."""
    last: float = 0
    """Pixel at which it ends, inclusive."""
    step: float = 1
    """Pixels from one unit's field to the next one's."""

    @property
    def side(self) -> int:
        """How many pixels a unit sees, at most."""
        return math.ceil(self.last - self.first) + 1

    def of(self, unit: float) -> tuple[float, float]:
        """Return the first and the last pixel that a unit sees."""
        return self.first + unit * self.step, self.last + unit * self.step

    def middle(self, unit: float) -> float:
        """Return the middle of a unit's field; 0.5 is that of the first pixel."""
        first, last = self.of(unit)
        return (first + last + 1) / 2

    def windowed(self, before: float, after: float, stride: float) -> Field:
        """Return the field of units that take in units `before` to `after`, counted from `stride` times their place."""
        return replace(
            self, first=self.first + before * self.step, last=self.last + after * self.step, step=self.step * stride
        )

    def around(self, other: Field) -> Field | None:
        """Return the field around both; None: they cannot be compared."""
        if self.axis != other.axis or not math.isclose(self.step, other.step):
            return None
        return replace(self, first=min(self.first, other.first), last=max(self.last, other.last))


Fields = tuple[Field | None, ...]
"""Of each axis of a tensor; None: the places along it are none in the picture."""


REDUCTIONS = [f"Reduce{kind}" for kind in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")]
NUMBERS = {"Pad": (1, 3), "Slice": (1, 3, 4), **dict.fromkeys(REDUCTIONS, (1,))}
"""Inputs that are places or sizes, by operator."""


def fields_of(
    model: onnx.ModelProto, picture: str, shapes: Mapping[str, Shape], numbers: Mapping[str, Numbers] | None = None
) -> dict[str, Fields]:
    """Follow the picture through a graph.

    Args:
        model: whose nodes are in order.
        picture: name of its input, N x 3 x height x width.
        shapes: of its tensors, as far as they are known.
        numbers: what `NUMBERS` are, where nodes work them out and the shapes alone decide.

    Returns:
        The fields of every tensor that depends on the picture.
    """
    return _Follow(model, shapes, numbers or {}).through({picture: (None, None, Field("height"), Field("width"))})


class _Follow:
    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Shape], numbers: Mapping[str, Numbers]) -> None:
        self._nodes = model.graph.node
        self._constants = {**numbers, **constants(model)}
        self._shapes = shapes
        self._found: dict[str, Fields] = {}

    def through(self, given: Mapping[str, Fields]) -> dict[str, Fields]:
        self._found = dict(given)
        for node in self._nodes:
            if not any(name in self._found for name in node.input):
                continue
            try:
                made = RULES.get(node.op_type, _nowhere)(self, node)
            except (KeyError, IndexError, TypeError, ValueError):  # a shape or number that the graph does not tell
                made = ()
            for number, name in enumerate(filter(None, node.output)):
                fields = made[number] if number < len(made) else ()
                self._found[name] = fields if len(fields) == len(self.shape(name, fields)) else self.nowhere(name)
        return self._found

    def shape(self, name: str, otherwise: Sequence[object] = ()) -> Shape:
        """Return a tensor's shape; unknown: one of as many axes as `otherwise`."""
        if name in self._constants:
            return self._constants[name].shape
        return self._shapes.get(name, (0,) * len(otherwise))

    def nowhere(self, name: str) -> Fields:
        return (None,) * len(self.shape(name))

    def fields(self, name: str) -> Fields:
        return self._found.get(name) or self.nowhere(name)

    def spread(self, name: str, over: str) -> Fields:
        """Return the fields of a tensor that is stretched over another: one unit for all places is in none."""
        fields, shape, large = self.fields(name), self.shape(name), self._shapes.get(over, ())
        sizes = zip(shape, large[len(large) - len(shape) :], strict=False)
        lost = [small == 1 != wide for small, wide in sizes] if len(large) >= len(shape) else []
        return tuple(None if lost[axis : axis + 1] == [True] else each for axis, each in enumerate(fields))

    def numbers(self, node: onnx.NodeProto, place: int, attribute: str) -> list[int] | None:
        """Return whole numbers that a node has as an attribute (old) or an input (new); None: it has neither."""
        stated = attributes(node)
        if attribute in stated:
            return [int(each) for each in np.atleast_1d(stated[attribute])]
        if len(node.input) > place and node.input[place]:
            return [int(each) for each in self._constants[node.input[place]].reshape(-1)]
        return None

    def array(self, name: str) -> Numbers:
        return self._constants[name]


Rule = Callable[[_Follow, onnx.NodeProto], Sequence[Fields]]


def _nowhere(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """An operator that may mix everything with everything, or is not known."""
    return ()


def _same(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Each value from the one at its place; other inputs are numbers of the operator."""
    return [follow.fields(node.input[0])]


def _elementwise(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Operands that are stretched to each other, aligned at their last axes."""
    operands = [follow.spread(name, node.output[0]) for name in node.input if name]
    rank = max(map(len, operands))
    padded = [(None,) * (rank - len(each)) + each for each in operands]
    return [tuple(map(_met, zip(*padded, strict=True)))]


def _met(fields: Sequence[Field | None]) -> Field | None:
    """Return the field around all that have a place; None: none has, or they do not fit together."""
    some = [each for each in fields if each is not None]
    met: Field | None = some[0] if some else None
    for each in some[1:]:
        met = met and met.around(each)
    return met


def _window(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Convolutions and poolings."""
    stated, before = attributes(node), follow.fields(node.input[0])
    weight = 3 if node.op_type == "QLinearConv" else 1
    kernel = stated.get("kernel_shape") or follow.shape(node.input[weight])[2:]
    count = len(kernel)
    strides, dilations = stated.get("strides", [1] * count), stated.get("dilations", [1] * count)
    pads = stated.get("pads", [0] * 2 * count)
    made: list[Field | None] = [None, None]
    for place in range(count):
        reach, pad = dilations[place] * (kernel[place] - 1), pads[place]
        if stated.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
            size = follow.shape(node.input[0])[2 + place]
            missing = max(0, (-(-size // strides[place]) - 1) * strides[place] + reach + 1 - size)
            pad = missing // 2 if stated["auto_pad"] == b"SAME_UPPER" else -(-missing // 2)
        elif stated.get("auto_pad") == b"VALID":
            pad = 0
        field = before[2 + place]
        if "Pool" in node.op_type and follow.shape(node.output[0])[2 + place] == 1 < kernel[place]:
            field = None  # of the whole map
        made.append(field and field.windowed(-pad, reach - pad, strides[place]))
    return [tuple(made)]


def _transposed(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """ConvTranspose: unit o takes in the units i with o = i * stride - pad + dilation * tap."""
    stated, before = attributes(node), follow.fields(node.input[0])
    kernel = stated.get("kernel_shape") or follow.shape(node.input[1])[2:]
    count = len(kernel)
    strides, dilations = stated.get("strides", [1] * count), stated.get("dilations", [1] * count)
    pads = stated.get("pads", [0] * 2 * count)
    if stated.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = [max(0, d * (k - 1) + 1 - s) // 2 for k, s, d in zip(kernel, strides, dilations, strict=True)]
    made: list[Field | None] = [None, None]
    for place in range(count):
        stride, reach, pad = strides[place], dilations[place] * (kernel[place] - 1), pads[place]
        field = before[2 + place]
        made.append(field and field.windowed((pad - reach) / stride, pad / stride, 1 / stride))
    return [tuple(made)]


REACH = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 2}
"""Units on each side that an interpolation takes in."""


def _resized(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Resize and Upsample, by their shapes."""
    stated, before = attributes(node), follow.fields(node.input[0])
    small, large = follow.shape(node.input[0]), follow.shape(node.output[0])
    reach = REACH[stated.get("mode", b"nearest").decode()]
    transformation = stated.get("coordinate_transformation_mode", b"half_pixel").decode()
    made = []
    for field, size, wanted in zip(before, small, large, strict=True):
        if field is None or size in (1, wanted):  # one unit for all places is in none
            made.append(field if size == wanted else None)
            continue
        factor = wanted / size
        if transformation == "align_corners" and wanted > 1:
            factor = (wanted - 1) / max(1, size - 1)
        shift = (1 / factor - 1) / 2 if "half_pixel" in transformation else 0.0
        if not reach and factor > 1:  # the nearest: of the units that stand for it, one lies over it, at the most
            shift, low, high = 0.0, -(factor - 1) / factor, 0.0
        else:
            low, high = float(-reach), float(reach)
        made.append(field.windowed(shift + low, shift + high, 1 / factor))
    return [tuple(made)]


def _pooled(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Global poolings: what has seen the whole map is nowhere."""
    return [(*follow.fields(node.input[0])[:2], *(None for _ in follow.fields(node.input[0])[2:]))]


def _reduced(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    before = follow.fields(node.input[0])
    axes = follow.numbers(node, 1, "axes")
    gone = set(range(len(before))) if axes is None else {axis % len(before) for axis in axes}
    keep = attributes(node).get("keepdims", 1)
    return [tuple(None if axis in gone else each for axis, each in enumerate(before) if keep or axis not in gone)]


def _permuted(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    before = follow.fields(node.input[0])
    order = attributes(node).get("perm", range(len(before))[::-1])
    return [tuple(before[axis] for axis in order)]


def _reshaped(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Reshape, Flatten, Squeeze, Unsqueeze: an axis stays one, is split, or is joined with another.

    In row-major order an axis is known by how many values lie before it (the product of the axes in front).
    """
    before, old, new = follow.fields(node.input[0]), follow.shape(node.input[0]), follow.shape(node.output[0])
    starts = [math.prod(old[:axis]) for axis in range(len(old))]
    made: list[Field | None] = []
    for axis, length in enumerate(new):
        found = None
        for was, (start, size, field) in enumerate(zip(starts, old, before, strict=True)):
            if field is None or start != math.prod(new[:axis]):
                continue
            if length == size:
                found = field
            elif length and size % length == 0 and math.prod(new[: axis + 2]) == math.prod(old[: was + 1]):
                parts = size // length  # the rest of the axis becomes the next one
                found = field.windowed(0, parts - 1, parts)
            elif size and length == math.prod(old[was : was + 2]) and before[was + 1] is None:
                parts = length // size
                found = field.windowed(-(parts - 1) / parts, 0, 1 / parts)
        made.append(found)
    return [tuple(made)]


def _to_depth(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """SpaceToDepth: blocks of pixels become channels."""
    block = attributes(node)["blocksize"]
    return [tuple(each and each.windowed(0, block - 1, block) for each in follow.fields(node.input[0]))]


def _to_space(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """DepthToSpace: channels become blocks of pixels."""
    block = attributes(node)["blocksize"]
    return [tuple(each and each.windowed(-(block - 1) / block, 0, 1 / block) for each in follow.fields(node.input[0]))]


def _joined(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Concat: beside each other along one axis, which is no place any more."""
    along = attributes(node)["axis"]
    met = list(map(_met, zip(*(follow.fields(name) for name in node.input), strict=True)))
    met[along] = None
    return [tuple(met)]


def _split(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    along, before = attributes(node).get("axis", 0), follow.fields(node.input[0])
    along %= len(before)
    made, start = [], 0
    for name in node.output:
        field = before[along]
        part = field and field.windowed(start, start, 1)
        made.append((*before[:along], part, *before[along + 1 :]))
        start += follow.shape(name)[along]
    return made


def _sliced(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    made, size = list(follow.fields(node.input[0])), follow.shape(node.input[0])
    starts, axes = follow.numbers(node, 1, "starts") or [], follow.numbers(node, 3, "axes")
    steps = follow.numbers(node, 4, "steps") or [1] * len(starts)
    for start, axis, step in zip(starts, axes or range(len(starts)), steps, strict=True):
        start = max(0, start + size[axis]) if start < 0 else min(start, size[axis] - 1)
        field = made[axis]
        made[axis] = field and field.windowed(start, start, step)
    return [tuple(made)]


def _padded(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    before = follow.fields(node.input[0])
    pads = follow.numbers(node, 1, "pads") or []
    axes = follow.numbers(node, 3, "axes") or range(len(before))
    made = list(before)
    for place, axis in enumerate(axes):
        field = made[axis]
        made[axis] = field and field.windowed(-pads[place], -pads[place], 1)
    return [tuple(made)]


def _multiplied(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """MatMul by weights mixes the last axis alone; of two tensors, all."""
    before = follow.fields(node.input[0])
    if len(follow.array(node.input[1]).shape) != 2 or before[-1] is not None:
        return ()
    return [before]


def _gathered(follow: _Follow, node: onnx.NodeProto) -> Sequence[Fields]:
    """Gather along an axis that is no place, such as channels in another order."""
    along, before = attributes(node).get("axis", 0), follow.fields(node.input[0])
    indices = len(follow.array(node.input[1]).shape)
    return [(*before[:along], *(None,) * indices, *before[along % len(before) + 1 :])]


CURVES = [
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Round",
    "Sign",
    "Sin",
    "Sqrt",
]
ACTIVATIONS = [
    "Celu",
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Relu",
    "Selu",
    "Sigmoid",
]
MORE_ACTIVATIONS = ["Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu", "Softmax", "LogSoftmax"]
NORMALISATIONS = [f"{kind}Normalization" for kind in ("Batch", "Group", "Instance", "Layer")]
AS_IT_IS = ["Cast", "DequantizeLinear", "Dropout", "Identity", "QuantizeLinear"]
SAME = [*CURVES, *ACTIVATIONS, *MORE_ACTIVATIONS, *NORMALISATIONS, "LRN", *AS_IT_IS]
ARITHMETIC = ["Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "PRelu", "Sub", "Sum"]
ELEMENTWISE = [*ARITHMETIC, "And", "Equal", "Greater", "Less", "Or", "Where"]

RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool"), _window),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _pooled),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    "ConvTranspose": _transposed,
    "Transpose": _permuted,
    "SpaceToDepth": _to_depth,
    "DepthToSpace": _to_space,
    "Concat": _joined,
    "Split": _split,
    "Slice": _sliced,
    "Pad": _padded,
    "MatMul": _multiplied,
    "Gather": _gathered,
}
"""How each operator moves the fields; one that is not here leaves no place."""
