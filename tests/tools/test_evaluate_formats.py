"""The same labels in COCO, YOLO and VOC give the same AP, and everything that is drawn and written of an evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.engine import EngineOptions
from pipeline.errors import ConfigError
from tools.eval_detect import Dataset, Wanted, evaluate_detections
from tools.evaluate import app

IMAGES = 10
ENGINE = EngineOptions("onnxruntime", "fp32")
Record = dict[str, Any]


@pytest.fixture(autouse=True)
def mirrored(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


@pytest.fixture(scope="module")
def few(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images with their labels in the three formats, each in its usual place; crowds are left out."""
    folder = tmp_path_factory.mktemp("few")
    source = shared / "data" / "coco"
    data = json.loads((source / "instances.json").read_text())
    data["images"] = [image for image in data["images"] if image["labels"] == "original"][:IMAGES]
    chosen = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in chosen and not a["iscrowd"]]
    for place in ("images", "labels", "Annotations"):
        (folder / place).mkdir()
    (folder / "instances.json").write_text(json.dumps(data))
    order = sorted(data["categories"], key=lambda category: int(category["id"]))
    (folder / "data.yaml").write_text(f"val: images\nnames: {json.dumps([each['name'] for each in order])}\n")
    class_ids = {category["id"]: number for number, category in enumerate(order)}
    names = {category["id"]: category["name"] for category in order}
    for image in data["images"]:
        shutil.copyfile(source / "images" / image["file_name"], folder / "images" / image["file_name"])
        own = [each for each in data["annotations"] if each["image_id"] == image["id"]]
        stem = Path(image["file_name"]).stem
        lines = [yolo_line(class_ids[each["category_id"]], each["bbox"], image) for each in own]
        (folder / "labels" / f"{stem}.txt").write_text("\n".join(lines))
        objects = "\n".join(voc_object(names[each["category_id"]], each["bbox"]) for each in own)
        text = f"<annotation><filename>{image['file_name']}</filename>\n{objects}</annotation>"
        (folder / "Annotations" / f"{stem}.xml").write_text(text)
    return folder


def yolo_line(class_id: int, box: list[float], image: Record) -> str:
    left, top, width, height = box
    across, down = image["width"], image["height"]
    fractions = ((left + width / 2) / across, (top + height / 2) / down, width / across, height / down)
    return f"{class_id} " + " ".join(f"{value:.9f}" for value in fractions)


def voc_object(name: str, box: list[float]) -> str:
    left, top, width, height = box
    sides = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


@pytest.fixture(scope="module")
def of_coco(few: Path, shared: Path) -> Record:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
        return evaluate_detections("yolox-nano", Dataset(few / "images", few / "instances.json"), ENGINE)


@pytest.mark.parametrize("labels", ["labels", "data.yaml", "Annotations"])
def test_the_same_labels_in_another_format_give_the_same_ap(few: Path, of_coco: Record, labels: str) -> None:
    report = evaluate_detections("yolox-nano", Dataset(None, few / labels), ENGINE)
    assert report["images"] == of_coco["images"] == IMAGES
    for name in ("AP", "AP50", "AP75", "AR100"):  # not by size: COCO's area is that of the mask
        assert report["metrics"][name] == pytest.approx(of_coco["metrics"][name], abs=1e-9)
    expected = {each["name"]: (each["labels"], each["AP"]) for each in of_coco["classes"]}
    assert {each["name"]: (each["labels"], each["AP"]) for each in report["classes"]} == expected
    assert of_coco["metrics"]["AP"] > 0.2


def test_labels_without_names_are_the_model_s_numbers(few: Path, of_coco: Record, tmp_path: Path) -> None:
    shutil.copytree(few / "labels", tmp_path / "labels")
    report = evaluate_detections("yolox-nano", Dataset(few / "images", tmp_path / "labels"), ENGINE)
    assert report["metrics"]["AP"] == pytest.approx(of_coco["metrics"]["AP"])
    assert {each["name"] for each in report["classes"]} == {each["name"] for each in of_coco["classes"]}
    assert any("taken for the class numbers of the model" in note for note in report["notes"])
    (tmp_path / "labels" / "more.txt").write_text("80 0.5 0.5 0.1 0.1")
    shutil.copyfile(next((few / "images").iterdir()), tmp_path / "more.jpg")
    shutil.copytree(few / "images", tmp_path / "images")
    shutil.move(tmp_path / "more.jpg", tmp_path / "images" / "more.jpg")
    with pytest.raises(ConfigError, match=r"a class 80 and the model only 0\.\.79: .*--names"):
        evaluate_detections("yolox-nano", Dataset(None, tmp_path / "labels"), ENGINE)


def test_the_pictures_of_a_coco_file_must_be_named(few: Path) -> None:
    with pytest.raises(ConfigError, match="--images FOLDER is needed"):
        evaluate_detections("yolox-nano", Dataset(None, few / "instances.json"), ENGINE)


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, ["detect", *map(str, arguments)], env={"COLUMNS": "120"}, catch_exceptions=False)


