"""Each operator of a TFLite file alone says as ONNX what it says in ai-edge-litert: odd sizes, strides, padding."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engines.importers.tflite_layout import Window, scale_to
from engines.importers.tflite_schema import SAME, VALID
from tests.engines.importers.tflite_networks import Array, Writer, of_import, of_litert

CHANCE = np.random.default_rng(0)
SHAPE = (1, 13, 10, 6)
"""Of a picture in TensorFlow's layout."""
OTHER_SHAPE = (1, 12, 11, 6)
NOT_YET = (1, 1, 1, 1)
"""A shape that ai-edge-litert works out."""
CLOSE = 1e-4
PADDINGS = pytest.mark.parametrize("padding", [SAME, VALID], ids=["same", "valid"])


def numbers(*shape: int) -> Array:
    return CHANCE.normal(0.5, 2, shape).astype(np.float32)


def assert_same(path: Path, *pictures: Array) -> None:
    wanted, said = of_litert(path, *pictures), of_import(path, *pictures)
    assert said.shape == wanted.shape
    assert np.abs(wanted).max() > 0.1, "a test with nothing in it"
    np.testing.assert_allclose(said, wanted, rtol=CLOSE, atol=CLOSE)


def one_picture(writer: Writer, kind: str, path: Path, options: str | None = None, **values: float) -> Path:
    picture = writer.tensor(SHAPE)
    return writer.with_shapes_of_litert(path, [picture], [writer.operator(kind, [picture], SHAPE, options, **values)])


# ---- windows


@PADDINGS
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 2)])
@pytest.mark.parametrize(
    ("strides", "dilations"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((3, 2), (1, 1)), ((1, 1), (2, 3))]
)
@pytest.mark.parametrize("shape", [SHAPE, OTHER_SHAPE])
def test_convolutions_see_the_same_windows(
    shape: tuple[int, ...],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    kernel: tuple[int, int],
    padding: int,
    tmp_path: Path,
) -> None:
    writer = Writer()
    picture = writer.tensor(shape)
    windows = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
    windows |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
    depthwise = [writer.constant(numbers(1, *kernel, 12)), writer.constant(numbers(12))]
    first = writer.operator(
        "DEPTHWISE_CONV_2D", [picture, *depthwise], NOT_YET, "DepthwiseConv2D", depthMultiplier=2, **windows
    )
    full = [writer.constant(numbers(5, *kernel, 6)), writer.constant(numbers(5))]
    second = writer.operator("CONV_2D", [picture, *full], NOT_YET, "Conv2D", fusedActivationFunction=1, **windows)
    path = writer.with_shapes_of_litert(tmp_path / "two.tflite", [picture], [first, second])
    assert_same(path, numbers(*shape))
    assert_same(writer.written(tmp_path / "one.tflite", [picture], [second, first]), numbers(*shape))


def test_a_convolution_in_groups(tmp_path: Path) -> None:
    writer = Writer()
    picture = writer.tensor(SHAPE)
    inputs = [picture, writer.constant(numbers(4, 3, 3, 3)), writer.constant(numbers(4))]
    made = writer.operator("CONV_2D", inputs, (1, 13, 10, 4), "Conv2D", strideH=1, strideW=1)
    assert_same(writer.written(tmp_path / "m.tflite", [picture], [made]), numbers(*SHAPE))


@pytest.mark.parametrize("left_out", [[], [-1]])
def test_biases_that_are_left_out_are_zeros(left_out: list[int], tmp_path: Path) -> None:
    """ai-edge-litert crashes on these."""
    writer = Writer()
    picture = writer.tensor(SHAPE)
    weights, zeros = writer.constant(numbers(4, 3, 3, 6)), writer.constant(np.zeros(4, np.float32))
    answers = []
    for name, biases in (("with", [zeros]), ("without", left_out)):
        inputs = [picture, weights, *biases]
        made = writer.operator("CONV_2D", inputs, (1, 13, 10, 4), "Conv2D", strideH=1, strideW=1)
        path = writer.written(tmp_path / f"{name}.tflite", [picture], [made])
        answers.append(of_import(path, np.ones(SHAPE, np.float32)))
    np.testing.assert_array_equal(answers[0], answers[1])


@PADDINGS
@pytest.mark.parametrize(
    ("kernel", "strides"), [((2, 2), (2, 2)), ((3, 4), (2, 2)), ((3, 3), (3, 1)), ((5, 2), (2, 2))]
)
def test_the_transposed_convolution_of_mediapipe(
    kernel: tuple[int, int], strides: tuple[int, int], padding: int, tmp_path: Path
) -> None:
    rows, columns = (
        side * stride if padding == SAME else (side - 1) * stride + size
        for side, size, stride in zip(SHAPE[1:3], kernel, strides, strict=True)
    )
    writer = Writer()
    picture = writer.tensor(SHAPE)
    inputs = [picture, writer.constant(numbers(3, *kernel, 6)), writer.constant(numbers(3))]
    options = np.array([padding + 1, strides[1], strides[0]], "<i4").tobytes()
    made = writer.custom("Convolution2DTransposeBias", inputs, (1, rows, columns, 3), options)
    assert_same(writer.written(tmp_path / "m.tflite", [picture], [made]), numbers(*SHAPE))


@PADDINGS
@pytest.mark.parametrize(
    ("window", "strides"), [((2, 2), (2, 2)), ((3, 5), (2, 3)), ((13, 10), (13, 10)), ((1, 1), (2, 2))]
)
def test_what_is_padded_counts_for_nothing_in_an_average(
    window: tuple[int, int], strides: tuple[int, int], padding: int, tmp_path: Path
) -> None:
    sizes = {"filterHeight": window[0], "filterWidth": window[1], "strideH": strides[0], "strideW": strides[1]}
    path = one_picture(Writer(), "AVERAGE_POOL_2D", tmp_path / "m.tflite", "Pool2D", padding=padding, **sizes)
    assert_same(path, numbers(*SHAPE))


