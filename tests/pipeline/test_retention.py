"""Retention: the oldest goes first, nothing foreign does, and what is written now stays."""

from __future__ import annotations

import locale
import logging
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline.sinks.clip import find_clips
from pipeline.sinks.file_names import dated, files_of, root_of, wrong_directive
from pipeline.sinks.retention import MANY, Kept, Retention


def files(folder: Path, ages: dict[str, float], size: int = 100) -> None:
    for name, age_s in ages.items():
        (folder / name).write_bytes(b"x" * size)
        os.utime(folder / name, (1000 - age_s, 1000 - age_s))


def retention(
    folder: Path, most_bytes: float | None = None, most_age_s: float | None = None, deleted: list[Path] | None = None
) -> Retention:
    def find() -> Iterator[Kept]:
        yield from (kept for path in folder.iterdir() if (kept := Kept.of([path])) is not None)

    gone: list[Path] = [] if deleted is None else deleted
    return Retention("test", folder, find, most_bytes, most_age_s, clock=lambda: 1000.0, deleted=gone.append)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("rule", "growing", "stay", "holds"),
    [
        ({}, 0, "abcd", True),
        ({"most_bytes": 400}, 0, "abcd", True),
        ({"most_bytes": 399}, 0, "bcd", True),
        ({"most_bytes": 399}, 100, "cd", True),
        ({"most_bytes": 50}, 40, "", True),
        ({"most_bytes": 50}, 60, "", False),
        ({"most_age_s": 20}, 0, "cd", True),
        ({"most_age_s": 20, "most_bytes": 100}, 0, "d", True),
        ({"most_age_s": 1}, 10**9, "", True),
    ],
)
def test_the_oldest_go_until_the_rule_holds(
    tmp_path: Path, rule: dict[str, float], growing: int, stay: str, holds: bool
) -> None:
    files(tmp_path, {"a": 40, "b": 30, "c": 20, "d": 10})
    keeper = retention(tmp_path, rule.get("most_bytes"), rule.get("most_age_s"))
    keeper.look()
    assert keeper.make_room(growing) is holds
    assert left(tmp_path) == set(stay)


def test_what_is_spared_stays_and_does_not_count(tmp_path: Path) -> None:
    files(tmp_path, {"a": 40, "b": 30, "c": 20})
    keeper = retention(tmp_path, most_bytes=150)
    keeper.look([tmp_path / "a"])
    assert keeper.make_room()
    assert left(tmp_path) == {"a", "c"}


def test_what_cannot_be_deleted_is_said_once_and_the_next_one_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").mkdir()  # unlink refuses a folder, whoever asks
    files(tmp_path, {"b": 30, "c": 20})
    os.utime(tmp_path / "a", (1, 1))
    keeper = retention(tmp_path, most_bytes=150)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            keeper.look()
            keeper.make_room()
    assert left(tmp_path) in ({"a", "c"}, {"a"})
    assert [record.getMessage().startswith(f"test: cannot delete {tmp_path / 'a'}") for record in caplog.records] == [
        True
    ]


def test_where_there_are_many_only_what_was_written_since_is_looked_at(tmp_path: Path) -> None:
    count = MANY + 2
    files(tmp_path, {f"{number:05d}": 900 - number / 2 for number in range(count)}, size=10)
    gone: list[Path] = []
    keeper = retention(tmp_path, most_bytes=10 * count, deleted=gone)
    keeper.look()
    files(tmp_path, {"foreign": 0.0})
    keeper.look([tmp_path / "00000"])  # it is written anew
    assert keeper.make_room(10)
    assert gone == [], "what others write is not seen"
    assert not keeper.make_room(10 * count + 1)  # whatever goes, what is being written is too much
    assert len(gone) == count - 1
    assert left(tmp_path) == {"00000", "foreign"}
    keeper.look()  # few are left: this is real again
    assert keeper.make_room()
    assert left(tmp_path) == {"00000", "foreign"}


def test_what_has_been_finished_counts_and_goes_last(tmp_path: Path) -> None:
    files(tmp_path, {f"{number:05d}": 900 - number / 2 for number in range(MANY + 1)}, size=10)
    gone: list[Path] = []
    keeper = retention(tmp_path, most_bytes=10 * (MANY + 1), deleted=gone)
    keeper.look()
    files(tmp_path, {"new": 0.0}, size=15)
    for _ in range(2):  # twice is once
        keeper.add([tmp_path / "new"])
    keeper.add([tmp_path / "missing"])
    assert keeper.make_room()
    assert gone == [tmp_path / "00000", tmp_path / "00001"]
    assert not keeper.make_room(10**6)
    assert gone[-1] == tmp_path / "new"


