"""The pictures that a face encoder learns from: reading, splitting, batches. No PyTorch is needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from engines.spec import ARCFACE_TEMPLATE
from pipeline.errors import ConfigError
from tools.train.embedding_data import (
    Faces,
    batches,
    find_people,
    left_out,
    read_aligned,
    read_faces,
    split,
    template,
    varied,
)
from tools.train.embedding_scores import score

SIZE = 32


def silent(done: int, total: int) -> None:
    pass


def folder_of(place: Path, **images: int) -> Path:
    """A folder per person with so many pictures, each of a grey of its own."""
    grey = 0
    for person, count in images.items():
        (place / person).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(place / person / f"{number}.png"), np.full((40, 50, 3), grey := grey + 1, np.uint8))
    return place


def faces_of(*images: int) -> Faces:
    """As many people as numbers, each with so many chips; a chip's pixels say which it is."""
    people = np.repeat(np.arange(len(images)), images).astype(np.int32)
    chips = (
        np.full((len(people), SIZE, SIZE, 3), 0, np.uint8) + np.arange(len(people), dtype=np.uint8)[:, None, None, None]
    )
    return Faces(chips, people, tuple(f"person {number}" for number in range(len(images))))


def test_faces_are_read_by_person_and_resized(tmp_path: Path) -> None:
    place = folder_of(tmp_path, ann=2, bob=3, cleo=2, dan=2)
    (place / "notes.txt").write_text("not a person")
    people = find_people(place)
    faces = read_faces(people, SIZE, read_aligned(SIZE), silent)
    assert faces.names == ("ann", "bob", "cleo", "dan")
    assert faces.people.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert faces.chips.shape == (9, SIZE, SIZE, 3)
    assert faces.chips[:, 0, 0, 0].tolist() == list(range(1, 10))
    assert left_out(people, faces) == []


def test_unreadable_pictures_and_people_with_one_are_left_out_and_named(tmp_path: Path) -> None:
    place = folder_of(tmp_path, ann=2, bob=3, cleo=2, dan=2, eve=1, finn=2)
    for damaged in ("bob/1.png", "finn/0.png"):
        (place / damaged).write_bytes(b"no picture")
    people = find_people(place)
    faces = read_faces(people, SIZE, read_aligned(SIZE), silent)
    assert faces.names == ("ann", "bob", "cleo", "dan")
    assert left_out(people, faces) == [
        "1 of 9 pictures were left out: unreadable, or no face was found",
        "left out, with fewer than 2 usable pictures: eve, finn",
    ]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({}, "holds no folders with images: make one folder per person"),
        ({"ann": 0, "bob": 0}, "holds no folders with images"),
        ({"ann": 5, "bob": 5, "cleo": 5}, "3 of 3 people have 2 or more usable pictures .* at least 4 such people"),
        ({"ann": 5, "bob": 5, "cleo": 5, "dan": 1}, r"3 of 4 people .*\(16 of 16 pictures are usable\)"),
    ],
)
def test_too_little_to_learn_from_is_an_error_with_the_numbers(
    tmp_path: Path, images: dict[str, int], words: str
) -> None:
    place = folder_of(tmp_path, **images)
    with pytest.raises(ConfigError, match=words):
        read_faces(find_people(place), SIZE, read_aligned(SIZE), silent)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_folder_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ConfigError, match=f"{name} cannot be read: .*; give a folder per person"):
        find_people(tmp_path / name)


def test_what_does_not_fit_into_memory_is_said_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=1_000_000)
    monkeypatch.setattr("tools.train.embedding_data.psutil.virtual_memory", lambda: free)
    people = find_people(folder_of(tmp_path, ann=4, bob=4, cleo=4, dan=4))
    with pytest.raises(ConfigError, match=r"16 pictures of 112 x 112 take 0.0 GB .* and 0.0 GB are free: choose a sm"):
        read_faces(people, 112, read_aligned(112), silent)


def test_nobody_is_both_learnt_from_and_tested_on() -> None:
    faces = faces_of(*range(2, 12))
    learn, test = split(faces, 0.3, seed=5)
    assert (len(learn.names), len(test.names)) == (7, 3)
    assert sorted(learn.names + test.names) == sorted(faces.names)
    for part in (learn, test):
        for number, name in enumerate(part.names):
            assert part.chips[part.people == number].tolist() == faces.chips[faces.people == int(name[7:])].tolist()
    assert split(faces, 0.3, seed=5)[1].names == test.names
    assert {split(faces, 0.3, seed)[1].names for seed in range(20)} != {test.names}


