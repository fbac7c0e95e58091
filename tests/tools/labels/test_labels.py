"""Labels of three formats: the same set comes out of each, and what is malformed says file and line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigError
from tools.labels import LabelledSet, read_labels

NAMES = ("cat", "dog")
BOXES = {"a": [(0, 10, 20, 30, 40)], "b": [(1, 0, 0, 50, 100), (0, 100, 50, 100, 50)], "c": []}
"""Class, and left, top, width, height in whole pixels of a 200 x 100 picture."""
WIDTH, HEIGHT = 200, 100


def pictures(folder: Path, names: str = "abc") -> Path:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), np.full((HEIGHT, WIDTH, 3), 127, np.uint8))
    return folder


def yolo_line(class_id: int, left: float, top: float, width: float, height: float) -> str:
    centre = ((left + width / 2) / WIDTH, (top + height / 2) / HEIGHT)
    return f"{class_id} {centre[0]:.6f} {centre[1]:.6f} {width / WIDTH:.6f} {height / HEIGHT:.6f}"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Root of a data set in YOLO's customary places."""
    pictures(tmp_path / "images" / "val")
    (tmp_path / "labels" / "val").mkdir(parents=True)
    for name, boxes in BOXES.items():
        if boxes:
            lines = "\n".join(yolo_line(*each) for each in boxes)
            (tmp_path / "labels" / "val" / f"{name}.txt").write_text(lines + "\n")
    (tmp_path / "data.yaml").write_text("val: images/val\nnc: 2\nnames: [cat, dog]\n")
    return tmp_path


def voc_object(name: str, box: Sequence[int], first: int = 1, extra: str = "") -> str:
    left, top, width, height = box
    corners = (left + first, top + first, left + width, top + height)
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return f"<object><name>{name}</name>{extra}<bndbox>{''.join(f'<{t}>{v}</{t}>' for t, v in sides)}</bndbox></object>"


def voc(root: Path, first: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Write VOC's customary places; `first` is the number of the first pixel."""
    pictures(root / "JPEGImages")
    (root / "Annotations").mkdir()
    for name, boxes in BOXES.items():
        objects = "\n".join(voc_object(NAMES[kind], box, first) for kind, *box in boxes)
        sizes = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        text = f"<annotation>\n<filename>{name}.png</filename>\n{sizes}\n{objects}\n</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return root / "Annotations"


def coco(root: Path) -> Path:
    images = [
        {"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(BOXES)
    ]
    boxes = [(image["id"], *box) for image, each in zip(images, BOXES.values(), strict=True) for box in each]
    annotations = [{"id": 0, "image_id": image, "category_id": kind, "bbox": box} for image, kind, *box in boxes]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    path = root / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def what_it_shows(labels: LabelledSet) -> dict[str, list[tuple[Any, ...]]]:
    names = {each["id"]: each["name"] for each in labels.categories}
    stems = {each["id"]: Path(each["file_name"]).stem for each in labels.images}
    shown: dict[str, list[tuple[Any, ...]]] = {stem: [] for stem in stems.values()}
    for each in labels.annotations:
        box = tuple(round(value, 3) for value in each["bbox"])
        shown[stems[each["image_id"]]].append((names[each["category_id"]], *box, round(each["area"], 2)))
    return shown


EXPECTED = {
    "a": [("cat", 10, 20, 30, 40, 1200)],
    "b": [("dog", 0, 0, 50, 100, 5000), ("cat", 100, 50, 100, 50, 5000)],
    "c": [],
}


@pytest.mark.parametrize("named_by", ["data.yaml", "labels/val", "labels", ""])
def test_yolo_labels_are_found_from_each_of_their_places(yolo: Path, named_by: str) -> None:
    labels = read_labels(yolo / named_by)
    assert what_it_shows(labels) == EXPECTED
    assert labels.folder is not None
    assert all((labels.folder / image["file_name"]).is_file() for image in labels.images)
    assert {(image["width"], image["height"]) for image in labels.images} == {(WIDTH, HEIGHT)}
    assert [note for note in labels.notes if "1 picture without a label file" in note and "c.png" in note]


@pytest.mark.parametrize("first", [0, 1])
def test_voc_labels_are_the_same_boxes_counted_from_1_or_from_0(tmp_path: Path, first: int) -> None:
    labels = read_labels(voc(tmp_path, first))
    assert what_it_shows(labels) == EXPECTED
    assert labels.folder == tmp_path / "JPEGImages"
    assert any("edges counted from 0" in note for note in labels.notes) == (first == 0)


def test_coco_labels_are_the_same_boxes_numbered_from_1(tmp_path: Path) -> None:
    labels = read_labels(coco(tmp_path), pictures(tmp_path / "images"))
    assert what_it_shows(labels) == EXPECTED
    assert [each["id"] for each in labels.annotations] == [1, 2, 3]
    assert labels.folder == tmp_path / "images"


# ---- YOLO


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [0, 0, "x", 3]}, 'annotation 2 of image 1: bbox is [0, 0, "x", 3], not four finite numbers'),
        ({"bbox": [0, 0, 3]}, "bbox is [0, 0, 3], not four"),
        ({"bbox": [0, 0, float("nan"), 3]}, "bbox is [0, 0, NaN, 3], not four"),
        ({"bbox": [0, 0, 10**400, 3]}, "not four finite numbers"),
        ({"bbox": None}, "bbox is null, not four"),
        ({"area": float("inf")}, "annotation 2 of image 1: area is Infinity, not a finite number"),
        ({"segmentation": [[1, 2, None, 4]]}, "segmentation holds [1, 2, null, 4], not a list of finite numbers"),
        ({"category_id": [1]}, "annotation 2: category_id is [1], not a whole number"),
    ],
)
def test_a_wrong_value_of_coco_is_said_with_its_annotation(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = coco(tmp_path)
    document = json.loads(path.read_text())
    document["annotations"][1].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}: annotation 2")
    assert words in str(caught.value)


