"""The similarity head: its features by hand, symmetric, and what is stored is checked before it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.similarity_head import FORMS, Form, SimilarityHead, features

EMBEDDER = "cd" * 32


def encodings(count: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def make(form: Form = "absolute") -> SimilarityHead:
    return SimilarityHead(np.linspace(-3, 1, 8, dtype=np.float32), 1.5, form, EMBEDDER)


def test_features_are_the_stated_formulas_also_where_both_are_zero() -> None:
    a = np.array([[1.0, -1.0, 0.0, 0.5]], np.float32)
    b = np.array([[0.5, 1.0, 0.0, 0.5]], np.float32)
    assert features(a, b, "absolute").tolist() == [[0.5, 2.0, 0.0, 0.0]]
    np.testing.assert_allclose(features(a, b, "chi-square"), [[0.25 / 1.5, 4 / 2, 0.0, 0.0]], rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_probability_is_logistic_and_symmetric(form: Form) -> None:
    a, b, head = encodings(50, 1), encodings(50, 2), make(form)
    expected = special.expit(features(a, b, form).astype(float) @ head.weights + head.bias)
    np.testing.assert_allclose(head.probability(a, b), expected, atol=1e-5)
    np.testing.assert_array_equal(head.probability(a, b), head.probability(b, a))


def test_probability_does_not_overflow() -> None:
    a = encodings(2, 1) * np.float32(1e6)
    head = make()
    assert set(head.probability(a, -a).tolist()) <= {0.0, 1.0}
    assert head.probability(a, a).tolist() == pytest.approx([special.expit(1.5)] * 2)


def test_encodings_of_another_length_are_refused() -> None:
    with pytest.raises(GalleryError, match="do not fit a head for 8 dimensions"):
        make().probability(np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_comes_back(form: Form, tmp_path: Path) -> None:
    head, path = make(form), tmp_path / "head.npz"
    head.save(path)
    again = SimilarityHead.load(path, EMBEDDER)
    a, b = encodings(20, 1), encodings(20, 2)
    np.testing.assert_array_equal(again.probability(a, b), head.probability(a, b))
    assert (again.form, again.bias, again.embedder) == (form, 1.5, EMBEDDER)


def test_a_head_of_another_embedder_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "head.npz")
    with pytest.raises(GalleryError, match=r"was made for the embedder cdcdcdcdcdcd\.\.\., not for efefefefefef"):
        SimilarityHead.load(tmp_path / "head.npz", "ef" * 32)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weights": None}, "it lacks weights"),
        ({"weights": np.full(8, np.nan)}, "no row of finite numbers"),
        ({"weights": np.zeros((2, 4))}, "no row of finite numbers"),
        ({"weights": np.zeros(0)}, "no row of finite numbers"),
        ({"weights": np.array(["a"])}, "no row of finite numbers"),
        ({"bias": np.inf}, "bias is no finite number"),
        ({"bias": np.zeros(3)}, "bias is no finite number"),
        ({"form": "cubic"}, "unknown feature form 'cubic'"),
        ({"version": 2}, "version 2, this program reads 1"),
        ({"weights": np.array([{}], object)}, "not a readable"),
    ],
)
def test_a_damaged_head_is_refused(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "version": 1,
        "weights": np.zeros(8),
        "bias": 0.5,
        "form": "absolute",
        "embedder": EMBEDDER,
    } | wrong
    np.savez(tmp_path / "head.npz", **{key: value for key, value in fields.items() if value is not None})
    with pytest.raises(GalleryError, match=words):
        SimilarityHead.load(tmp_path / "head.npz", EMBEDDER)


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04 half a zip", b"\x93NUMPY", os.urandom(100)])
def test_a_file_that_is_no_head_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(content)
    with pytest.raises(GalleryError, match="is no similarity head"):
        SimilarityHead.load(tmp_path / "head.npz", EMBEDDER)


def test_an_array_file_and_a_cut_file_are_no_head(tmp_path: Path) -> None:
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    make().save(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    for length in range(1, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(GalleryError, match="is no similarity head"):
            SimilarityHead.load(tmp_path / "cut.npz", EMBEDDER)
    with pytest.raises(GalleryError, match="is no similarity head"):
        SimilarityHead.load(tmp_path / "array.npz", EMBEDDER)


def test_places_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be read: No such file"):
        SimilarityHead.load(tmp_path / "none.npz", EMBEDDER)
    with pytest.raises(GalleryError, match="cannot be written: No such file"):
        make().save(tmp_path / "none" / "head.npz")
