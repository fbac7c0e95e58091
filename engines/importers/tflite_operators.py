"""Each operator of a TFLite file becomes one or two nodes of an ONNX graph.

These are the operators of networks that segment pictures (MobileNetV3 with a decoder, DeepLabV3). Anything that an
operator could say and these do not is refused, and never left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engines.importers.tflite_layout import AXES, Maps, Window, channels_first, maps_of, scale_to
from engines.importers.tflite_schema import ACTIVATIONS, SAME, TRANSPOSED, VALID

if TYPE_CHECKING:
    from engines.importers.tflite_file import Operator
    from engines.importers.tflite_graph import GraphInMaking

LARGEST_STEP = 1 << 12
"""Of strides and dilations."""
MEDIAPIPE_SAME, MEDIAPIPE_VALID = 1, 2
"""Values of `padding` in the options of MediaPipe's operator (TensorFlow Lite's C interface, builtin_op_data.h)."""
CHANNELS_LAST = len(AXES) - 1

_Made = tuple[str, Maps]


def convert(graph: GraphInMaking, operator: Operator) -> None:
    """Append what an operator becomes.

    Raises:
        ModelError: it does not hold together, or asks for what is not supported.
    """
    if operator.kind == "DEQUANTIZE":
        graph.holds_halves(operator)
        return
    name, maps = CONVERTERS[operator.kind](graph, operator)
    graph.computed(operator, _activated(graph, operator, name), maps)


def _activated(graph: GraphInMaking, operator: Operator, name: str) -> str:
    """Append the activation that is part of an operator."""
    number = operator.options.get("activation", 0)
    kind = ACTIVATIONS[number] if 0 <= number < len(ACTIVATIONS) else f"number {number}"
    if kind not in ("NONE", "RELU", "RELU6"):
        graph.refuse(operator, f"has the activation {kind}, which is not supported")
    if kind == "RELU6":
        return _clipped(graph, name)
    return graph.node("Relu", [name]) if kind == "RELU" else name


def _clipped(graph: GraphInMaking, name: str) -> str:
    limits = [graph.constant(np.array(limit, np.float32), ("limit", limit)) for limit in (0, 6)]
    return graph.node("Clip", [name, *limits])


# ---- one value for each


def _one_for_one(graph: GraphInMaking, operator: Operator) -> _Made:
    source, maps = graph.maps(operator, 0)
    if operator.kind == "RELU6":
        return _clipped(graph, source), maps
    return graph.node({"RELU": "Relu", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish"}[operator.kind], [source]), maps


def _two_for_one(graph: GraphInMaking, operator: Operator) -> _Made:
    """ADD and MUL: one may be a constant, or smaller along some axes, where it is repeated."""
    (first, one), (second, other) = _operand(graph, operator, 0), _operand(graph, operator, 1)
    if any(a != b and 1 not in (a, b) for a, b in zip(one, other, strict=True)):
        graph.refuse(operator, f"has operands of different sizes, {_sized(one)} and {_sized(other)}")
    made = Maps(*(b if a == 1 else a for a, b in zip(one, other, strict=True)))
    return graph.node({"ADD": "Add", "MUL": "Mul"}[operator.kind], [first, second]), made


def _operand(graph: GraphInMaking, operator: Operator, place: int) -> _Made:
    if graph.is_computed(operator, place):
        return graph.maps(operator, place)
    values = graph.values(operator, place)
    maps = maps_of((1,) * (4 - values.ndim) + values.shape)
    if maps is None or values.dtype.kind != "f":
        graph.refuse(operator, f"should read numbers as input {place}, not {values.dtype} {list(values.shape)}")
    return graph.constant(channels_first(values), ("maps", operator.inputs[place])), maps


# ---- windows


def _convolution(graph: GraphInMaking, operator: Operator) -> _Made:
    """Weights are filters x height x width x channels; of depthwise ones 1 x height x width x filters."""
    source, maps = graph.maps(operator, 0)
    weights = _weights(graph, operator)
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    filters, per_group = (weights.shape[3], 1) if depthwise else (weights.shape[0], weights.shape[3])
    groups = maps.channels // per_group
    if groups * per_group != maps.channels or filters % groups or (depthwise and weights.shape[0] != 1):
        graph.refuse(operator, f"has weights {list(weights.shape)}, which do not fit {maps.channels} channels")
    down, across = _windows(graph, operator, *weights.shape[1:3])
    made, pads = _places(graph, operator, maps, down, across)
    ordered = weights.transpose(3, 0, 1, 2) if depthwise else weights.transpose(0, 3, 1, 2)
    operands = [source, graph.constant(ordered, (operator.kind, operator.inputs[1]))]
    if graph.has(operator, 2):
        operands.append(_bias(graph, operator, filters))
    name = graph.node(
        "Conv",
        operands,
        kernel_shape=[down.size, across.size],
        strides=[down.stride, across.stride],
        dilations=[down.dilation, across.dilation],
        pads=pads,
        group=groups,
    )
    return name, Maps(filters, *made)


def _transposed(graph: GraphInMaking, operator: Operator) -> _Made:
    """MediaPipe's: weights as of a convolution; the options are three int32: padding, stride across, stride down."""
    source, maps = graph.maps(operator, 0)
    weights = _weights(graph, operator)
    filters, height, width, channels = weights.shape
    if channels != maps.channels or len(operator.custom_options) < 12:
        graph.refuse(operator, f"has weights {list(weights.shape)}, which do not fit {maps.channels} channels")
    stated, across, down = np.frombuffer(operator.custom_options, "<i4", 3).tolist()
    padding = {MEDIAPIPE_SAME: SAME, MEDIAPIPE_VALID: VALID}.get(stated)
    if padding is None:
        graph.refuse(operator, f"has padding {stated}, which should be 1 (same) or 2 (valid)")
    _check_steps(graph, operator, (across, down))
    if height < down or width < across:
        graph.refuse(
            operator, f"has windows {height} x {width}, which are smaller than their strides {down} x {across}"
        )
    rows, top, bottom = Window(height, down).back_over(maps.height, padding)
    columns, left, right = Window(width, across).back_over(maps.width, padding)
    name = graph.node(
        "ConvTranspose",
        [
            source,
            graph.constant(weights.transpose(3, 0, 1, 2), (operator.kind, operator.inputs[1])),
            *([_bias(graph, operator, filters)] if graph.has(operator, 2) else []),
        ],
        kernel_shape=[height, width],
        strides=[down, across],
        pads=[top, left, bottom, right],
    )
    return name, Maps(filters, rows, columns)


