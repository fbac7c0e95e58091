"""Instance segmentation: known objects come back with their coefficients, which become their masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.engine import EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.metadata import Metadata
from engines.spec import ModelSpec
from pipeline.capture.images import read_image
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.picture import Picture
from pipeline.postprocess.heads.yolo_seg import YOLOv8Seg
from tests.pipeline.heads.chosen import chosen
from tests.pipeline.heads.encoded import (
    Array,
    Objects,
    centres,
    check_found,
    detections,
    objects,
    with_objectness,
    without_objectness,
)

SIZE = (96, 128)
LAYOUTS = ("yolov8-seg", "transposed", "yolov5-seg", "end-to-end-seg")


def segmented(layout: str, classes: int, prototypes: int, seed: int) -> tuple[dict[str, Array], Objects, Array]:
    """Return outputs, the objects in them, and the coefficients of those, in their order."""
    random = np.random.default_rng(seed)
    middles = centres(SIZE, per_cell=3 if layout == "yolov5-seg" else 1)
    what = objects(middles, classes, seed)
    if layout == "yolov5-seg":
        rows = with_objectness(middles, classes, what, seed)
    elif layout == "end-to-end-seg":
        rows = detections(what, 30)
        what = Objects(np.argsort(np.argsort(-what.scores)), what.boxes, what.scores, what.class_ids)
    else:
        rows = without_objectness(middles, classes, what, seed)
    coefficients = random.normal(0, 1, (len(rows), prototypes)).astype(np.float32)
    output = np.concatenate([rows, coefficients], 1)[None]
    if layout == "yolov8-seg":
        output = output.transpose(0, 2, 1)
    protos = random.normal(0, 1, (1, prototypes, SIZE[0] // 4, SIZE[1] // 4)).astype(np.float32)
    return {"output1": protos, "output0": np.ascontiguousarray(output)}, what, coefficients[what.rows]


@pytest.mark.parametrize("layout", ["yolov8-seg", "transposed"])
def test_a_small_input_may_have_fewer_cells_than_a_candidate_has_values(layout: str) -> None:
    outputs, what, _ = segmented(layout, 300, 32, 0)
    head = chosen(outputs, SIZE)
    assert head.class_count({name: array.shape for name, array in outputs.items()}) == 300
    check_found(head.decode(outputs, SIZE, 0.3), what)


@settings(max_examples=40, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    classes=st.integers(1, 20),
    prototypes=st.sampled_from([1, 4, 32]),
    seed=st.integers(0, 99),
)
def test_known_objects_come_back_with_their_masks(layout: str, classes: int, prototypes: int, seed: int) -> None:
    outputs, what, coefficients = segmented(layout, classes, prototypes, seed)
    head = chosen(outputs, SIZE)
    assert head.name == layout.replace("transposed", "yolov8-seg")
    assert head.class_count({name: array.shape for name, array in outputs.items()}) in (classes, 0)
    for multi_label in (False, True):
        found = head.decode(outputs, SIZE, 0.3, multi_label=multi_label)
        check_found(found, what)
    order, expected = np.argsort(found.scores), np.argsort(what.scores)
    masks = head.masks(found[order], outputs)
    assert masks is not None
    weights, protos = coefficients[expected], outputs["output1"]
    by_hand = sum(weights[:, each, None, None] * protos[:, each] for each in range(prototypes))
    np.testing.assert_allclose(masks, by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_without_objects_have_no_masks(layout: str) -> None:
    outputs, _, _ = segmented(layout, 3, 8, 0)
    head = chosen(outputs, SIZE)
    found = head.decode(outputs, SIZE, 0.99)
    masks = head.masks(found, outputs)
    assert masks is not None
    assert (len(found), masks.shape) == (0, (0, 24, 32))


def test_what_the_file_says_is_not_contradicted() -> None:
    outputs, _, _ = segmented("yolov8-seg", 3, 8, 0)
    names = Metadata(labels=("a", "b", "c"), task="segment")
    assert isinstance(chosen(outputs, SIZE, metadata=names), YOLOv8Seg)
    for other in (Metadata(labels=("a", "b")), Metadata(task="obb")):
        with pytest.raises(UnknownHead):
            chosen(outputs, SIZE, metadata=other)


# --- the real one -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(shared: Path) -> Path:
    return shared / "models" / "detect" / "yolov8n-seg_320.onnx"


def plainly(session: ort.InferenceSession, image: Array) -> list[tuple[Array, float, int, Array]]:
    """Return box, score, class and mask of what is in a picture, all at full resolution, one by one."""
    height, width = image.shape[:2]
    scale = 320 / max(height, width)
    w, h = round(width * scale), round(height * scale)
    left, top = (320 - w) // 2, (320 - h) // 2
    canvas = np.full((320, 320, 3), 114, np.uint8)
    canvas[top : top + h, left : left + w] = cv2.resize(image, (w, h))
    batch = canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    output, prototypes = session.run(None, {"images": batch})
    kept: list[tuple[Array, float, int, Array]] = []
    for row in sorted(output[0].T, key=lambda each: -float(each[4:84].max())):
        class_id, score = int(row[4:84].argmax()), float(row[4:84].max())
        if score <= 0.3:
            break
        box = np.array([row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2])
        box = (box - [left, top, left, top]) * np.tile([width / w, height / h], 2)
        if all(class_id != other[2] or overlap(box, other[0]) <= 0.45 for other in kept):
            logits = np.tensordot(row[84:], prototypes[0], 1)
            part = cv2.resize(logits, (320, 320))[top : top + h, left : left + w]
            kept.append((box, score, class_id, cv2.resize(part, (width, height)) > 0))
    for box, _, _, mask in kept:
        box[:] = box.clip(0, [width, height, width, height])
        x1, y1, x2, y2 = box.round().astype(int)
        inside = np.zeros_like(mask)
        inside[y1:y2, x1:x2] = True
        mask &= inside
    return kept


def overlap(a: Array, b: Array) -> float:
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared_area = max(0.0, width) * max(0.0, height)
    return float(shared_area / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared_area))


@pytest.mark.parametrize("picture", ["bus.jpg", "zidane.jpg"])
def test_a_real_model_gives_the_boxes_and_masks_of_a_plain_decode(shared: Path, file: Path, picture: str) -> None:
    image = read_image(shared / "data" / "images" / picture)
    assert image is not None
    spec = ModelSpec("seg", file, "detect", input=YOLOv8Seg.input, head="yolov8-seg")
    engine = open_engine(spec, EngineOptions(backend="onnxruntime", precision="fp32", requests=1))
    found = PictureDetector(spec, engine, DetectorOptions())(Picture(bgr=image))
    engine.close()
    expected = plainly(ort.InferenceSession(str(file)), image)
    assert len(found) == len(expected) >= 3
    assert found.masks is not None
    for row, (box, score, class_id, mask) in enumerate(expected):
        np.testing.assert_allclose(found.boxes[row], box, atol=0.05)
        assert found.scores[row] == pytest.approx(score, abs=1e-4)
        assert found.class_ids[row] == class_id
        ours = found.masks[row]
        assert (ours & mask).sum() / (ours | mask).sum() > 0.97
        assert 0.2 < ours.sum() / (box[2:] - box[:2]).prod() < 0.95
