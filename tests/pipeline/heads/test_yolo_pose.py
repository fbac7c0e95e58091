"""Poses: known keypoints come back, however many there are and wherever that is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import UnknownHead
from engines.metadata import Metadata
from engines.spec import HeadOptions
from tests.pipeline.heads.chosen import chosen
from tests.pipeline.heads.encoded import Array, Objects, centres, check_found, detections, objects, without_objectness

SIZE = (96, 128)
LAYOUTS = ("yolov8-pose", "transposed", "end-to-end-pose")


def posed(layout: str, classes: int, keypoints: tuple[int, int], seed: int) -> tuple[dict[str, Array], Objects, Array]:
    """Return the output, the objects in it, and their keypoints (N, K, 2 or 3)."""
    random = np.random.default_rng(seed)
    middles = centres(SIZE)
    what = objects(middles, classes, seed)
    if layout == "end-to-end-pose":
        rows = detections(what, 30)
        what = Objects(np.argsort(np.argsort(-what.scores)), what.boxes, what.scores, what.class_ids)
    else:
        rows = without_objectness(middles, classes, what, seed)
    points = random.uniform(2, 96, (len(rows), *keypoints)).astype(np.float32)
    points[..., 2:] = random.random(points[..., 2:].shape)
    output = np.concatenate([rows, points.reshape(len(rows), -1)], 1)[None]
    if layout == "yolov8-pose":
        output = output.transpose(0, 2, 1)
    return {"output0": np.ascontiguousarray(output)}, what, points[what.rows]


@settings(max_examples=60, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    classes=st.integers(1, 5),
    keypoints=st.sampled_from([(17, 3), (1, 3), (5, 3), (21, 3), (17, 2), (5, 2)]),
    said_by=st.sampled_from(["values", "metadata", "options"]),
    seed=st.integers(0, 99),
)
def test_known_keypoints_come_back(
    layout: str, classes: int, keypoints: tuple[int, int], said_by: str, seed: int
) -> None:
    outputs, what, points = posed(layout, classes, keypoints, seed)
    metadata = Metadata(task="pose", keypoints=keypoints) if said_by == "metadata" else None
    options = HeadOptions(keypoints=keypoints) if said_by == "options" else None
    head = chosen(outputs, SIZE, metadata=metadata, options=options)
    assert head.name == layout.replace("transposed", "yolov8-pose")
    assert head.options.keypoints == keypoints
    assert head.class_count({"output0": outputs["output0"].shape}) in (classes, 0)
    found = head.decode(outputs, SIZE, 0.3)
    check_found(found, what)
    order, expected = np.argsort(found.scores), np.argsort(what.scores)
    read = head.keypoints(found[order])
    assert read is not None
    np.testing.assert_array_equal(read[..., :2], points[expected][..., :2])
    np.testing.assert_array_equal(read[..., 2], points[expected][..., 2] if keypoints[1] == 3 else 1)


@pytest.mark.parametrize("layout", ["yolov8-pose", "transposed"])
def test_a_small_input_may_have_fewer_cells_than_a_candidate_has_values(layout: str) -> None:
    outputs, what, _ = posed(layout, 300, (17, 3), 0)
    head = chosen(outputs, SIZE, metadata=Metadata(task="pose", keypoints=(17, 3)))
    assert head.class_count({"output0": outputs["output0"].shape}) == 300
    check_found(head.decode(outputs, SIZE, 0.3), what)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_without_people_have_no_keypoints(layout: str) -> None:
    outputs, _, _ = posed(layout, 1, (17, 3), 0)
    head = chosen(outputs, SIZE)
    points = head.keypoints(head.decode(outputs, SIZE, 0.99))
    assert points is not None
    assert points.shape == (0, 17, 3)


def test_detectors_are_not_taken_for_poses_and_too_many_keypoints_are_refused() -> None:
    middles = centres(SIZE)
    rows = without_objectness(middles, 52, objects(middles, 52, 0), 0)
    assert chosen({"output0": rows.T[None]}, SIZE).name == "yolov8"
    outputs, _, _ = posed("yolov8-pose", 1, (17, 3), 0)
    with pytest.raises(UnknownHead):
        chosen(outputs, SIZE, "yolov8-pose", options=HeadOptions(keypoints=(18, 3)))
    with pytest.raises(UnknownHead):
        chosen({"output0": rows.T[None]}, SIZE, metadata=Metadata(task="pose"))
