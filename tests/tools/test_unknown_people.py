"""Unknown people of event logs: grouped by the gallery's metric, listed, and enrolled by their number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.spec import Metric
from pipeline.arrays import FloatArray
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.records import EmbedderId
from pipeline.gallery.store import GalleryFile
from tools.unknown_people import MOST_ENROLLED, UnknownPeople, group_unknowns, parse_choices

EMBEDDER = EmbedderId("mobilefacenet", "a" * 64, "cosine", 32)
Group = Callable[..., UnknownPeople]


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[GalleryFile]:
    with GalleryFile.open(tmp_path / "g.db", EMBEDDER, create=True) as file:
        yield file


def views(person: int, count: int, size: int = 32, spread: float = 0.3) -> FloatArray:
    """Return unit vectors around a person's own direction."""
    centre = np.random.default_rng(person).normal(size=size)
    rows = centre + spread * np.random.default_rng(100 + person).normal(size=(count, size))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def face(encoding: FloatArray, track: int | None, quality: float = 0.5, **fields: Any) -> dict[str, Any]:
    numbers = [round(float(value), 6) for value in encoding]
    box = [10.4, 20, 30.6, 40]
    plain = {"box": box, "name": None, "track": track, "quality": quality, "encoding": numbers, "embedder": "a" * 64}
    return plain | fields


