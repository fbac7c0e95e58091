"""`frameloom models inspect`: what is printed, what may be stated instead, and what is written down."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from typer.testing import CliRunner

from engines.errors import ChecksumMismatch, FrameloomError, ModelError, UnknownHead
from engines.spec import HeadOptions
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.infer.recognition import recognise
from pipeline.postprocess import heads
from tests.engines.onnx_files import save, value
from tests.engines.own_files import CLASS, NAMES, SIDE, classifier, detector, rows
from tools import inspect_options, models
from tools.inspect_save import name_of

ULTRALYTICS = {"names": NAMES, "task": "detect", "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]", "license": "AGPL-3.0"}
LABELS = ["cat", "red door", "dog"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    return detector(tmp_path / "best_v2.onnx", metadata=ULTRALYTICS)


def run(path: Path, *arguments: str) -> str:
    """Return what is printed; an error is raised."""
    done = CliRunner().invoke(models.app, ["inspect", str(path), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def asked(path: Path, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run(path, *arguments, "--json"))
    return answer


def assumption(answer: dict[str, Any], what: str) -> tuple[str, str]:
    (found,) = [each for each in answer["assumptions"] if each["what"] == what]
    return found["value"], found["why"]


# ---- what is said


def test_a_file_is_explained(best: Path) -> None:
    text = run(best)
    for words in (
        "best_v2.onnx (0.0 MB)",
        "opset 13, IR 8 by a test",
        f"images float32 [1, 3, {SIDE}, {SIDE}]",
        "output0 float32 [1, 7, 84]",
        "metadata          names: {0: 'cat', 1: 'red door', 2: 'dog'}",
        "described         by nobody",
        f"as run            for one picture of {SIDE}x{SIDE}: output0 [1, 7, 84]",
        "head              yolov8 (",
        "colour order      rgb (usual for",
        "fit               letterbox-centre, padded with 114",
        "labels            3 names (cat, red door, dog) (the file's metadata)",
        "objects found     4 (in the pictures that come with Frameloom",
    ):
        assert words in text
    assert [path.name for path in best.parent.iterdir() if path.name != "cache"] == [best.name]


def test_the_same_is_said_as_json(best: Path) -> None:
    answer = asked(best)
    assert (answer["head"], answer["labels"], answer["size"], answer["opset"]) == ("yolov8", LABELS, [SIDE, SIDE], 13)
    assert answer["inputs"] == [{"name": "images", "type": "float32", "shape": [1, 3, SIDE, SIDE]}]
    assert answer["as_run"] == {"output0": [1, 7, 84]}
    assert answer["input"]["std"] == [255, 255, 255]
    assert answer["metadata"] == ULTRALYTICS
    assert answer["error"] is None


def test_a_model_that_is_no_detector_is_refused_after_its_facts(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    with pytest.raises(UnknownHead, match="no detector that can be read: it looks like a classifier of 1000 classes"):
        run(path)
    done = CliRunner().invoke(models.app, ["inspect", str(path), "--json"])
    answer = json.loads(done.stdout)
    assert (answer["task"], answer["assumptions"], answer["outputs"][0]["shape"]) == (None, [], [1, 1000])
    assert "classifier" in answer["error"]


def test_a_face_finder_is_explained(shared: Path) -> None:
    path = shared / "models" / "face" / "yunet_s_320_320.onnx"
    answer = asked(path)
    assert (answer["task"], answer["head"]) == ("face-detect", "yunet")
    assert int(assumption(answer, "faces found")[0]) >= 4
    assert assumption(answer, "colour order") == ("bgr", "usual for models with the head yunet")
    assert assumption(asked(path, "--colour", "rgb"), "colour order") == ("rgb", "as stated")
    with pytest.raises(UnknownHead, match="looks like a face finder"):
        run(path, "--task", "detect")


FACE_SIDE = 128
FACE_CELLS = sum((FACE_SIDE // stride) ** 2 for stride in (8, 16, 32))
ONLY_AT_ITS_SIZE = (
    helper.make_node(
        "Constant", [], ["zeros"], value=onnx.numpy_helper.from_array(np.zeros((FACE_SIDE, FACE_SIDE), np.float32))
    ),
    helper.make_node("Mul", ["images", "zeros"], ["black"]),
    helper.make_node("ReduceMax", ["black"], ["none"], keepdims=0),
    helper.make_node("Add", ["said", "none"], ["output0"]),
)


def faces_of_yolov5(path: Path, points: Sequence[float], **metadata: str) -> Path:
    """A model with the output of YOLOv5-face, [1, 3 x cells, 16], of one face."""
    output = np.zeros((1, 3 * FACE_CELLS, 16), np.float32)
    output[..., :4] = 64, 64, 8, 8
    output[0, 27] = (64, 64, 32, 48, 0.9, *points, 0.9)
    return detector(path, output, metadata=metadata, shape=(1, 3, FACE_SIDE, FACE_SIDE), nodes=ONLY_AT_ITS_SIZE)


def oriented_boxes(path: Path, **metadata: str) -> Path:
    """A model with the output of YOLOv8-OBB for 15 classes, [1, 4 + 15 + 1, cells], as many as a face has numbers."""
    output = np.zeros((1, 20, FACE_CELLS), np.float32)
    output[0, :4] = np.array([[64, 64, 8, 8]]).T
    output[0, 4, 27], output[0, -1] = 0.9, -0.2
    return detector(path, output, metadata=metadata, shape=(1, 3, FACE_SIDE, FACE_SIDE), nodes=ONLY_AT_ITS_SIZE)


EYES_NOSE_MOUTH = (56.5, 56.5, 72.5, 56.5, 64.5, 64.5, 58.5, 76.5, 70.5, 76.5)


@pytest.mark.parametrize("metadata", [{}, {"task": "pose"}])
def test_what_has_a_face_finders_layout_and_values_is_one(metadata: dict[str, str], tmp_path: Path) -> None:
    answer = asked(faces_of_yolov5(tmp_path / "m.onnx", EYES_NOSE_MOUTH, **metadata))
    assert (answer["task"], answer["head"]) == ("face-detect", "yolov5-face")


def test_what_has_only_its_layout_is_none(tmp_path: Path) -> None:
    elsewhere = [value + 100 for value in EYES_NOSE_MOUTH]
    path = faces_of_yolov5(tmp_path / "m.onnx", elsewhere)
    with pytest.raises(UnknownHead, match=r"and no face finder: .*five points elsewhere; .*--task face-detect"):
        run(path)
    assert asked(path, "--task", "face-detect")["head"] == "yolov5-face"
    with pytest.raises(UnknownHead, match=r"and no face finder: .*yolov8-face, but .*upright boxes"):
        run(oriented_boxes(tmp_path / "obb.onnx"))


@pytest.mark.parametrize("task", ["obb", "segment", "classify"])
def test_a_file_that_is_for_another_task_is_no_face_finder(task: str, tmp_path: Path) -> None:
    path = oriented_boxes(tmp_path / "m.onnx", task=task)
    with pytest.raises(UnknownHead, match="the model is no detector"):
        run(path)
    with pytest.raises(UnknownHead, match=f"no face finder: its file says that its task is '{task}'"):
        run(path, "--task", "face-detect")


def test_a_model_of_the_zoo_is_called_by_its_name(shared: Path) -> None:
    text = run(shared / "models" / "face" / "MobileFaceNet.onnx")
    assert "by Frameloom's own list: mobilefacenet (face-encode)" in text
    assert "task              face-encode" in text


def test_a_model_that_takes_bytes_is_fed_bytes(tmp_path: Path) -> None:
    picture = value("images", (1, SIDE, SIDE, 3), TensorProto.UINT8)
    answer = helper.make_node("Constant", [], ["answer"], value=onnx.numpy_helper.from_array(rows()))
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["brightest"], keepdims=0),
        helper.make_node("Constant", [], ["full"], value_float=255.0),
        helper.make_node("Div", ["brightest", "full"], ["share"]),
        answer,
        helper.make_node("Mul", ["answer", "share"], ["output0"]),
    ]
    path = save(tmp_path, nodes, [picture], [value("output0", rows().shape)], [])
    said = asked(path)
    assert assumption(said, "pixels")[0] == "0..255 as they are"
    assert said["inputs"][0]["type"] == "uint8"
    with pytest.raises(ModelError, match="nothing can be normalised in front of it"):
        run(path, "--std", "255")


# ---- what is stated


@pytest.mark.parametrize(
    ("options", "what", "value"),
    [
        (("--head", "yolov8"), "head", "yolov8"),
        (("--colour", "bgr"), "colour order", "bgr"),
        (("--std", "1"), "pixels", "0..255 as they are"),
        (("--mean", "1,2,3"), "pixels", "(x - (1, 2, 3)) / (255, 255, 255)"),
        (("--fit", "stretch"), "fit", "stretch"),
        (("--pad", "0"), "fit", "letterbox-centre, padded with 0"),
        (("--labels", "a,b b,c"), "labels", "3 names (a, b b, c)"),
        (("--labels", "coco"), "labels", "80 names (person, bicycle, car, ...)"),
        (("--box-order", "xyxy"), "box order", "xyxy"),
        (("--box-unit", "fractions"), "box unit", "fractions"),
        (("--scores", "logits"), "scores", "logits"),
        (("--no-nms",), "NMS", "none: done or needless inside the model"),
    ],
    ids=str,
)
def test_each_assumption_can_be_stated_instead(options: tuple[str, ...], what: str, value: str, best: Path) -> None:
    stated = asked(best, *options)
    assert assumption(stated, what)[0] == value
    assert assumption(stated, what)[1].startswith("as stated")
    others = {each["what"]: each for each in asked(best)["assumptions"] if each["what"] not in (what, "objects found")}
    assert {each["what"]: each for each in stated["assumptions"]}.items() >= others.items()


def test_another_size_is_run(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", shape=(1, 3, "h", "w"), metadata=ULTRALYTICS)
    assert asked(path)["size"] == [SIDE, SIDE]
    answer = asked(path, "--head", "yolov8", "--input-size", "64x96", "--box-order", "cxcywh", "--box-unit", "pixels")
    assert (answer["size"], assumption(answer, "input size")[1]) == ([64, 96], "asked for")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[10,13, 16,30], [30,61]]", (((10, 13), (16, 30)), ((30, 61),))),
        ("[[[10, 13], [16, 30]]]", (((10, 13), (16, 30)),)),
        ("10,13 16,30; 30,61", (((10, 13), (16, 30)), ((30, 61),))),
        ("10x13, 16x30; 30x61", (((10, 13), (16, 30)), ((30, 61),))),
    ],
)
def test_anchors_are_written_in_any_usual_way(text: str, expected: object, tmp_path: Path) -> None:
    assert inspect_options.anchors(text) == expected
    (tmp_path / "anchors.yaml").write_text(yaml.safe_dump({"anchors": [[[10, 13]]]}))
    assert inspect_options.anchors(str(tmp_path / "anchors.yaml")) == (((10, 13),),)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--anchors", "[[10, 13, 16]]"),
        ("--anchors", "many"),
        ("--anchors", "10,13 abc"),
        ("--anchors", "[[10, "),
        ("--mean", "1,2"),
        ("--mean", "black"),
        ("--std", "0"),
        ("--std", "-1"),
        ("--std", "nan"),
        ("--mean", "nan"),
        ("--mean", "1,inf,1"),
        ("--keypoints", "17"),
        ("--keypoints", "17x9"),
        ("--labels", "nowhere/names.txt"),
        ("--labels", "names.txt"),
        ("--labels", "a,,b"),
        ("--input-size", "big"),
    ],
)
def test_a_wrong_statement_is_refused_by_its_option(option: str, text: str, best: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{option} "):
        run(best, option, text)


@pytest.mark.parametrize(
    ("option", "text"),
    [("--anchors", "10,13; 16,30"), ("--arithmetic", "yolov5"), ("--background", None)],
)
def test_an_option_that_the_head_has_no_use_for_is_refused(option: str, text: str | None, best: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{option} is not used by the head yolov8"):
        run(best, option, *filter(None, [text]))


def test_a_minus_in_anchors_is_not_overlooked() -> None:
    with pytest.raises(ConfigError, match="-10,13: write width and height of each anchor in pixels, above 0"):
        inspect_options.anchors("-10,13")


def test_each_head_that_uses_an_option_exists() -> None:
    known = {head.name for head in heads.HEADS}
    assert known >= {name for users in inspect_options.USED_BY.values() for name in users}
    assert known >= set(inspect_options.WITH_OWN_BOXES)


def test_coco_is_named_by_its_own_ids_where_the_model_counts_so() -> None:
    by_id = inspect_options.labels("coco91")
    assert (len(by_id), by_id.count("N/A"), by_id[1], by_id[13], by_id[90]) == (
        91,
        11,
        "person",
        "stop sign",
        "toothbrush",
    )
    background = HeadOptions(background=True)
    assert inspect_options.coco_of_head("faster-rcnn", background) == by_id[1:]
    assert inspect_options.coco_of_head("efficient-nms", HeadOptions(background=False)) == by_id[1:]
    assert inspect_options.coco_of_head("detr-raw", background) == by_id
    assert inspect_options.coco_of_head("yolov8", HeadOptions()) == by_id


def test_the_names_by_id_follow_the_head(best: Path) -> None:
    assert assumption(asked(best, "--labels", "coco91"), "labels")[0] == "91 names (N/A, person, bicycle, ...)"


def test_labels_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "c.names").write_text("a\nb b\n")
    (tmp_path / "data.yaml").write_text("names: {0: a, 1: b b}\n")
    for name in ("c.names", "data.yaml"):
        assert inspect_options.labels(str(tmp_path / name)) == ("a", "b b")


def test_names_beside_a_model_that_names_none_are_used_and_said(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx")
    (tmp_path / "m.txt").write_text("notes on\nthis model\n")  # not a line for each class
    assert assumption(asked(path), "labels")[0] == "none"
    (tmp_path / "m.txt").write_text("a\nb\nc\n")
    assert assumption(asked(path), "labels") == ("3 names (a, b, c)", "m.txt beside the file, which names none itself")
    (tmp_path / "m.names").write_text("d\ne\nf\n")
    assert recognise(Zoo.load().spec(path)).labels == ("d", "e", "f")
    named = detector(tmp_path / "named.onnx", metadata=ULTRALYTICS)
    (tmp_path / "named.names").write_text("x\ny\nz\n")
    assert asked(named)["labels"] == LABELS


# ---- what is written down


def test_what_is_saved_is_what_is_used_from_then_on(best: Path) -> None:
    stated = ("--labels", "a,b,c", "--box-order", "xyxy", "--colour", "bgr", "--pad", "7", "--no-nms")
    assert f"wrote {best.with_suffix('.yaml')}" in run(best, *stated, "--save-spec")
    document = yaml.safe_load(best.with_suffix(".yaml").read_text())
    assert (document["name"], document["file"], document["licence"]) == ("best-v2", "best_v2.onnx", "AGPL-3.0")
    spec = Zoo.load().spec(best, task="detect")
    assert recognise(spec) == spec
    assert (spec.head, spec.labels, spec.name) == ("yolov8", ("a", "b", "c"), "best-v2")
    assert (spec.head_options.box_order, spec.head_options.nms) == ("xyxy", False)
    assert (spec.input.colour, spec.input.pad, spec.input.std) == ("bgr", 7, (255, 255, 255))
    assert (spec.input.height, spec.input.width) == (SIDE, SIDE)
    answer = asked(best)
    assert answer["described"].startswith("by best_v2.yaml beside it")
    assert assumption(answer, "colour order") == ("bgr", "as stated")


def test_another_file_of_that_name_is_kept_unless_told(best: Path, caplog: pytest.LogCaptureFixture) -> None:
    described = best.with_suffix(".yaml")
    described.write_text("names: [a]\n")
    with caplog.at_level(logging.ERROR), pytest.raises(ModelError, match=r"best_v2.yaml exists already.*--replace"):
        run(best, "--save-spec")
    assert described.read_text() == "names: [a]\n"
    run(best, "--save-spec", "--replace")
    assert yaml.safe_load(described.read_text())["head"] == "yolov8"


def test_a_description_belongs_to_the_file_that_was_described(best: Path) -> None:
    run(best, "--save-spec")
    detector(best, metadata={**ULTRALYTICS, "task": "other"})
    with pytest.raises(ChecksumMismatch, match=r"is not the file that best_v2.yaml beside it describes"):
        run(best)


def test_a_file_that_was_trained_anew_is_described_anew_on_request(best: Path) -> None:
    run(best, "--labels", "a,b,c", "--colour", "bgr", "--save-spec")
    detector(best, rows(2))
    with pytest.raises(ChecksumMismatch, match=r"`frameloom models inspect .*best_v2.onnx --save-spec --replace`"):
        run(best, "--save-spec")
    text = run(best, "--save-spec", "--replace")
    assert "best_v2.yaml is for another file, so nothing is taken from it, and it is replaced" in text
    spec = Zoo.load().spec(best)
    assert (spec.head, spec.labels, spec.input.colour) == ("yolov8", (), "rgb")
    assert asked(best)["described"].startswith("by best_v2.yaml beside it")


def test_nothing_is_saved_of_what_is_not_understood(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    with pytest.raises(FrameloomError):
        run(path, "--save-spec")
    assert not path.with_suffix(".yaml").exists()


@pytest.mark.parametrize(
    ("stem", "name"), [("best", "best"), ("YOLOv8n_640 (2)", "yolov8n-640-2"), ("--x", "x"), ("猫", "model")]
)
def test_a_file_gets_a_name_that_the_zoo_allows(stem: str, name: str, tmp_path: Path) -> None:
    path = detector(tmp_path / f"{stem}.onnx")
    assert name_of(stem) == name
    run(path, "--save-spec")
    assert Zoo.load().spec(path).name == name


def test_a_changed_statement_changes_what_is_found(best: Path) -> None:
    """The object's row says cx, cy, w, h; read as corners it is another box."""
    boxes = {}
    for order in ("cxcywh", "xyxy"):
        run(best, "--box-order", order, "--save-spec", "--replace")
        spec = Zoo.load().spec(best)
        head = heads.head_of(spec, {"output0": rows()}, (SIDE, SIDE))
        found = head.decode({"output0": rows()}, (SIDE, SIDE), 0.5)
        assert found.class_ids.tolist() == [CLASS]
        boxes[order] = found.boxes[0].tolist()
    np.testing.assert_allclose(boxes["cxcywh"], (16, 8, 48, 56))
    assert boxes["xyxy"] == pytest.approx((32, 32, 32, 48))


