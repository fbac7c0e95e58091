"""`frameloom eval detect`: the AP is the one that a plain loop finds, and what it cannot evaluate it says."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from rich.console import Console
from typer.testing import CliRunner

from engines.engine import EngineOptions
from pipeline.errors import ConfigError
from pipeline.frame import Detections
from tools import coco
from tools.eval_detect import Dataset, evaluate_detections
from tools.eval_report import metrics_table
from tools.evaluate import app
from tools.labels import read_labels

FULLY_LABELLED = ("labels=original,boxes+masks",)
REFERENCE_AP = 0.3506
"""Of yolox-nano on the 131 fully labelled images, measured by others (README of the test data)."""
EXPECTED = dict(
    zip(coco.METRICS, (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564), strict=True)
)
"""Published with the COCO tools for their own example (cocoeval/expected_table.txt)."""


@pytest.fixture(autouse=True)
def mirrored(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


@pytest.fixture(scope="module")
def truth(shared: Path) -> Path:
    return shared / "data" / "coco" / "instances.json"


@pytest.fixture(scope="module")
def pictures(shared: Path) -> Path:
    return shared / "data" / "coco" / "images"


# ---- against an evaluation that shares no code


@pytest.fixture(scope="module")
def independent_ap(shared: Path, truth: Path, pictures: Path) -> float:
    """AP by ONNX Runtime, plain numpy and OpenCV's NMS."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    session = ort.InferenceSession(str(shared / "models" / "detect" / "yolox_nano.onnx"))
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO(str(truth))
        images = [image for image in labelled.dataset["images"] if image["labels"] != "boxes"]
        results = [each for image in images for each in plain_detect(session, pictures, image, sorted(labelled.cats))]
        evaluation = COCOeval(labelled, labelled.loadRes(results), "bbox")
        evaluation.params.imgIds = [image["id"] for image in images]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def plain_detect(session: Any, folder: Path, record: dict[str, Any], categories: list[int]) -> list[dict[str, Any]]:
    image = cv2.imread(str(folder / record["file_name"]))
    assert image is not None
    height, width = image.shape[:2]
    scale = min(416 / height, 416 / width)
    inside = (round(width * scale), round(height * scale))
    cut = np.full((416, 416, 3), 114, np.uint8)
    cut[: inside[1], : inside[0]] = cv2.resize(image, inside)
    rows = session.run(None, {"images": cut.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(416 // stride) for x in range(416 // stride)]
    x, y, stride = np.array(cells, np.float32).T
    centre_x, centre_y = (rows[:, 0] + x) * stride, (rows[:, 1] + y) * stride
    half_width, half_height = np.exp(rows[:, 2]) * stride / 2, np.exp(rows[:, 3]) * stride / 2
    left, right = ((centre_x + side * half_width) * width / inside[0] for side in (-1, 1))
    top, bottom = ((centre_y + side * half_height) * height / inside[1] for side in (-1, 1))
    scores = rows[:, 4:5] * rows[:, 5:]
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    likely = np.flatnonzero(best > 0.01)
    rectangles = np.stack([left, top, right - left, bottom - top], axis=1)[likely]
    kept = cv2.dnn.NMSBoxesBatched(rectangles.tolist(), best[likely].tolist(), classes[likely].tolist(), 0.01, 0.65)
    results = []
    for i in likely[np.array(kept, int).reshape(-1)[:100]]:
        x1, x2 = np.clip([left[i], right[i]], 0, width)
        y1, y2 = np.clip([top[i], bottom[i]], 0, height)
        box = [float(value) for value in (x1, y1, x2 - x1, y2 - y1)]
        results.append(
            {"image_id": record["id"], "category_id": categories[classes[i]], "bbox": box, "score": float(best[i])}
        )
    return results


@pytest.mark.parametrize(
    ("engine", "may_lose"),
    [
        (EngineOptions("openvino", "fp32"), 0.002),
        (EngineOptions("onnxruntime", "fp32"), 0.002),
        (EngineOptions("openvino", "bf16"), 0.005),
    ],
    ids=lambda each: f"{each.backend} {each.precision}" if isinstance(each, EngineOptions) else "",
)
def test_ap_is_that_of_an_independent_evaluation(
    engine: EngineOptions, may_lose: float, independent_ap: float, pictures: Path, truth: Path
) -> None:
    report = evaluate_detections("yolox-nano", Dataset(pictures, truth, FULLY_LABELLED), engine)
    found = report["metrics"]["AP"]
    assert report["images"] == 131
    assert report["missing"] == []
    assert independent_ap - found < may_lose
    if engine.precision == "fp32":
        assert abs(independent_ap - found) < may_lose
        assert found == pytest.approx(REFERENCE_AP, abs=0.003)


# ---- the numbers


def test_the_table_has_the_numbers_published_with_the_coco_tools(shared: Path) -> None:
    folder = shared / "data" / "cocoeval"
    data = read_labels(folder / "instances_val2014_100.json")
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    metrics = coco.average_precision(data, results, [image["id"] for image in data.images])
    for name, value in metrics.items():
        assert value == pytest.approx(EXPECTED[name], abs=5e-4)
    console = Console(width=80, file=io.StringIO())
    console.print(metrics_table(metrics))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    shown = {line.split()[0]: float(line.split()[-1]) for line in lines[1:]}
    assert {name: round(value, 3) for name, value in shown.items()} == EXPECTED
    assert "|" not in "".join(lines)


def labelled(*boxes: tuple[float, ...], first_id: int = 1, **fields: Any) -> dict[str, Any]:
    """Annotations of one 100 x 100 picture with boxes x, y, width, height."""
    annotations = [
        {"id": number, "image_id": 7, "category_id": 3, "bbox": list(box), **fields}
        for number, box in enumerate(boxes, start=first_id)
    ]
    image = {"id": 7, "file_name": "a.png", "width": 100, "height": 100, "labels": "original"}
    return {"images": [image], "annotations": annotations, "categories": [{"id": 3, "name": "person"}]}


def written(folder: Path, data: object) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("first_id", [0, 1])
def test_a_perfect_result_has_an_ap_of_one_also_for_an_annotation_with_id_0(first_id: int, tmp_path: Path) -> None:
    data = read_labels(written(tmp_path, labelled((10, 10, 50, 50), (5, 70, 20, 20), first_id=first_id)))
    results = [{"image_id": 7, "category_id": 3, "bbox": each["bbox"], "score": 0.9} for each in data.annotations]
    metrics = coco.average_precision(data, results, [7])
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["APl"] is None
    assert data.annotations[0]["area"] == 2500


def test_finding_nothing_is_an_ap_of_zero(tmp_path: Path) -> None:
    data = read_labels(written(tmp_path, labelled((10, 10, 50, 50))))
    assert coco.average_precision(data, [], [7])["AP"] == 0


def test_boxes_in_other_pictures_do_not_count(tmp_path: Path) -> None:
    data = read_labels(written(tmp_path, labelled((10, 10, 50, 50))))
    results = [{"image_id": 8, "category_id": 3, "bbox": [10, 10, 50, 50], "score": 0.9}]
    assert coco.average_precision(data, results, [7])["AP"] == 0


# ---- categories


CATEGORIES = [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.mark.parametrize(
    ("labels", "count", "ids", "note"),
    [
        (("dog", "cat"), 2, (2, 9), None),
        ((), 2, (2, 9), "by order of category id"),
        (("cat", "fox"), 2, (9, None), "left out: fox"),
        (("cat",), 1, (9,), "never finds: dog"),
        (("cat",), 3, (9,), r"classes 1..2 of the model have no name, so left out"),
    ],
)
def test_classes_are_matched_by_name_or_by_ascending_id(
    labels: tuple[str, ...], count: int, ids: tuple[int | None, ...], note: str | None
) -> None:
    found = coco.match_categories(labels, count, CATEGORIES)
    assert found.ids == ids
    assert note is None or any(note in each for each in found.notes)


@pytest.mark.parametrize(
    ("labels", "count", "words"),
    [
        ((), 3, "3 classes without names.*2 categories.*inspect MODEL --labels"),
        ((), 0, "names no classes, and its outputs do not say how many.*inspect MODEL --labels"),
        (("fox",), 1, r"\(fox\).*cat"),
    ],
)
def test_classes_that_cannot_be_matched_are_an_error(labels: tuple[str, ...], count: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        coco.match_categories(labels, count, CATEGORIES)


def test_class_numbers_of_a_model_that_does_not_say_how_many_are_those_of_the_labels() -> None:
    assert coco.match_categories((), 0, CATEGORIES, named=False).ids == (None, None, 2, *[None] * 6, 9)


def test_a_box_of_a_class_without_a_category_is_left_out() -> None:
    found = Detections(
        np.array([[0, 0, 4, 4]] * 2, np.float32), np.full(2, 0.5, np.float32), np.array([0, 7], np.int32)
    )
    assert [each["category_id"] for each in coco.to_results(1, found, (9, None))] == [9]


# ---- requests


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("labels", "write KEY=VALUE"),
        ("labels=", "write KEY=VALUE"),
        ("label=original", "no image has that field; there are: coco_url, .*labels"),
        ("labels=originl", "no image has originl; there are: boxes, boxes.masks, original"),
    ],
)
def test_a_wrong_filter_lists_what_there_is(where: str, words: str, pictures: Path, truth: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate_detections("yolox-nano", Dataset(pictures, truth, (where,)))


def test_filters_are_combined(truth: Path) -> None:
    images = read_labels(truth).images
    where = coco.parse_where(["labels=original,boxes+masks", "license=1,3"])
    chosen = coco.select_images(images, where)
    assert chosen
    assert {image["labels"] for image in chosen} <= {"original", "boxes+masks"}
    assert {image["license"] for image in chosen} == {1, 3}
    assert len(coco.select_images(images, {})) == 159


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "no list images"),
        ('{"images": [], "categories": []}', "no list annotations"),
        ("{", "is not JSON"),
        (
            '{"images": [], "categories": [], "annotations": [{"id": 1}]}',
            "annotation 1 has no image_id and no category_id",
        ),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', "image 1 has no file_name"),
        ('{"images": [], "categories": [{"id": 1}], "annotations": []}', "category 1 has no name"),
        (
            '{"annotations": [{"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}],"images": [], "categories": []}',
            "annotation 1 is of a category 5, which is not listed",
        ),
    ],
)
def test_what_is_no_annotation_file_is_said(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_labels(tmp_path / "truth.json")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_labels(tmp_path / "nowhere.json")


def test_missing_and_unreadable_pictures_are_left_out_and_named(pictures: Path, truth: Path, tmp_path: Path) -> None:
    first, second, third = (image["file_name"] for image in json.loads(truth.read_text())["images"][:3])
    (tmp_path / "few").mkdir()
    shutil.copyfile(pictures / first, tmp_path / "few" / first)
    (tmp_path / "few" / second).write_bytes(b"torn")
    report = evaluate_detections("yolox-nano", Dataset(tmp_path / "few", truth, limit=3), EngineOptions("onnxruntime"))
    assert report["images"] == 1
    assert sorted(report["missing"]) == sorted([second, third])
    (tmp_path / "few" / first).unlink()
    with pytest.raises(ConfigError, match="not one of the 3 pictures can be read"):
        evaluate_detections("yolox-nano", Dataset(tmp_path / "few", truth, limit=3))
    (tmp_path / "few" / second).unlink()
    with pytest.raises(ConfigError, match="holds none of the 3 pictures, such as"):
        evaluate_detections("yolox-nano", Dataset(tmp_path / "few", truth, limit=3))


def test_a_picture_of_another_size_than_labelled_is_noted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 60, 3), np.uint8))
    path = written(tmp_path, labelled((1, 1, 9, 9)))
    report = evaluate_detections("yolox-nano", Dataset(tmp_path, path), EngineOptions("onnxruntime"))
    assert any("not of the size" in note for note in report["notes"])
    assert report["metrics"]["AP"] == 0


