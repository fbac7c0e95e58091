"""What is wrong with a TFLite file is said in one sentence, whatever is in it, and quickly."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ModelError
from engines.file_kinds import refuse_foreign
from engines.graph import load
from engines.importers import tflite_graph
from engines.importers.tflite_bytes import FlatBuffer
from engines.prepare import prepare
from engines.spec import ModelSpec
from tests.engines.importers.tflite_networks import Writer

SHAPE = (1, 6, 8, 3)
Make = Callable[[Writer, int], int]


def written(folder: Path, make: Make) -> Path:
    """Write a network of what `make` appends to a picture."""
    writer = Writer()
    picture = writer.tensor(SHAPE)
    return writer.written(folder / "m.tflite", [picture], [make(writer, picture)])


def convolution(writer: Writer, picture: int, **changed: int) -> int:
    weights, biases = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
    inputs = [picture, writer.constant(weights), writer.constant(biases)]
    return writer.operator("CONV_2D", inputs, (1, 6, 8, 4), "Conv2D", **{"strideH": 1, "strideW": 1, **changed})


def relu(writer: Writer, picture: int) -> int:
    return writer.operator("RELU", [picture], SHAPE)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- operators


def test_all_unknown_operators_are_named_with_how_often_they_are_there(tmp_path: Path) -> None:
    def make(writer: Writer, picture: int) -> int:
        for kind in ("FLOOR", "SOFTMAX", "FLOOR", "RELU"):
            picture = writer.operator(kind, [picture], SHAPE)
        return writer.custom("Some\nbody's", [picture], SHAPE, b"")

    words = refusal(written(tmp_path, make))
    assert "operators that are not read from TFLite files here: FLOOR (2), " in words
    assert "own 'Some?body\\'s' (1)" in words or 'own "Some?body\'s" (1)' in words
    assert "SOFTMAX (1)" in words
    assert "RELU" not in words
    assert words.endswith("export the model to ONNX from what it was trained in, and give that file")


def test_a_quantised_file_is_refused_as_such(tmp_path: Path) -> None:
    def make(writer: Writer, picture: int) -> int:
        weights, biases = np.ones((4, 3, 3, 3), np.int8), np.ones(4, np.float32)
        inputs = [picture, writer.constant(weights), writer.constant(biases)]
        return writer.operator("CONV_2D", inputs, (1, 6, 8, 4), "Conv2D", strideH=1, strideW=1)

    words = refusal(written(tmp_path, make))
    assert "is quantised (its tensors are int8), and only TFLite files in float32 or float16 are read" in words
    assert "frameloom engines quantize" in words


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"padding": 7}, r"operator 0 \(CONV_2D\) has padding 7, which should be 0 \(same\) or 1 \(valid\)"),
        ({"strideH": 0}, "strides or dilations that are not 1 to 4096: .3, 0, 1"),
        ({"dilationWFactor": -1}, "strides or dilations that are not 1 to 4096"),
        ({"strideW": 2**31 - 1}, "strides or dilations that are not 1 to 4096"),
        ({"fusedActivationFunction": 4}, "has the activation TANH, which is not supported"),
        ({"fusedActivationFunction": 99}, "has the activation number 99"),
        ({"strideH": 2}, r"makes float32 \[1, 3, 8, 4\], and the file declares float32 \[1, 6, 8, 4\]"),
        ({"padding": 1}, r"makes float32 \[1, 4, 6, 4\], and the file declares"),
        ({"padding": 1, "dilationHFactor": 9}, r"makes float32 \[1, 0, 6, 4\], and the file declares"),
    ],
)
def test_options_that_mean_nothing_are_refused(changed: dict[str, int], words: str, tmp_path: Path) -> None:
    path = written(tmp_path, lambda writer, picture: convolution(writer, picture, **changed))
    with pytest.raises(ModelError, match=words):
        load(path)


def _of_wrong_weights(writer: Writer, picture: int) -> int:
    inputs = [picture, writer.constant(np.ones((4, 3, 3, 2), np.float32)), writer.constant(np.ones(4, np.float32))]
    return writer.operator("CONV_2D", inputs, (1, 6, 8, 4), "Conv2D", strideH=1, strideW=1)


def _of_wrong_biases(writer: Writer, picture: int) -> int:
    inputs = [picture, writer.constant(np.ones((4, 3, 3, 3), np.float32)), writer.constant(np.ones(3, np.float32))]
    return writer.operator("CONV_2D", inputs, (1, 6, 8, 4), "Conv2D", strideH=1, strideW=1)


def _of_computed_weights(writer: Writer, picture: int) -> int:
    return writer.operator("CONV_2D", [picture, picture], (1, 6, 8, 4), "Conv2D", strideH=1, strideW=1)


def _before_it_is_made(writer: Writer, picture: int) -> int:
    later = writer.operator("RELU", [picture], SHAPE)
    earlier = writer.operator("ADD", [picture, later], SHAPE, "Add")
    writer.operators.reverse()
    return earlier


def _made_twice(writer: Writer, picture: int) -> int:
    made = relu(writer, picture)
    relu(writer, picture)
    writer.operators[-1].outputs = [made]
    return made


def _transposed(padding: int, stride: int) -> Make:
    def make(writer: Writer, picture: int) -> int:
        inputs = [picture, writer.constant(np.ones((1, 2, 2, 3), np.float32))]
        options = np.array([padding, stride, stride], "<i4").tobytes()
        return writer.custom("Convolution2DTransposeBias", inputs, (1, 12, 16, 1), options)

    return make


def _resized(*size: int, **flags: bool) -> Make:
    def make(writer: Writer, picture: int) -> int:
        inputs = [picture, writer.constant(np.array(size, np.int32))]
        return writer.operator("RESIZE_BILINEAR", inputs, (1, *size[:2], 3), "ResizeBilinear", **flags)

    return make


def _mean(*axes: int, keep: bool) -> Make:
    def make(writer: Writer, picture: int) -> int:
        inputs = [picture, writer.constant(np.array(axes, np.int32))]
        return writer.operator("MEAN", inputs, (1, 1, 1, 3), "Reducer", keepDims=keep)

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_of_wrong_weights, r"has weights \[4, 3, 3, 2\], which do not fit 3 channels"),
        (_of_wrong_biases, r"should have 4 biases, not float32 \[3\]"),
        (_of_computed_weights, "should read a constant as input 1"),
        (_before_it_is_made, "should read feature maps as input 1, which is nothing that|should read a constant"),
        (_made_twice, "makes a tensor that is there already"),
        (_transposed(0, 2), r"has padding 0, which should be 1 \(same\) or 2 \(valid\)"),
        (_transposed(1, 3), "has windows 2 x 2, which are smaller than their strides 3 x 3"),
        (_transposed(1, 0), "that are not 1 to 4096"),
        (_resized(0, 8), r"should say height and width, not \[0, 8\]"),
        (_resized(6, 8, 3), "should say height and width"),
        (_resized(6, 8, alignCorners=True, halfPixelCenters=True), "aligns both corners and centres"),
        (_mean(1, 2, keep=False), "should say which axes it is taken over, and keep them"),
        (_mean(0, 1, keep=True), "works along axis 0, which should be 1 to 3"),
        (_mean(9, keep=True), "works along axis 9"),
        (lambda writer, picture: writer.operator("RELU", [], SHAPE), "should have an input 0"),
        (lambda writer, picture: writer.operator("RELU", [-1], SHAPE), "should have an input 0"),
        (lambda writer, picture: writer.operator("RELU", [99], SHAPE), "names a tensor that is not among the 2"),
        (lambda writer, picture: writer.operator("DEQUANTIZE", [picture], SHAPE), "only read for weights in float16"),
        (lambda writer, picture: writer.operator("RELU", [picture], (1, -6, 8, 3)), r"has the shape \[1, -6, 8, 3\]"),
        (
            lambda writer, picture: writer.operator("RELU", [picture], (6, 8, 3)),
            r"the file declares float32 \[6, 8, 3\]",
        ),
        (lambda writer, picture: writer.constant(np.ones((1, 2, 2, 3), np.float32)), "gives 'tensor1', float32"),
    ],
)
def test_what_does_not_hold_together_is_refused(make: Make, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, make)
    with pytest.raises(ModelError, match=words):
        load(path)
    refusal(path)


@pytest.mark.parametrize(("shape", "kind"), [((2, 6, 8, 3), "FLOAT32"), ((6, 8, 3), "FLOAT32"), (SHAPE, "INT32")])
def test_other_inputs_than_a_float_picture_are_refused(shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    writer = Writer()
    picture = writer.tensor(shape, kind)
    path = writer.written(tmp_path / "m.tflite", [picture], [writer.operator("RELU", [picture], shape)])
    assert f"takes 'tensor0', {kind.lower()} {list(shape)}, and only float32 of one picture" in refusal(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    def make(writer: Writer, picture: int) -> int:
        return writer.operator("ADD", [picture, writer.constant(np.array([np.nan], np.float32))], SHAPE, "Add")

    assert "is damaged: some of its weights are not finite" in refusal(written(tmp_path, make))


def test_tensors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    writer = Writer()
    picture = writer.tensor(SHAPE, name="relu0")
    first, second = (writer.operator("RELU", [picture], SHAPE) for _ in range(2))
    for number in (first, second):
        writer.tensors[number].name = "relu0\n"
    model = prepare(ModelSpec("m", writer.written(tmp_path / "m.tflite", [picture], [first, second]), "segment"), None)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["relu0", "relu0?", "relu0?_"]


def test_the_same_weights_over_and_over_again_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file could fill the memory otherwise."""
    monkeypatch.setattr(tflite_graph, "SMALL_FILE", 0)

    def make(writer: Writer, picture: int) -> int:
        shared = writer.constant(np.ones((1, 6, 8, 3 * 400), np.float32).reshape(1, 6, 8, 1200))
        for _ in range(10):
            again = writer.tensor((1, 6, 8, 1200))
            writer.tensors[again].buffer = writer.tensors[shared].buffer
            picture = writer.operator("MUL", [picture, again], (1, 6, 8, 1200), "Mul")
        return picture

    writer = Writer()
    picture = writer.tensor((1, 6, 8, 1200))
    path = writer.written(tmp_path / "m.tflite", [picture], [make(writer, picture)])
    assert "says the same weights over and over again" in refusal(path)


