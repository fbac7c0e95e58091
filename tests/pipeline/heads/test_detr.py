"""The DETR family in its three exports: known objects come back; what is told apart by values, and by what is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import UnknownHead
from engines.metadata import Metadata
from engines.spec import HeadOptions
from tests.pipeline.heads.chosen import chosen
from tests.pipeline.heads.encoded import Array, Objects, check_found, logit, objects

SIZE = (320, 416)
QUERIES = 60


def queries(classes: int, seed: int) -> tuple[Array, Array, Objects]:
    """Return (Q, 4) boxes as cxcywh fractions and (Q, classes) probabilities, and the objects among them."""
    random = np.random.default_rng(seed)
    middles = random.uniform(40, 280, (QUERIES, 2))
    what = objects(middles, classes, seed)
    boxes = np.concatenate([middles, random.uniform(5, 80, (QUERIES, 2))], 1)
    scores = random.uniform(1e-4, 5e-4, (QUERIES, classes))
    boxes[what.rows] = what.boxes
    scores[what.rows, what.class_ids] = what.scores
    fractions = boxes / [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    return fractions.astype(np.float32), scores.astype(np.float32), what


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 91),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["sigmoid", "softmax", "probabilities"]),
    names=st.sampled_from([("logits", "pred_boxes"), ("pred_boxes", "logits"), ("dets", "labels"), ("0", "1")]),
)
def test_known_objects_come_back_from_logits(classes: int, seed: int, kind: str, names: tuple[str, str]) -> None:
    boxes, scores, what = queries(classes, seed)
    if kind == "softmax":
        scores /= np.maximum(1, scores.sum(axis=1, keepdims=True) / 0.95)
        what = Objects(what.rows, what.boxes, scores[what.rows, what.class_ids], what.class_ids)
        values = np.log(np.concatenate([scores, 1 - scores.sum(axis=1, keepdims=True)], 1)) - 1
    else:
        values = logit(scores) if kind == "sigmoid" else scores
    values = values.astype(np.float32)
    if "logits" in names:
        pair = {"logits": values, "pred_boxes": boxes}
    else:
        pair = dict(zip(names, (boxes, values), strict=True))
    outputs = {name: pair[name][None] for name in names}
    if classes == 4 and "logits" not in names and kind != "softmax":
        return  # which of two outputs of 4 columns are boxes, is not to be seen
    head = chosen(outputs, SIZE, metadata=Metadata(labels=("x",) * classes) if kind == "softmax" else None)
    assert head.name == "detr-raw"
    assert not head.needs_nms
    assert head.class_count({name: array.shape for name, array in outputs.items()}) == classes
    check_found(head.decode(outputs, SIZE, 0.25), what)


def test_the_last_class_is_no_object_where_it_is_the_likeliest_nearly_everywhere() -> None:
    boxes, scores, what = queries(5, 0)
    scores[what.rows, what.class_ids] = 0.95
    values = np.concatenate([np.log(scores), np.log(1 - scores.sum(axis=1, keepdims=True).clip(0, 0.99))], 1) + 2
    outputs = {"logits": values[None].astype(np.float32), "pred_boxes": boxes[None]}
    head = chosen(outputs, SIZE)
    assert head.options.background
    assert sorted(head.decode(outputs, SIZE, 0.5).class_ids.tolist()) == sorted(what.class_ids.tolist())
    said = chosen(outputs, SIZE, options=HeadOptions(background=False))
    assert not said.options.background
    assert said.class_count({name: array.shape for name, array in outputs.items()}) == 6


@settings(max_examples=30, deadline=None)
@given(classes=st.integers(1, 91), seed=st.integers(0, 99))
def test_known_objects_come_back_from_one_output_of_ultralytics(classes: int, seed: int) -> None:
    boxes, scores, what = queries(classes, seed)
    outputs = {"output0": np.concatenate([boxes, scores], 1)[None]}
    head = chosen(outputs, SIZE)
    assert head.name == "rtdetr"
    assert head.class_count({"output0": outputs["output0"].shape}) == classes
    check_found(head.decode(outputs, SIZE, 0.25), what)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    unit=st.sampled_from(["pixels", "fractions"]),
    names=st.sampled_from([("labels", "boxes", "scores"), ("out2", "out0", "out1")]),
    integers=st.sampled_from([np.int64, np.int32]),
)
def test_known_objects_come_back_from_labels_boxes_and_scores(
    seed: int, unit: str, names: tuple[str, str, str], integers: type
) -> None:
    boxes, scores, what = queries(20, seed)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    if unit == "pixels":
        corners = corners * np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    arrays = (scores.argmax(axis=1).astype(integers), corners, scores.max(axis=1))
    outputs = {name: array[None] for name, array in zip(names, arrays, strict=True)}
    head = chosen(outputs, SIZE)
    assert (head.name, head.options.box_unit) == ("detr", unit)
    check_found(head.decode(outputs, SIZE, 0.25), what)


def test_three_outputs_that_neither_names_nor_types_tell_apart_are_refused() -> None:
    random = np.random.default_rng(0)
    outputs = {"a": random.random((1, 9, 4)), "b": random.random((1, 9)), "c": np.ones((1, 9))}
    with pytest.raises(UnknownHead, match=r"Known: .*detr"):
        chosen({name: array.astype(np.float32) for name, array in outputs.items()}, SIZE)


@pytest.mark.parametrize("picture", ["bus.jpg", "zidane.jpg"])
def test_a_real_model_gives_what_it_wrote(shared: Path, picture: str) -> None:
    session = ort.InferenceSession(str(shared / "models" / "detect" / "deimv2_hgnetv2_femto_coco.onnx"))
    image = cv2.imread(str(shared / "data" / "images" / picture))
    assert image is not None
    batch = cv2.resize(image, (416, 416))[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    feed = {"images": batch, "orig_target_sizes": np.array([[416, 416]], np.int64)}
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, map(np.asarray, session.run(None, feed)), strict=True))
    head = chosen(outputs, (416, 416))
    assert head.name == "detr"
    found = head.decode(outputs, (416, 416), 0.3)
    rows = [row for row in range(300) if outputs["scores"][0, row] > 0.3]
    assert len(found) == len(rows) >= 2
    for place, row in enumerate(rows):
        assert found.boxes[place].tolist() == outputs["boxes"][0, row].tolist()
        assert found.scores[place] == outputs["scores"][0, row]
        assert found.class_ids[place] == outputs["labels"][0, row]
    assert {0} <= set(found.class_ids.tolist()) <= set(range(80))
