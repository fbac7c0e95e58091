"""YOLOv5's decoded rows: known boxes come back, whatever the number of cells and the unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.metadata import Metadata
from engines.spec import HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Seen
from pipeline.postprocess.heads.yolov5 import YOLOv5
from tests.pipeline.heads.encoded import Array, centres, check_found, objects, with_objectness

SIDES = st.integers(1, 4).map(lambda side: side * 64)


def chosen(output: Array, size: tuple[int, int], **beside: Array) -> heads.Chosen:
    outputs = {"output": output, **beside}
    return heads.choose(None, Seen({name: array.shape for name, array in outputs.items()}, size, outputs))


@settings(max_examples=40, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    classes=st.integers(1, 90),
    seed=st.integers(0, 99),
    levels=st.sampled_from([((8, 16, 32), 3), ((8, 16, 32, 64), 3), ((8, 16, 32), 1), ((16, 32), 3)]),
    fractions=st.booleans(),
)
def test_known_boxes_come_back(
    height: int, width: int, classes: int, seed: int, levels: tuple[tuple[int, ...], int], fractions: bool
) -> None:
    size = (height, width)
    middles = centres(size, *levels)
    what = objects(middles, classes, seed)
    output = with_objectness(middles, classes, what, seed)[None]
    if fractions:
        output[..., :4] /= np.array([width, height] * 2)
    head = chosen(output, size).head
    assert head.name == "yolov5"
    assert head.options == HeadOptions(
        box_order="cxcywh", box_unit="fractions" if fractions else "pixels", scores="probabilities"
    )
    assert head.class_count({"output": output.shape}) == classes
    check_found(head.decode({"output": output}, size, 0.3), what)


def test_the_options_found_are_enough_to_read_the_model_without_its_values() -> None:
    middles = centres((64, 64), per_cell=3)
    what = objects(middles, 3, 0)
    output = with_objectness(middles, 3, what, 0)[None]
    output[..., :4] /= 64
    found = chosen(output, (64, 64)).head
    again = heads.choose("yolov5", Seen({"output": output.shape}, (64, 64)), found.options).head
    check_found(again.decode({"output": output}, (64, 64), 0.3), what)


def test_a_number_of_rows_that_no_cells_explain_is_read_where_nothing_else_fits() -> None:
    middles = centres((64, 64), per_cell=3)[:-7]
    output = with_objectness(middles, 3, objects(middles, 3, 0), 0)[None]
    found = chosen(output, (64, 64))
    assert (found.head.name, found.why) == (
        "yolov5",
        "one output [1, 245, 8]: box, objectness and 3 class scores for each of 245 rows",
    )


def test_the_maps_that_old_exports_have_beside_their_rows_are_left_alone() -> None:
    middles = centres((64, 64), per_cell=3)
    what = objects(middles, 3, 0)
    output = with_objectness(middles, 3, what, 0)[None]
    beside: dict[str, Array] = {
        name: np.ones((1, 3, side, side, 8), np.float32) for name, side in (("a", 8), ("b", 4), ("c", 2))
    }
    head = chosen(output, (64, 64), **beside).head
    assert head.name == "yolov5"
    check_found(head.decode({**beside, "output": output}, (64, 64), 0.3), what)


def test_an_objectness_of_1_everywhere_is_yolov6() -> None:
    middles = centres((64, 96))
    what = objects(middles, 5, 1)
    output = with_objectness(middles, 5, what, 1)
    scores = output[:, 4:5] * output[:, 5:]
    output[:, 4], output[:, 5:] = 1, np.where(scores > 0.3, scores, 0.001)
    head = chosen(output[None], (64, 96)).head
    assert head.name == "yolov5"
    check_found(head.decode({"output": output[None]}, (64, 96), 0.3), what)


def test_as_many_names_as_columns_after_the_box_mean_that_there_is_no_objectness() -> None:
    seen = Seen({"output": (1, 84, 8)}, (64, 64), metadata=Metadata(labels=("a", "b", "c", "d")))
    assert YOLOv5.fit(seen, HeadOptions()) is None
    assert YOLOv5.fit(Seen({"output": (1, 84, 8)}, (64, 64)), HeadOptions()) is not None


def test_with_multi_label_a_row_stands_for_every_class() -> None:
    output = np.zeros((1, 63, 8), np.float32)
    output[0, 7, :] = [10, 20, 4, 6, 0.9, 0.8, 0.05, 0.7]
    head = YOLOv5(HeadOptions())
    found = head.decode({"output": output}, (32, 32), 0.1, multi_label=True)
    assert found.class_ids.tolist() == [0, 2]
    assert found.boxes.tolist() == [[8, 17, 12, 23]] * 2
    assert head.decode({"output": output}, (32, 32), 0.1).class_ids.tolist() == [0]


@pytest.mark.parametrize("column", [0, 4, 5])
def test_values_that_are_no_numbers_are_no_candidates_and_no_fit(column: int) -> None:
    middles = centres((64, 64), per_cell=3)
    output = with_objectness(middles, 1, objects(middles, 1, 0), 0)[None]
    output[..., column] = np.nan
    found = YOLOv5(HeadOptions()).decode({"output": output}, (64, 64), 0.3)
    assert not np.isfinite(found.boxes).all(axis=1).any()
    assert YOLOv5.fit(Seen({"output": output.shape}, (64, 64), {"output": output}), HeadOptions()) is None
