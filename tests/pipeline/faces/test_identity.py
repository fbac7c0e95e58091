"""Identity over a track: decided once, no flicker, unknown is a result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipeline.arrays import FloatArray, IntArray
from pipeline.postprocess.identity import ENOUGH, OTHER_FACE, SWITCH, TRACKS_KEPT, Best, Identities

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


def see(identities: Identities, encoding: FloatArray, quality: float = 1.0) -> str | None:
    evidence = identities.observe(ONE, encoding, np.array([quality], np.float32))
    identities.decide(ONE, search(evidence), THRESHOLD)
    return identities.of(ONE).names[0]


@pytest.fixture
def identities() -> Identities:
    return Identities(normalised=True, verify_threshold=0.27)


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


def test_noise_averages_out_so_many_poor_views_become_a_name() -> None:
    """Each view alone is below the threshold; their mean is well above."""
    identities = Identities(normalised=True, verify_threshold=0.1)
    names = [see(identities, like(2, 0.35)) for _ in range(12)]
    assert names[0] is None
    assert names[-1] == "eve"


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
    identities = Identities(normalised=True, verify_threshold=-1)  # never begins anew
    see(identities, like(0, 0.6))
    mixed = unit(PEOPLE[0] * 0.5 + PEOPLE[1] * 0.8)[None]
    names = [see(identities, mixed) for _ in range(40)]
    assert names[:SWITCH] == ["ann"] * SWITCH
    assert names[-1] == "bob"
    assert None not in names


def test_nobody_in_the_gallery_means_nobody_is_named(identities: Identities) -> None:
    see(identities, like(0, 0.7))
    evidence = identities.observe(ONE, like(0, 0.7), np.ones(1, np.float32))
    identities.decide(ONE, search(evidence, np.empty((0, 128), np.float32)), THRESHOLD)
    best = identities.of(ONE)
    assert best.names == [None]
    assert np.isnan(best.similarities[0])


def test_a_track_never_seen_is_unknown(identities: Identities) -> None:
    best = identities.of(np.array([99], np.int32))
    assert best.names == [None]
    assert np.isnan(best.similarities[0])


def test_old_tracks_are_forgotten_first(identities: Identities) -> None:
    assert see(identities, like(0, 0.9)) == "ann"
    for first in range(1000, 1000 + TRACKS_KEPT, 64):
        ids = np.arange(first, first + 64, dtype=np.int32)
        identities.observe(ids, np.repeat(PEOPLE[:1], 64, axis=0), np.ones(64, np.float32))
    assert identities.of(ONE).names == [None]


def test_raw_encodings_keep_their_length() -> None:
    identities = Identities(normalised=False, verify_threshold=0.82)
    vectors = np.array([[1.2, 0.0], [1.4, 0.0]], np.float32)
    identities.observe(ONE, vectors[:1], np.ones(1, np.float32))
    assert identities.observe(ONE, vectors[1:], np.ones(1, np.float32)) == pytest.approx(np.array([[1.3, 0.0]]))
