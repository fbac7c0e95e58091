"""Raw maps with anchors in each order of axes: known boxes come back; where the anchors are from is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.metadata import Metadata
from engines.spec import AnchorArithmetic, Anchors, HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.anchors import YOLOV3, YOLOV3_TINY, YOLOV5_P6, AnchorMaps
from pipeline.postprocess.heads.head import Seen
from tests.pipeline.heads.encoded import Array, check_found, maps

SIZE = (128, 192)
FOUR: Anchors = (((5, 9), (12, 7), (20, 20), (33, 18)), ((60, 50), (40, 90), (90, 70), (120, 110)))


def laid_out(grids: list[Array], axes: str) -> dict[str, Array]:
    """Return outputs, the coarsest first, as Darknet has them."""
    outputs = {}
    for grid in reversed(grids):
        _, height, width, _ = grid.shape
        if axes == "anchors apart":
            array = grid
        elif axes == "channels first":
            array = grid.transpose(0, 3, 1, 2).reshape(-1, height, width)
        else:
            array = grid.transpose(1, 2, 0, 3).reshape(height, width, -1)
        outputs[f"map{height}"] = array[None]
    return outputs


def seen_of(outputs: dict[str, Array], metadata: Metadata | None = None) -> Seen:
    return Seen({name: array.shape for name, array in outputs.items()}, SIZE, outputs, metadata or Metadata())


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 80),
    seed=st.integers(0, 99),
    arithmetic=st.sampled_from(["yolov3", "yolov5"]),
    levels=st.sampled_from(
        [(YOLOV3, (8, 16, 32)), (YOLOV3_TINY, (16, 32)), (YOLOV5_P6, (8, 16, 32, 64)), (FOUR, (8, 16))]
    ),
    axes=st.sampled_from(["anchors apart", "channels first", "channels last"]),
)
def test_known_boxes_come_back(
    classes: int, seed: int, arithmetic: AnchorArithmetic, levels: tuple[Anchors, tuple[int, ...]], axes: str
) -> None:
    anchors, strides = levels
    grids, what = maps(SIZE, anchors, strides, classes, arithmetic, seed)
    outputs = laid_out(grids, axes)
    seen = seen_of(outputs, Metadata(anchors=anchors, arithmetic=arithmetic))
    head = heads.choose(None, seen).head
    assert head.name == "anchors"
    assert head.options == HeadOptions(anchors=anchors, arithmetic=arithmetic, scores="logits")
    assert head.class_count(seen.shapes) == classes
    check_found(head.decode(outputs, SIZE, 0.3), what)
    again = heads.choose("anchors", Seen(seen.shapes, SIZE), head.options).head
    check_found(again.decode(outputs, SIZE, 0.3), what)


def test_maps_that_went_through_the_sigmoid_are_read_as_they_are() -> None:
    grids, what = maps(SIZE, YOLOV3, (8, 16, 32), 4, "yolov5", 3)
    outputs = laid_out([1 / (1 + np.exp(-grid)) for grid in grids], "channels first")
    head = heads.choose(None, seen_of(outputs)).head
    assert (head.options.scores, head.options.arithmetic) == ("probabilities", "yolov5")
    check_found(head.decode(outputs, SIZE, 0.3), what)


@pytest.mark.parametrize(
    ("strides", "axes", "arithmetic", "anchors", "whose"),
    [
        ((8, 16, 32), "channels first", "yolov3", YOLOV3, "YOLOv3 and v5"),
        ((8, 16, 32), "anchors apart", "yolov5", YOLOV3, "YOLOv3 and v5"),
        ((16, 32), "channels first", "yolov3", YOLOV3_TINY, "YOLOv3-tiny"),
        ((8, 16, 32, 64), "channels first", "yolov5", YOLOV5_P6, "YOLOv5 and v7 P6"),
    ],
)
def test_where_nobody_says_the_anchors_those_of_coco_are_assumed_and_named(
    strides: tuple[int, ...], axes: str, arithmetic: str, anchors: Anchors, whose: str
) -> None:
    grids, _ = maps(SIZE, anchors, strides, 4, "yolov3", 0)
    chosen = heads.choose(None, seen_of(laid_out(grids, axes)))
    assert f"anchors taken to be those of {whose} on COCO" in chosen.why
    assert (chosen.head.options.anchors, chosen.head.options.arithmetic) == (anchors, arithmetic)


def test_what_somebody_said_comes_before_the_metadata() -> None:
    grids, what = maps(SIZE, FOUR, (8, 16), 2, "yolov5", 0)
    outputs = laid_out(grids, "channels first")
    other: Anchors = tuple(tuple((width * 2, height) for width, height in each) for each in FOUR)
    seen = seen_of(outputs, Metadata(anchors=other, arithmetic="yolov3"))
    head = heads.choose(None, seen, HeadOptions(anchors=FOUR, arithmetic="yolov5")).head
    check_found(head.decode(outputs, SIZE, 0.3), what)


@pytest.mark.parametrize(
    "shapes",
    [
        {"a": (1, 255, 16, 24)},
        {"a": (1, 255, 16, 24), "b": (1, 255, 16, 24)},
        {"a": (1, 255, 16, 24), "b": (1, 240, 8, 12)},
        {"a": (1, 254, 16, 24), "b": (1, 254, 8, 12)},
        {"a": (1, 15, 16, 24), "b": (1, 15, 8, 12)},
        {"a": (1, 255, 17, 24), "b": (1, 255, 8, 12)},
        {"a": (2, 255, 16, 24), "b": (2, 255, 8, 12)},
        {"a": (1, 255, 8, 12), "b": (1, 85, 3, 4, 6)},
    ],
)
def test_outputs_that_are_no_maps_of_one_model_do_not_fit(shapes: dict[str, tuple[int, ...]]) -> None:
    assert AnchorMaps.fit(Seen(shapes, SIZE), HeadOptions(anchors=YOLOV3_TINY)) is None


def test_maps_full_of_objects_are_something_else() -> None:
    grids, _ = maps(SIZE, YOLOV3, (8, 16, 32), 4, "yolov3", 0)
    outputs = laid_out([grid + 12 for grid in grids], "channels first")
    assert AnchorMaps.fit(seen_of(outputs), HeadOptions()) is None


def test_with_multi_label_an_anchor_stands_for_every_class() -> None:
    outputs = {f"m{side}": np.full((1, 3, side, side, 7), -20, np.float32) for side in (8, 4, 2)}
    outputs["m4"][0, 1, 2, 3] = [0, 0, 0, 0, 9, 9, 8]
    head = AnchorMaps(HeadOptions(anchors=YOLOV3, arithmetic="yolov5"))
    found = head.decode(outputs, (64, 64), 0.3, multi_label=True)
    assert found.class_ids.tolist() == [0, 1]
    assert found.boxes.tolist() == [[25, 17.5, 87, 62.5]] * 2
    assert head.decode(outputs, (64, 64), 0.3).class_ids.tolist() == [0]


def test_values_of_a_broken_model_are_decoded_without_a_warning() -> None:
    outputs = {f"m{side}": np.full((1, 3, side, side, 6), 1e4, np.float32) for side in (8, 4, 2)}
    found = AnchorMaps(HeadOptions(anchors=YOLOV3, arithmetic="yolov3")).decode(outputs, (64, 64), 0.3)
    assert not np.isfinite(found.boxes[:, 2:]).any()
    for array in outputs.values():
        array[:] = np.nan
    assert len(AnchorMaps(HeadOptions(anchors=YOLOV3, arithmetic="yolov3")).decode(outputs, (64, 64), 0.3)) == 0
