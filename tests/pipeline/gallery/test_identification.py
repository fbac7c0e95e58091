"""1:N: FPIR over the size of the gallery is what counting gives, and what is carried on is named so."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.identification import gallery_sizes, search_gallery, search_strangers
from pipeline.gallery.operating_point import OperatingPoint
from pipeline.gallery.pairs import BLOCK_ENTRIES


def strangers(people: int, searches: int, seed: int = 0) -> FloatArray:
    """Similarities of strangers to people, independent of each other: normal, 0.1 wide."""
    return np.random.default_rng(seed).normal(0, 0.1, (searches, people)).astype(np.float32)


def directions(people: int, each: int, seed: int = 0, size: int = 128) -> tuple[FloatArray, np.ndarray]:
    """Unit vectors around one direction a person."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(people, 1, size)) + 0.5 * rng.normal(size=(people, each, size))
    vectors = vectors.reshape(-1, size)
    return np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)), np.repeat(np.arange(people), each)


# ---- the known trap


def test_a_threshold_for_5_percent_among_40_people_gives_12_percent_among_100() -> None:
    point = search_strangers(strangers(40, 4000)).threshold_for(0.05, 40)
    assert point.observed == pytest.approx(0.05, abs=0.0005)
    among_100 = strangers(100, 20_000, seed=1).max(axis=1) >= point.threshold
    assert among_100.mean() == pytest.approx(1 - 0.95**2.5, abs=0.012)
    assert among_100.mean() == pytest.approx(0.12, abs=0.015)


def test_the_trap_is_foretold_and_avoided() -> None:
    searches = search_strangers(strangers(40, 4000))
    chosen_for_40 = searches.threshold_for(0.05, 40).threshold
    assert searches.fpir(chosen_for_40, 100) == pytest.approx(0.12, abs=0.002)
    point = searches.threshold_for(0.05, 100)
    assert point.extrapolated
    assert "carried on to 100 people by 1-(1-FAR)^G" in point.sentence
    assert (strangers(100, 20_000, seed=1).max(axis=1) >= point.threshold).mean() == pytest.approx(0.05, abs=0.01)


# ---- against counting