def test_padding_same_is_as_tensorflow_defines_it() -> None:
    for side, size, stride, dilation in itertools.product(range(1, 20), range(1, 8), range(1, 5), range(1, 4)):
        window = Window(size, stride, dilation)
        places, before, behind = window.over(side, SAME)
        assert places == math.ceil(side / stride)
        assert 0 <= behind - before <= 1
        assert before + behind == max(0, (places - 1) * stride + window.reach - side)
        fits, *none = window.over(side, VALID)
        assert none == [0, 0]
        assert fits == len(range(0, side - window.reach + 1, stride))


# ---- whole maps


@pytest.mark.parametrize(("corners", "centres"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("size", [(26, 20), (1, 1), (17, 33), (5, 9), (13, 10), (257, 131)])
def test_resizing_samples_the_same_places(size: tuple[int, int], corners: bool, centres: bool, tmp_path: Path) -> None:
    writer = Writer()
    picture, wanted = writer.tensor(SHAPE), writer.constant(np.array(size, np.int32))
    flags = {"alignCorners": corners, "halfPixelCenters": centres}
    made = writer.operator("RESIZE_BILINEAR", [picture, wanted], (1, *size, 6), "ResizeBilinear", **flags)
    assert_same(writer.written(tmp_path / "m.tflite", [picture], [made]), numbers(*SHAPE))


def test_a_single_pixel_is_resized_to_a_map_of_itself(tmp_path: Path) -> None:
    writer = Writer()
    picture, wanted = writer.tensor((1, 1, 1, 6)), writer.constant(np.array([33, 21], np.int32))
    made = writer.operator("RESIZE_BILINEAR", [picture, wanted], (1, 33, 21, 6), "ResizeBilinear", alignCorners=True)
    assert_same(writer.written(tmp_path / "m.tflite", [picture], [made]), numbers(1, 1, 1, 6))


def test_a_scale_makes_exactly_the_pixels_that_are_wanted() -> None:
    for side, made in itertools.product(range(1, 300, 7), range(1, 700, 3)):
        scale = scale_to(made, side)
        assert made <= Fraction(scale) * side < made + Fraction(1, 1000)
        assert math.floor(np.float32(side) * np.float32(scale)) == math.floor(side * scale) == made


@pytest.mark.parametrize("axes", [[1, 2], [2], [3], [-3, -1], [1, 2, 3]])
def test_means_over_any_axes(axes: list[int], tmp_path: Path) -> None:
    writer = Writer()
    picture, over = writer.tensor(SHAPE), writer.constant(np.array(axes, np.int32))
    made = writer.operator("MEAN", [picture, over], NOT_YET, "Reducer", keepDims=True)
    assert_same(writer.with_shapes_of_litert(tmp_path / "m.tflite", [picture], [made]), numbers(*SHAPE))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_maps_are_joined_along_any_axis(axis: int, tmp_path: Path) -> None:
    writer = Writer()
    first, other = list(SHAPE), list(SHAPE)
    other[axis] = 4
    inputs = [writer.tensor(tuple(first)), writer.tensor(tuple(other))]
    made = writer.operator("CONCATENATION", inputs, NOT_YET, "Concatenation", axis=axis)
    path = writer.with_shapes_of_litert(tmp_path / "m.tflite", inputs, [made])
    assert_same(path, numbers(*first), numbers(*other))


# ---- one value for each


@pytest.mark.parametrize("kind", ["HARD_SWISH", "LOGISTIC", "RELU", "RELU6"])
def test_activations(kind: str, tmp_path: Path) -> None:
    assert_same(one_picture(Writer(), kind, tmp_path / "m.tflite"), 4 * numbers(*SHAPE))


@pytest.mark.parametrize("kind", ["ADD", "MUL"])
@pytest.mark.parametrize("other", [SHAPE, (1, 1, 1, 6), (6,), (1,), (), (10, 1), (1, 13, 1, 1)])
@pytest.mark.parametrize("constant", [False, True])
def test_sums_and_products_repeat_the_smaller_operand(
    kind: str, other: tuple[int, ...], constant: bool, tmp_path: Path
) -> None:
    if not constant and len(other) != 4:
        other = (*(1,) * (4 - len(other)), *other)
    writer = Writer()
    picture = writer.tensor(SHAPE)
    values = numbers(*other)
    second = writer.constant(np.asarray(values)) if constant else writer.tensor(other)
    table = {"ADD": "Add", "MUL": "Mul"}[kind]
    made = writer.operator(kind, [picture, second], SHAPE, table, fusedActivationFunction=3)
    path = writer.written(tmp_path / "m.tflite", [picture] if constant else [picture, second], [made])
    assert_same(path, numbers(*SHAPE), *([] if constant else [values]))


def test_weights_in_float16_are_what_they_hold(tmp_path: Path) -> None:
    writer = Writer()
    picture = writer.tensor(SHAPE)
    halves = [writer.constant(numbers(*shape).astype(np.float16)) for shape in ((4, 3, 3, 6), (4,))]
    weights = [writer.operator("DEQUANTIZE", [half], tuple(writer.tensors[half].shape)) for half in halves]
    made = writer.operator("CONV_2D", [picture, *weights], (1, 13, 10, 4), "Conv2D", strideH=1, strideW=1)
    assert_same(writer.written(tmp_path / "m.tflite", [picture], [made]), numbers(*SHAPE))
