"""Which layouts of segmentation models are recognised, and that what cannot be read is refused with what was seen."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.engine import EngineOptions, open_engine
from engines.errors import ModelError, UnknownHead
from engines.own_models import describe, entry_of
from engines.spec import HeadOptions, InputSpec, ModelSpec
from pipeline.errors import ConfigError
from pipeline.infer.picture_segmenter import (
    IMAGENET,
    PictureSegmenter,
    find_segmenter,
    foreground_of,
    recognise,
)
from pipeline.picture import Picture, bgr_to_planes
from pipeline.postprocess.segment_heads import arg_max, head_of
from tests.pipeline.constant_model import constant_model
from tests.pipeline.segment_models import COLOURS, LAYOUTS, SIZE, agreement, colour_model, coloured, three_parts

NAMES = str(dict(enumerate(COLOURS)))


def segmenter(spec: ModelSpec, backend: Any = "onnxruntime", **options: Any) -> PictureSegmenter:
    return PictureSegmenter(spec, open_engine(spec, EngineOptions(backend=backend, requests=1, threads=1)), **options)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_and_gives_the_same_map(tmp_path: Path, layout: str, stride: int) -> None:
    spec = find_segmenter(str(colour_model(tmp_path / "made.onnx", layout, stride=stride)))
    _, kind, scores = LAYOUTS[layout]
    one = segmenter(spec)
    assert (spec.head, one.head.kind) == (kind, kind)
    if kind != "class-map":
        assert one.head.scores == scores
    truth = three_parts()
    found = one.segment(Picture(bgr=coloured(truth)))
    expected = truth if one.head.classes != 2 else (truth == 0).astype(np.uint8)
    assert agreement(found, expected, border=3 * stride) == 1
    assert agreement(found, expected) > (0.98 if stride == 1 else 0.93)
    one.close()


@pytest.mark.parametrize("layout", ["class-map", "class-map-int32", "channels-last", "mask-last"])
def test_openvino_gives_the_same_map(tmp_path: Path, layout: str) -> None:
    spec = find_segmenter(str(colour_model(tmp_path / "made.onnx", layout)))
    picture = Picture(planes=bgr_to_planes(coloured(three_parts())))
    each = [segmenter(spec, backend) for backend in ("onnxruntime", "openvino")]
    first, second = (one.segment(picture) for one in each)
    assert (first == second).mean() > 0.995
    assert len(np.unique(first)) == (2 if layout == "mask-last" else 3)
    for one in each:
        one.close()


@pytest.mark.parametrize("fit", ["letterbox-centre", "letterbox-topleft", "stretch"])
@pytest.mark.parametrize("size", [(300, 200), (101, 333), (64, 96)])
def test_the_map_lies_where_the_picture_does(tmp_path: Path, fit: Any, size: tuple[int, int]) -> None:
    spec = find_segmenter(str(colour_model(tmp_path / "made.onnx", stride=4)))
    spec = replace(spec, input=replace(spec.input, fit=fit))
    one = segmenter(spec)
    truth = np.zeros(size, np.uint8)
    truth[size[0] // 3 :, : size[1] // 2], truth[:, size[1] // 2 :] = 1, 2
    found = one.segment(Picture(bgr=coloured(truth)))
    shrunk = max(size[0] / SIZE[0], size[1] / SIZE[1])
    assert agreement(found, truth, border=round(2.5 * shrunk)) == 1
    off = [abs(int((found[:, 5] == 0).sum()) - size[0] // 3), abs(int((found[-5] == 1).sum()) - size[1] // 2)]
    assert max(off) <= 2.1 * shrunk, "half a stride is what edges may be off"
    one.close()


def outputs(**arrays: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [{name: random.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"probabilities": (1, 1000)}, r"no map of classes.*probabilities \[1, 1000\] float32"),
        ({"map": (1, 5, 64, 64)}, r"no map of classes.*for input 64x96 it gives map \[1, 5, 64, 64\]"),
        ({"map": (1, 300, 64, 96)}, "no map of classes"),
        ({"map": (2, 5, 64, 96)}, "no map of classes"),
        ({"rows": (1, 116, 126), "protos": (1, 32, 16, 24)}, "looks like a detector.*detect.model"),
        ({"a": (1, 255, 8, 12), "b": (1, 255, 4, 6), "c": (1, 255, 2, 3)}, "looks like a detector"),
        ({"a": (1, 21, 64, 96), "b": (1, 1, 64, 96)}, "several outputs can be maps.*`head: classes`"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_was_seen(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownHead, match=words):
        head_of(outputs(**given), SIZE)


def test_an_axis_that_cannot_be_told_is_refused() -> None:
    with pytest.raises(UnknownHead, match="which axis of map holds the classes"):
        head_of(outputs(map=(1, 64, 64, 64)), (64, 64))


def test_a_stated_kind_and_helpers_for_training_decide_among_outputs() -> None:
    both = outputs(map=(1, 1, 64, 96), classes=(1, 21, 64, 96))
    assert head_of(both, SIZE, kind="classes").output == "classes"
    assert head_of(both, SIZE, kind="mask").output == "map"
    helped = outputs(out=(1, 21, 64, 96), aux=(1, 21, 8, 12))
    assert head_of(helped, SIZE, classes=21).output == "out"
    with pytest.raises(UnknownHead, match=r"no segmentation head 'masks'. Known: classes, class-map, mask"):
        head_of(both, SIZE, kind="masks")


@pytest.mark.parametrize(
    ("layout", "names", "words"),
    [
        ("logits", ["a", "b"], r"tells 3 classes apart, but there are 2 names.*\(a, b\); is 'background' missing"),
        ("logits", ["a", "b", "c", "d", "e"], r"3 classes apart, but there are 5 names for them \(a, b, ..., e\)"),
        ("two-softmax", ["a", "b", "c"], "2 classes apart, but there are 3 names"),
        ("mask", ["a", "b", "c"], "2 classes apart, but there are 3 names"),
        ("class-map", ["a", "b"], "gives class 2, but there are 2 names, for 0 to 1"),
    ],
)
def test_names_that_do_not_fit_are_refused_in_one_sentence(
    tmp_path: Path, layout: str, names: list[str], words: str
) -> None:
    path = colour_model(tmp_path / "made.onnx", layout, metadata={"names": str(dict(enumerate(names)))})
    with pytest.raises(ModelError, match=words) as caught:
        find_segmenter(str(path))
    assert caught.value.request_was_wrong
    stated = ModelSpec("made", path, "segment", IMAGENET, LAYOUTS[layout][1], labels=tuple(names))
    if layout != "class-map":  # whose classes only its values tell
        with pytest.raises(ModelError, match=words):
            segmenter(stated)


def test_names_come_from_the_entry_then_the_file_then_a_list_beside_it(tmp_path: Path) -> None:
    path = colour_model(tmp_path / "made.onnx")
    assert find_segmenter(str(path)).labels == ("class 0", "class 1", "class 2")
    (tmp_path / "made.names").write_text("one\ntwo\nthree\n")
    assert find_segmenter(str(path)).labels == ("one", "two", "three")
    colour_model(path, metadata={"names": NAMES})
    assert find_segmenter(str(path)).labels == COLOURS
    fields: dict[str, Any] = {"name": "made", "task": "segment", "licence": "none", "commercial_use": None}
    fields |= {"labels": ["x", "y", "z"], "input": {"std": [50, 50, 50]}}
    describe(path, entry_of(path, fields))
    spec = find_segmenter(str(path))
    assert (spec.labels, spec.input.std) == (("x", "y", "z"), (50, 50, 50))
    assert recognise(spec).labels == ("x", "y", "z")


def test_names_without_the_background_are_completed_where_that_is_stated(tmp_path: Path) -> None:
    path = colour_model(tmp_path / "made.onnx")
    spec = ModelSpec("made", path, "segment", labels=("cat", "dog"), head_options=HeadOptions(background=True))
    complete = recognise(spec)
    assert complete.labels == ("background", "cat", "dog")
    assert recognise(complete).labels == complete.labels


def test_how_an_undescribed_file_is_fed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        spec = find_segmenter(str(colour_model(tmp_path / "made.onnx")))
    assert (spec.input.mean, spec.input.std) == (IMAGENET.mean, IMAGENET.std)
    assert "nothing says how made.onnx is fed" in caplog.text
    caplog.clear()
    recognise(replace(spec, head=None, input=InputSpec(std=(255.0,) * 3)))
    assert not caplog.text


def test_a_model_of_any_size_wants_one(tmp_path: Path) -> None:
    path = colour_model(tmp_path / "made.onnx", size=("h", "w"))
    with pytest.raises(ModelError, match=r"made leaves its input size open.*segment.input_size"):
        find_segmenter(str(path))
    assert find_segmenter(str(path), (64, 128)).head == "classes"


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        ((), ("background", "person"), {1}),
        ((), ("__background__", "cat", "dog"), {1, 2}),
        ((), ("sky", "road"), {0, 1}),
        ((), ("class 0", "class 1", "class 2"), {1, 2}),
        (("dog",), ("background", "cat", "dog"), {2}),
        (("background",), ("background", "cat"), {0}),
    ],
)
def test_the_foreground_is_what_is_named_or_all_but_the_background(
    names: tuple[str, ...], labels: tuple[str, ...], expected: set[int]
) -> None:
    assert foreground_of(names, labels) == expected


def test_a_class_that_the_model_has_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"segment.classes: the model has no class 'persn'; did you mean 'person'"):
        foreground_of(("persn",), ("background", "person"))
    with pytest.raises(ConfigError, match="it knows: background, person"):
        foreground_of(("zebra",), ("background", "person"))


@pytest.mark.parametrize(("threshold", "share"), [(0.2, 0.8), (0.5, 0.5), (0.9, 0.1)])
def test_the_threshold_of_one_class_is_a_probability(tmp_path: Path, threshold: float, share: float) -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None, None, None].repeat(64, axis=2)
    spec = ModelSpec("ramp", constant_model(tmp_path / "made.onnx", {"map": ramp}, (64, 100)), "segment")
    one = segmenter(replace(spec, head="mask", labels=("thing",)), threshold=threshold)
    assert one.labels == ("background", "thing")
    found = one.segment(Picture(bgr=np.zeros((64, 100, 3), np.uint8)))
    assert found.mean() == pytest.approx(share, abs=0.011)


def test_values_that_are_no_numbers_are_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    broken = sound.copy()
    broken[0, 1, 3, 3] = np.nan
    path = constant_model(tmp_path / "made.onnx", {"map": sound}, (64, 64), dark={"map": broken})
    one = segmenter(recognise(ModelSpec("made", path, "segment", InputSpec(multiple=1))))
    dark, bright = (Picture(bgr=np.full((64, 64, 3), level, np.uint8)) for level in (0, 200))
    with caplog.at_level(logging.WARNING):
        assert one.read(one.start(dark)) is None
        assert one.read(one.start(dark)) is None
    assert one.broken == 2
    assert caplog.text.count("values that are no numbers") == 1
    assert one.read(one.start(bright)) is not None
    assert not one.segment(dark).any()


def test_numbers_beyond_the_names_are_class_0(tmp_path: Path) -> None:
    ids = np.zeros((1, 64, 64), np.float32)
    ids[0, :, 32:], ids[0, :8] = 1, 7
    path = constant_model(tmp_path / "made.onnx", {"map": ids}, (64, 64))
    spec = ModelSpec("made", path, "segment", head="class-map", labels=("nothing", "thing"))
    found = segmenter(spec).segment(Picture(bgr=np.zeros((64, 64, 3), np.uint8)))
    assert not found[:8].any()
    assert found[8:, 32:].all()


def test_arg_max_is_numpys() -> None:
    planes = np.random.default_rng(0).integers(0, 5, (7, 9, 11)).astype(np.float32)
    ids, best = arg_max(planes)
    np.testing.assert_array_equal(ids, planes.argmax(axis=0))
    np.testing.assert_array_equal(best, planes.max(axis=0))