def test_the_command_draws_and_writes_everything_that_is_asked_for(few: Path, of_coco: Record, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.png" for name in ("plot", "confusion", "worst")}
    result = run(
        *("--annotations", few / "labels", "--backend", "onnxruntime", "--precision", "fp32", "--per-class"),
        *("--json", tmp_path / "all.json", "--worst-count", 4, "--save", tmp_path / "boxes.json"),
        *(each for name, path in files.items() for each in (f"--{name}", path)),
    )
    assert result.exit_code == 0
    for path in files.values():
        image = cv2.imread(str(path))
        assert image is not None
        assert min(image.shape[:2]) > 300
        assert image.std() > 5
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["metrics"] == pytest.approx(of_coco["metrics"] | area_metrics(report), abs=1e-9)
    matching = report["matching"]
    assert len(matching["counts"]) == len(matching["classes"]) == 81
    labels = sum(each["labels"] for each in report["classes"])
    assert sum(sum(row) for row in matching["counts"][:-1]) == labels
    assert [each["missed"] + each["false"] for each in matching["worst"]] == sorted(
        (each["missed"] + each["false"] for each in matching["worst"]), reverse=True
    )
    assert len(matching["worst"]) == 4
    assert matching["summary"] in result.output
    assert "class " in result.output
    assert all(each["name"] in result.output for each in report["classes"])
    assert report["boxes"] == len(json.loads((tmp_path / "boxes.json").read_text()))


def area_metrics(report: Record) -> Record:
    """Return what depends on the sizes of objects, which other formats take from the box."""
    return {name: report["metrics"][name] for name in ("APs", "APm", "APl", "ARs", "ARm", "ARl")}


def test_what_was_changed_of_the_conventions_is_stated(few: Path) -> None:
    result = run(
        *("--annotations", few / "labels", "--backend", "onnxruntime", "--limit", 2, "--multi-label"),
        *("--class-agnostic", "--input-size", "320x416", "--tiles", "1x2", "--confidence", "0.05", "--nms", "diou"),
    )
    words = " ".join(result.output.split())
    for text in (
        "score > 0.05, every class above 0.05 per candidate",
        "NMS by distance IoU over all classes at IoU 0.65",
        "input 416x320",
        "tiles 1x2 with an overlap of 0.2 and the whole picture",
    ):
        assert text in words


@pytest.mark.parametrize("option", ["--save", "--json", "--plot", "--confusion", "--worst"])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_read(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{option} .* make it first"):
        run("--annotations", tmp_path / "nowhere", option, tmp_path / "gone" / "file.png")


def test_all_files_that_cannot_be_written_are_said_at_once(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "file"
    with pytest.raises(ConfigError, match=r"--save .* make it first; --plot .* make it first"):
        run("--annotations", tmp_path / "nowhere", "--save", gone, "--plot", gone)


def test_a_sheet_must_be_a_picture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--worst .*sheet\.pdf: name a picture"):
        run("--annotations", tmp_path / "nowhere", "--worst", tmp_path / "sheet.pdf")


def test_without_matplotlib_the_command_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'frameloom\[eval\]'"):
        run("--annotations", tmp_path / "nowhere", "--plot", tmp_path / "pr.png")


# ---- masks


def test_masks_are_compared_on_images_that_have_real_ones(few: Path, shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "detect" / "yolov8n-seg_320.onnx"
    dataset = Dataset(few / "images", few / "instances.json", limit=4)
    report = evaluate_detections(model, dataset, ENGINE, wanted=Wanted(masks=True, save=tmp_path / "boxes.json"))
    assert report["masks"]["images"] == 4
    boxes, masks = report["metrics"]["AP50"], report["masks"]["metrics"]["AP50"]
    assert boxes > 0.3
    assert abs(boxes - masks) < 0.2
    saved = json.loads((tmp_path / "boxes.json").read_text())
    assert all(isinstance(each["segmentation"]["counts"], str) for each in saved)
    with pytest.raises(ConfigError, match="not one of the images has real masks"):
        evaluate_detections(model, Dataset(None, few / "labels", limit=2), ENGINE, wanted=Wanted(masks=True))


def test_a_model_without_masks_has_no_ap_of_masks(few: Path) -> None:
    with pytest.raises(ConfigError, match="--masks: yolox-nano gives boxes and no masks"):
        evaluate_detections(
            "yolox-nano", Dataset(few / "images", few / "instances.json"), ENGINE, wanted=Wanted(masks=True)
        )


def test_a_perfect_detector_has_no_worst_pictures(tmp_path: Path) -> None:
    from tools.eval_confusion import Pair, Picture
    from tools.eval_worst import draw_sheet, worst

    box = {"category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.9}
    right = Picture({"file_name": "a.png"}, (Pair(box, box),))
    assert worst([right], 3) == []
    draw_sheet(tmp_path / "sheet.png", [], tmp_path, {1: "cat"})
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None


def test_missed_and_false_boxes_are_drawn_on_the_sheet_in_their_colours(tmp_path: Path) -> None:
    from tools.eval_confusion import Pair, Picture
    from tools.eval_worst import FOUND, LABELLED, draw_sheet

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((300, 400, 3), np.uint8))
    missed = Pair({"category_id": 1, "bbox": [10, 50, 100, 100]}, None)
    false = Pair(None, {"category_id": 1, "bbox": [200, 100, 100, 100], "score": 0.9})
    draw_sheet(tmp_path / "sheet.png", [Picture({"file_name": "a.png"}, (missed, false))], tmp_path, {1: "cat"})
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    for colour in (LABELLED, FOUND):
        assert (sheet == np.array(colour)).all(axis=2).sum() > 500