def test_a_described_input_is_said_as_it_is_used_also_where_it_is_the_usual_one(best: Path) -> None:
    run(best, "--std", "1", "--save-spec")
    assert assumption(asked(best), "pixels") == ("0..255 as they are", "as stated")


# ---- models that segment and stylize


def test_a_tflite_file_that_segments_is_described(shared: Path, tmp_path: Path) -> None:
    """A byte more than the file in the list of models, so that nobody describes it."""
    known = shared / "models" / "seg" / "lite-model_deeplabv3_1_metadata_2.tflite"
    (path := tmp_path / "deeplab.tflite").write_bytes(known.read_bytes() + b"\0")
    answer = asked(path)
    assert (answer["task"], answer["head"], answer["size"]) == ("segment", "classes", [257, 257])
    assert answer["labels"][15] == "person"
    assert answer["head_options"]["scores"] == "logits"
    assert answer["input"]["std"] == [127.5] * 3
    assert assumption(answer, "pixels")[1].startswith("usual, nothing in the file says it: --colour, --mean")
    text = run(path, "--task", "segment", "--mean", "0", "--std", "255", "--labels", ",".join("abcdefghijklmnopqrstu"))
    assert "21 names (a, b, c, d, ...) (as stated)" in text
    assert "pixels            0..1 (divided by 255) (as stated)" in text