def log(path: Path, *faces: dict[str, Any], source: str = "door") -> Path:
    """Write a log of one face a frame."""
    lines = [
        json.dumps({"type": "frame", "source": source, "frame": index, "faces": [each]})
        for index, each in enumerate(faces)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """Four faces of person 1 in two tracks, six of person 2 without tracks, and one of person 3."""
    faces = [face(row, 1 + number // 2, 0.3 + number / 10) for number, row in enumerate(views(1, 4))]
    faces += [face(row, None, 0.2 + number / 10) for number, row in enumerate(views(2, 6))]
    return log(tmp_path / "week.jsonl", *faces, face(views(3, 1)[0], 9))


def test_groups_come_largest_first_and_best_face_first(week: Path, gallery: GalleryFile) -> None:
    found = group_unknowns([week], gallery, None, 3)
    assert [len(group) for group in found.groups] == [6, 4]
    assert [[each.frame for each in group] for group in found.groups] == [[9, 8, 7, 6, 5, 4], [3, 2, 1, 0]]


def test_the_list_says_who_came_how_often_and_where_to_look(week: Path, gallery: GalleryFile) -> None:
    assert list(group_unknowns([week], gallery, None, 3).lines()) == [
        "person 1: 6 faces of 1 track; the best is in door, frame 9, at [10, 20, 31, 40], quality 0.70",
        "person 2: 4 faces of 2 tracks; the best is in door, frame 3, at [10, 20, 31, 40], quality 0.60",
        "2 unknown people, 1 face belongs to none; 11 faces in the logs",
    ]


def test_damage_is_counted_and_said(week: Path, gallery: GalleryFile) -> None:
    with week.open("a") as file:
        file.write('{"type": "frame", "faces"\n')
    assert list(group_unknowns([week], gallery, None, 3).lines())[-1] == "1 damaged line or face was left out"


def test_how_alike_and_how_often_is_the_callers_choice(week: Path, gallery: GalleryFile) -> None:
    assert [len(group) for group in group_unknowns([week], gallery, None, 5).groups] == [6]
    assert [len(group) for group in group_unknowns([week], gallery, None, 1).groups] == [6, 4, 1]
    assert group_unknowns([week], gallery, 0.999, 2).groups == ()
    assert [len(group) for group in group_unknowns([week], gallery, -0.9, 2).groups] == [11]


@pytest.mark.parametrize(("metric", "distance", "groups"), [("l2", 0.4, 1), ("l2", 0.6, 3), ("cosine", 0.4, 1)])
def test_neighbours_are_as_near_as_the_gallerys_metric_wants(
    tmp_path: Path, metric: Metric, distance: float, groups: int
) -> None:
    """dlib's faces are one person's up to 0.6 apart, so neighbours are nearer: 0.51, a similarity of 0.87."""
    length = 1.4 if metric == "l2" else 1.0
    corners = np.eye(3, 32, dtype=np.float32) * distance / np.sqrt(2)  # each as far from each other as `distance`
    corners[:, 31] = np.sqrt(length**2 - distance**2 / 2)
    path = log(tmp_path / "e.jsonl", *(face(row, None) for row in corners))
    with GalleryFile.open(tmp_path / "m.db", EmbedderId("x", "a" * 64, metric, 32), create=True) as file:
        assert len(group_unknowns([path], file, None, 1).groups) == groups


def test_known_people_and_tracks_that_got_a_name_are_left_out(tmp_path: Path, gallery: GalleryFile) -> None:
    one, two = views(1, 4), views(2, 3)
    faces = [face(row, 1) for row in one[:3]] + [face(one[3], 1, name="ann")] + [face(row, 2) for row in two]
    found = group_unknowns([log(tmp_path / "e.jsonl", *faces)], gallery, None, 1)
    assert [len(group) for group in found.groups] == [3]
    assert {each.track for each in found.groups[0]} == {2}


def test_one_person_in_two_logs_is_one_person(tmp_path: Path, gallery: GalleryFile) -> None:
    rows = views(1, 4)
    logs = [
        log(tmp_path / "monday.jsonl", *(face(row, 1) for row in rows[:2])),
        log(tmp_path / "friday.jsonl", *(face(row, 1) for row in rows[2:])),
    ]
    (group,) = group_unknowns(logs, gallery, None, 3).groups
    assert len(group) == 4
    assert "4 faces of 2 tracks" in next(group_unknowns(logs, gallery, None, 3).lines())


def test_the_best_faces_of_a_group_are_enrolled_with_where_they_came_from(week: Path, gallery: GalleryFile) -> None:
    found = group_unknowns([week], gallery, None, 3)
    assert found.enrol([(1, "ann"), (2, "bob")], gallery, 0.5) == (
        MOST_ENROLLED + 4,
        ["added    ann: 5 faces of person 1", "added    bob: 4 faces of person 2"],
    )
    records = [record for _, record in gallery.records("ann")]
    assert [record.image for record in records] == [f"door frame {frame}" for frame in (9, 8, 7, 6, 5)]
    assert [record.quality for record in records] == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3])
    np.testing.assert_allclose(records[0].vector, views(2, 6)[5], atol=1e-5)


def test_a_group_that_looks_like_somebody_or_is_there_already_is_not_enrolled(week: Path, gallery: GalleryFile) -> None:
    found = group_unknowns([week], gallery, None, 3)
    found.enrol([(1, "ann")], gallery, 0.5)
    added, lines = found.enrol([(1, "eve"), (2, "bob")], gallery, 0.5)
    assert (added, lines) == (4, ["refused  person 1: looks like ann (1.00)", "added    bob: 4 faces of person 2"])
    assert found.enrol([(1, "ann")], gallery, 0.5) == (0, ["refused  person 1: already there, as ann"])
    assert [(person.name, person.count) for person in gallery.people()] == [("ann", MOST_ENROLLED), ("bob", 4)]


def test_nobody_unknown_makes_no_group(tmp_path: Path, gallery: GalleryFile) -> None:
    path = log(tmp_path / "e.jsonl", face(views(1, 1)[0], 1, name="ann"))
    found = group_unknowns([path], gallery, None, 1)
    assert list(found.lines()) == ["0 unknown people, 0 faces belong to none; 1 face in the logs"]


@pytest.mark.parametrize(
    "fields", [{"embedder": "b" * 64}, {"encoding": [0.5] * 16}, {"embedder": None, "encoding": [0.5] * 16}]
)
def test_encodings_of_another_encoder_are_refused(tmp_path: Path, gallery: GalleryFile, fields: dict[str, Any]) -> None:
    path = log(tmp_path / "e.jsonl", face(views(1, 1)[0], 1) | fields)
    with pytest.raises(GalleryError, match=r"of another encoder .* cannot be compared with those of mobilefacenet"):
        group_unknowns([path], gallery, None, 1)


# ---- NUMBER=NAME


def test_choices_are_numbers_and_names() -> None:
    assert parse_choices(["1=ann", " 3 = Zoë = x "], 3) == [(1, "ann"), (3, "Zoë = x")]
    assert parse_choices([], 0) == []


@pytest.mark.parametrize("text", ["ann", "1", "1=", "1= ", "=ann", "x=ann", "-1=ann", "1.0=ann", "²=ann", ""])
def test_a_choice_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--enrol .*: write NUMBER=NAME, such as 1=ann$"):
        parse_choices([text], 5)


def test_a_group_gets_one_name() -> None:
    with pytest.raises(ConfigError, match="person 1 is enrolled already by another --enrol"):
        parse_choices(["1=ann", "2=bob", "1=eve"], 2)


@pytest.mark.parametrize("number", [0, 3, 99999999999999999999])
def test_a_number_that_nobody_has_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=r"^--enrol '.*=ann': there are 2 unknown people$"):
        parse_choices([f"{number}=ann"], 2)
