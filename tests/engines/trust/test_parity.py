"""Parity: what is measured, what is matched, and that a broken engine never passes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.engine import Batch, EngineOptions, Outputs, open_engine
from engines.errors import BackendUnavailable, EngineBuildError, ParityFailed
from engines.trust.parity import FP16, FP32, REDUCED, Bounds, Decisions, bounds_for, compare, match
from engines.trust.reference import PlainFile
from tests.engines.onnx_files import focus, identity, spec_of

LOOSE = Bounds(1e9, 1e9, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0)
BATCH: Batch = np.zeros((1, 2, 2, 3), np.uint8)


@dataclass
class Says:
    """An engine that gives what it is told, picture by picture."""

    answers: Sequence[Outputs]
    asked: int = 0

    def infer(self, batch: Batch) -> Outputs:
        self.asked += 1
        return self.answers[(self.asked - 1) % len(self.answers)]


def says(*values: Any) -> Says:
    return Says([{"y": np.asarray(value, np.float32)[None]} for value in values])


def boxes(*rows: Sequence[float]) -> Decisions:
    """Rows of x1, y1, x2, y2, score, class."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Decisions(array[:, :4], array[:, 4], array[:, 5].astype(np.int32))


def decide(outputs: Outputs) -> Decisions:
    return boxes(*outputs["y"][0])


# ---- tensors


def test_errors_of_tensors_are_over_all_batches() -> None:
    report = compare(says([1, 2], [3, 4]), says([1, 2.5], [3, 4]), [BATCH, BATCH])
    assert report.pictures == 2
    assert report.tensors["y"].max_error == 0.5
    assert report.tensors["y"].mean_error == 0.125
    assert report.tensors["y"].scale == 4
    assert report.decisions is None


@pytest.mark.parametrize(
    ("ours", "theirs", "passes"),
    [
        ([np.nan, 1], [np.nan, 1], True),
        ([np.inf, 1], [np.inf, 1], True),
        ([np.nan, 1], [0, 1], False),
        ([0, 1], [np.nan, 1], False),
        ([np.inf, 1], [-np.inf, 1], False),
        ([1e9, 1], [np.inf, 1], False),
    ],
)
def test_what_is_not_a_number_never_passes_unless_both_say_it(ours: Any, theirs: Any, passes: bool) -> None:
    assert compare(says(ours), says(theirs), [BATCH]).passed(LOOSE) == passes


def test_a_bound_is_a_share_of_the_largest_value() -> None:
    assert compare(says([640.0, 0.3]), says([640.0, 0.0]), [BATCH]).passed(FP32) is False  # the mean error
    assert compare(says([0.01]), says([0.0]), [BATCH]).failures(replace(LOOSE, max_error=0.001))
    assert not compare(says([640.01]), says([640.0]), [BATCH]).failures(replace(LOOSE, max_error=0.001))


def test_other_outputs_are_a_failure_that_names_only_the_difference() -> None:
    ours, theirs = says([1, 2]), says([1, 2, 3])
    with pytest.raises(ParityFailed, match=r"engine gives \[\('y', \(1, 2\)\)\].* file \[\('y', \(1, 3\)\)\]"):
        compare(ours, theirs, [BATCH])


def test_nothing_compared_is_nothing_passed() -> None:
    report = compare(says([1]), says([1]), [])
    assert not report.passed(LOOSE)
    with pytest.raises(ParityFailed, match="on no picture at all"):
        report.require(LOOSE)


# ---- decisions


