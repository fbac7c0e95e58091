"""Matcher, against distances computed one by one in double precision."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.spec import Metric
from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.records import Snapshot


def gallery(counts: list[int], metric: Metric, dimensions: int = 128, seed: int = 0) -> Snapshot:
    """So many encodings of each person."""
    random = np.random.default_rng(seed)
    vectors = random.normal(scale=0.12, size=(sum(counts), dimensions))
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    persons = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    names = tuple(f"p{person}" for person in range(len(counts)))
    ones = np.ones(len(persons), np.float32)
    return Snapshot(vectors.astype(np.float32), names, persons, ones, np.arange(len(persons)))


def faces(snapshot: Snapshot, count: int, metric: Metric, seed: int = 1) -> FloatArray:
    """Faces not far from encodings of the gallery."""
    random = np.random.default_rng(seed)
    rows = random.integers(len(snapshot), size=count)
    near = snapshot.vectors[rows] + random.normal(scale=0.05, size=(count, snapshot.vectors.shape[1]))
    if metric == "cosine":
        near /= np.linalg.norm(near, axis=1, keepdims=True)
    return near.astype(np.float32)


def one_by_one(snapshot: Snapshot, queries: FloatArray) -> np.ndarray:
    """(Q, P): 1 - d^2 / 2 to the nearest encoding of each person."""
    best = np.full((len(queries), len(snapshot.names)), -np.inf)
    for row, query in enumerate(queries.astype(np.float64)):
        for person, vector in zip(snapshot.persons, snapshot.vectors.astype(np.float64), strict=True):
            best[row, person] = max(best[row, person], 1 - np.sum((query - vector) ** 2) / 2)
    return best


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    ("counts", "dimensions"), [([1] * 200, 128), ([3, 1, 7, 2] * 20, 128), ([2] * 65, 512), ([5], 128), ([1], 20)]
)
@pytest.mark.parametrize("count", [1, 5, 8, 19])
def test_matches_are_those_of_distances_computed_one_by_one(
    metric: Metric, counts: list[int], dimensions: int, count: int
) -> None:
    snapshot = gallery(counts, metric, dimensions)
    queries = faces(snapshot, count, metric)
    expected = one_by_one(snapshot, queries)
    matcher = Matcher(snapshot, metric)
    for k in {1, min(3, len(counts)), len(counts)}:
        matches = matcher.search(queries, k)
        atol = 3e-6 if dimensions < 512 else 1e-5
        np.testing.assert_allclose(matches.similarities, -np.sort(-expected, axis=1)[:, :k], atol=atol)
        of_persons = np.take_along_axis(expected, matches.persons.astype(int), axis=1)
        np.testing.assert_allclose(matches.similarities, of_persons, atol=atol)
        assert all(len(set(row)) == k for row in matches.persons.tolist())
        assert matches.names == tuple(tuple(f"p{person}" for person in row) for row in matches.persons.tolist())
        assert matches.persons.dtype == np.int32
        assert matches.similarities.dtype == np.float32


def test_an_encoding_itself_has_the_similarity_1() -> None:
    for metric in ("cosine", "l2"):
        snapshot = gallery([1] * 50, metric)
        np.testing.assert_allclose(Matcher(snapshot, metric).search(snapshot.vectors).similarities, 1, atol=2e-6)


def test_a_distance_of_dlibs_threshold_is_a_similarity_of_0_82() -> None:
    snapshot = gallery([1], "l2")
    query = snapshot.vectors.copy()
    query[0, 0] += 0.6
    assert Matcher(snapshot, "l2").search(query).similarities[0, 0] == pytest.approx(0.82, abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_face_that_is_not_finite_matches_nobody_and_the_others_match(bad: float) -> None:
    snapshot = gallery([2] * 30, "l2")
    queries = faces(snapshot, 3, "l2")
    alone = Matcher(snapshot, "l2").search(queries, 2)
    queries[1, 5] = bad
    matches = Matcher(snapshot, "l2").search(queries, 2)
    assert matches.names[1] == (None, None)
    assert np.isnan(matches.similarities[1]).all()
    np.testing.assert_array_equal(matches.persons[[0, 2]], alone.persons[[0, 2]])


def test_an_empty_gallery_names_nobody() -> None:
    matches = Matcher(Snapshot.empty(128), "l2").search(np.zeros((2, 128), np.float32), 3)
    assert matches.names == ((None, None, None),) * 2
    assert np.isnan(matches.similarities).all()


def test_no_face_is_no_match() -> None:
    matches = Matcher(gallery([1] * 5, "l2"), "l2").search(np.empty((0, 128), np.float32), 2)
    assert matches.persons.shape == matches.similarities.shape == (0, 2)
    assert matches.names == ()


def test_more_than_there_are_is_filled_with_nobody() -> None:
    snapshot = gallery([4, 1], "l2")
    matches = Matcher(snapshot, "l2").search(snapshot.vectors[:1], 4)
    assert matches.names == (("p0", "p1", None, None),)
    assert np.isnan(matches.similarities[0, 2:]).all()


@pytest.mark.parametrize("shape", [(3, 64), (128,), (1, 1, 128)])
def test_encodings_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GalleryError, match="encode both with one embedder"):
        Matcher(gallery([1] * 5, "l2"), "l2").search(np.zeros(shape, np.float32))


def test_many_threads_may_search_at_once() -> None:
    snapshot = gallery([2] * 500, "cosine")
    matcher, queries = Matcher(snapshot, "cosine"), faces(snapshot, 5, "cosine")
    expected = matcher.search(queries, 3)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: matcher.search(queries, 3), range(200)):
            np.testing.assert_array_equal(found.persons, expected.persons)
            np.testing.assert_array_equal(found.similarities, expected.similarities)


def test_five_faces_among_10_000_people_take_a_fraction_of_a_millisecond_on_one_core() -> None:
    snapshot = gallery([1] * 10_000, "l2")
    matcher, queries = Matcher(snapshot, "l2"), faces(snapshot, 5, "l2")
    matcher.search(queries)
    seconds, cpu = [], []
    for _ in range(200):
        began, cpu_began = time.perf_counter(), time.process_time()
        matcher.search(queries)
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    assert min(seconds) < 0.6e-3  # 0.17 ms alone on the machine; tests share it
    assert sum(cpu) < 1.3 * sum(seconds), "the product was spread over the cores"