def _average_pool(graph: GraphInMaking, operator: Operator) -> _Made:
    """What is padded counts for nothing."""
    source, maps = graph.maps(operator, 0)
    down, across = _windows(graph, operator, operator.options["height"], operator.options["width"])
    made, pads = _places(graph, operator, maps, down, across)
    name = graph.node(
        "AveragePool",
        [source],
        kernel_shape=[down.size, across.size],
        strides=[down.stride, across.stride],
        pads=pads,
        count_include_pad=0,
    )
    return name, Maps(maps.channels, *made)


def _weights(graph: GraphInMaking, operator: Operator) -> np.ndarray:
    weights = graph.values(operator, 1)
    if weights.ndim != 4 or weights.dtype.kind != "f" or 0 in weights.shape:
        graph.refuse(operator, f"should have float weights of four axes, not {weights.dtype} {list(weights.shape)}")
    return weights


def _bias(graph: GraphInMaking, operator: Operator, filters: int) -> str:
    bias = graph.values(operator, 2)
    if bias.shape != (filters,) or bias.dtype.kind != "f":
        graph.refuse(operator, f"should have {filters} biases, not {bias.dtype} {list(bias.shape)}")
    return graph.constant(bias, ("bias", operator.inputs[2]))


def _windows(graph: GraphInMaking, operator: Operator, height: int, width: int) -> tuple[Window, Window]:
    """Return the windows down and across a picture."""
    options = operator.options
    down = Window(height, options["stride_height"], options.get("dilation_height", 1))
    across = Window(width, options["stride_width"], options.get("dilation_width", 1))
    _check_steps(graph, operator, (*down, *across))
    return down, across


def _check_steps(graph: GraphInMaking, operator: Operator, steps: tuple[int, ...]) -> None:
    if not all(1 <= step <= LARGEST_STEP for step in steps):
        graph.refuse(operator, f"has windows, strides or dilations that are not 1 to {LARGEST_STEP}: {list(steps)}")