def test_the_outline_of_an_object_becomes_its_box_and_stays_its_mask(yolo: Path) -> None:
    (yolo / "labels" / "val" / "a.txt").write_text("1 0.25 0.5 0.75 0.5 0.5 0.9")
    found = next(each for each in read_labels(yolo).annotations if each["image_id"] == 1)
    assert found["bbox"] == pytest.approx([50, 50, 100, 40])
    assert found["area"] == pytest.approx(100 * 40 / 2)
    assert found["segmentation"] == [pytest.approx([50, 50, 150, 50, 100, 90])]


def test_labels_for_pose_are_read_where_their_description_says_so(yolo: Path) -> None:
    line = yolo_line(*BOXES["a"][0]) + " 0.1 0.1 0.2 0.2"
    (yolo / "labels" / "val" / "a.txt").write_text(line)
    assert what_it_shows(read_labels(yolo))["a"] != EXPECTED["a"]  # taken for an outline
    (yolo / "data.yaml").write_text("val: images/val\nnames: [cat, dog]\nkpt_shape: [2, 2]\n")
    assert what_it_shows(read_labels(yolo)) == EXPECTED


def test_names_come_from_the_file_asked_for_else_from_beside_else_are_numbers(yolo: Path) -> None:
    (yolo / "mine.names").write_text("red\nblue\n")
    (yolo / "labels" / "val" / "classes.txt").write_text("left\nright\n")
    folder = yolo / "labels" / "val"
    for names, expected in ((yolo / "mine.names", ["red", "blue"]), (yolo / "data.yaml", ["cat", "dog"])):
        assert [each["name"] for each in read_labels(folder, names=names).categories] == expected
    (yolo / "data.yaml").write_text("names: {1: hound, 0: kitten}\nval: images/val\n")
    assert [each["name"] for each in read_labels(folder).categories] == ["kitten", "hound"]
    (yolo / "data.yaml").unlink()
    assert [each["name"] for each in read_labels(folder).categories] == ["left", "right"]
    (folder / "classes.txt").unlink()
    numbers = read_labels(folder)
    assert ([each["name"] for each in numbers.categories], numbers.named) == (["0", "1"], False)


def test_what_is_left_out_is_counted_and_named(yolo: Path) -> None:
    (yolo / "labels" / "val" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (yolo / "labels" / "val" / "a.txt").write_text("0 0.5 0.5 0.0 0.1\n\n0 0.5 0.5 0.1 0.1\n")
    (yolo / "images" / "val" / "torn.png").write_bytes(b"torn")
    labels = read_labels(yolo / "labels" / "val")
    assert len(labels.annotations) == 3
    notes = "\n".join(labels.notes)
    for words in ("1 label file without a picture, left out: gone.txt", "1 box without width or height, left out",
                  "1 picture that cannot be read, left out: torn.png", "2 pictures without a label file"):  # fmt: skip
        assert words in notes


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1", "4 numbers are no box"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers are no box"),
        ("cat 0.5 0.5 0.1 0.1", "'cat 0.5 0.5 0.1 0.1' are not numbers"),
        ("0 100 50 20 20", "100 is outside 0..1"),
        ("0 0.5 nan 0.1 0.1", "has a value that is not finite"),
        ("0 0.5 0.5 -0.1 0.1", "-0.1 is outside 0..1"),
        ("2 0.5 0.5 0.1 0.1", "the class 2 has no name; names there are for 0..1"),
        ("1.5 0.5 0.5 0.1 0.1", "the class 1.5 is not a whole number"),
        ("inf 0.5 0.5 0.1 0.1", "has a value that is not finite"),
    ],
)
def test_a_wrong_line_of_yolo_is_said_with_file_and_number(yolo: Path, line: str, words: str) -> None:
    path = yolo / "labels" / "val" / "b.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_labels(yolo)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("names: [cat, dog]\n", "says no 'val'"),
        ("names: [cat, dog]\nval: nowhere\n", "nowhere, which does not exist"),
        ("names: 7\nval: images/val\n", "'names' must be a list"),
        ("- cat\n", "is no data.yaml"),
        ("names: [cat\n", "is not YAML"),
    ],
)
def test_a_wrong_description_is_said(yolo: Path, description: str, words: str) -> None:
    (yolo / "data.yaml").write_text(description)
    with pytest.raises(ConfigError, match=words):
        read_labels(yolo / "data.yaml")


