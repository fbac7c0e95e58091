"""From a model's outputs to detections in the frame: what is said of an object stays with it, and moves with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.engine import Batch, Outputs
from engines.spec import Fit, HeadOptions, InputSpec, ModelSpec
from pipeline.errors import ConfigError
from pipeline.infer.letterbox import Letterbox
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector, class_ids
from pipeline.picture import Picture
from pipeline.postprocess.merge import Merging
from tests.pipeline.heads.encoded import Array

SIZE = (96, 128)
FRAME = (300, 200)
"""Height and width."""
BOXES = np.array([[10, 30, 40, 80], [11, 31, 41, 81], [40, 10, 62, 40], [-30, 20, 8, 50], [300, 20, 310, 50]], float)
SCORES = np.array([0.7, 0.9, 0.5, 0.6, 0.95])
KEPT = [1, 3, 2]
"""Without the one that a better one covers, and the one outside of the frame; the best first."""

PIXELS = HeadOptions(box_order="cxcywh", box_unit="pixels", scores="probabilities")
BLANK = Picture(bgr=np.zeros((*FRAME, 3), np.uint8))


class Replay:
    """Stands for an engine that always says the same."""

    input_size = SIZE
    cuts_frames = False
    requests, batch = 1, 8

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def infer(self, batch: Batch) -> Outputs:
        assert batch.shape == (1, *SIZE, 3)
        return self._outputs

    def describe(self) -> str:
        return "replay (fp16)"


def detect(outputs: Outputs, head: str, fit: Fit, **options: object) -> tuple[PictureDetector, Letterbox]:
    known = HeadOptions(box_order="cxcywh", box_unit="pixels", scores="probabilities", **options)  # type: ignore[arg-type]
    spec = ModelSpec("replay", Path("none.onnx"), "detect", InputSpec(fit=fit), head, known)
    detector = PictureDetector(spec, Replay(outputs), DetectorOptions())  # type: ignore[arg-type]
    return detector, Letterbox.plan(FRAME, SIZE, fit)


def planes(boxes: Array, *more: Array) -> Array:
    """Return [1, 4 + 1 + more, 252] columns, of which the first are the objects."""
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], SCORES[:, None], *more], 1)
    padded = np.pad(rows, ((0, 252 - len(rows)), (0, 0)))
    return np.asarray(padded.T[None], np.float32)


@pytest.mark.parametrize("fit", ["letterbox-centre", "letterbox-topleft", "stretch"])
def test_keypoints_are_those_of_their_object_in_frame_pixels(fit: Fit) -> None:
    plan = Letterbox.plan(FRAME, SIZE, fit)
    in_frame = np.random.default_rng(0).uniform(-20, 280, (5, 17, 2)).astype(np.float32)
    scale = np.array([plan.content[1] / FRAME[1], plan.content[0] / FRAME[0]])
    points = in_frame * scale + [plan.offset[1], plan.offset[0]]
    sure = np.random.default_rng(1).random((5, 17, 1))
    shift = np.tile([plan.offset[1], plan.offset[0]], 2)
    output = planes(BOXES + shift, np.concatenate([points, sure], axis=2).reshape(5, -1))
    detector, _ = detect({"output0": output}, "yolov8-pose", fit, keypoints=(17, 3))
    found = detector(Picture(bgr=np.zeros((*FRAME, 3), np.uint8)))
    assert found.scores.tolist() == pytest.approx(SCORES[KEPT])
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[..., :2], in_frame[KEPT], atol=0.01)
    np.testing.assert_allclose(found.keypoints[..., 2:], sure[KEPT], atol=1e-6)
    assert found.masks is None


def test_masks_are_those_of_their_object_and_inside_the_frame() -> None:
    """Each object's coefficients choose one prototype: stripes of its own width."""
    plan = Letterbox.plan(FRAME, SIZE, "letterbox-centre")
    columns = np.arange(SIZE[1])
    stripes = [np.where(columns // 2**each % 2, 1.0, -1.0) for each in range(1, 6)]
    prototypes = np.stack([np.tile(stripe, (SIZE[0], 1)) for stripe in stripes])[None].astype(np.float32)
    shift = np.tile([plan.offset[1], plan.offset[0]], 2)
    outputs = {"output0": planes(BOXES + shift, np.eye(5) * 3), "output1": prototypes}
    detector, plan = detect(outputs, "yolov8-seg", "letterbox-centre")
    found = detector(Picture(bgr=np.zeros((*FRAME, 3), np.uint8)))
    assert found.masks is not None
    assert found.masks.shape == (3, *FRAME)
    scale = plan.content[1] / FRAME[1]
    for row, which in enumerate(KEPT):
        left, top, right, bottom = found.boxes[row].round().astype(int)
        at = ((np.arange(FRAME[1]) + 0.5) * scale + plan.offset[1]).astype(int)
        expected = np.zeros(FRAME, bool)
        expected[top:bottom, left:right] = stripes[which][at][left:right] > 0
        ours = found.masks[row]
        assert (ours != expected).sum() < 0.06 * (bottom - top) * (right - left)  # a column on an edge is either
    assert found.keypoints is None


@pytest.mark.parametrize("nms", ["soft-linear", "soft-gaussian"])
def test_no_box_stays_whose_score_has_decayed_below_the_one_asked_for(nms: Merging) -> None:
    spec = ModelSpec("replay", Path("none.onnx"), "detect", InputSpec(fit="stretch"), "yolov8", PIXELS)
    engine = Replay({"output0": planes(BOXES)})
    found = [
        PictureDetector(spec, engine, DetectorOptions(confidence=each, nms=nms))(BLANK)  # type: ignore[arg-type]
        for each in (0.01, 0.4)
    ]
    assert [len(each) for each in found] == [4, 3]
    assert all(found[1].scores > 0.4)


def test_only_outputs_that_tell_pictures_apart_come_from_requests_on_several() -> None:
    rows = {"boxes": np.zeros((2, 4), np.float32), "labels": np.ones(2, np.int64), "scores": np.ones(2, np.float32)}
    each = {"faster-rcnn": rows, "detection-output": {"out": np.zeros((1, 1, 5, 7), np.float32)}}
    each["yolov8"] = {"output0": planes(BOXES)}
    options = HeadOptions(box_order="xyxy", box_unit="pixels", scores="probabilities", background=True)
    batches = {
        head: PictureDetector(
            ModelSpec("replay", Path("none.onnx"), "detect", InputSpec(), head, options),
            Replay(outputs),  # type: ignore[arg-type]
            DetectorOptions(),
        ).batch
        for head, outputs in each.items()
    }
    assert batches == {"faster-rcnn": 1, "detection-output": 1, "yolov8": 8}


@pytest.mark.parametrize("broken", ["scores", "boxes", "all"])
def test_values_that_are_no_numbers_are_warned_of_once_and_counted(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = planes(BOXES)
    rows = {"scores": slice(4, 5), "boxes": slice(0, 4), "all": slice(None)}[broken]
    output[0, rows] = np.inf if broken == "boxes" else np.nan
    detector, _ = detect({"output0": output}, "yolov8", "stretch")
    for _ in range(3):
        assert len(detector(BLANK)) == 0
    assert detector.broken == 3
    (warning,) = caplog.messages
    assert warning.startswith("replay gives values that are no numbers (NaN or infinite) with replay (fp16)")
    assert "engine.precision" in warning
    assert "frameloom engines verify" in warning


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_pictures_with_objects_and_without_are_no_reason_to_warn(
    score: float, caplog: pytest.LogCaptureFixture
) -> None:
    output = planes(BOXES)
    output[0, 4] *= score
    detector, _ = detect({"output0": output}, "yolov8", "stretch")
    detector(BLANK)
    assert (detector.broken, caplog.messages) == (0, [])


def test_classes_without_names_are_given_by_number() -> None:
    bare = ModelSpec("best", Path("best.onnx"), "detect")
    named = replace(bare, labels=("cat", "0", "dog"))
    assert class_ids((), bare) is None
    assert class_ids(("0", "12"), bare) == [0, 12]
    assert class_ids(("0", "cat"), named) == [1, 0]
    with pytest.raises(ConfigError, match=r"`frameloom models inspect best.onnx --labels names.txt --save-spec`"):
        class_ids(("cat",), bare)
    with pytest.raises(ConfigError, match="the model has no class '2'; it knows: cat, 0, dog"):
        class_ids(("2",), named)