def test_a_style_network_is_described_at_any_size(shared: Path) -> None:
    candy = shared / "models" / "style" / "tnet_candy.onnx"
    answer = asked(candy, "--input-size", "72x100")
    assert (answer["task"], answer["size"], answer["as_run"]) == ("stylize", [72, 100], {"out": [1, 3, 72, 100]})
    assert assumption(answer, "gives")[0].startswith("pictures of 100x72, values ")
    with pytest.raises(UnknownHead, match=r"the model is no detector that can be read: .*a style network"):
        run(candy, "--task", "detect", "--input-size", "64x96")


def test_a_model_of_another_task_is_not_described_as_one(best: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownHead, match=r"is no style network: .* 64x64 here, and this one gives output0 \[1, 7, 84\]"
    ):
        run(best, "--task", "stylize")
    with pytest.raises(UnknownHead, match="gives no map of classes that can be read"):
        run(best, "--task", "segment")
    with pytest.raises(UnknownHead, match="no detector"):
        run(classifier(tmp_path / "classes.onnx"))


def test_what_segments_is_written_down_and_read_again(shared: Path, tmp_path: Path) -> None:
    known = shared / "models" / "seg" / "lite-model_deeplabv3_1_metadata_2.tflite"
    (path := tmp_path / "deeplab.tflite").write_bytes(known.read_bytes() + b"\0")
    run(path, "--save-spec", "--task", "segment")
    spec = Zoo.load().spec(path, task="segment")
    assert (spec.head, len(spec.labels), spec.input.std) == ("classes", 21, (127.5, 127.5, 127.5))
    assert "by deeplab.yaml beside it (segment)" in run(path)