@pytest.mark.parametrize(("held_out", "tested"), [(0.01, 2), (0.99, 3)])
def test_both_parts_have_two_people_at_least(held_out: float, tested: int) -> None:
    assert len(split(faces_of(2, 2, 2, 2, 2), held_out, seed=0)[1].names) == tested


@pytest.mark.parametrize("images", [(2, 2), (2, 9, 3, 4, 2, 7, 2), (30, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)])
@pytest.mark.parametrize("together", [2, 4, 16])
def test_an_epoch_shows_everybody_in_batches_of_different_people(images: tuple[int, ...], together: int) -> None:
    faces = faces_of(*images)
    seen: Counter[int] = Counter()
    for chips, people in batches(faces, together, 3, seed=1, epoch=1):
        assert chips.shape == (len(people), SIZE, SIZE, 3)
        assert chips.dtype == np.uint8
        counts = Counter(people.tolist())
        assert len(counts) == min(together, len(images))
        assert set(counts.values()) == {3}
        seen += counts
    assert set(seen) == set(range(len(images)))
    assert seen.total() >= min(sum(images), 3 * len(images)) * 0.7


def test_a_person_is_shown_by_different_pictures_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.train.embedding_data.varied", lambda chip, random: chip)
    faces = faces_of(2, 5, 4)
    for chips, people in batches(faces, 3, 4, seed=0, epoch=1):
        shown = {person: {int(chip[0, 0, 0]) for chip in chips[people == person]} for person in range(3)}
        assert [len(shown[person]) for person in range(3)] == [2, 4, 4]
        assert shown[0] == {0, 1}
        assert shown[1] < {2, 3, 4, 5, 6}


def test_batches_follow_from_seed_and_epoch_alone() -> None:
    def bytes_of(seed: int, epoch: int) -> bytes:
        return b"".join(chips.tobytes() for chips, _ in batches(faces_of(4, 4, 4), 2, 2, seed, epoch))

    assert bytes_of(1, 2) == bytes_of(1, 2)
    assert len({bytes_of(1, 2), bytes_of(1, 3), bytes_of(2, 2)}) == 3


def test_a_varied_chip_is_mirrored_moved_and_brightened_within_bounds() -> None:
    rows, columns = np.mgrid[:50, :50]
    chip = np.stack([100 + columns, 100 + rows, np.full((50, 50), 128)], axis=-1).astype(np.uint8)
    random = np.random.default_rng(0)
    mirrored, levels = 0, []
    for _ in range(60):
        other = varied(chip, random).astype(float)
        assert other.shape == chip.shape
        level = other[..., 2].mean()
        levels.append(level)
        mirrored += bool(other[25, 10, 0] > other[25, 40, 0])
        gain = abs(other[25, 40, 0] - other[25, 10, 0]) / 30
        assert 0.75 < gain < 1.25
        # where the ramp of rows passes the level that stands for its middle, it was moved by this many pixels
        moved = ((other[25, 25, 1] - level) / gain + 128 - 125) if gain else 0
        assert abs(moved) <= 0.04 * 50 + 1.5
    assert 15 < mirrored < 45
    assert 128 - 52 < min(levels) < 115
    assert 141 < max(levels) < 128 + 52


def test_the_template_grows_with_the_size() -> None:
    assert template(112) == ARCFACE_TEMPLATE
    np.testing.assert_allclose(template(56), np.array(ARCFACE_TEMPLATE) / 2, atol=1e-4)


def test_scores_of_known_encodings() -> None:
    angles = np.radians([0, 10, 90, 100, 30])  # two people; the last picture looks like the other person
    encodings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    people = np.array([0, 0, 1, 1, 1], np.int32)
    measured = score(encodings, people)
    same = np.cos(np.radians([10, 10, 60, 70]))
    different = np.cos(np.radians([90, 100, 30, 80, 90, 20]))
    assert (measured.same_pairs, measured.different_pairs) == (4, 6)
    assert measured.separation == pytest.approx(same.mean() - different.mean(), abs=1e-6)
    assert measured.auc == pytest.approx((same[:, None] > different).mean())
    assert measured.accuracy == pytest.approx((1 + 4 / 6) / 2)  # at a threshold below the 70 degrees
    assert np.cos(np.radians(80)) < measured.verify_threshold < np.cos(np.radians(70))
    assert measured.identify_threshold == pytest.approx(np.cos(np.radians(20)), abs=1e-6)
    assert measured.identify_threshold > float(np.float32(encodings[1] @ encodings[4]))
