"""All pairs of a gallery: what a double loop finds, also in blocks and for people in any order."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pipeline.arrays import FloatArray
from pipeline.gallery import pairs
from pipeline.gallery.pairs import all_pairs, least_alike_within, most_alike_across, similarity_matrix

Labels = list[int]


@pytest.fixture
def gallery() -> tuple[FloatArray, Labels]:
    """Raw encodings of 14 people, 1 to 5 each, in no order."""
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(14) * 3, 1 + np.arange(14) % 5))
    return rng.normal(size=(len(labels), 8)).astype(np.float32), labels.tolist()


def loop(encodings: FloatArray, labels: Labels) -> list[tuple[float, int, int, bool]]:
    rows = combinations(range(len(labels)), 2)
    return [
        (1 - float(np.sum((encodings[a].astype(float) - encodings[b]) ** 2)) / 2, a, b, labels[a] == labels[b])
        for a, b in rows
    ]


def test_similarity_of_unit_vectors_is_the_cosine() -> None:
    a = np.array([[1, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(similarity_matrix(a, a), [[1, 0.6], [0.6, 1]], atol=1e-6)


def test_similarity_of_raw_encodings_falls_with_the_distance() -> None:
    """dlib's 0.6 is 0.82."""
    a = np.array([[3.0, 4.0], [3.6, 4.0]], np.float32)
    assert similarity_matrix(a[:1], a[1:]).item() == pytest.approx(0.82, abs=1e-5)


def test_all_pairs_are_those_of_a_double_loop(gallery: tuple[FloatArray, Labels]) -> None:
    similarities, same = all_pairs(*gallery)
    found = sorted(zip(similarities.tolist(), same.tolist(), strict=True))
    expected = sorted((similarity, same) for similarity, _, _, same in loop(*gallery))
    assert [label for _, label in found] == [label for _, label in expected]
    np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], atol=1e-4)


def test_a_large_gallery_gives_the_pairs_of_some_whole_people(
    gallery: tuple[FloatArray, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings, labels = gallery
    monkeypatch.setattr(pairs, "MAX_ENCODINGS", 20)
    similarities, same = all_pairs(encodings, labels)
    every_second = [row for row, label in enumerate(labels) if label % 6 == 0]
    expected = loop(encodings[every_second], [labels[row] for row in every_second])
    np.testing.assert_allclose(np.sort(similarities), sorted(each[0] for each in expected), atol=1e-4)
    assert same.sum() == sum(each[3] for each in expected)


def test_worst_pair_of_each_person(gallery: tuple[FloatArray, Labels]) -> None:
    encodings, labels = gallery
    expected: dict[int, float] = {}
    for similarity, a, _, same in loop(encodings, labels):
        if same:
            expected[labels[a]] = min(similarity, expected.get(labels[a], np.inf))
    worst = least_alike_within(encodings, labels)
    assert [pair.person_a for pair in worst] == sorted(expected, key=lambda person: expected[person])
    for pair in worst:
        assert pair.person_a == pair.person_b == labels[pair.row_a] == labels[pair.row_b]
        assert pair.similarity == pytest.approx(expected[pair.person_a], abs=1e-4)
        assert similarity_matrix(encodings[[pair.row_a]], encodings[[pair.row_b]]).item() == pytest.approx(
            pair.similarity, abs=1e-4
        )


@pytest.mark.parametrize("entries", [10, 200, pairs.BLOCK_ENTRIES])
def test_most_alike_people(gallery: tuple[FloatArray, Labels], entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encodings, labels = gallery
    monkeypatch.setattr(pairs, "BLOCK_ENTRIES", entries)
    expected: dict[tuple[int, ...], float] = {}
    for similarity, a, b, same in loop(encodings, labels):
        if not same:
            key = tuple(sorted((labels[a], labels[b])))
            expected[key] = max(similarity, expected.get(key, -np.inf))
    alike = most_alike_across(encodings, labels, count=12)
    best = sorted(expected, key=lambda key: -expected[key])[:12]
    assert [(pair.person_a, pair.person_b) for pair in alike] == best
    for pair in alike:
        assert (labels[pair.row_a], labels[pair.row_b]) == (pair.person_a, pair.person_b)
        assert pair.similarity == pytest.approx(expected[pair.person_a, pair.person_b], abs=1e-4)


def test_nobody_has_a_pair_where_each_has_one_encoding() -> None:
    encodings = np.eye(3, dtype=np.float32)
    assert least_alike_within(encodings, [1, 2, 3]) == []
    assert most_alike_across(encodings[:1], [1]) == []
    assert len(most_alike_across(encodings, [1, 2, 3])) == 3