def test_leaving_one_person_out_is_what_a_loop_finds() -> None:
    encodings, persons = directions(31, 3, size=16)
    searches = search_gallery(encodings, persons)
    others = [
        max(float(encodings[row] @ encodings[other]) for other in range(93) if persons[other] != persons[row])
        for row in range(93)
    ]
    largest = searches.best[-1].reshape(-1, len(searches.best[-1]) // 93)
    np.testing.assert_allclose(largest.mean(axis=1), np.sort(others), atol=1e-5)
    assert searches.sizes == (1, 2, 5, 10, 20, 30)
    assert searches.searches == 93


def test_persons_may_come_in_any_order_and_under_any_number() -> None:
    encodings, persons = directions(20, 4)
    shuffled = np.random.default_rng(3).permutation(80)
    straight, mixed = (search_gallery(encodings[rows], 1000 - persons[rows]) for rows in (np.arange(80), shuffled))
    for one, other in zip(straight.best, mixed.best, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_smaller_galleries_are_drawn_evenly() -> None:
    """Of scores 0..P-1 the best of a random G is below k in C(k, G) of C(P, G) cases: a hypergeometric tail."""
    scores = np.tile(np.arange(50, dtype=np.float32), (3000, 1))
    rng = np.random.default_rng(5)
    searches = search_strangers(rng.permuted(scores, axis=1))
    for size in (2, 5, 20):
        none_above = stats.hypergeom(50, 5, size).pmf(0)
        assert searches.fpir(45, size) == pytest.approx(1 - none_above, abs=0.01)


def test_the_searched_person_is_left_out_and_replaced() -> None:
    """Each person is far from all others but for a twin: only the twin is ever found, in G of P - 1 cases."""
    axes = np.repeat(np.eye(30, dtype=np.float32), 2, axis=0)
    searches = search_gallery(axes, np.arange(60))
    for size in (1, 5, 20, 59):
        assert searches.fpir(0.9, size) == pytest.approx(size / 59, abs=0.1)
    assert searches.fpir(0.9, 59) == pytest.approx(1, abs=1e-9)
    assert search_gallery(axes, np.arange(60) // 2).fpir(0.9, 29) == 0


def test_many_encodings_go_in_blocks_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings, persons = directions(40, 3)
    whole = search_gallery(encodings, persons)
    monkeypatch.setattr("pipeline.gallery.pairs.BLOCK_ENTRIES", 500)
    assert BLOCK_ENTRIES > 500
    for one, other in zip(whole.best, search_gallery(encodings, persons).best, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---- thresholds


@pytest.mark.parametrize("people", [1, 3, 40, 57, 99, 100, 250])
@pytest.mark.parametrize("fpir", [0.01, 0.05, 0.3])
def test_threshold_is_the_lowest_that_holds_the_rate(people: int, fpir: float) -> None:
    searches = search_strangers(strangers(100, 700))
    point = searches.threshold_for(fpir, people)
    assert searches.fpir(point.threshold, people) <= fpir
    lower = float(np.nextafter(np.float32(point.threshold), np.float32(-1)))
    assert searches.fpir(lower, people) > fpir
    assert point.observed <= point.bound
    assert point.extrapolated == (people > 100)


def test_fpir_rises_with_the_gallery() -> None:
    searches = search_strangers(strangers(100, 700))
    curve = searches.curve(0.25, [0, 1, 4, 10, 35, 100, 130, 1000, 10**6])
    assert curve[0] == 0
    assert all(one < other for one, other in pairwise(curve[:-1]))
    assert curve[-1] == pytest.approx(1)


def test_too_few_strangers_are_said_to_be_too_few() -> None:
    point = search_strangers(strangers(40, 150)).threshold_for(0.01, 40)
    assert not point.supported
    assert point.errors == 1
    assert point.sentence == (
        "1 error in 150 searches for a stranger among 40 people only shows a FPIR below 3.1 %: 1 % takes 299 or more"
    )
    assert search_strangers(strangers(40, 299)).threshold_for(0.01, 40).supported
    assert not search_strangers(strangers(40, 299)).threshold_for(0.01, 80).supported
    assert search_strangers(strangers(40, 600)).threshold_for(0.01, 80).supported


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (39, (1, 2, 5, 10, 20, 39)), (50, (1, 2, 5, 10, 20, 50))]
)
def test_sizes_run_to_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert gallery_sizes(largest) == sizes


# ---- refusals


def test_one_person_is_too_few() -> None:
    with pytest.raises(GalleryError, match="the gallery has one person: a threshold needs two"):
        search_gallery(np.eye(3, dtype=np.float32), [7, 7, 7])


def test_encodings_that_are_not_finite_are_refused() -> None:
    encodings = np.eye(3, dtype=np.float32)
    encodings[1, 1] = np.nan
    with pytest.raises(GalleryError, match="1 of 3 encodings is not finite"):
        search_gallery(encodings, [0, 1, 2])
    with pytest.raises(GalleryError, match="no face was found"):
        search_strangers(encodings)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,)])
def test_no_stranger_or_nobody_to_find_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GalleryError, match="strangers x people are needed"):
        search_strangers(np.zeros(shape, np.float32))


@pytest.mark.parametrize(("fpir", "people"), [(0.0, 5), (1.0, 5), (0.1, 0)])
def test_a_rate_or_a_gallery_that_is_none_is_refused(fpir: float, people: int) -> None:
    with pytest.raises(GalleryError, match=r"a rate between|one at least"):
        search_strangers(strangers(5, 10)).threshold_for(fpir, people)


def test_one_search_among_one_person_is_said_in_the_singular() -> None:
    sentence = OperatingPoint(0.5, 0.01, 0.0, 0.95, 0, 1, people=2, searched=1).sentence
    assert sentence.startswith("0 errors in 1 search for a stranger among 1 person, carried on to 2 people by")
    assert OperatingPoint(0.5, 0.01, 0.0, 0.95, 0, 1).sentence.startswith("0 errors in 1 comparison only")
