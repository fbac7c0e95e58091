"""YOLOv8's output in both directions: known boxes come back; the real model against a plain loop."""

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
from engines.spec import BoxOrder, HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Seen
from pipeline.postprocess.heads.yolov8 import YOLOv8
from tests.pipeline.heads.chosen import chosen as later
from tests.pipeline.heads.encoded import Array, centres, check_found, logit, objects, without_objectness

SIDES = st.integers(2, 6).map(lambda side: side * 64)


def chosen(output: Array, size: tuple[int, int], metadata: Metadata | None = None) -> heads.Chosen:
    return heads.choose(None, Seen({"output": output.shape}, size, {"output": output}, metadata or Metadata()))


@pytest.fixture(scope="module")
def real_output(shared: Path) -> Array:
    session = ort.InferenceSession(str(shared / "models" / "detect" / "yolov8n_640.onnx"))
    image = cv2.imread(str(shared / "data" / "images" / "bus.jpg"))
    assert image is not None
    batch = cv2.resize(image, (640, 640))[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    return np.asarray(session.run(None, {"images": batch})[0])


@pytest.mark.parametrize("confidence", [0.01, 0.3])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_real_output_is_decoded_as_a_plain_loop_decodes_it(
    real_output: Array, confidence: float, multi_label: bool, transposed: bool
) -> None:
    expected = []
    for column in real_output[0].T.tolist():
        x, y, width, height, *scores = column
        best = max(range(80), key=scores.__getitem__)
        for class_id in range(80) if multi_label else [best]:
            if scores[class_id] > confidence:
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                expected.append((*box, scores[class_id], class_id))
    output = real_output.transpose(0, 2, 1) if transposed else real_output
    found = chosen(output, (640, 640))
    assert found.head.name == "yolov8"
    result = found.head.decode({"output": output}, (640, 640), confidence, multi_label=multi_label)
    table = np.column_stack([result.boxes, result.scores, result.class_ids])
    assert len(table) == len(expected) > 5
    np.testing.assert_allclose(sorted(table.tolist()), sorted(expected), rtol=1e-5, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    classes=st.integers(1, 80),
    seed=st.integers(0, 99),
    strides=st.sampled_from([(8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64)]),
    transposed=st.booleans(),
    fractions=st.booleans(),
    order=st.sampled_from(["cxcywh", "xyxy"]),
    logits=st.booleans(),
)
def test_known_boxes_come_back(
    height: int,
    width: int,
    classes: int,
    seed: int,
    strides: tuple[int, ...],
    transposed: bool,
    fractions: bool,
    order: BoxOrder,
    logits: bool,
) -> None:
    size = (height, width)
    middles = centres(size, strides)
    what = objects(middles, classes, seed)
    rows = without_objectness(middles, classes, what, seed)
    if order == "xyxy":
        centre, half = rows[:, :2].copy(), rows[:, 2:4] / 2
        rows[:, :2], rows[:, 2:4] = centre - half, centre + half
    if fractions:
        rows[:, :4] /= np.array([width, height] * 2)
    if logits:
        rows[:, 4:] = logit(rows[:, 4:].clip(1e-6, 1))
    output = (rows if transposed else rows.T)[None]
    found = chosen(output, size)
    assert found.head.name == "yolov8"
    assert found.head.options == HeadOptions(
        box_order=order,
        box_unit="fractions" if fractions else "pixels",
        scores="logits" if logits else "probabilities",
    )
    assert found.head.class_count({"output": output.shape}) == classes
    check_found(found.head.decode({"output": output}, size, 0.3), what)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("side", "classes"), [(160, 601), (128, 365)])
def test_a_small_input_may_have_fewer_cells_than_there_are_classes(side: int, classes: int, transposed: bool) -> None:
    middles = centres((side, side))
    assert len(middles) < classes
    what = objects(middles, classes, 0)
    rows = without_objectness(middles, classes, what, 0)
    outputs = {"output": (rows if transposed else rows.T)[None]}
    metadata = Metadata(labels=tuple(f"c{number}" for number in range(classes)))
    for known in (metadata, None):
        head = later(outputs, (side, side), metadata=known)
        assert head.name == "yolov8"
        assert head.class_count({"output": outputs["output"].shape}) == classes
        check_found(head.decode(outputs, (side, side), 0.3), what)


def test_an_output_that_its_names_turn_round_and_no_cells_explain_is_refused() -> None:
    output = without_objectness(centres((96, 96)), 601, objects(centres((96, 96)), 601, 0), 0).T[None]
    names = Metadata(labels=tuple(f"c{number}" for number in range(601)))
    with pytest.raises(UnknownHead):
        chosen(output, (160, 160), names)


def test_what_somebody_said_is_not_contradicted_by_values() -> None:
    middles = centres((128, 128))
    output = without_objectness(middles, 3, objects(middles, 3, 0), 0).T[None]
    said = HeadOptions(box_unit="fractions", box_order="xyxy", scores="logits")
    fit = YOLOv8.fit(Seen({"output": output.shape}, (128, 128), {"output": output}), said)
    assert fit is not None
    assert fit.options == said


def test_no_column_above_the_confidence_gives_no_candidates() -> None:
    found = YOLOv8(HeadOptions()).decode({"output": np.zeros((1, 84, 8400), np.float32)}, (640, 640), 0.01)
    assert (found.boxes.shape, found.scores.shape, found.class_ids.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_a_file_for_another_task_is_not_read_as_boxes(task: str) -> None:
    seen = Seen({"output": (1, 84, 8400)}, (640, 640), metadata=Metadata(task=task))
    assert YOLOv8.fit(seen, HeadOptions()) is None


def test_keypoints_in_the_place_of_scores_are_no_classes() -> None:
    middles = centres((128, 128))
    rows = without_objectness(middles, 1, objects(middles, 1, 0), 0)
    points = np.repeat(rows[:, :2], 17, axis=1) + 20
    output = np.concatenate([rows, points], axis=1).T[None]
    assert YOLOv8.fit(Seen({"output": output.shape}, (128, 128), {"output": output}), HeadOptions()) is None


def test_values_that_are_no_numbers_are_no_candidates() -> None:
    output = np.full((1, 84, 336), np.nan, np.float32)
    assert len(YOLOv8(HeadOptions()).decode({"output": output}, (128, 128), 0.3)) == 0
    output[0, 4:] = 0
    output[0, 7, 3] = 0.9
    found = YOLOv8(HeadOptions()).decode({"output": output}, (128, 128), 0.3)
    assert len(found) == 1
    assert not np.isfinite(found.boxes).any()