@pytest.mark.parametrize(
    ("ours", "theirs", "matched", "unmatched", "other_class"),
    [
        ([[0, 0, 9, 9, 0.9, 1]], [[0, 0, 9, 9, 0.9, 1]], 1, 0, 0),
        ([[0, 0, 9, 9, 0.9, 1]], [[0, 0, 9, 9, 0.9, 2]], 1, 0, 1),
        ([[0, 0, 8, 8, 0.9, 1]], [[0, 0, 8, 4, 0.9, 1]], 1, 0, 0),
        ([[0, 0, 8, 8, 0.9, 1]], [[0, 0, 8, 3, 0.9, 1]], 0, 2, 0),
        ([[0, 0, 9, 9, 0.9, 1]], [[0, 0, 9, 9, 0.9, 1], [0, 0, 9, 8, 0.8, 1]], 1, 1, 0),
        ([[0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.8, 2]], [[0, 0, 9, 9, 0.9, 2], [0, 0, 9, 8, 0.8, 1]], 2, 0, 0),
        ([], [[0, 0, 9, 9, 0.9, 1]], 0, 1, 0),
        ([[0, 0, 9, 9, 0.9, 1]], [], 0, 1, 0),
        ([[3, 3, 3, 3, 0.9, 1]], [[3, 3, 3, 3, 0.9, 1]], 0, 2, 0),
    ],
)
def test_boxes_are_matched_once_by_class_and_overlap(
    ours: Any, theirs: Any, matched: int, unmatched: int, other_class: int
) -> None:
    report = compare(Says([{"y": np.zeros((1, 1))}]), Says([{"y": np.zeros((1, 1))}]), [BATCH], told(ours, theirs))
    found = report.decisions
    assert found is not None
    assert (found.matched, found.unmatched, found.other_class) == (matched, unmatched, other_class)


def told(*answers: Any) -> Any:
    """A decision that gives one answer after the other."""
    left = list(answers)
    return lambda outputs: boxes(*left.pop(0))


def test_the_largest_overlap_is_matched_first() -> None:
    ours = boxes([0, 0, 10, 10, 0.9, 0], [0, 0, 10, 8, 0.8, 0])
    assert dict(match(ours, boxes([0, 0, 10, 8, 0.9, 0]))) == {1: 0}


def test_score_drift_is_over_matched_boxes() -> None:
    one = [[[0, 0, 9, 9, 0.9, 1]], [[0, 0, 9, 9, 0.5, 1]]]
    other = [[[0, 0, 9, 9, 0.8, 1]], [[0, 0, 9, 9, 0.5, 1]]]
    report = compare(says(*one), says(*other), [BATCH, BATCH], decide)
    assert report.decisions is not None
    assert report.decisions.max_score_drift == pytest.approx(0.1)
    assert report.decisions.mean_score_drift == pytest.approx(0.05)


def test_pictures_of_a_batch_are_decided_one_by_one() -> None:
    two = Says([{"y": np.array([[[0, 0, 9, 9, 0.9, 1]], [[0, 0, 5, 5, 0.9, 1]]], np.float32)}])
    report = compare(two, two, [np.zeros((2, 2, 2, 3), np.uint8)], decide)
    assert report.decisions is not None
    assert (report.pictures, report.decisions.matched) == (2, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_error": 0.01}, "largest error of y is 0.1, allowed 0.09"),
        ({"mean_error": 0.001}, "mean error of y is 0.01667, allowed"),
        ({"max_score_drift": 0.05}, "largest score drift is 0.1, allowed 0.05"),
        ({"mean_score_drift": 0.05}, "mean score drift is 0.1, allowed 0.05"),
    ],
)
def test_every_bound_fails_on_its_own_and_says_both_numbers(change: dict[str, float], words: str) -> None:
    report = compare(says([[0, 0, 9, 9, 0.9, 1]]), says([[0, 0, 9, 9, 0.8, 1]]), [BATCH], decide)
    assert report.passed(LOOSE)
    with pytest.raises(ParityFailed, match=f"the engine disagrees.*{words}"):
        report.require(replace(LOOSE, **change))


def test_another_class_or_a_lost_box_fails_but_one_box_may_lie_on_the_threshold() -> None:
    box, other = [0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.9, 2]
    assert not compare(says([other]), says([box]), [BATCH], decide).passed(replace(LOOSE, other_class=0.0))
    strict = replace(LOOSE, unmatched=0.0)
    nowhere = [50, 50, 50, 50, 0.3, 1]
    assert compare(says([box]), says([box]), [BATCH], told([box], [box, nowhere])).passed(strict)
    assert not compare(says([box]), says([box]), [BATCH], told([box], [box, nowhere, nowhere])).passed(strict)


