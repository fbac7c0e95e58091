"""NanoDet-Plus against the definition, cell by cell, and on a real file."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.postprocess.heads.found import Found
from tests.pipeline.heads.chosen import chosen
from tests.pipeline.heads.encoded import Array, Size

SIDES = st.integers(1, 12).map(lambda side: side * 32)


def by_loop(rows: Array, size: Size, confidence: float) -> Array:
    """Return x1, y1, x2, y2, score and class of each candidate, in the order of the rows."""
    found, row = [], 0
    for stride in (8, 16, 32, 64):
        for y in range(math.ceil(size[0] / stride)):
            for x in range(math.ceil(size[1] / stride)):
                scores, sides = rows[row, :-32].tolist(), rows[row, -32:].reshape(4, 8).tolist()
                row += 1
                if max(scores) > confidence:
                    left, up, right, down = (
                        sum(bin_ * math.exp(value) for bin_, value in enumerate(side))
                        / sum(map(math.exp, side))
                        * stride
                        for side in sides
                    )
                    box = (x * stride - left, y * stride - up, x * stride + right, y * stride + down)
                    found.append((*box, max(scores), scores.index(max(scores))))
    assert row == len(rows)
    return np.array(found).reshape(-1, 6)


def check_same(found: Found, expected: Array) -> None:
    np.testing.assert_allclose(found.boxes, expected[:, :4], atol=2e-3)
    np.testing.assert_allclose(found.scores, expected[:, 4], rtol=1e-6)
    np.testing.assert_array_equal(found.class_ids, expected[:, 5])
    assert [str(each.dtype) for each in (found.boxes, found.scores, found.class_ids)] == ["float32", "float32", "int32"]


def cell_count(size: Size) -> int:
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in (8, 16, 32, 64))


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES, classes=st.integers(1, 80), seed=st.integers(0, 99))
def test_any_size_is_decoded_as_by_a_plain_loop(height: int, width: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    output = random.normal(0, 4, (1, cell_count((height, width)), classes + 32)).astype(np.float32)
    output[..., :classes] = random.random(output[..., :classes].shape) ** 20
    head = chosen({"output": output}, (height, width))
    assert head.name == "nanodet"
    assert head.class_count({"output": output.shape}) == classes
    check_same(head.decode({"output": output}, (height, width), 0.5), by_loop(output[0], (height, width), 0.5))


def test_a_candidate_can_stand_for_several_classes() -> None:
    output = np.full((1, cell_count((64, 64)), 5 + 32), -1, np.float32)
    output[..., :5] = 0
    output[0, 7, :5] = [0.9, 0.1, 0.8, 0.3, 0.5]
    found = chosen({"output": output}, (64, 64)).decode({"output": output}, (64, 64), 0.4, multi_label=True)
    assert sorted(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True)) == [
        (0, pytest.approx(0.9)),
        (2, pytest.approx(0.8)),
        (4, pytest.approx(0.5)),
    ]


def test_values_of_a_broken_model_are_decoded_without_a_warning() -> None:
    output = np.full((1, cell_count((64, 64)), 1 + 32), -1, np.float32)
    output[..., 0] = 0
    head = chosen({"output": output}, (64, 64))
    output[0, :2, 0], output[0, 0, 1:], output[0, 1, 1:] = 0.9, np.inf, np.nan
    assert not np.isfinite(head.decode({"output": output}, (64, 64), 0.5).boxes).any()


@pytest.mark.parametrize("picture", ["bus.jpg", "zidane.jpg"])
def test_a_real_output_is_decoded_as_a_plain_loop_decodes_it(shared: Path, picture: str) -> None:
    session = ort.InferenceSession(str(shared / "models" / "detect" / "nanodet-plus-m_416.onnx"))
    image = cv2.imread(str(shared / "data" / "images" / picture))
    assert image is not None
    scaled = (cv2.resize(image, (416, 416)) - np.array([103.53, 116.28, 123.675])) / [57.375, 57.12, 58.395]
    output = np.asarray(session.run(None, {"images": scaled.transpose(2, 0, 1)[None].astype(np.float32)})[0])
    found = chosen({"output": output}, (416, 416)).decode({"output": output}, (416, 416), 0.05)
    assert len(found) > 20
    check_same(found, by_loop(output[0], (416, 416), 0.05))
