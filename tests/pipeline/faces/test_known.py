"""Who is known: the most alike person, and a threshold that says where it comes from and follows the gallery."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.calibration import Calibration, calibrate_gallery
from pipeline.gallery.known import KnownPeople, id_of
from pipeline.gallery.records import EmbedderId, Encoding
from pipeline.gallery.store import GalleryFile
from pipeline.infer.embedder import FaceEmbedder
from tests.pipeline.faces import patterns

Open = Callable[..., KnownPeople]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceEmbedder]:
    opened = FaceEmbedder(patterns.encoder(tmp_path_factory.mktemp("encoder")), patterns.CPU)
    yield opened
    opened.close()


@pytest.fixture
def known(embedder: FaceEmbedder) -> Iterator[Open]:
    opened: list[KnownPeople] = []

    def open_(path: Path, configured: float | None = None) -> KnownPeople:
        opened.append(KnownPeople(path, embedder, configured))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def crowd(people: int, views: int = 1, seed: int = 0) -> FloatArray:
    """Return (people, views, 192) unit vectors; views of one person are 0.95 alike or more."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(people, 1, 192)) + 0.15 * random.normal(size=(people, views, 192))
    return np.asarray(rows / np.linalg.norm(rows, axis=2, keepdims=True), np.float32)


def fill(path: Path, embedder: FaceEmbedder, people: FloatArray, first: int = 0) -> None:
    with GalleryFile.open(path, id_of(embedder), create=True) as gallery:
        gallery.add_records(
            (f"person {first + number}", Encoding(vector, 0.9, "", "", ""))
            for number, views in enumerate(people)
            for vector in views
        )


def calibrate(path: Path, embedder: FaceEmbedder, people: FloatArray, fpir: float) -> Calibration:
    rows, owners = people.reshape(-1, 192), np.repeat(np.arange(len(people)), people.shape[1])
    found = calibrate_gallery(rows, owners, embedder="c" * 64, made="2026-01-02", fpir=fpir)
    with GalleryFile.open(path) as gallery:
        gallery.store_calibration(json.loads(found.to_json()))
    return found


def eventually(condition: Callable[[], Any], within_s: float = 2.0) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s, "it never came"
        time.sleep(0.02)
    return time.monotonic() - begun


def test_a_gallery_must_know_which_file_made_its_encodings(embedder: FaceEmbedder) -> None:
    assert id_of(embedder) == EmbedderId("patterns", "c" * 64, "cosine", 192)


def test_the_most_alike_person_is_found_and_nobody_in_an_empty_gallery(
    tmp_path: Path, embedder: FaceEmbedder, known: Open
) -> None:
    people = known(patterns.enrol(tmp_path / "g.db", embedder, "ann", "bob"))
    names, similarities = people.now.search(patterns.encodings(embedder, "bob", "ann"))
    assert list(names) == ["bob", "ann"]
    assert similarities == pytest.approx(1, abs=1e-5)
    nobody = known(tmp_path / "gone.db").now.search(patterns.encodings(embedder, "ann"))
    assert list(nobody.names) == [None]
    assert np.isnan(nobody.similarities).all()


@pytest.mark.parametrize("people", [1, 10, 100, 1000])
def test_the_encoders_own_threshold_follows_the_number_of_people(
    tmp_path: Path, embedder: FaceEmbedder, known: Open, people: int
) -> None:
    fill(tmp_path / "g.db", embedder, crowd(people))
    threshold = known(tmp_path / "g.db").now.threshold
    # the spec says 0.7 for 100 people and 0.06 more for ten times as many, never below the 0.6 of 1:1
    assert threshold.value == pytest.approx(max(0.6, 0.7 + 0.06 * math.log10(people / 100)))
    assert threshold.origin == "default"
    assert "nothing was calibrated" in threshold.sentence


def test_the_threshold_follows_a_gallery_that_grows_while_it_is_used(
    tmp_path: Path, embedder: FaceEmbedder, known: Open
) -> None:
    fill(tmp_path / "g.db", embedder, crowd(10))
    people = known(tmp_path / "g.db")
    assert people.now.threshold.value == pytest.approx(0.64)
    assert people.describe().startswith(f"10 people in {tmp_path / 'g.db'}, threshold 0.640, the embedder's default")
    fill(tmp_path / "g.db", embedder, crowd(90, seed=1), first=10)
    eventually(lambda: people.now.threshold.value == pytest.approx(0.7))
    assert "100 people" in people.describe()


def test_one_person_is_not_people(tmp_path: Path, embedder: FaceEmbedder, known: Open) -> None:
    assert known(patterns.enrol(tmp_path / "g.db", embedder, "ann")).describe().startswith("1 person in ")


def test_a_calibrated_threshold_is_used_and_says_its_data(tmp_path: Path, embedder: FaceEmbedder, known: Open) -> None:
    views = crowd(100, 3)
    fill(tmp_path / "g.db", embedder, views)
    found = calibrate(tmp_path / "g.db", embedder, views, fpir=0.05)
    assert found.identify is not None
    assert found.identify.supported
    threshold = known(tmp_path / "g.db").now.threshold
    assert (threshold.origin, threshold.value) == ("calibrated", found.identify.threshold)
    assert threshold.value < 0.6
    assert "calibrated on the gallery itself 2026-01-02" in threshold.sentence
    fill(tmp_path / "g.db", embedder, crowd(300, seed=5), first=100)
    grown = known(tmp_path / "g.db").now.threshold
    assert grown.value == threshold.value
    assert "among 400 that becomes" in grown.sentence


def test_a_calibration_while_the_gallery_is_used_counts_at_once(
    tmp_path: Path, embedder: FaceEmbedder, known: Open
) -> None:
    views = crowd(100, 3)
    fill(tmp_path / "g.db", embedder, views)
    people = known(tmp_path / "g.db")
    assert people.now.threshold.origin == "default"
    calibrate(tmp_path / "g.db", embedder, views, fpir=0.05)
    eventually(lambda: people.now.threshold.origin == "calibrated")


def test_a_calibration_on_too_little_data_does_not_loosen_the_encoders_own_threshold(
    tmp_path: Path, embedder: FaceEmbedder, known: Open
) -> None:
    views = crowd(3, 3)
    fill(tmp_path / "g.db", embedder, views)
    found = calibrate(tmp_path / "g.db", embedder, views, fpir=0.01)
    assert found.identify is not None
    assert not found.identify.supported
    threshold = known(tmp_path / "g.db").now.threshold
    assert threshold.origin == "default"
    assert threshold.value > found.identify.threshold
    assert "the calibration is too small" in threshold.sentence


@pytest.mark.parametrize("calibrated", [False, True])
def test_what_the_user_has_configured_wins(
    tmp_path: Path, embedder: FaceEmbedder, known: Open, calibrated: bool
) -> None:
    views = crowd(100, 3)
    fill(tmp_path / "g.db", embedder, views)
    if calibrated:
        calibrate(tmp_path / "g.db", embedder, views, fpir=0.05)
    threshold = known(tmp_path / "g.db", configured=0.61).now.threshold
    assert (threshold.value, threshold.origin, threshold.sentence) == (0.61, "configured", "0.610, as configured")


def test_a_gallery_of_another_encoder_is_refused(tmp_path: Path, known: Open) -> None:
    with GalleryFile.open(tmp_path / "g.db", EmbedderId("dlib-resnet", "d" * 64, "l2", 128), create=True):
        pass
    with pytest.raises(GalleryError, match=r"holds encodings of dlib-resnet .* those of patterns"):
        known(tmp_path / "g.db")