def test_a_report_is_json() -> None:
    report = compare(says([[0, 0, 9, 9, 0.9, 1]]), says([[0, 0, 9, 9, 0.8, 1]]), [BATCH], decide)
    saved = json.loads(json.dumps(report.as_dict()))
    assert saved["pictures"] == 1
    assert saved["decisions"]["unmatched"] == 0
    assert saved["tensors"]["y"]["max_error"] == pytest.approx(0.1)


def test_fp32_is_held_to_more_than_other_precisions() -> None:
    assert bounds_for("fp32") is FP32
    assert bounds_for("fp16") is FP16
    assert all(bounds_for(name) is REDUCED for name in ("bf16", "int8"))
    for strict, loose in ((FP32, FP16), (FP16, REDUCED)):
        assert all(getattr(strict, each.name) <= getattr(loose, each.name) for each in fields(Bounds))


# ---- encodings


@pytest.mark.parametrize(
    ("ours", "theirs", "drift"),
    [
        ([1, 0], [1, 0], 0.0),
        ([3, 0], [1, 0], 0.0),  # the length is for the tensors
        ([0, 1], [1, 0], 1.0),
        ([-1, 0], [1, 0], 2.0),
        ([1, 1], [1, 0], 1 - 0.5**0.5),
        ([0, 0], [1, 0], np.inf),
        ([np.nan, 0], [1, 0], np.inf),
    ],
    ids=str,
)
def test_encodings_drift_by_the_cosine_of_their_angle(ours: Any, theirs: Any, drift: float) -> None:
    report = compare(says(ours, theirs), says(theirs, theirs), [BATCH, BATCH], encodings=True)
    assert report.encodings is not None
    assert report.encodings.largest == pytest.approx(drift)
    assert report.encodings.mean == pytest.approx(drift / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_encoding_drift": 0.01}, r"largest drift of an encoding is 0\.2929, allowed 0\.01"),
        ({"mean_encoding_drift": 0.01}, r"mean drift of encodings is 0\.2929, allowed 0\.01"),
    ],
)
def test_an_encoding_that_drifts_fails_on_its_own(change: dict[str, float], words: str) -> None:
    report = compare(says([1, 1]), says([1, 0]), [BATCH], encodings=True)
    assert report.passed(LOOSE)
    with pytest.raises(ParityFailed, match=words):
        report.require(replace(LOOSE, **change))


# ---- batches


def batched(*rows: Any) -> Says:
    return Says([{"y": np.asarray(rows, np.float32), "z": np.zeros((len(rows), 1), np.float32)}])


@pytest.mark.parametrize(
    ("ours", "theirs", "mixed"),
    [
        ([[1, 1], [5, 5]], [[1, 1], [5, 5]], 0),
        ([[5, 5], [1, 1]], [[1, 1], [5, 5]], 2),
        ([[1, 1], [1, 1]], [[1, 1], [5, 5]], 1),
        ([[2, 2], [4, 4]], [[1, 1], [5, 5]], 0),
        ([[3, 3], [3, 3]], [[1, 1], [5, 5]], 0),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]], 0),
        ([[1, 1], [2, 2], [3, 3]], [[3, 3], [1, 1], [2, 2]], 3),
    ],
    ids=str,
)
def test_pictures_that_got_anothers_outputs_are_counted(ours: Any, theirs: Any, mixed: int) -> None:
    batch = np.zeros((len(ours), 2, 2, 3), np.uint8)
    report = compare(batched(*ours), batched(*theirs), [batch])
    assert report.mixed == mixed
    assert report.passed(LOOSE) == (mixed == 0)
    assert report.as_dict()["mixed"] == mixed


def test_outputs_that_are_not_one_for_each_picture_cannot_be_mixed_up() -> None:
    both = says([1, 2, 3])
    assert compare(both, both, [np.zeros((2, 2, 2, 3), np.uint8)]).mixed == 0


