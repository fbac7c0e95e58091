"""What is worked out about a file that nobody describes, and what is said of each assumption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.engine import EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.spec import HeadOptions, InputSpec, ModelSpec
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.infer.recognition import Recognition, explain, recognise
from pipeline.picture import Picture
from tests.pipeline.constant_model import Array, constant_model
from tests.pipeline.heads.encoded import (
    centres,
    detections,
    maps,
    objects,
    with_objectness,
    without_objectness,
)

SIZE = (96, 128)
NAMES = "{0: 'person', 1: 'car', 2: 'dog'}"


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec(name="best", path=path, task="detect")


def yolov8_rows(scale: float = 1.0) -> Array:
    middles = centres(SIZE)
    rows = without_objectness(middles, 3, objects(middles, 3, 0), 0)
    rows[:, 4:] *= scale
    return np.asarray(rows.T[None])


def yolov8(path: Path, metadata: dict[str, str] | None = None, scale: float = 1.0) -> ModelSpec:
    return spec_of(constant_model(path / "best.onnx", {"output0": yolov8_rows(scale)}, SIZE, metadata))


def said(found: Recognition, what: str) -> tuple[str, str]:
    (one,) = [each for each in found.assumptions if each.what == what]
    return one.value, one.why


def test_a_file_with_metadata_is_completed_with_it(tmp_path: Path) -> None:
    metadata = {"names": NAMES, "stride": "16", "imgsz": "[96, 128]", "task": "detect"}
    file = constant_model(tmp_path / "best.onnx", {"output0": yolov8_rows()}, ("height", "width"), metadata)
    found = explain(spec_of(file))
    assert found.spec.head == "yolov8"
    assert found.spec.head_options == HeadOptions(box_order="cxcywh", box_unit="pixels", scores="probabilities")
    assert found.spec.input == InputSpec(*SIZE, colour="rgb", std=(255.0,) * 3, multiple=16)
    assert found.spec.labels == ("person", "car", "dog")
    assert said(found, "input size") == ("128x96", "the file's metadata")
    assert said(found, "labels") == ("3 names (person, car, dog)", "the file's metadata")
    assert said(found, "pixels")[0] == "0..1 (divided by 255)"
    assert said(found, "fit")[0] == "letterbox-centre, padded with 114"
    assert "3 class scores for each of the 252 cells of strides 8, 16, 32" in said(found, "head")[1]
    assert said(found, "NMS")[0] == "needed"
    assert said(found, "objects found")[0] == "16"


def test_a_file_without_metadata_names_no_classes(tmp_path: Path) -> None:
    found = explain(yolov8(tmp_path))
    assert found.spec.labels == ()
    assert found.spec.input == InputSpec(colour="rgb", std=(255.0,) * 3)
    assert said(found, "labels")[0] == "none"
    assert said(found, "input size") == ("128x96", "fixed by the file")


def test_a_size_that_somebody_asks_for_is_used(tmp_path: Path) -> None:
    file = constant_model(tmp_path / "best.onnx", {"output0": yolov8_rows()}, ("height", "width"))
    assert said(explain(spec_of(file), SIZE), "input size") == ("128x96", "asked for")


def test_what_an_entry_states_is_kept_and_said_to_be_stated(tmp_path: Path) -> None:
    stated = InputSpec(colour="bgr", mean=(1.0, 2.0, 3.0), fit="stretch")
    spec = replace(
        yolov8(tmp_path, {"names": NAMES}),
        input=stated,
        labels=("a", "b", "c"),
        head_options=HeadOptions(box_order="xyxy", nms=False),
    )
    found = explain(spec)
    assert (found.spec.input, found.spec.labels) == (stated, ("a", "b", "c"))
    assert found.spec.head_options.box_order == "xyxy"
    for what in ("colour order", "pixels", "fit", "labels", "box order", "NMS"):
        assert said(found, what)[1] == "as stated"
    assert said(found, "pixels")[0] == "(x - (1, 2, 3)) / (1, 1, 1)"


def test_a_stated_size_alone_leaves_the_rest_to_the_head(tmp_path: Path) -> None:
    found = explain(replace(yolov8(tmp_path), input=InputSpec(*SIZE)))
    assert found.spec.input == InputSpec(*SIZE, colour="rgb", std=(255.0,) * 3)
    assert said(found, "input size") == ("128x96", "as stated")


def test_a_spec_that_names_its_head_is_returned_as_it_is(tmp_path: Path) -> None:
    spec = replace(yolov8(tmp_path), head="yolov8")
    assert recognise(spec) is spec
    assert said(explain(spec), "head")[1].startswith("as stated; one output")


def test_a_stated_head_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownHead, match="by the head 'anchors'"):
        explain(replace(yolov8(tmp_path), head="anchors"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("{0: 'a', 1: 'b'}", "the outputs have 3 classes, so the rest are shown as numbers"),
        ("{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", "the outputs have 3 classes, so the last names are never used"),
    ],
)
def test_too_few_and_too_many_names_are_a_warning(tmp_path: Path, names: str, words: str) -> None:
    assert f"warning: {words}" in said(explain(yolov8(tmp_path, {"names": names})), "labels")[1]


@pytest.mark.parametrize(("names", "words"), [("{0: 'screw'}", "try it on a picture"), (NAMES, "it knows people")])
def test_finding_nothing_in_the_pictures_is_a_warning(tmp_path: Path, names: str, words: str) -> None:
    value, why = said(explain(yolov8(tmp_path, {"names": names}, scale=0.01)), "objects found")
    assert value == "0"
    assert why.startswith("warning")
    assert words in why


def background_rows(class_id: int) -> dict[str, Array]:
    return {
        "detection_boxes": np.array([[[0.1, 0.1, 0.5, 0.4]]], np.float32),
        "detection_classes": np.array([[class_id]], np.float32),
        "detection_scores": np.array([[0.9]], np.float32),
        "num_detections": np.ones(1, np.float32),
    }


@pytest.mark.parametrize(
    ("class_id", "names", "words"),
    [
        (85, 80, "it finds a class 84, which has no name"),
        (3, 80, "torchvision's and TensorFlow's models count COCO's classes 1 to 90 with gaps"),
        (3, 2, "it finds a class 2, which has no name"),
        (3, 90, None),
    ],
)
def test_classes_beyond_the_names_and_cocos_own_numbers_are_a_warning(
    tmp_path: Path, class_id: int, names: int, words: str | None
) -> None:
    file = constant_model(tmp_path / "best.onnx", background_rows(class_id), SIZE)
    spec = replace(spec_of(file), labels=("person", *(f"c{number}" for number in range(1, names))))
    why = said(explain(spec), "labels")[1]
    if words is None:
        assert why == "as stated"
    else:
        assert "; warning: " in why
        assert words in why
        assert "`--labels coco91`" in why


def test_more_objects_than_pictures_show_are_a_warning(tmp_path: Path) -> None:
    middles = centres(SIZE)
    rows = detections(objects(middles, 3, 0, 100), 100)[None]
    value, why = said(
        explain(spec_of(constant_model(tmp_path / "best.onnx", {"output0": rows}, SIZE))), "objects found"
    )
    assert value == "400"
    assert "warning: " in why
    assert "probably fed or read wrongly" in why


def test_a_model_that_only_finds_people_in_other_pixels_is_fed_those(tmp_path: Path) -> None:
    middles = centres(SIZE)
    what = replace(objects(middles, 3, 0), class_ids=np.zeros(4, int))
    bright = with_objectness(middles, 3, what, 0)[None]
    dark = bright.copy()
    dark[..., 4] *= 0.01
    metadata = {"names": NAMES}
    file = constant_model(tmp_path / "best.onnx", {"output": bright}, SIZE, metadata, dark={"output": dark})
    found = explain(spec_of(file))
    assert found.spec.head == "yolov5"
    assert found.spec.input.std == (1.0, 1.0, 1.0)
    assert "finds 16 people" in said(found, "pixels")[1]
    kept = explain(replace(spec_of(file), input=InputSpec(std=(255.0,) * 3)))
    assert (kept.spec.input.std, said(kept, "objects found")[0]) == ((255.0,) * 3, "0")


def test_values_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    rows = yolov8_rows()
    rows[0, 5, 7:9] = np.nan
    file = constant_model(tmp_path / "best.onnx", {"output0": rows}, SIZE)
    with pytest.raises(UnknownHead, match=r"2 of the 1764 values of output0 are no numbers \(NaN\); export it again"):
        explain(spec_of(file))


def test_anchors_that_are_nowhere_written_are_an_assumption(tmp_path: Path) -> None:
    anchors = (((10.0, 14.0), (23.0, 27.0), (37.0, 58.0)), ((81.0, 82.0), (135.0, 169.0), (344.0, 319.0)))
    grids, _ = maps(SIZE, anchors, (16, 32), 3, "yolov3", 0)
    outputs = {
        f"map{number}": grid.transpose(0, 3, 1, 2).reshape(1, 24, *grid.shape[1:3]) for number, grid in enumerate(grids)
    }
    found = explain(spec_of(constant_model(tmp_path / "best.onnx", outputs, SIZE)))
    assert found.spec.head_options.anchors == anchors
    value, why = said(found, "anchors")
    assert value.startswith("10x14, 23x27, 37x58; 81x82")
    assert "needs head_options.anchors" in why
    written = {"anchors": str([list(map(list, each)) for each in anchors]), "arithmetic": "yolov3"}
    found = explain(spec_of(constant_model(tmp_path / "best.onnx", outputs, SIZE, written)))
    assert said(found, "anchors")[1] == said(found, "anchor arithmetic")[1] == "the file's metadata"


def test_what_was_recognised_is_all_that_a_run_needs(tmp_path: Path) -> None:
    what = objects(centres(SIZE), 3, 0)
    rows = detections(what, 30)[None]
    rows[..., :4] /= np.array([128, 96] * 2)
    spec = recognise(spec_of(constant_model(tmp_path / "best.onnx", {"output0": rows}, SIZE)))
    engine = open_engine(spec, EngineOptions(backend="onnxruntime"))
    try:
        detector = PictureDetector(spec, engine, DetectorOptions())
        found = detector(Picture(bgr=np.zeros((192, 256, 3), np.uint8)))
    finally:
        engine.close()
    order = np.argsort(-what.scores)
    np.testing.assert_allclose(found.boxes, (what.corners[order] * 2).clip(0, [256, 192] * 2), atol=0.05)
    np.testing.assert_array_equal(found.class_ids, what.class_ids[order])


@pytest.mark.parametrize(
    ("file", "head", "colour", "labels"), [("yolox_nano", "yolox", "bgr", 0), ("yolov8n_640", "yolov8", "rgb", 80)]
)
def test_real_files_are_recognised(shared: Path, file: str, head: str, colour: str, labels: int) -> None:
    found = explain(spec_of(shared / "models" / "detect" / f"{file}.onnx"))
    assert (found.spec.head, found.spec.input.colour, len(found.spec.labels)) == (head, colour, labels)
    assert int(said(found, "objects found")[0]) > 5