def _places(
    graph: GraphInMaking, operator: Operator, maps: Maps, down: Window, across: Window
) -> tuple[tuple[int, int], list[int]]:
    """Return height and width of what windows make, and what is padded: top, left, bottom, right."""
    padding = operator.options["padding"]
    if padding not in (SAME, VALID):
        graph.refuse(operator, f"has padding {padding}, which should be {SAME} (same) or {VALID} (valid)")
    rows, top, bottom = down.over(maps.height, padding)
    columns, left, right = across.over(maps.width, padding)
    return (rows, columns), [top, left, bottom, right]


# ---- whole maps


def _concatenation(graph: GraphInMaking, operator: Operator) -> _Made:
    if operator.options["activation"]:  # 0 is none
        graph.refuse(operator, "has an activation, which TensorFlow Lite itself does not support")
    parts = [graph.maps(operator, place) for place in range(len(operator.inputs))]
    axis = _axis(graph, operator, operator.options["axis"])
    sizes = [list(maps) for _, maps in parts]
    total = sum(size[axis - 1] for size in sizes)
    for size in sizes:
        size[axis - 1] = total
    if not sizes or any(size != sizes[0] for size in sizes):
        graph.refuse(operator, f"joins maps that do not fit: {', '.join(_sized(maps) for _, maps in parts)}")
    return graph.node("Concat", [name for name, _ in parts], axis=axis), Maps(*sizes[0])


def _mean(graph: GraphInMaking, operator: Operator) -> _Made:
    source, maps = graph.maps(operator, 0)
    stated = graph.values(operator, 1)
    if stated.dtype.kind != "i" or stated.size > len(AXES) or not operator.options["keep_axes"]:
        graph.refuse(operator, "should say which axes it is taken over, and keep them")
    axes = {_axis(graph, operator, axis) for axis in stated.ravel().tolist()}
    made = Maps(*(1 if number + 1 in axes else side for number, side in enumerate(maps)))
    if axes == {2, 3}:
        return graph.node("GlobalAveragePool", [source]), made
    return graph.node("ReduceMean", [source], axes=sorted(axes), keepdims=1), made


def _axis(graph: GraphInMaking, operator: Operator, axis: int) -> int:
    """Return an axis in ONNX's layout; that of the pictures stays as it is."""
    if not -len(AXES) <= axis < len(AXES) or AXES[axis] == 0:
        graph.refuse(operator, f"works along axis {axis}, which should be 1 to {CHANNELS_LAST}")
    return AXES[axis]


def _resize(graph: GraphInMaking, operator: Operator) -> _Made:
    source, maps = graph.maps(operator, 0)
    stated = graph.values(operator, 1)
    if stated.dtype.kind != "i" or stated.size != 2 or stated.min() < 1:
        graph.refuse(operator, f"should say height and width, not {stated.ravel()[:4].tolist()}")
    height, width = stated.ravel().tolist()
    corners, centres = operator.options["align_corners"], operator.options["half_pixel_centres"]
    if corners and centres:
        graph.refuse(operator, "aligns both corners and centres")
    places = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    scales = np.array([1, 1, scale_to(height, maps.height), scale_to(width, maps.width)], np.float32)
    operands = [source, "", graph.constant(scales, ("scales", scales.tobytes()))]
    name = graph.node("Resize", operands, mode="linear", coordinate_transformation_mode=places)
    return name, Maps(maps.channels, height, width)


def _sized(maps: Maps) -> str:
    return " x ".join(map(str, maps))


CONVERTERS: dict[str, Callable[[GraphInMaking, Operator], _Made]] = {
    "ADD": _two_for_one,
    "AVERAGE_POOL_2D": _average_pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "HARD_SWISH": _one_for_one,
    "LOGISTIC": _one_for_one,
    "MEAN": _mean,
    "MUL": _two_for_one,
    "RELU": _one_for_one,
    "RELU6": _one_for_one,
    "RESIZE_BILINEAR": _resize,
    TRANSPOSED: _transposed,
}
KNOWN = frozenset({*CONVERTERS, "DEQUANTIZE"})
"""Operators that are read."""