# ---- real engines


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_both_backends_pass_in_fp32_on_a_real_picture(backend: Any, shared: Path) -> None:
    spec = spec_of(shared / "models" / "detect" / "yolox_nano.onnx")
    image = cv2.imread(str(shared / "data" / "images" / "zidane.jpg"))
    assert image is not None
    engine = open_engine(spec, EngineOptions(backend, "fp32"))
    report = compare(engine, PlainFile(spec), [np.asarray(cv2.resize(image, (416, 416)), np.uint8)[None]])
    engine.close()
    report.require(FP32)
    assert 0 < report.tensors["output"].max_error < 1e-3


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("wrong", [{"colour": "rgb"}, {"mean": (1.0, 0.0, 0.0)}, {"std": (1.0, 1.0, 1.01)}], ids=str)
def test_an_engine_that_is_fed_otherwise_fails(backend: Any, wrong: dict[str, Any], tmp_path: Path) -> None:
    spec = spec_of(focus(tmp_path))
    engine = open_engine(replace(spec, input=replace(spec.input, **wrong)), EngineOptions(backend, "fp32"))
    batch = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), np.uint8)
    assert not compare(engine, PlainFile(spec), [batch]).passed(FP32)
    engine.close()


def test_the_reference_takes_several_pictures_also_where_the_batch_is_fixed(tmp_path: Path) -> None:
    reference = PlainFile(spec_of(identity(tmp_path)))
    batch = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)
    np.testing.assert_array_equal(reference.infer(batch)["y"], batch.transpose(0, 3, 1, 2))


def test_the_reference_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"x")
    with pytest.raises(EngineBuildError, match=r"refused .*broken\.onnx"):
        PlainFile(spec_of(tmp_path / "broken.onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match="pip install onnxruntime"):
        PlainFile(spec_of(identity(tmp_path)))


# ---- models that rank their rows


def ranked_rows(*rows: list[float]) -> Says:
    """Boxes and scores as DETR's family gives them, the best first."""
    table = np.array([rows], np.float64)
    return Says([{"boxes": table[..., :4], "scores": table[..., 4], "labels": table[..., 5]}])


FIRST, SECOND, THIRD = [0, 0, 9, 9, 0.9, 1], [20, 0, 30, 9, 0.1, 2], [40, 0, 50, 9, 0.1, 3]


def read_ranked(outputs: Outputs) -> Decisions:
    sure = outputs["scores"][0] > 0.3
    return Decisions(outputs["boxes"][0][sure], outputs["scores"][0][sure], outputs["labels"][0][sure].astype(int))


def test_rows_that_change_places_are_no_error_where_decisions_are_compared() -> None:
    ours, theirs = ranked_rows(FIRST, THIRD, SECOND), ranked_rows(FIRST, SECOND, THIRD)
    report = compare(ours, theirs, [BATCH], read_ranked, ranked=True)
    assert report.passed(FP32)
    assert list(report.tensors) == ["scores"]
    assert not compare(ours, theirs, [BATCH], read_ranked).passed(FP32)
    assert not compare(ours, theirs, [BATCH], ranked=True).passed(FP32)  # nothing else would be compared


@pytest.mark.parametrize("wrong", [[0, 0, 9, 9, 0.8, 1], [0, 0, 9, 9, 0.9, 2], [50, 0, 59, 9, 0.9, 1]], ids=str)
def test_a_wrong_decision_is_an_error_also_where_rows_are_ranked(wrong: list[float]) -> None:
    ours, theirs = ranked_rows(wrong, SECOND), ranked_rows(FIRST, SECOND)
    assert not compare(ours, theirs, [BATCH], read_ranked, ranked=True).passed(FP32)


def test_the_reference_knows_whether_its_model_ranks_rows(shared: Path) -> None:
    files = {"yolox_nano.onnx": False, "deimv2_hgnetv2_femto_coco.onnx": True}
    for name, ranked in files.items():
        assert PlainFile(spec_of(shared / "models" / "detect" / name)).ranked == ranked
