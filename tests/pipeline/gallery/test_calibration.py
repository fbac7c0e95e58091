"""Calibration: what is stored comes back, garbage is refused, and a threshold says why it is this one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.spec import ARCFACE_TEMPLATE, EncoderSpec
from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.calibration import Calibration, Subject, calibrate, calibrate_gallery, effective_threshold
from pipeline.gallery.identification import search_strangers

EMBEDDER = "ab" * 32
ENCODER = EncoderSpec(ARCFACE_TEMPLATE, "cosine", verify_threshold=0.27, identify_threshold=0.45)


def gallery(people: int, each: int) -> tuple[FloatArray, np.ndarray]:
    rng = np.random.default_rng(2)
    encodings = (rng.normal(size=(people, 1, 64)) + 0.7 * rng.normal(size=(people, each, 64))).reshape(-1, 64)
    return np.float32(encodings / np.linalg.norm(encodings, axis=1, keepdims=True)), np.repeat(np.arange(people), each)


def calibrated(people: int, each: int = 3, fpir: float = 0.01) -> Calibration:
    return calibrate_gallery(*gallery(people, each), embedder=EMBEDDER, made="2026-11-21", fpir=fpir)


# ---- made


def test_a_gallery_is_calibrated_by_its_own_encodings() -> None:
    calibration = calibrated(100, 4, fpir=0.02)
    assert calibration.subject == Subject(EMBEDDER, "the gallery itself", "2026-11-21", 100, 400)
    assert calibration.same_pairs == 100 * 6
    assert calibration.different_pairs == 400 * 399 // 2 - 600
    assert calibration.verify.observed == pytest.approx(0.001, abs=2e-5)
    assert calibration.identify is not None
    assert calibration.identify.people == 100
    assert calibration.identify.threshold > calibration.verify.threshold
    assert calibration.eer is not None
    assert calibration.eer < 0.01
    assert [each.point.asked for each in calibration.tar_at_far] == [0.01, 0.001]
    assert calibration.tar_at_far[0].tar >= calibration.tar_at_far[1].tar > 0.95


def test_strangers_that_were_not_calibrated_on_are_accepted_as_often_as_was_said() -> None:
    encodings, persons = gallery(400, 4)
    known, new = persons < 200, persons >= 200
    calibration = calibrate_gallery(encodings[known], persons[known], embedder=EMBEDDER, made="2026-11-21", fpir=0.05)
    assert calibration.identify is not None
    accepted = (encodings[new] @ encodings[known].T).max(axis=1) >= calibration.identify.threshold
    assert accepted.mean() == pytest.approx(0.05, abs=0.03)
    assert calibration.identify.bound > accepted.mean()


def test_one_encoding_a_person_gives_thresholds_and_no_accuracy() -> None:
    calibration = calibrated(60, 1)
    assert calibration.verify.comparisons == 60 * 59 // 2
    assert calibration.same_pairs == 0
    assert (calibration.eer, calibration.accuracy, calibration.tar_at_far) == (None, None, ())


def test_pairs_and_strangers_may_come_from_labelled_files() -> None:
    similarities = np.concatenate([np.full(500, 0.6), np.linspace(-0.3, 0.3, 500)]).astype(np.float32)
    scores = np.random.default_rng(0).normal(0, 0.1, (150, 40)).astype(np.float32)
    subject = Subject(EMBEDDER, "pairs.csv", "2026-11-21", 40, 40)
    calibration = calibrate(subject, similarities, np.arange(1000) < 500, search_strangers(scores), far=0.01)
    assert calibration.accuracy == 1.0
    assert calibration.verify.supported
    assert calibration.identify is not None
    assert not calibration.identify.supported
    assert [each.point.supported for each in calibration.tar_at_far] == [True, False]


def test_one_person_cannot_be_calibrated() -> None:
    with pytest.raises(GalleryError, match="two at least"):
        calibrated(1)


# ---- stored


@pytest.mark.parametrize("each", [1, 3])
def test_what_is_stored_comes_back(each: int) -> None:
    calibration = calibrated(30, each)
    text = calibration.to_json()
    assert "\n" not in text
    assert json.loads(text)["version"] == 1
    assert Calibration.from_json(text) == calibration
    assert Calibration.from_json(text.encode()) == calibration


def damage(*path: str, to: Any) -> str:
    fields = json.loads(calibrated(30).to_json())
    place = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[1, 2]", "it is list, not a mapping"),
        ("{}", "is of version None"),
        (b"\xff\xfe", "damaged"),
        ("[" * 100_000, "damaged"),
        (damage("version", to=2), "version 2, this program reads 1: update Frameloom"),
        (damage("verify", to=None), "verify"),
        (damage("verify", "threshold", to="0.5"), r"verify\.threshold"),
        (damage("verify", "threshold", to=float("nan")), r"verify\.threshold"),
        (damage("verify", "asked", to=2.0), "rates 2"),
        (damage("identify", "errors", to=10**9), "1000000000 errors"),
        (damage("identify", "people", to=None), "None people"),
        (damage("subject", "embedder", to="x"), "'x' is no sha256"),
        (damage("tar_at_far", to=[[0.01, 0.9]]), "tar_at_far"),
        (damage("surprise", to=1), "surprise"),
    ],
)
def test_garbage_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(GalleryError, match=words):
        Calibration.from_json(text)


# ---- used


def test_without_a_calibration_the_default_is_named_as_such() -> None:
    one_to_many = effective_threshold(None, ENCODER, people=12)
    assert (one_to_many.value, one_to_many.origin) == (0.45, "default")
    assert one_to_many.sentence == (
        "0.450, the embedder's default: nothing was calibrated (`frameloom gallery calibrate`)"
    )
    assert effective_threshold(None, ENCODER).value == 0.27


def test_a_configured_threshold_wins() -> None:
    threshold = effective_threshold(calibrated(100, 4), ENCODER, 100, configured=0.5)
    assert (threshold.value, threshold.origin, threshold.sentence) == (0.5, "configured", "0.500, as configured")


def test_a_calibrated_threshold_says_what_it_rests_on() -> None:
    calibration = calibrated(100, 4, fpir=0.02)
    assert calibration.identify is not None
    threshold = effective_threshold(calibration, ENCODER, 100)
    assert (threshold.value, threshold.origin) == (calibration.identify.threshold, "calibrated")
    assert "calibrated on the gallery itself 2026-11-21: " in threshold.sentence
    assert "with 95 % confidence below" in threshold.sentence
    assert effective_threshold(calibration, ENCODER).value == calibration.verify.threshold


def test_a_gallery_that_has_grown_is_told_what_that_does() -> None:
    calibration = calibrated(40, 4, fpir=0.05)
    sentence = effective_threshold(calibration, ENCODER, 100).sentence
    assert "chosen for 5 % among 40 people: among 100 that becomes 12 % by 1-(1-FAR)^G" in sentence
    assert "becomes" not in effective_threshold(calibration, ENCODER, 40).sentence
    assert calibration.identify is not None
    alone = replace(calibration, identify=replace(calibration.identify, people=1, searched=1))
    assert "chosen for 5 % among 1 person: among 2" in effective_threshold(alone, ENCODER, 2).sentence


def test_too_little_data_does_not_lower_the_default() -> None:
    """Ten comparisons of five people end at 0.2: the next stranger may well be more alike."""
    calibration = calibrated(5, 1)
    calibration = replace(calibration, verify=replace(calibration.verify, threshold=0.2))
    threshold = effective_threshold(calibration, ENCODER)
    assert (threshold.value, threshold.origin) == (0.27, "default")
    assert "the calibration is too small: 0 errors in 10 comparisons only show a FAR below 26 %" in threshold.sentence


def test_too_little_data_may_raise_the_default() -> None:
    calibration = calibrated(5, 1)
    strict = replace(calibration, verify=replace(calibration.verify, threshold=0.4))
    threshold = effective_threshold(strict, ENCODER)
    assert (threshold.value, threshold.origin) == (0.4, "calibrated")
    assert "only show a FAR below 26 %" in threshold.sentence


def test_a_calibration_without_strangers_leaves_the_default_for_searches() -> None:
    calibration = replace(calibrated(30), identify=None)
    assert effective_threshold(calibration, ENCODER, 30).origin == "default"
    assert effective_threshold(calibration, ENCODER).origin == "calibrated"