def test_of_very_many_unknown_operators_some_are_named(tmp_path: Path) -> None:
    def make(writer: Writer, picture: int) -> int:
        for number in range(50):
            picture = writer.custom(f"Own{number:02}", [picture], SHAPE, b"")
        return picture

    words = refusal(written(tmp_path, make))
    assert "own 'Own39' (1) and 10 other kinds; export" in words
    assert "Own40" not in words


# ---- bytes


def test_other_files_are_called_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    for content, words in (
        (b"", r"is empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, not the file itself"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (bytes(100), "is not a TensorFlow Lite file: it does not begin as one"),
        (b"\x08\x00\x00\x00TFL3", "is cut off or damaged (of 8 bytes, it needs 4 at 8)"),
    ):
        path.write_bytes(content)
        assert words in refusal(path)


def test_a_file_of_3_gb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    with path.open("wb") as file:
        file.write(b"\x1c\x00\x00\x00TFL3")
        file.truncate(3_000_000_000)
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"has 3.0 GB, and an ONNX file can hold 2 GB at most"):
        load(path)
    assert time.monotonic() - began < 1


def test_a_file_with_another_suffix_is_to_be_renamed(tmp_path: Path) -> None:
    path = written(tmp_path, relu).rename(tmp_path / "m.lite")
    with pytest.raises(ModelError, match=r"is a TensorFlow Lite file, not an ONNX model: rename it to m\.tflite"):
        refuse_foreign(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, relu)
    content = bytearray(path.read_bytes())
    table = FlatBuffer(bytes(content), "m").root()
    place = table._place(0)
    assert place is not None
    content[place] = 4
    path.write_bytes(content)
    assert "is a TFLite file of version 4, and only 3 is read" in refusal(path)