CLIP = "cam-20260101-100000-zone.enter"


def test_only_clips_with_their_record_are_ours(tmp_path: Path) -> None:
    own = [f"{CLIP}.mp4", f"{CLIP}.jpg", f"{CLIP}.json", f"{CLIP}-2.mp4", f"{CLIP}-2.json"]
    foreign = [
        "cam-20260101-110000-zone.enter.mp4", "holiday.mp4", "holiday.json", "cam-2026-x.mp4", "cam-2026-x.json",
        f"{CLIP}.txt", f"{CLIP}.mp4.bak",
    ]  # fmt: skip
    files(tmp_path, dict.fromkeys((*own, *foreign), 10.0))
    found = sorted(find_clips(tmp_path), key=lambda kept: len(kept.paths))
    assert [[path.name for path in kept.paths] for kept in found] == [own[3:], own[:3]]
    assert [kept.size for kept in found] == [200, 300]
    assert list(find_clips(tmp_path / "missing")) == []


@pytest.mark.parametrize(
    ("path", "own", "foreign"),
    [
        ("out.mp4", ["out-001.mp4", "out-12345.mp4"], ["out.mp4", "out-1.mp4", "out-001.mkv", "xout-001.mp4"]),
        ("%Y.mp4", ["2026.mp4", "2026-2.mp4"], ["026.mp4", "2026-a.mp4", "2026x.mp4", "x2026.mp4"]),
        ("a/%H-%M/x%%%S.mp4", ["a/10-59/x%07.mp4"], ["a/10-59/x07.mp4", "a/10/x%07.mp4", "b/10-59/x%07.mp4"]),
        ("%b %A (%j).mp4", ["Jan Monday (001).mp4"], ["Jan Monday 001.mp4", "1 2 (001).mp4", "Jan Mon (001).mp4"]),
        ("%A.mp4", ["Monday.mp4", "Monday-2.mp4"], ["Wedding.mp4", "monday.mp4", "Mondays.mp4"]),
        ("%a-%B%p.mp4", ["Sun-MayAM.mp4", "Sun-MayPM.mp4"], ["Sun-May.mp4", "Sun-MayXM.mp4", "Sea-MayAM.mp4"]),
    ],
)  # fmt: skip
def test_a_files_name_tells_whether_a_recording_made_it(
    tmp_path: Path, path: str, own: list[str], foreign: list[str]
) -> None:
    for name in (*own, *foreign):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert {file.relative_to(tmp_path).as_posix() for file in files_of([tmp_path / path])} == set(own)


def test_the_names_of_days_are_those_that_strftime_gives_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = locale.setlocale(locale.LC_TIME)
    german = next((name for name in ("de_DE.UTF-8", "de_DE.utf8", "de_DE") if can_set(name)), None)
    try:
        for number in range(366):
            path = dated(tmp_path / "%a %A %b %B %p.mp4", datetime(2024, 1, 1, number % 24) + timedelta(days=number))
            path.write_bytes(b"x")
            assert list(files_of([tmp_path / "%a %A %b %B %p.mp4"])) == [path]
            path.unlink()
        if german is not None:
            (tmp_path / "Montag.mp4").write_bytes(b"x")
            assert list(files_of([tmp_path / "%A.mp4"])) == [tmp_path / "Montag.mp4"]
    finally:
        locale.setlocale(locale.LC_TIME, before)


def can_set(name: str) -> bool:
    try:
        locale.setlocale(locale.LC_TIME, name)
    except locale.Error:
        return False
    return True


def test_names_are_found_in_the_folder_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2026.mp4").write_bytes(b"x")
    assert list(files_of([Path("%Y.mp4")])) == [Path("2026.mp4")]
    assert root_of(Path("a/%Y/b/%d.mp4")) == Path("a")


def test_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "10.mp4").write_bytes(b"x")
    (tmp_path / "2026").symlink_to(elsewhere)
    assert list(files_of([tmp_path / "%Y" / "%H.mp4"])) == []


@pytest.mark.parametrize(("path", "wrong"), [("%Y/%%d%.mp4", "%."), ("a%", "%"), ("%Y%m%d", None), ("%%Q", None)])
def test_the_first_wrong_directive_is_found(path: str, wrong: str | None) -> None:
    assert wrong_directive(Path(path)) == wrong
