"""The YOLOX head against the definition, cell by cell."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.spec import HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Seen
from pipeline.postprocess.heads.yolox import YOLOX

Array = npt.NDArray[Any]
SIDES = st.integers(1, 5).map(lambda side: side * 32)


def decode_by_loop(rows: Array, size: tuple[int, int], confidence: float) -> list[tuple[float, ...]]:
    """Return x1, y1, x2, y2, score, class of every candidate, in the order of the rows."""
    found: list[tuple[float, ...]] = []
    row = 0
    for stride in (8, 16, 32):
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                values = [float(value) for value in rows[row]]
                row += 1
                class_id = max(range(len(values) - 5), key=lambda each: values[5 + each])
                score = values[4] * values[5 + class_id]
                if score > confidence:
                    cx, cy = (x + values[0]) * stride, (y + values[1]) * stride
                    width, height = math.exp(values[2]) * stride, math.exp(values[3]) * stride
                    box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                    found.append((*box, score, class_id))
    assert row == len(rows)
    return found


def check_same(found: Found, expected: list[tuple[float, ...]]) -> None:
    table = np.array(expected).reshape(-1, 6)
    assert len(found) == len(table)
    np.testing.assert_allclose(found.boxes, table[:, :4], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found.scores, table[:, 4], rtol=1e-5)
    np.testing.assert_array_equal(found.class_ids, table[:, 5])


@pytest.fixture(scope="module")
def real_output(shared: Path) -> Array:
    session = ort.InferenceSession(str(shared / "models" / "detect" / "yolox_nano.onnx"))
    image = cv2.imread(str(shared / "data" / "images" / "bus.jpg"))
    assert image is not None
    batch = cv2.resize(image, (416, 416)).transpose(2, 0, 1)[None].astype(np.float32)
    return np.asarray(session.run(None, {"images": batch})[0])


@pytest.mark.parametrize("confidence", [0.01, 0.3])
def test_a_real_output_is_decoded_as_a_plain_loop_decodes_it(real_output: Array, confidence: float) -> None:
    found = YOLOX(HeadOptions()).decode({"output": real_output}, (416, 416), confidence)
    assert len(found) > 5
    check_same(found, decode_by_loop(real_output[0], (416, 416), confidence))


@settings(max_examples=40)
@given(height=SIDES, width=SIDES, classes=st.integers(1, 80), seed=st.integers(0, 99))
def test_any_size_and_number_of_classes_is_decoded_as_by_a_plain_loop(
    height: int, width: int, classes: int, seed: int
) -> None:
    output = random_output((height, width), classes, seed)
    shapes = {"output": output.shape}
    assert heads.choose(None, Seen(shapes, (height, width))).head.name == "yolox"
    assert YOLOX(HeadOptions()).class_count(shapes) == classes
    found = YOLOX(HeadOptions()).decode({"output": output}, (height, width), 0.3)
    check_same(found, decode_by_loop(output[0], (height, width), 0.3))


def test_a_score_of_exactly_the_confidence_is_no_candidate() -> None:
    output = np.zeros((1, 21, 6), np.float32)
    output[0, :2, 4], output[0, :2, 5] = 1, [0.5, 0.75]
    assert YOLOX(HeadOptions()).decode({"output": output}, (32, 32), 0.5).scores.tolist() == [0.75]


def test_a_candidate_has_the_class_with_the_largest_score_only() -> None:
    output = np.zeros((1, 21, 8), np.float32)
    output[0, 7, 4:] = [0.9, 0.8, 0.95, 0.9]
    found = YOLOX(HeadOptions()).decode({"output": output}, (32, 32), 0.1)
    assert found.class_ids.tolist() == [1]


def test_values_of_a_broken_model_are_decoded_without_a_warning() -> None:
    output = np.zeros((1, 21, 6), np.float32)
    output[0, 0] = [0, 0, 1000, 1000, 1, 1]
    output[0, 1, 4] = np.nan
    found = YOLOX(HeadOptions()).decode({"output": output}, (32, 32), 0.1)
    assert len(found) == 1
    assert not np.isfinite(found.boxes).any()


def test_with_multi_label_a_candidate_stands_for_every_class() -> None:
    output = np.zeros((1, 21, 8), np.float32)
    output[0, 7, 4:] = [0.9, 0.8, 0.05, 0.7]
    found = YOLOX(HeadOptions()).decode({"output": output}, (32, 32), 0.1, multi_label=True)
    assert found.class_ids.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [0.72, 0.63], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes[0], found.boxes[1])


def test_boxes_that_are_decoded_already_are_not_taken_for_raw_ones(real_output: Array) -> None:
    decoded = real_output.copy()
    decoded[0, :, :4] = [
        [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        for x1, y1, x2, y2, *_ in decode_by_loop(real_output[0], (416, 416), -1)
    ]
    for output, name in ((real_output, "yolox"), (decoded, "yolov5")):
        seen = Seen({"output": output.shape}, (416, 416), {"output": output})
        assert heads.choose(None, seen).head.name == name


def random_output(size: tuple[int, int], classes: int, seed: int) -> Array:
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    random = np.random.default_rng(seed)
    output = random.random((1, cells, 5 + classes), np.float32)
    output[..., :4] = random.normal(0, 1.5, (1, cells, 4))
    return output