def test_without_pycocotools_the_command_that_installs_it_is_said(
    pictures: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ConfigError, match=r"pip install 'frameloom\[eval\]'"):
        evaluate_detections("yolox-nano", Dataset(pictures, truth))


# ---- the command


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80"})


def test_the_command_prints_table_speed_engine_and_conventions_and_saves_results(
    pictures: Path, truth: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "results.json"
    result = run(
        *("detect", "--images", pictures, "--annotations", truth, "--backend", "onnxruntime", "--limit", 4),
        *("--where", "labels=original", "--iou", 0.6, "--save", saved),
    )
    assert result.exit_code == 0, result.exception
    words = " ".join(result.stdout.split())
    for text in ("AP50 .50 all 100", "4 images", "images/s", "on onnxruntime", "score > 0.01", "at IoU 0.6,", "AP by"):
        assert text in words
    assert max(map(len, result.stdout.splitlines())) <= 80
    boxes = json.loads(saved.read_text())
    assert f"{len(boxes)} boxes" in words
    assert all(set(box) == {"image_id", "category_id", "bbox", "score"} for box in boxes)
    assert all(min(box["bbox"]) >= 0 and 0.01 < box["score"] <= 1 for box in boxes)
    data = read_labels(truth)
    again = coco.average_precision(data, boxes, sorted({image["id"] for image in data.images}))
    assert again["AP"] is not None


def test_a_place_that_cannot_be_written_is_said_before_the_work(pictures: Path, truth: Path, tmp_path: Path) -> None:
    result = run("detect", "--images", pictures, "--annotations", truth, "--save", tmp_path / "no" / "results.json")
    assert isinstance(result.exception, ConfigError)
    assert "make it first" in str(result.exception)
