"""Outputs that are detections already: known ones come back; nothing else is taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.metadata import Metadata
from engines.spec import HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.end_to_end import EndToEnd
from pipeline.postprocess.heads.head import Seen
from tests.pipeline.heads.encoded import (
    Array,
    centres,
    check_found,
    detections,
    objects,
    with_objectness,
    without_objectness,
)

SIZE = (320, 320)


def chosen(output: Array, metadata: Metadata | None = None) -> heads.Chosen:
    return heads.choose(None, Seen({"output": output.shape}, SIZE, {"output": output}, metadata or Metadata()))


@settings(max_examples=30, deadline=None)
@given(number=st.integers(4, 300), seed=st.integers(0, 99), seven=st.booleans(), fractions=st.booleans())
def test_known_detections_come_back_without_nms(number: int, seed: int, seven: bool, fractions: bool) -> None:
    what = objects(centres(SIZE), 80, seed)
    rows = detections(what, number)
    if fractions:
        rows[:, :4] /= 320
    output = rows[None]
    if seven:
        output = np.concatenate([np.zeros((4, 1), np.float32), rows[:4, [0, 1, 2, 3, 5, 4]]], axis=1)
    head = chosen(output).head
    assert (head.name, head.needs_nms, head.options.box_unit) == (
        "end-to-end",
        False,
        "fractions" if fractions else "pixels",
    )
    check_found(head.decode({"output": output}, SIZE, 0.3), what)
    check_found(head.decode({"output": output}, SIZE, 0.3, multi_label=True), what)


def test_an_output_without_rows_is_recognised_and_read() -> None:
    output = np.zeros((0, 7), np.float32)
    head = chosen(output).head
    assert head.name == "end-to-end"
    assert len(head.decode({"output": output}, SIZE, 0.3)) == 0


def test_rows_that_are_not_finite_are_no_detections() -> None:
    rows = detections(objects(centres(SIZE), 80, 0), 300)[None]
    rows[0, 0, 2], rows[0, 1, 5], rows[0, 2, 0] = np.nan, np.nan, np.inf
    assert len(EndToEnd(HeadOptions()).decode({"output": rows}, SIZE, 0.3)) == 1


def test_six_columns_with_an_objectness_and_one_class_are_yolov5() -> None:
    middles = centres(SIZE, per_cell=3)
    assert chosen(with_objectness(middles, 1, objects(middles, 1, 0), 0)[None]).head.name == "yolov5"


@pytest.mark.parametrize("transposed", [False, True])
def test_six_columns_with_two_classes_are_yolov8(transposed: bool) -> None:
    middles = centres(SIZE)
    output = without_objectness(middles, 2, objects(middles, 2, 0), 0)[None]
    assert chosen(output if transposed else output.transpose(0, 2, 1)).head.name == "yolov8"


@pytest.mark.parametrize(
    ("rows", "metadata", "fits"),
    [
        (300, Metadata(), True),
        (2100, Metadata(), False),
        (6300, Metadata(), False),
        (2100, Metadata(end_to_end=True), True),
        (300, Metadata(task="pose"), False),
    ],
)
def test_without_values_a_row_for_each_cell_is_no_detection(rows: int, metadata: Metadata, fits: bool) -> None:
    seen = Seen({"output": (1, rows, 6)}, SIZE, metadata=metadata)
    assert (EndToEnd.fit(seen, HeadOptions()) is not None) is fits


@pytest.mark.parametrize("value", [(0, 2, -5.0), (0, 4, 1.5), (0, 5, 0.5), (0, 5, -1.0)])
def test_boxes_scores_or_classes_that_are_none_are_no_detections(value: tuple[int, int, float]) -> None:
    row, column, wrong = value
    rows = detections(objects(centres(SIZE), 80, 0), 300)[None]
    rows[0, row, column] = wrong
    assert EndToEnd.fit(Seen({"output": rows.shape}, SIZE, {"output": rows}), HeadOptions()) is None
