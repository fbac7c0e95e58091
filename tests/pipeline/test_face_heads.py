"""The face heads against the definitions of their layouts, cell by cell, and which layout is recognised as which."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.engine import EngineOptions, open_engine
from engines.errors import UnknownHead
from pipeline.faces import Faces
from pipeline.infer.face_finder import FaceFinder, recognise
from pipeline.picture import Picture
from pipeline.postprocess import face_heads
from tests.pipeline.face_models import answering

Array = npt.NDArray[Any]
Outputs = dict[str, Array]
Row = tuple[float, Array, Array]
"""Score, box, landmarks."""
SIDES = st.integers(1, 4).map(lambda side: side * 32)
GRID_STRIDES = (8, 16, 32)


def random_outputs(shapes: dict[str, tuple[int, ...]], seed: int) -> Outputs:
    random = np.random.default_rng(seed)
    return {name: random.uniform(-0.2, 1.2, shape).astype(np.float32) for name, shape in shapes.items()}


def centerface_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    return {str(537 + n): (1, channels, height // 4, width // 4) for n, channels in enumerate((1, 2, 2, 10))}


def centerface_by_loop(outputs: Outputs, size: tuple[int, int], confidence: float) -> list[Row]:
    heat, scale, offset, marks = (array[0].astype(float) for array in outputs.values())
    found = []
    for y in range(size[0] // 4):
        for x in range(size[1] // 4):
            if heat[0, y, x] > confidence:
                high, wide = 4 * math.exp(scale[0, y, x]), 4 * math.exp(scale[1, y, x])
                middle_y, middle_x = (y + 0.5 + offset[0, y, x]) * 4, (x + 0.5 + offset[1, y, x]) * 4
                left, top = middle_x - wide / 2, middle_y - high / 2
                points = [(left + marks[2 * n + 1, y, x] * wide, top + marks[2 * n, y, x] * high) for n in range(5)]
                found.append((heat[0, y, x], np.array([left, top, left + wide, top + high]), np.array(points)))
    return found


def yunet_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    parts = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    return {f"{p}_{s}": (1, (height // s) * (width // s), n) for p, n in parts.items() for s in GRID_STRIDES}


def yunet_by_loop(outputs: Outputs, size: tuple[int, int], confidence: float) -> list[Row]:
    found = []
    for stride in GRID_STRIDES:
        columns = size[1] // stride
        for row in range((size[0] // stride) * columns):
            sure, there = (min(1.0, max(0.0, float(outputs[f"{p}_{stride}"][0, row, 0]))) for p in ("cls", "obj"))
            score = math.sqrt(sure * there)
            if score > confidence:
                y, x = divmod(row, columns)
                dx, dy, wide, high = outputs[f"bbox_{stride}"][0, row].astype(float)
                wide, high = math.exp(wide) * stride, math.exp(high) * stride
                left, top = (x + dx) * stride - wide / 2, (y + dy) * stride - high / 2
                points = (np.array([x, y]) + outputs[f"kps_{stride}"][0, row].reshape(5, 2).astype(float)) * stride
                found.append((score, np.array([left, top, left + wide, top + high]), points))
    return found


def scrfd_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    parts = {"score": 1, "bbox": 4, "kps": 10}
    return {f"{p}_{s}": (1, 2 * (height // s) * (width // s), n) for p, n in parts.items() for s in GRID_STRIDES}


def scrfd_by_loop(outputs: Outputs, size: tuple[int, int], confidence: float) -> list[Row]:
    found = []
    for stride in GRID_STRIDES:
        columns = size[1] // stride
        for row in range(2 * (size[0] // stride) * columns):
            score = float(outputs[f"score_{stride}"][0, row, 0])
            if score > confidence:
                y, x = divmod(row // 2, columns)
                left, up, right, down = outputs[f"bbox_{stride}"][0, row].astype(float) * stride
                x, y = x * stride, y * stride
                points = outputs[f"kps_{stride}"][0, row].reshape(5, 2).astype(float) * stride + [x, y]
                found.append((score, np.array([x - left, y - up, x + right, y + down]), points))
    return found


def yolov5_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    return {"output": (1, 3 * sum((height // s) * (width // s) for s in GRID_STRIDES), 16)}


def yolov5_by_loop(outputs: Outputs, size: tuple[int, int], confidence: float) -> list[Row]:
    rows = outputs["output"][0].astype(float)
    return [_decoded(row[4] * row[15], row[:4], row[5:15]) for row in rows if row[4] * row[15] > confidence]


def yolov8_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    return {"output0": (1, 20, sum((height // s) * (width // s) for s in GRID_STRIDES))}


def yolov8_by_loop(outputs: Outputs, size: tuple[int, int], confidence: float) -> list[Row]:
    found = []
    for column in outputs["output0"][0].astype(float).T:
        if column[4] > confidence:
            points = np.array([(column[5 + 3 * n], column[6 + 3 * n]) for n in range(5)])
            found.append(_decoded(column[4], column[:4], points))
    return found


def _decoded(score: float, box: Array, points: Array) -> Row:
    x, y, wide, high = box
    corners = np.array([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])
    return float(score), corners, points.reshape(5, 2)


LAYOUTS: list[tuple[str, Callable[..., Any], Callable[..., list[Row]]]] = [
    ("centerface", centerface_shapes, centerface_by_loop),
    ("yunet", yunet_shapes, yunet_by_loop),
    ("scrfd", scrfd_shapes, scrfd_by_loop),
    ("yolov5-face", yolov5_shapes, yolov5_by_loop),
    ("yolov8-face", yolov8_shapes, yolov8_by_loop),
]


def check_same(found: Faces, expected: list[Row]) -> None:
    expected = sorted(expected, key=lambda row: -row[0])
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, [row[0] for row in expected], rtol=1e-5)
    ours = np.concatenate([found.boxes, found.landmarks.reshape(-1, 10)], axis=1)
    theirs = np.array([np.concatenate([box, points.reshape(-1)]) for _, box, points in expected]).reshape(-1, 14)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("name", "shapes", "by_loop"), LAYOUTS, ids=[name for name, *_ in LAYOUTS])
@settings(max_examples=15, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 99))
def test_any_output_is_recognised_and_decoded_as_by_a_plain_loop(
    name: str, shapes: Callable[..., Any], by_loop: Callable[..., list[Row]], height: int, width: int, seed: int
) -> None:
    outputs, size = random_outputs(shapes(height, width), seed), (height, width)
    head = face_heads.choose(None, {name: array.shape for name, array in outputs.items()}, size)
    assert head.name == name
    check_same(head.decode(outputs, size, 0.7), by_loop(outputs, size, 0.7))


@pytest.mark.parametrize(("name", "shapes", "by_loop"), LAYOUTS, ids=[name for name, *_ in LAYOUTS])
def test_nothing_above_the_confidence_is_no_face(name: str, shapes: Callable[..., Any], by_loop: Any) -> None:
    outputs = {output: np.zeros(shape, np.float32) for output, shape in shapes(64, 96).items()}
    head = face_heads.choose(name, shapes(64, 96), (64, 96))
    found = head.decode(outputs, (64, 96), 0.0)
    assert (len(found), found.landmarks.shape) == (0, (0, 5, 2))


@pytest.mark.parametrize("name", ["centerface", "yunet"])
def test_values_of_a_broken_model_are_decoded_without_a_warning(name: str) -> None:
    shapes = dict(zip(("centerface", "yunet"), (centerface_shapes(32, 32), yunet_shapes(32, 32)), strict=True))[name]
    outputs = {output: np.full(shape, 1000, np.float32) for output, shape in shapes.items()}
    assert not np.isfinite(face_heads.choose(name, shapes, (32, 32)).decode(outputs, (32, 32), 0.5).boxes).any()


def test_outputs_of_scrfd_are_told_apart_without_their_names_and_without_a_batch() -> None:
    named = random_outputs(scrfd_shapes(64, 96), 3)
    order = np.random.default_rng(0).permutation(9)
    bare = {str(440 + n): list(named.values())[place][0] for n, place in enumerate(order)}
    head = face_heads.choose(None, {name: array.shape for name, array in bare.items()}, (64, 96))
    check_same(head.decode(bare, (64, 96), 0.6), scrfd_by_loop(named, (64, 96), 0.6))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (None, {}),
        (None, {"output": (1, 21, 85)}),
        (None, {"output": (1, 62, 16)}),  # a row too few
        (None, {"output": (1, 16, 63)}),
        (None, {"output": (1, 21, 20)}),  # not turned
        (None, centerface_shapes(64, 32)),  # of another size
        (None, dict(reversed(centerface_shapes(32, 32).items()))),
        (None, {name: shape for name, shape in yunet_shapes(32, 32).items() if name != "kps_8"}),
        (None, {name: shape for name, shape in scrfd_shapes(32, 32).items() if name != "kps_8"}),
        ("yunet", centerface_shapes(32, 32)),
        ("retinaface", centerface_shapes(32, 32)),
    ],
    ids=str,
)
def test_outputs_that_no_head_reads_are_listed_with_the_layouts_known(
    name: str | None, shapes: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(UnknownHead, match=r"for input 32x32 it gives.*Known: centerface: .*yolov8-face") as raised:
        face_heads.choose(name, shapes, (32, 32))
    assert all(str(list(shape)) in str(raised.value) for shape in shapes.values())


# ---- YOLO models as users bring them: files with a known answer, through a real engine

FACE = (60.0, 50.0, 40.0, 30.0)
"""Centre, width, height."""
POINTS = ((48.0, 44.0), (72.0, 44.0), (60.0, 50.0), (50.0, 58.0), (70.0, 58.0))


def v5_answer() -> Array:
    rows = np.zeros((1, 3 * 672, 16), np.float32)
    rows[0, 5] = [*FACE, 0.9, *np.ravel(POINTS), 0.8]
    rows[0, 6] = [*FACE, 0.9, *np.ravel(POINTS), 0.7]  # the same face, less sure
    rows[0, 7] = [20, 20, 10, 10, 0.6, *np.ravel(POINTS), 0.6]  # below the confidence, by the product only
    return rows


def v8_answer(visibility: bool) -> Array:
    points = np.array([[*point, 0.5][: 3 if visibility else 2] for point in POINTS])
    columns = np.zeros((1, 5 + points.size, 672), np.float32)
    columns[0, :, 9] = [*FACE, 0.72, *points.ravel()]
    columns[0, :, 10] = [*FACE, 0.6, *points.ravel()]
    return columns


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("head", "answer"),
    [("yolov5-face", v5_answer()), ("yolov8-face", v8_answer(True)), ("yolov8-face", v8_answer(False))],
    ids=["v5", "v8 with visibility", "v8"],
)
def test_a_yolo_face_model_is_recognised_and_read(tmp_path: Path, backend: Any, head: str, answer: Array) -> None:
    spec = recognise(answering(tmp_path, {"output0": answer}, (128, 256)))
    assert (spec.head, spec.input.std, spec.input.fit) == (head, (255.0,) * 3, "letterbox-centre")
    finder = FaceFinder(spec, EngineOptions(backend, "fp32"))
    found = finder(Picture(bgr=np.zeros((256, 512, 3), np.uint8)))  # twice the input's size
    finder.close()
    assert found.scores.tolist() == pytest.approx([0.72])
    np.testing.assert_allclose(found.boxes, [[80, 70, 160, 130]], atol=1e-3)
    np.testing.assert_allclose(found.landmarks[0], np.array(POINTS) * 2, atol=1e-3)


def test_a_file_that_is_no_face_finder_is_refused(tmp_path: Path) -> None:
    spec = answering(tmp_path, {"output0": np.zeros((1, 21, 85))}, (32, 32))
    with pytest.raises(UnknownHead, match=r"no face finder .*output0 \[1, 21, 85\]"):
        recognise(spec)


def test_a_model_of_another_size_than_its_head_expects_is_refused(tmp_path: Path) -> None:
    spec = answering(tmp_path, {"a": np.zeros((1, 15, 21))}, (32, 32))
    engine = open_engine(spec, EngineOptions("onnxruntime", "fp32"))
    shapes = {name: array.shape for name, array in engine.infer(np.zeros((1, 32, 32, 3), np.uint8)).items()}
    engine.close()
    assert face_heads.choose(None, shapes, (32, 32)).name == "yolov8-face"
    with pytest.raises(UnknownHead):
        face_heads.choose(None, shapes, (64, 64))
