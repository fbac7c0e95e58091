"""Identity over a track: decided once, no flicker, unknown is a result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipeline.arrays import FloatArray, IntArray
from pipeline.postprocess.identity import (
    ENOUGH,
    OTHER_FACE,
    SWITCH,
    TRACKS_KEPT,
    Best,
    Identities,
    mean_similarity,
)

THRESHOLD = 0.45
ONE: IntArray = np.array([7], np.int32)
RANDOM = np.random.default_rng(5)


def unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector, axis=-1, keepdims=True), np.float32)


PEOPLE = unit(RANDOM.normal(size=(3, 128)).astype(np.float32))
NAMES = ("ann", "bob", "eve")


def like(person: int, similarity: float) -> FloatArray:
    """Return (1, 128), that alike to a person and to nobody else."""
    noise = RANDOM.normal(size=128)
    basis, _ = np.linalg.qr(np.concatenate([PEOPLE, noise[None]]).T)
    return unit((similarity * PEOPLE[person] + np.sqrt(1 - similarity**2) * basis[:, 3])[None])


def search(encodings: FloatArray, people: FloatArray = PEOPLE, names: tuple[str, ...] = NAMES) -> Best:
    if not len(people):
        return Best([None] * len(encodings), np.full(len(encodings), np.nan, np.float32))
    alike = encodings @ people.T
    return Best([names[row] for row in alike.argmax(1)], alike.max(1))


def see(identities: Identities, encoding: FloatArray, quality: float = 1.0, time_s: float = 0.0) -> str | None:
    means, _ = identities.observe(ONE, encoding, np.array([quality], np.float32), time_s)
    identities.decide(ONE, search(means), THRESHOLD)
    return identities.of(ONE, time_s).names[0]


@pytest.fixture
def identities() -> Identities:
    return Identities(verify_threshold=0.27)


def test_a_clear_first_frame_decides_at_once(identities: Identities) -> None:
    assert see(identities, like(0, 0.7)) == "ann"


def test_a_doubtful_first_frame_decides_nothing_and_several_do(identities: Identities) -> None:
    view = like(0, 0.5)
    assert see(identities, view) is None
    assert see(identities, view) == "ann"


def test_poor_frames_count_less(identities: Identities) -> None:
    view, frames = like(0, 0.5), 0
    while see(identities, view, quality=0.25) is None:
        frames += 1
    assert frames + 1 == ENOUGH / 0.25


def test_one_frame_of_a_stranger_that_looks_like_somebody_gives_no_name(identities: Identities) -> None:
    for similarity in (0.2, 0.2, 0.5, 0.2, 0.2):
        assert see(identities, like(1, similarity)) is None


def test_many_views_below_the_threshold_do_not_add_up_to_a_name() -> None:
    """Their mean is much more alike than each of them; but the threshold is for one."""
    identities = Identities(verify_threshold=-1)
    assert {see(identities, like(2, 0.4)) for _ in range(20)} == {None}


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_evidence_is_the_weighted_mean_of_the_similarities(metric: str) -> None:
    encodings = RANDOM.normal(size=(6, 128)).astype(np.float32) + 5 * PEOPLE[0]
    encodings = unit(encodings) if metric == "cosine" else encodings / 12
    weights = RANDOM.uniform(0.2, 1, 6).astype(np.float32)
    identities = Identities(verify_threshold=-1)
    for encoding, weight in zip(encodings, weights, strict=True):
        means, spreads = identities.observe(ONE, encoding[None], np.array([weight]), 0.0)
    alike = 1 - np.square(encodings.astype(np.float64) - PEOPLE[0]).sum(axis=1) / 2
    expected = (weights * alike).sum() / weights.sum()
    of_mean = 1 - np.square(means[0].astype(np.float64) - PEOPLE[0]).sum() / 2
    assert mean_similarity(np.array([of_mean], np.float32), spreads) == pytest.approx(expected, abs=1e-5)
    if metric == "cosine":
        assert means[0] @ PEOPLE[0] == pytest.approx(expected, abs=1e-5)


def test_a_name_that_nothing_confirms_is_not_said_for_ever(identities: Identities) -> None:
    see(identities, like(0, 0.8), time_s=0.0)
    assert see(identities, like(0, 0.8), time_s=0.1) == "ann"
    assert identities.of(ONE, 2.9).names == ["ann"]
    assert identities.of(ONE, 3.2).names == [None]


def test_a_name_matched_seldom_is_said_in_between(identities: Identities) -> None:
    view = like(0, 0.8)
    for time_s in (0.0, 4.0, 8.0):
        assert see(identities, view, time_s=time_s) == "ann"
    assert identities.of(ONE, 12.0).names == ["ann"]


def test_who_left_the_gallery_is_not_named_any_more(identities: Identities) -> None:
    assert see(identities, like(0, 0.9)) == "ann"
    assert identities.of(ONE, 0.0, known={"bob"}.__contains__).names == [None]


def test_frames_for_another_person_count_in_a_row_only(identities: Identities) -> None:
    """A name that was lost and came back is not taken away by what was seen before."""

    def say(name: str, similarity: float) -> str | None:
        identities.observe(ONE, PEOPLE[:1], np.ones(1, np.float32), 0.0)
        identities.decide(ONE, Best([name], np.array([similarity], np.float32)), THRESHOLD)
        return identities.of(ONE, 0.0).names[0]

    assert [say("ann", 0.9), say("ann", 0.9)] == ["ann", "ann"]
    assert {say("bob", 0.9) for _ in range(SWITCH - 1)} == {"ann"}
    assert say("ann", 0.1) is None
    assert say("ann", 0.9) == "ann"
    assert say("bob", 0.9) == "ann"


def test_a_name_survives_frames_in_which_the_face_turns_away(identities: Identities) -> None:
    for _ in range(6):
        see(identities, like(0, 0.7))
    for similarity in (0.3, 0.28, 0.3, 0.7):
        assert see(identities, like(0, similarity)) == "ann"


def test_the_name_never_flickers_on_a_long_track_near_the_threshold(identities: Identities) -> None:
    names = [see(identities, like(0, float(RANDOM.uniform(0.35, 0.6)))) for _ in range(200)]
    changes = sum(before != after for before, after in pairwise(names))
    assert changes == 1
    assert set(names) == {None, "ann"}


def test_when_the_tracker_swaps_faces_the_evidence_begins_anew(identities: Identities) -> None:
    for _ in range(20):
        see(identities, like(0, 0.7))
    names = [see(identities, like(1, 0.7)) for _ in range(OTHER_FACE)]
    assert names == ["ann"] * (OTHER_FACE - 1) + ["bob"]


def test_another_person_must_be_more_alike_for_several_frames() -> None:
    identities = Identities(verify_threshold=-1)  # never begins anew
    see(identities, like(0, 0.6))
    mixed = unit(PEOPLE[0] * 0.5 + PEOPLE[1] * 0.8)[None]
    names = [see(identities, mixed) for _ in range(40)]
    assert names[:SWITCH] == ["ann"] * SWITCH
    assert names[-1] == "bob"
    assert None not in names


def test_nobody_in_the_gallery_means_nobody_is_named(identities: Identities) -> None:
    see(identities, like(0, 0.7))
    means, _ = identities.observe(ONE, like(0, 0.7), np.ones(1, np.float32), 0.0)
    identities.decide(ONE, search(means, np.empty((0, 128), np.float32)), THRESHOLD)
    best = identities.of(ONE, 0.0)
    assert best.names == [None]
    assert np.isnan(best.similarities[0])


def test_a_track_never_seen_is_unknown(identities: Identities) -> None:
    best = identities.of(np.array([99], np.int32), 0.0)
    assert best.names == [None]
    assert np.isnan(best.similarities[0])


def test_old_tracks_are_forgotten_first(identities: Identities) -> None:
    assert see(identities, like(0, 0.9)) == "ann"
    for first in range(1000, 1000 + TRACKS_KEPT, 64):
        ids = np.arange(first, first + 64, dtype=np.int32)
        identities.observe(ids, np.repeat(PEOPLE[:1], 64, axis=0), np.ones(64, np.float32), 0.0)
    assert identities.of(ONE, 0.0).names == [None]
