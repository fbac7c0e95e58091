"""Choosing a head by name, by shapes, and saying what no head reads."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import UnknownHead
from engines.metadata import Metadata
from engines.spec import HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Seen
from tests.pipeline.heads.encoded import Array, centres, objects, surroundings, without_objectness

SIZE = (128, 128)
Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        ({"output": (1, 3549, 85)}, "yolox"),
        ({"output": (1, 10647, 85)}, "yolov5"),
        ({"output": (1, 84, 3549)}, "yolov8"),
        ({"output": (1, 300, 6)}, "end-to-end"),
        ({"output": (0, 7)}, "end-to-end"),
        ({"output": (17, 7)}, "end-to-end"),
        ({"a": (1, 255, 13, 13), "b": (1, 255, 26, 26)}, "anchors"),
        ({"a": (1, 3, 52, 52, 85), "b": (1, 3, 26, 26, 85), "c": (1, 3, 13, 13, 85)}, "anchors"),
    ],
)
def test_shapes_alone_choose_a_head_where_nothing_speaks_against_it(shapes: dict[str, Shape], name: str) -> None:
    assert heads.choose(None, Seen(shapes, (416, 416))).head.name == name


def test_every_head_has_a_name_of_its_own() -> None:
    names = [head.name for head in heads.HEADS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shape", [(3549, 85), (2, 3549, 85), (1, 85), (1, 84, 52, 52), ()])
@pytest.mark.parametrize("name", ["yolox", "yolov5", "yolov8", "end-to-end", "anchors"])
def test_a_named_head_refuses_outputs_of_another_rank_and_says_what_it_reads(name: str, shape: Shape) -> None:
    seen = Seen({"output": shape}, (416, 416))
    with pytest.raises(UnknownHead, match=f"by the head '{name}' .* for input 416x416 it gives output .* It reads: "):
        heads.choose(name, seen)


def test_a_head_that_nobody_knows_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownHead, match=r"there is no head 'yolov99'. Known: .*yolov5, yolov8, anchors"):
        heads.choose("yolov99", Seen({"output": (1, 84, 3549)}, (416, 416)))


def test_outputs_that_nobody_knows_are_listed_with_all_heads() -> None:
    seen = Seen({"a": (1, 7, 9), "b": (1, 3, 5, 7, 11)}, (416, 416))
    with pytest.raises(UnknownHead, match=r"it gives a \[1, 7, 9\], b \[1, 3, 5, 7, 11\]. Known: .*yolox") as raised:
        heads.choose(None, seen)
    assert "name it as `head`" in str(raised.value)


@pytest.mark.parametrize(
    ("shapes", "metadata", "sentence"),
    [
        ({"out": (1, 1000)}, Metadata(), r"looks like a classifier of 1000 classes \(.*\); choose a model .* objects$"),
        ({"out": (1, 7, 1, 1)}, Metadata(labels=("a",) * 7), "looks like a classifier of 7 classes"),
        ({"out": (1, 512)}, Metadata(), "looks like an encoder that gives 512 values"),
        ({"out": (1, 136)}, Metadata(), "a classifier or an encoder: 136 values for the whole picture and no boxes"),
        ({"out": (1, 21, 128, 128)}, Metadata(), "a segmentation model, a map 128x128 of 21 classes without boxes"),
        ({"out": (1, 64, 64, 19)}, Metadata(), "a segmentation model, a map 64x64 of 19 classes"),
        ({"out": (1, 3, 128, 128)}, Metadata(), "makes pictures of pictures"),
        ({"out": (336, 85)}, Metadata(), "lacks the batch axis"),
        ({"out": (4, 336, 85)}, Metadata(), "only gives 4 pictures' outputs at once"),
        ({"out": (1, 20, 336)}, Metadata(task="obb"), "its file says that it is a model for oriented boxes"),
        ({"out": (1, 20, 336)}, Metadata(task="classify"), "its file says that it is a classifier"),
        ({"a": (1, 18, 32, 32), "b": (1, 18, 16, 16)}, Metadata(), "say `head_options.anchors`.* strides 4, 8"),
        ({"a": (1, 1, 32, 32), "b": (1, 2, 32, 32), "c": (1, 2, 32, 32), "d": (1, 10, 32, 32)}, Metadata(),
         "a face finder, centerface .*; name it as faces.finder"),
    ],
)  # fmt: skip
def test_a_model_of_another_kind_is_called_what_it_looks_like(
    shapes: dict[str, Shape], metadata: Metadata, sentence: str
) -> None:
    with pytest.raises(UnknownHead, match=f"^the model is no detector that can be read: .*{sentence}") as raised:
        heads.choose(None, Seen(shapes, SIZE, metadata=metadata))
    assert all(f"{name} {list(shape)}" in str(raised.value) for name, shape in shapes.items())


def yolov8(last: Array | None = None, boxes: Array | None = None) -> Array:
    """Return rows that YOLOv8's head reads, with other values in their last column or as boxes."""
    middles = centres(SIZE)
    rows = without_objectness(middles, 4, objects(middles, 4, 0), 0)
    if last is not None:
        rows[:, -1] = last
    if boxes is not None:
        rows[:, :4] = boxes
    return rows


NUMBER = len(centres(SIZE))
NEGATIVE = surroundings(centres(SIZE), 0) * [1, 1, 1, -1]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (yolov8(last=np.linspace(-0.78, 2.35, NUMBER)), "oriented boxes, with an angle in its last column"),
        (yolov8(boxes=NEGATIVE), f"{NUMBER} of its {NUMBER} boxes have a negative width or height"),
        (yolov8(last=np.full(NUMBER, 7.5)), r"scores are neither 0..1 nor logits \(they are .* to 7.5\)"),
    ],
)
def test_values_that_are_no_boxes_and_scores_are_refused_in_words(rows: Array, sentence: str) -> None:
    output = rows.T[None]
    with pytest.raises(UnknownHead, match=sentence):
        heads.choose(None, Seen({"output": output.shape}, SIZE, {"output": output}))


def test_values_tell_a_map_from_rows() -> None:
    output = np.random.default_rng(0).normal(0, 3, (1, 128, 128)).astype(np.float32)
    with pytest.raises(UnknownHead, match="a segmentation model, a map 128x128 of 1 classes"):
        heads.choose(None, Seen({"out": output.shape}, SIZE, {"out": output}))


@pytest.mark.parametrize("probabilities", [True, False])
def test_values_tell_a_classifier_from_an_encoder(probabilities: bool) -> None:
    values = np.random.default_rng(0).random((1, 256)).astype(np.float32)
    values /= values.sum() if probabilities else np.linalg.norm(values)
    expected = "a classifier of 256 classes" if probabilities else "an encoder that gives 256 values"
    with pytest.raises(UnknownHead, match=expected):
        heads.choose(None, Seen({"out": values.shape}, SIZE, {"out": values}))


def test_the_options_of_a_named_head_are_kept() -> None:
    said = HeadOptions(nms=False)
    head = heads.choose("yolov8", Seen({"output": (1, 84, 336)}, SIZE), said).head
    assert not head.needs_nms
