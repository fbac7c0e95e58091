"""The approximate index: almost everybody is found, with exact similarities."""

from __future__ import annotations

import builtins
import logging
from typing import Any

import numpy as np
import pytest

from engines.spec import Metric
from pipeline.gallery.index import CANDIDATES
from pipeline.gallery.matcher import EXACT_UP_TO, Matcher
from pipeline.gallery.records import Snapshot
from tools.bench_gallery import centres, pictures, snapshot_of

PEOPLE = 30_000


@pytest.mark.parametrize(("metric", "dimensions"), [("cosine", 128), ("l2", 128), ("cosine", 512), ("cosine", 100)])
def test_the_index_finds_whom_exact_search_finds(metric: Metric, dimensions: int) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    persons = centres(PEOPLE, dimensions, random)
    scale = np.float32(1.4 if metric == "l2" else 1)
    snapshot = snapshot_of(scale * pictures(persons, random))
    queries = scale * pictures(persons[:400], random)
    queries[7, 3] = np.nan
    exact, indexed = Matcher(snapshot, metric), Matcher(snapshot, metric, exact_up_to=PEOPLE - 1)
    assert exact.exact
    assert not indexed.exact
    for k in (1, 3):
        truth, found = exact.search(queries, k), indexed.search(queries, k)
        same = truth.persons[:, 0] == found.persons[:, 0]
        assert same.mean() >= 0.98
        np.testing.assert_allclose(found.similarities[same, 0], truth.similarities[same, 0], atol=1e-5)
        assert found.names[7] == (None,) * k
        assert np.isnan(found.similarities[7]).all()
        alike = np.delete(found.similarities, 7, axis=0)
        assert (np.diff(alike, axis=1) <= 0).all()


def test_people_with_several_encodings_are_found_once_each() -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    persons = np.repeat(np.arange(400), 10).astype(np.int32)
    points = centres(400, 128, random)
    vectors = pictures(points[persons], random)
    snapshot = Snapshot(
        vectors, tuple(map(str, range(400))), persons, np.ones(4000, np.float32), np.arange(4000, dtype=np.int64)
    )
    found = Matcher(snapshot, "cosine", exact_up_to=100).search(pictures(points[:50], random), 5)
    np.testing.assert_array_equal(found.persons[:, 0], np.arange(50))
    for row in found.persons.tolist():
        known = [person for person in row if person >= 0]
        assert len(set(known)) == len(known) >= CANDIDATES // 10 - 2


def test_few_encodings_fill_the_candidates_with_nobody() -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    snapshot = snapshot_of(centres(40, 128, random))
    found = Matcher(snapshot, "cosine", exact_up_to=10).search(snapshot.vectors[:3], 50)
    np.testing.assert_array_equal(found.persons[:, 0], [0, 1, 2])
    assert (found.persons[:, 40:] == -1).all()
    assert np.isnan(found.similarities[:, 40:]).all()


def test_without_the_extra_the_search_stays_exact_and_says_how_to_get_the_index(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without_faiss(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    snapshot = snapshot_of(centres(200, 128, np.random.default_rng(0)))
    with caplog.at_level(logging.WARNING):
        matcher = Matcher(snapshot, "cosine", exact_up_to=100)
    assert matcher.exact
    assert "200 encodings are searched one by one" in caplog.text
    assert "pip install 'frameloom[scale]'" in caplog.text
    assert matcher.search(snapshot.vectors[150:151]).names == (("person 150",),)


def test_up_to_100_000_encodings_are_searched_exactly() -> None:
    assert EXACT_UP_TO == 100_000
    assert Matcher(snapshot_of(np.eye(128, dtype=np.float32)), "cosine").exact
