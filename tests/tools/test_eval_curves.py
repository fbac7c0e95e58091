"""Figures of each class and the best confidence: those of COCOeval, and of boxes counted by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tools import coco
from tools.eval_curves import CONFIDENCES, best, f1, over_confidence
from tools.eval_masks import images_with_masks
from tools.labels import LabelledSet, Record, read_labels


@pytest.fixture(scope="module")
def published(shared: Path) -> tuple[LabelledSet, list[Record], coco.Scores]:
    """COCO's own example."""
    folder = shared / "data" / "cocoeval"
    labelled = read_labels(folder / "instances_val2014_100.json")
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    return labelled, results, coco.score(labelled, results, [image["id"] for image in labelled.images])


def test_each_class_has_the_ap_that_cocoeval_gives_it_alone(
    published: tuple[LabelledSet, list[Record], coco.Scores],
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labelled, results, scores = published
    assert np.mean([each.ap for each in scores.classes]) == pytest.approx(scores.metrics["AP"])
    assert np.mean([each.ap50 for each in scores.classes]) == pytest.approx(scores.metrics["AP50"])
    assert [each.ap for each in scores.classes] == sorted((each.ap for each in scores.classes), reverse=True)
    ids = {category["name"]: category["id"] for category in labelled.categories}
    for each in (scores.classes[0], scores.classes[len(scores.classes) // 2], scores.classes[-1]):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {name: getattr(labelled, name) for name in ("images", "annotations", "categories")}
            truth.createIndex()
            alone = COCOeval(truth, truth.loadRes(results), "bbox")
            alone.params.catIds = [ids[each.name]]
            alone.evaluate()
            alone.accumulate()
            alone.summarize()
        assert alone.stats[:2] == pytest.approx([each.ap, each.ap50])
        assert each.labels == sum(a["category_id"] == ids[each.name] and not a["iscrowd"] for a in labelled.annotations)


def test_the_area_under_each_curve_is_ap50(published: tuple[LabelledSet, list[Record], coco.Scores]) -> None:
    scores = published[2]
    assert scores.precision.mean(axis=0) == pytest.approx([each.ap50 for each in scores.classes])
    assert scores.precision.shape == (len(scores.recalls), len(scores.classes))


def test_the_boxes_of_each_class_reach_the_recall_of_cocoeval(
    published: tuple[LabelledSet, list[Record], coco.Scores],
) -> None:
    for boxes, each, precision in zip(published[2].boxes, published[2].classes, published[2].precision.T, strict=True):
        assert (np.diff(boxes.scores) <= 0).all()
        recall = boxes.true.sum() / each.labels
        assert (precision > 0).sum() == (recall > 0) * (published[2].recalls <= recall).sum()


def truth(*boxes: list[float], crowd: int = 0) -> LabelledSet:
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": int(n <= crowd)}
        for n, box in enumerate(boxes, start=1)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 100}
    return LabelledSet([image], annotations, [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}])


def results(*boxes: tuple[list[float], float]) -> list[Record]:
    return [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in boxes]


A, B, NOWHERE = [0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 20.0, 20.0], [30.0, 0.0, 9.0, 9.0]


def test_the_best_confidence_is_where_f1_counted_by_hand_is_best() -> None:
    scores = coco.score(truth(A, B), results((A, 0.9), (NOWHERE, 0.8), (B, 0.5), (NOWHERE, 0.1)), [1])
    assert [(each.name, each.labels) for each in scores.classes] == [("cat", 2)]  # there is no dog to be found
    precision, recall = over_confidence(scores)
    by_confidence = dict(zip(CONFIDENCES.tolist(), f1(precision, recall)[:, 0].tolist(), strict=True))
    for confidence, expected in ((0.05, 2 / 3), (0.1, 0.8), (0.49, 0.8), (0.5, 0.5), (0.8, 2 / 3), (0.9, 0)):
        assert by_confidence[confidence] == pytest.approx(expected)
    point = best(scores)
    assert point is not None
    assert point == pytest.approx((0.1, 0.8, 2 / 3, 1))


def test_boxes_in_a_crowd_are_neither_true_nor_false() -> None:
    scores = coco.score(truth([0, 0, 90, 40], B, crowd=1), results((A, 0.9), (B, 0.5)), [1])
    assert scores.boxes[0].scores.tolist() == [0.5]
    assert scores.boxes[0].true.tolist() == [True]
    assert scores.classes[0].labels == 1


def test_where_nothing_is_to_be_found_there_is_no_best_confidence() -> None:
    scores = coco.score(truth(), results((A, 0.9)), [1])
    assert (scores.classes, scores.metrics["AP"], best(scores)) == ((), None, None)


def test_where_nothing_is_found_f1_is_0() -> None:
    point = best(coco.score(truth(A), [], [1]))
    assert point is not None
    assert point.f1 == 0


def test_only_images_whose_objects_all_have_outlines_have_masks() -> None:
    square = [[0, 0, 20, 0, 20, 20, 0, 20]]
    kite = [[0, 10, 10, 0, 20, 10, 10, 20]]
    rle = {"size": [100, 100], "counts": "abc"}
    images: dict[int, list[object]] = {1: [kite], 2: [square], 3: [square, kite], 4: [kite, None], 5: [], 6: [rle]}
    annotations = [
        {"image_id": number, **({} if outline is None else {"segmentation": outline})}
        for number, outlines in images.items()
        for outline in outlines
    ]
    assert images_with_masks(LabelledSet([], annotations, []), list(images)) == [1, 3, 5, 6]