def test_a_description_may_list_pictures_in_a_file_and_say_its_own_root(yolo: Path) -> None:
    (yolo / "val.txt").write_text("./images/val/b.png\n")
    (yolo / "elsewhere").mkdir()
    (yolo / "elsewhere" / "set.yaml").write_text("path: ..\ntrain: val.txt\nnames: [cat, dog]\n")
    labels = read_labels(yolo / "elsewhere" / "set.yaml")
    assert what_it_shows(labels) == {"b": EXPECTED["b"]}
    assert any("the pictures of 'train' were taken" in note for note in labels.notes)


def test_pictures_may_be_elsewhere_and_where_there_are_none_it_is_said(yolo: Path) -> None:
    (yolo / "images").rename(yolo / "pictures")
    folder = yolo / "labels" / "val"
    with pytest.raises(ConfigError, match=r"no pictures for the labels in .* looked in .*images/val.*--images"):
        read_labels(folder)
    assert what_it_shows(read_labels(folder, yolo / "pictures" / "val")) == EXPECTED
    with pytest.raises(ConfigError, match=r"none of the pictures in .* has a label file in .*, such as a\.txt"):
        read_labels(folder, pictures(yolo / "others", "xyz"))


# ---- VOC


def test_difficult_objects_are_ignored_and_counted(tmp_path: Path) -> None:
    folder = voc(tmp_path)
    hard = voc_object("cat", (1, 1, 5, 5), extra="<difficult>1</difficult>")
    (folder / "c.xml").write_text(f"<annotation><filename>c.png</filename>{hard}</annotation>")
    labels = read_labels(folder)
    assert [each["iscrowd"] for each in labels.annotations] == [0, 0, 0, 1]
    assert "1 difficult object: neither found nor missed counts" in labels.notes


def test_a_size_that_voc_does_not_say_is_the_picture_s(tmp_path: Path) -> None:
    labels = read_labels(voc(tmp_path, size=(0, 0)))
    assert {(image["width"], image["height"]) for image in labels.images} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("<annotation>\n<object>", 2, "not XML: no element found"),
        ("<xml>\n</xml>", 1, "instead of <annotation>"),
        ("<annotation>\n<object><name>cat</name></object></annotation>", 2, "<object> has no <bndbox>"),
        ("<annotation>\n\n<object><bndbox><xmin>x</xmin></bndbox></object></annotation>", 3, "'x', not a number"),
        (f"<annotation>\n{voc_object('cat', (5, 5, 9, 9)).replace('<xmin>6', '<xmin>nan')}</annotation>", 2, "'nan'"),
        (
            f"<annotation>\n{voc_object('cat', (5, 5, 9, 9)).replace('<xmax>14', '<xmax>1e999')}</annotation>",
            2,
            "'1e999'",
        ),
        (f"<annotation>\n{voc_object('cat', (50, 5, -20, 5))}</annotation>", 2, "ends before it begins: 51, 6, 30"),
        (f"<annotation>\n{voc_object('', (5, 5, 5, 5))}</annotation>", 2, "<name> is empty"),
    ],
)
def test_a_wrong_file_of_voc_is_said_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = voc(tmp_path) / "c.xml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_labels(path.parent)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


# ---- what is no set of labels


def test_what_holds_no_labels_of_one_format_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no labels: expected YOLO"):
        read_labels(tmp_path)
    voc(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean .*Annotations\?"):
        read_labels(tmp_path)
    (tmp_path / "Annotations" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(ConfigError, match="labels of two formats"):
        read_labels(tmp_path / "Annotations")
    with pytest.raises(ConfigError, match=r"a single file: name the folder of the \.txt files"):
        read_labels(tmp_path / "Annotations" / "a.txt")
    with pytest.raises(ConfigError, match=r"the folder of pictures .*nowhere does not exist"):
        read_labels(tmp_path / "Annotations", tmp_path / "nowhere")
