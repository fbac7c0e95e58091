"""Outputs of detections whose NMS is done: two-stage detectors, SSD, EfficientNMS; and a real graph of any length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.engine import Backend, EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.spec import HeadOptions, ModelSpec
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.picture import Picture
from pipeline.postprocess.heads.faster_rcnn import FasterRCNN
from tests.pipeline.heads.chosen import chosen
from tests.pipeline.heads.encoded import Array, Objects, check_found, objects

SIZE = (320, 416)
SCALE = np.array([SIZE[1], SIZE[0]] * 2)


def known(seed: int, classes: int = 9) -> Objects:
    """Return objects, the best first."""
    what = objects(np.random.default_rng(seed).uniform(50, 270, (20, 2)), classes, seed)
    order = np.argsort(-what.scores)
    return Objects(order, what.boxes[order], what.scores[order], what.class_ids[order])


def two_stage(what: Objects) -> dict[str, Array]:
    return {
        "boxes": what.corners.astype(np.float32),
        "labels": what.class_ids + 1,
        "scores": what.scores.astype(np.float32),
        "masks": np.zeros((len(what.scores), 1, 28, 28), np.float32),
    }


def tensorflow(what: Objects) -> dict[str, Array]:
    """All outputs that its exports have, padded to 10 rows."""
    fractions = what.corners / SCALE
    padding = 10 - len(what.scores)
    boxes = np.pad(fractions[:, [1, 0, 3, 2]], ((0, padding), (0, 0)))
    return {
        "detection_anchor_indices:0": np.arange(10, dtype=np.float32)[None],
        "detection_boxes:0": boxes[None].astype(np.float32),
        "detection_classes:0": np.pad(what.class_ids + 1.0, (0, padding), constant_values=1)[None].astype(np.float32),
        "detection_multiclass_scores:0": np.zeros((1, 10, 91), np.float32),
        "detection_scores:0": np.pad(what.scores, (0, padding))[None].astype(np.float32),
        "num_detections:0": np.array([len(what.scores)], np.float32),
        "raw_detection_boxes:0": np.zeros((1, 50, 4), np.float32),
        "raw_detection_scores:0": np.zeros((1, 50, 91), np.float32),
    }


def efficient_nms(what: Objects) -> dict[str, Array]:
    """Padded by what must not be read: rows behind the count."""
    padding = 10 - len(what.scores)
    return {
        "num_dets": np.array([[len(what.scores)]], np.int32),
        "det_boxes": np.pad(what.corners, ((0, padding), (0, 0)))[None].astype(np.float32),
        "det_scores": np.pad(what.scores, (0, padding), constant_values=0.99)[None].astype(np.float32),
        "det_classes": np.pad(what.class_ids, (0, padding), constant_values=-1)[None].astype(np.int32),
    }


def detection_output(what: Objects) -> dict[str, Array]:
    """Rows of 7; behind the end is what must not be read."""
    rows = np.full((1, 1, 10, 7), 0.9, np.float32)
    rows[..., 0] = -1
    used = [np.zeros_like(what.scores), what.class_ids + 1, what.scores, *(what.corners / SCALE).T]
    rows[0, 0, : len(what.scores)] = np.stack(used, axis=1)
    return {"detection_out": rows}


LAYOUTS = {
    "faster-rcnn": two_stage,
    "tensorflow-ssd": tensorflow,
    "efficient-nms": efficient_nms,
    "detection-output": detection_output,
}


@settings(max_examples=60, deadline=None)
@given(layout=st.sampled_from(sorted(LAYOUTS)), seed=st.integers(0, 99))
def test_known_objects_come_back(layout: str, seed: int) -> None:
    what = known(seed)
    outputs = LAYOUTS[layout](what)
    head = chosen(outputs, SIZE)
    assert (head.name, head.needs_nms) == (layout, False)
    assert head.class_count({name: array.shape for name, array in outputs.items()}) == 0
    for multi_label in (False, True):
        check_found(head.decode(outputs, SIZE, 0.3, multi_label=multi_label), what)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_pictures_without_objects_are_read_also_when_the_head_is_chosen(layout: str) -> None:
    what = known(0)
    nothing = Objects(what.rows[:0], what.boxes[:0], what.scores[:0], what.class_ids[:0])
    outputs = LAYOUTS[layout](nothing)
    head = chosen(outputs, SIZE)
    assert head.name == layout
    assert head.decode(outputs, SIZE, 0.0).boxes.shape == (0, 4)
    later = chosen(LAYOUTS[layout](what), SIZE)
    assert head.options == later.options


def test_classes_that_begin_at_0_are_seen_where_one_is_used() -> None:
    outputs = two_stage(known(0))
    outputs["labels"] = np.array([3, 0, 2, 1])
    head = chosen(outputs, SIZE)
    assert head.options.background is False
    assert head.decode(outputs, SIZE, 0.1).class_ids.tolist() == [3, 0, 2, 1]
    said = chosen(outputs, SIZE, options=HeadOptions(background=True))
    assert said.decode(outputs, SIZE, 0.1).class_ids.tolist() == [2, 1, 0]  # the background is no object


def test_what_somebody_says_of_boxes_is_not_contradicted() -> None:
    outputs = tensorflow(known(0))
    outputs["detection_boxes:0"] = outputs["detection_boxes:0"][..., [1, 0, 3, 2]]
    head = chosen(outputs, SIZE, options=HeadOptions(box_order="xyxy"))
    check_found(head.decode(outputs, SIZE, 0.3), known(0))


# --- before NMS -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    background=st.booleans(),
    unit=st.sampled_from(["pixels", "fractions"]),
    names=st.sampled_from([("boxes", "scores"), ("scores", "boxes"), ("box_axis", "confs")]),
)
def test_anchors_with_a_score_per_class_are_read(
    seed: int, background: bool, unit: str, names: tuple[str, str]
) -> None:
    random = np.random.default_rng(seed)
    middles = random.uniform(50, 270, (1917, 2))
    what = objects(middles, 7, seed)
    corners = np.concatenate(
        [middles - random.uniform(4, 40, (1917, 2)), middles + random.uniform(4, 40, (1917, 2))], 1
    )
    scores = random.uniform(0, 0.01, (1917, 7))
    corners[what.rows], scores[what.rows, what.class_ids] = what.corners, what.scores
    if background:
        scores = np.concatenate([1 - scores.sum(axis=1, keepdims=True), scores], 1)
    pair = {names[0]: corners / (SCALE if unit == "fractions" else 1), names[1]: scores}
    if names == ("scores", "boxes"):
        pair = {"scores": scores, "boxes": pair["scores"]}
    outputs = {name: array[None].astype(np.float32) for name, array in pair.items()}
    if names[0] == "box_axis":
        outputs["box_axis"] = outputs["box_axis"][:, :, None]
    head = chosen(outputs, SIZE)
    assert (head.name, head.needs_nms) == ("ssd", True)
    assert (head.options.background, head.options.box_unit, head.options.box_order) == (background, unit, "xyxy")
    assert head.class_count({name: array.shape for name, array in outputs.items()}) == 7
    check_found(head.decode(outputs, SIZE, 0.3), what)


@pytest.mark.parametrize(
    "shapes",
    [
        {"boxes": (1, 9, 4), "scores": (1, 8, 5)},
        {"boxes": (2, 9, 4), "scores": (2, 9, 5)},
        {"boxes": (9, 4), "scores": (9,)},
        {"boxes": (9, 4), "other": (9, 4), "scores": (9,), "labels": (9,)},
        {"out": (1, 1, 9, 6)},
        {"out": (1, 2, 9, 7)},
    ],
)
def test_what_only_resembles_them_is_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UnknownHead):
        chosen({name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}, SIZE)


# --- a graph whose outputs have any length ------------------------------------------------------------------------


def three_boxes(path: Path) -> ModelSpec:
    """Write a network that finds the box whose number is below 4 x the picture's mean (0..1): 0 to 3 of them."""
    weights: dict[str, Array] = {
        "all_boxes": np.array([[2, 3, 20, 30], [10, 10, 40, 25], [30, 8, 60, 33]], np.float32),
        "all_labels": np.array([1, 3, 2], np.int64),
        "all_scores": np.array([0.9, 0.8, 0.7], np.float32),
        "numbers": np.array([1, 2, 3], np.float32),
        "four": np.array(4, np.float32),
        "flat": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["pictures_in"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "four"], ["many"]),
        helper.make_node("Less", ["numbers", "many"], ["found"]),
        helper.make_node("NonZero", ["found"], ["which_rows"]),
        helper.make_node("Reshape", ["which_rows", "flat"], ["which"]),
        *(
            helper.make_node("Gather", [f"all_{name}", "which"], [name], axis=0)
            for name in ("boxes", "labels", "scores")
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "two_stage",
        [helper.make_tensor_value_info("pictures_in", TensorProto.FLOAT, [1, 3, 40, 64])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    options = replace(FasterRCNN.usual)
    return ModelSpec("two-stage", path, "detect", FasterRCNN.input, "faster-rcnn", options, ("a", "b", "c"))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_network_may_find_another_number_of_objects_in_each_picture(tmp_path: Path, backend: Backend) -> None:
    assert backend in get_args(Backend)
    spec = three_boxes(tmp_path / "two_stage.onnx")
    engine = open_engine(spec, EngineOptions(backend=backend, precision="fp32", requests=1))
    detector = PictureDetector(spec, engine, DetectorOptions())
    for level, expected in ((0, []), (255, [0, 2, 1]), (100, [0]), (0, []), (200, [0, 2, 1])):
        found = detector(Picture(bgr=np.full((80, 128, 3), level, np.uint8)))
        assert found.class_ids.tolist() == expected
        assert (
            found.boxes.tolist()
            == (2 * np.array([[2, 3, 20, 30], [10, 10, 40, 25], [30, 8, 60, 33]]))[: len(expected)].tolist()
        )
    engine.close()
