"""Unknown faces: the best of each unnamed track are read, grouped as a brute-force DBSCAN does, damage is counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from tools import unknowns
from tools.unknowns import cluster, read_unknowns


def people(sizes: list[int], noise: int, spread: float, seed: int = 0) -> tuple[FloatArray, np.ndarray]:
    """Unit vectors around one direction a person, then some of nobody; and whose they are."""
    rng = np.random.default_rng(seed)
    rows = [centre + spread * rng.normal(size=(size, 32)) for size in sizes for centre in [rng.normal(size=32)]]
    everything = np.concatenate([*rows, rng.normal(size=(noise, 32))])
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(noise, -1)])
    return np.float32(everything / np.linalg.norm(everything, axis=1, keepdims=True)), labels


# ---- grouping


def test_people_are_told_apart_and_numbered_by_size() -> None:
    encodings, labels = people([4, 12, 7], noise=9, spread=0.3)
    found = cluster(encodings, "cosine", 0.7, 3)
    expected = np.select([labels == 1, labels == 2, labels == 0], [0, 1, 2], -1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("min_faces", [1, 2, 4])
def test_groups_are_those_of_the_definition(similarity: float, min_faces: int) -> None:
    """Core faces that reach each other are one group; a face that reaches a core belongs to a group that it reaches."""
    encodings, _ = people([5, 9, 6], noise=10, spread=0.6, seed=3)
    near = encodings @ encodings.T >= similarity
    core = near.sum(axis=1) >= min_faces
    linked = np.linalg.matrix_power((near & core[:, None] & core).astype(float), 30) > 0
    found = cluster(encodings, "cosine", similarity, min_faces)
    np.testing.assert_array_equal(found[core][:, None] == found[core], linked[core][:, core])
    for row in np.flatnonzero(~core):
        reached = set(found[core & near[row]].tolist())
        assert found[row] in (reached or {-1})


def test_cosine_encodings_are_normalised_and_l2_ones_are_not() -> None:
    encodings = np.array([[1, 0], [5, 0], [0, 1]], np.float32)
    assert cluster(encodings, "cosine", 0.9, 2).tolist() == [0, 0, -1]
    assert cluster(encodings, "l2", 0.9, 2).tolist() == [-1, -1, -1]
    assert cluster(np.array([[3, 0], [3.5, 0]], np.float32), "l2", 0.82, 2).tolist() == [0, 0]


def test_equally_large_groups_are_numbered_as_they_come() -> None:
    encodings = np.eye(3, dtype=np.float32)[[2, 0, 1, 0, 2, 1, 1]]
    assert cluster(encodings, "cosine", 0.9, 2).tolist() == [1, 2, 0, 2, 1, 0, 0]


def test_no_faces_make_no_group() -> None:
    assert cluster(np.empty((0, 0), np.float32), "cosine", 0.5, 3).shape == (0,)


@pytest.mark.parametrize(("similarity", "min_faces"), [(1.0, 3), (float("nan"), 3), (0.5, 0)])
def test_settings_that_make_no_sense_are_refused(similarity: float, min_faces: int) -> None:
    with pytest.raises(GalleryError, match=r"give one below 1|give 1 or more"):
        cluster(np.eye(3, dtype=np.float32), "cosine", similarity, min_faces)


def test_without_scikit_learn_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(GalleryError, match=r"pip install 'frameloom\[train\]'"):
        cluster(np.eye(3, dtype=np.float32), "cosine", 0.5, 3)


# ---- reading


def face(value: float, quality: float | None = 0.5, track: int | None = 1, **more: Any) -> dict[str, Any]:
    box = [1.0, 2.0, 30.0, 40.0]
    return {"box": box, "encoding": [value, 0.5], "quality": quality, "name": None, "track": track, **more}


def frame(number: int, *faces: Any, source: str = "door") -> dict[str, Any]:
    return {"type": "frame", "source": source, "frame": number, "faces": list(faces)}


Log = Callable[..., Path]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    def write(*lines: Any, name: str = "events.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(
            b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)
        )
        return path

    return write


def test_the_best_faces_of_each_track_are_kept(log: Log) -> None:
    path = log(
        *(frame(n, face(n, quality=[0.1, 0.9, 0.3, 0.8, 0.2][n])) for n in range(5)),
        frame(5, face(5, track=2), face(6, track=2, quality=None)),
        frame(6, face(7), source="hall"),
        {"type": "source", "source": "door", "state": "streaming"},
        {"type": "summary", "fps": 1.0},
    )
    found = read_unknowns([path], per_track=2)
    assert found.encodings[:, 0].tolist() == [1, 3, 5, 6, 7]
    assert [(each.source, each.frame, each.track) for each in found.sightings] == [
        ("door", 1, 1),
        ("door", 3, 1),
        ("door", 5, 2),
        ("door", 5, 2),
        ("hall", 6, 1),
    ]
    assert found.sightings[0].box == (1.0, 2.0, 30.0, 40.0)
    assert [each.quality for each in found.sightings] == [0.9, 0.8, 0.5, 0.0, 0.5]
    assert (found.faces, found.damaged) == (8, 0)


def test_a_track_that_is_named_at_any_time_is_known(log: Log) -> None:
    path = log(
        frame(0, face(0), face(10, track=2)),
        frame(1, face(1, name="ann"), face(11, track=2)),
        frame(2, face(2), face(12, name="ben", track=None), face(13, track=None)),
        frame(3, face(3, track=1), source="hall"),
    )
    assert sorted(read_unknowns([path]).encodings[:, 0].tolist()) == [3, 10, 11, 13]


def test_tracks_of_two_logs_are_not_mixed_up(log: Log) -> None:
    first = log(frame(0, face(0)), frame(1, face(1, name="ann")))
    second = log(frame(0, face(2)), name="other.jsonl")
    found = read_unknowns([first, second])
    assert [(each.log, each.frame) for each in found.sightings] == [(second, 0)]


def test_faces_without_a_track_stand_for_themselves_up_to_a_limit(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(*(frame(n, face(n, quality=n / 10, track=None)) for n in range(10)))
    assert len(read_unknowns([path], per_track=1).sightings) == 10
    monkeypatch.setattr(unknowns, "MAX_LOOSE", 4)
    assert read_unknowns([path], per_track=1).encodings[:, 0].tolist() == [6, 7, 8, 9]


def test_damaged_lines_and_faces_are_counted_and_the_rest_is_read(log: Log) -> None:
    whole = json.dumps(frame(9, face(9))).encode()
    path = log(
        frame(0, face(0)),
        b"\xff\xfe\n",
        b"{\n",
        b"[" * 100_000 + b"\n",
        [1, 2],
        "text",
        {"type": "frame"},
        {"type": "frame", "faces": 3},
        frame(1, "face", face(1, box=None), face(1, encoding=["a"]), face(1, encoding=[[1.0]]), face(1, encoding=[])),
        frame(2, face(float("nan")), face(1e300), face(10**400), face(1, quality=float("nan"))),
        frame(3, face(3, track=2)),
        whole[: len(whole) // 2],
    )
    found = read_unknowns([path])
    assert found.encodings[:, 0].tolist() == [0, 3]
    assert found.damaged == 4 + 5 + 4


def test_a_log_without_encodings_says_how_to_get_them(log: Log) -> None:
    bare = {"box": [0, 0, 1, 1], "name": None, "track": 1}
    with pytest.raises(GalleryError, match=r"run with --set sinks\.events\.encodings=true"):
        read_unknowns([log(frame(0, face(0))), log(frame(0, bare), name="bare.jsonl")])


def test_a_log_in_which_everybody_is_known_is_no_error(log: Log) -> None:
    found = read_unknowns([log(frame(0, face(0, name="ann")))])
    assert found.encodings.shape == (0, 0)
    assert found.faces == 1


@pytest.mark.parametrize("content", [b"", b"not a log\n", b'{"type":"frame","source":"a","frame":0,"faces":[]}\n'])
def test_a_log_without_faces_is_said_to_have_none(content: bytes, log: Log) -> None:
    with pytest.raises(GalleryError, match="holds no faces"):
        read_unknowns([log(content)])


def test_logs_of_two_embedders_are_refused(log: Log) -> None:
    other = log(frame(0, face(0, encoding=[1.0, 2.0, 3.0])), name="other.jsonl")
    with pytest.raises(GalleryError, match="encodings of 2 and 3 numbers"):
        read_unknowns([log(frame(0, face(0))), other])


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be read: No such file"):
        read_unknowns([tmp_path / "none.jsonl"])
