"""`frameloom eval segment`: IoU is what a plain count of pixels gives, and what cannot be compared it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.cli import app
from tools.eval_segment import OTHER, match_classes
from tools.segment_labels import IGNORED, CocoOutlines

SIDE = 64
NAMES = ("red", "green", "blue")
COLOURS = np.array([(0, 0, 255), (0, 255, 0), (255, 0, 0)], np.uint8)
"""BGR of each class."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return network(tmp_path / "colours.onnx", NAMES)


def network(path: Path, names: tuple[str, ...]) -> Path:
    """A network for which a pixel's class is its strongest colour."""
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weight")
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["picture", "weight"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": str(dict(enumerate(names)))})
    onnx.save(model, path)
    return path


MAPS = (np.repeat(np.arange(3), [16, 16, 32])[:, None].repeat(SIDE, 1), np.eye(SIDE, dtype=int))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, classes in enumerate(MAPS):
        cv2.imwrite(str(folder / f"{number}.png"), COLOURS[classes])
    return folder


def write_labels(tmp_path: Path, *maps: Any) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    for number, classes in enumerate(maps):
        cv2.imwrite(str(folder / f"{number}.png"), np.asarray(classes, np.uint8))
    return folder


def evaluate(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    report = tmp_path / "report.json"
    full = ["eval", "segment", "--json", report, "--backend", "onnxruntime", *arguments]
    result = CliRunner().invoke(app, list(map(str, full)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {**json.loads(report.read_text()), "printed": result.output}


def iou(report: dict[str, Any]) -> dict[str, float | None]:
    return {each["name"]: each["IoU"] for each in report["classes"]}


def test_scores_are_those_counted_by_hand(model: Path, pictures: Path, tmp_path: Path) -> None:
    wrong = MAPS[0].copy()
    wrong[:8] = 1  # 512 pixels that the model takes for red are labelled green
    wrong[60:] = IGNORED
    labels = write_labels(tmp_path, wrong, MAPS[1])
    report = evaluate(tmp_path, "--model", model, "--images", pictures, "--labels", labels)
    red, green, blue = 16 * 64 + 64 * 63, 16 * 64 + 64, 28 * 64
    assert iou(report) == {
        "red": pytest.approx((red - 512) / red),
        "green": pytest.approx(green / (green + 512)),
        "blue": 1.0,
    }
    assert report["mIoU"] == pytest.approx(np.mean(list(iou(report).values())))
    assert report["pixel accuracy"] == pytest.approx(1 - 512 / (red + green + blue))
    assert [row[:3] for row in report["counts"][:3]] == [[red - 512, 0, 0], [512, green, 0], [0, 0, blue]]
    assert f"mIoU {100 * report['mIoU']:.2f}" in report["printed"]


def test_classes_are_matched_by_name_and_maps_saved_in_the_labels_numbers(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    order = np.array([2, 0, 1])  # of red, green and blue in the labels
    labels, names, save = write_labels(tmp_path, *(order[each] for each in MAPS)), tmp_path / "names", tmp_path / "maps"
    names.write_text("Green\nblue\nred\nvoid\n")
    given = ("--model", model, "--images", pictures, "--labels", labels, "--classes", names, "--save", save)
    report = evaluate(tmp_path, *given, "--ignore", 3)
    assert iou(report) == {"Green": 1, "blue": 1, "red": 1}
    for number, classes in enumerate(MAPS):
        saved = cv2.imread(str(save / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        assert saved is not None
        assert saved.dtype == np.uint8
        assert (saved == order[classes]).all()


@pytest.mark.parametrize(
    ("names", "number", "words"),
    [
        ("background red", 0, "so taken for background: green, blue"),
        ("red sky", OTHER, "so wrong wherever found: green, blue"),
    ],
    ids=["with a background", "without"],
)
def test_a_class_that_the_labels_do_not_know_is_background_or_none(
    names: str, number: int, words: str, model: Path, pictures: Path, tmp_path: Path
) -> None:
    file, save = tmp_path / "names", tmp_path / "maps"
    file.write_text(names.replace(" ", "\n"))
    labels = write_labels(tmp_path, *(np.where(each == 0, names.split().index("red"), 0) for each in MAPS))
    given = ("--model", model, "--images", pictures, "--labels", labels, "--classes", file, "--save", save)
    report = evaluate(tmp_path, *given)
    assert words in " ".join(report["notes"])
    saved = cv2.imread(str(save / "0.png"), cv2.IMREAD_UNCHANGED)
    assert saved is not None
    assert (saved[16:] == number).all()
    assert report["pixel accuracy"] == (1 if number == 0 else pytest.approx((16 * 64 + 64 * 63) / (2 * 64 * 64)))
    assert len(report["classes"]) == 2


def test_names_that_nothing_is_common_to_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no class of the model \(background, cat\) is one of the labels' \("):
        match_classes(("background", "cat"), ("background", "dog"))


def test_the_confusion_matrix_is_drawn(model: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "confusion.png"
    labels = write_labels(tmp_path, *MAPS)
    evaluate(tmp_path, "--model", model, "--images", pictures, "--labels", labels, "--confusion", drawn)
    image = cv2.imread(str(drawn))
    assert image is not None
    assert image.std() > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a folder of maps by --labels, or COCO annotations by --coco"),
        ({"--labels": "labels", "--coco": "a.json"}, "either a folder"),
        ({"--labels": "nowhere"}, "nowhere is no folder"),
        ({"--labels": "other"}, "have no label in other of the same name"),
        ({"--labels": "small"}, r"0.png is 64x64, but its label small/0.png is 8x8"),
        ({"--labels": "beyond"}, r"beyond/0.png has the value 3 .*there are 3 classes"),
        ({"--labels": "labels", "--class": "person"}, "--class is for --coco"),
        ({"--coco": "a.json", "--ignore": "3"}, "--classes and --ignore are for --labels"),
        ({"--labels": "labels", "--classes": "unlike"}, "no class of the model"),
        ({"--labels": "labels", "--classes": "missing"}, "the classes missing cannot be read"),
        ({"--labels": "labels", "--model": "two.onnx"}, "two tells 3 classes apart, but there are 2 names for them"),
        ({"--labels": "labels", "--json": "nowhere/a.json"}, "there is no folder nowhere"),
        ({"--labels": "labels", "--model": "yolox-nano"}, "is a model for detect, not for segment"),
    ],
)
def test_a_wrong_request_is_a_sentence(
    arguments: dict[str, str],
    message: str,
    model: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_labels(tmp_path, *MAPS)
    kinds = {"small": np.zeros((8, 8)), "beyond": np.full((SIDE, SIDE), 3), "other": np.zeros((SIDE, SIDE))}
    for folder, label in kinds.items():
        Path(folder).mkdir()
        for number in range(2):
            cv2.imwrite(f"{folder}/{number + 5 * (folder == 'other')}.png", label.astype(np.uint8))
    network(Path("two.onnx"), NAMES[:2])
    Path("unlike").write_text("cat\ndog\nbird\n")
    given = {"--model": str(model), "--images": str(pictures), **arguments}
    with pytest.raises(FrameloomError, match=message) as caught:
        CliRunner().invoke(app, ["eval", "segment", *sum(given.items(), ())], catch_exceptions=False)
    assert caught.value.request_was_wrong


# ---- COCO outlines


def coco_file(tmp_path: Path, folder: Path, **changes: Any) -> Path:
    """Four pictures of 20 x 30: a triangle; run lengths with a crowd around; only a rectangle; no person."""
    for number in range(1, 5):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((20, 30, 3), np.uint8))
    runs = [20 * 5, 40, 20 * 30 - 140]  # column by column: columns 5 and 6
    crowd = [0, 20 * 10, 20 * 20]
    rows = [
        (1, 1, [[0, 0, 10, 0, 0, 10]], 0),
        (2, 1, {"size": [20, 30], "counts": runs}, 0),
        (2, 1, {"size": [20, 30], "counts": crowd}, 1),
        (3, 1, [[0, 0, 10, 0, 10, 10, 0, 10]], 0),
        (4, 2, [[0, 0, 10, 0, 0, 10]], 0),
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 30, "height": 20} | changes for n in range(1, 5)],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": [0, 0, 10, 10], "area": 50, "iscrowd": crowd}
            | {"segmentation": outline}
            for n, (image, category, outline, crowd) in enumerate(rows, start=1)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_outlines_are_drawn_crowds_do_not_count_and_rectangles_are_left_out(tmp_path: Path) -> None:
    labelled = CocoOutlines(coco_file(tmp_path, tmp_path), tmp_path, ["person"], None)
    drawn: dict[str, Image] = {stem: label for stem, _, label in labelled.read(2)}
    assert drawn.keys() == {"1", "2"}
    assert set(np.unique(drawn["1"])) == {0, 1}
    assert drawn["1"].sum() == pytest.approx(50, abs=6)
    assert drawn["1"][1, 1] == 1 and drawn["1"][9, 9] == 0  # noqa: PT018
    assert (drawn["2"][:, 5:7] == 1).all()
    assert (drawn["2"][:, :5] == IGNORED).all()
    assert (drawn["2"][:, 10:] == 0).all()
    assert labelled.notes == ("1 picture left out: without real outlines",)


def test_several_classes_get_numbers_in_their_order(tmp_path: Path) -> None:
    labelled = CocoOutlines(coco_file(tmp_path, tmp_path), tmp_path, ["dog", "person"], None)
    assert labelled.names == ("background", "dog", "person")
    drawn = {stem: label for stem, _, label in labelled.read(3)}
    assert (drawn["4"][1, 1], drawn["1"][1, 1]) == (1, 2)


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        (["man"], {}, "--class man: the annotations have no such category; there are person, dog"),
        (["person"], {"file_name": "gone.png"}, "no picture in .* has a real outline of person"),
        (["person"], {"width": 31}, "is 30x20, but its annotations say 31x20"),
    ],
)
def test_annotations_that_do_not_fit_are_a_sentence(
    classes: list[str], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(CocoOutlines(coco_file(tmp_path, tmp_path, **changes), tmp_path, classes, None).read(2))


# ---- on real pictures


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_iou_of_people_is_what_pycocotools_says_of_the_saved_maps(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycocotools.coco import COCO

    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    truth, save = shared / "data" / "coco" / "instances.json", tmp_path / "maps"
    given = ("--model", "selfie-landscape", "--images", truth.parent / "images", "--coco", truth, "--save", save)
    report = evaluate(tmp_path, *given, "--limit", 20)
    labelled = COCO(str(truth))
    files = {Path(image["file_name"]).stem: image["id"] for image in labelled.dataset["images"]}
    met = either = 0
    for path in save.iterdir():
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert found is not None
        assert set(np.unique(found)) <= {0, 1}
        people = labelled.loadAnns(labelled.getAnnIds(imgIds=[files[path.stem]], catIds=[1]))
        masks = {crowd: np.zeros(found.shape, bool) for crowd in (0, 1)}
        for each in people:
            masks[each["iscrowd"]] |= labelled.annToMask(each).astype(bool)
        counts = ~masks[1] | masks[0]
        met += int((masks[0] & (found == 1) & counts).sum())
        either += int(((masks[0] | (found == 1)) & counts).sum())
    assert len(list(save.iterdir())) == report["images"] == 20
    assert iou(report)["person"] == pytest.approx(met / either, abs=1e-6)
    assert met / either > 0.5  # 0.58 over all 75 pictures; of another picture's mask 0.1