@pytest.fixture(scope="module")
def selfie(shared: Path) -> bytes:
    return (shared / "models" / "seg" / "selfie_segmentation_landscape.tflite").read_bytes()


def outcome(path: Path, content: bytes | bytearray) -> bool:
    """Whether a file is read; else it is refused in one sentence that names it."""
    path.write_bytes(content)
    try:
        load(path)
    except ModelError as error:
        return (str(path) not in str(error) or "\n" in str(error)) and pytest.fail(str(error))
    return True


def test_a_file_that_is_cut_off_anywhere_is_refused(selfie: bytes, tmp_path: Path) -> None:
    """Of the labels behind the tables a few bytes may be missing: then the names are."""
    tables = selfie.rindex(b"PK\x03\x04")
    ends = [*range(0, 200, 7), *range(200, tables - 16, tables // 60)]
    assert not any(outcome(tmp_path / "m.tflite", selfie[:end]) for end in ends)


def test_damaged_bytes_are_refused_or_another_network(selfie: bytes, tmp_path: Path) -> None:
    chance = random.Random(0)
    small = written(tmp_path, convolution).read_bytes()
    began, accepted = time.monotonic(), 0
    for _ in range(400):
        content = bytearray(small)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(0, len(content) - 4) & ~3
            value = chance.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, place, chance.randrange(2**32)])
            struct.pack_into("<I", content, place, value)
        accepted += outcome(tmp_path / "m.tflite", content)
    assert 40 < accepted < 360
    for _ in range(15):
        content = bytearray(selfie)
        for _ in range(20):
            struct.pack_into("<I", content, chance.randrange(0, len(content) - 4) & ~3, chance.randrange(2**32))
        outcome(tmp_path / "m.tflite", content)
    assert time.monotonic() - began < 30


def test_many_tables_in_one_place_are_refused_quickly(tmp_path: Path) -> None:
    """An offset is four bytes: a file of 1 MB can have 200,000 operators that are all the same."""
    count = 200_000
    content = bytearray(written(tmp_path, relu).read_bytes())
    graph = FlatBuffer(bytes(content), "m").root().tables(2, "networks", 1)[0]
    place = graph._place(3)
    assert place is not None
    vector = len(content)
    struct.pack_into("<I", content, place, vector - place)
    content += struct.pack("<I", count) + bytes(4 * count)
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    began = time.monotonic()
    assert "has 200000 operators, and at most 16384 are read" in refusal(path)
    assert time.monotonic() - began < 1
