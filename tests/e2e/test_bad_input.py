"""What a user gives by mistake: one clear line, the right exit code, no traceback, and nothing of theirs is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.program import NO_MODEL, frameloom
from tests.pipeline.videos import encode, grey_picture, grey_video, look_into, sound_only

PRECIOUS = ("out.mp4", "log.jsonl")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with one of each mistake in it, and results of an earlier run that must survive."""
    (tmp_path / "text.mp4").write_text("This is a text.\n" * 100)
    (tmp_path / "notes.txt").write_text("This is a text.\n" * 100)
    (tmp_path / "text.png").write_text("This is a text.\n" * 100)
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("x")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (tmp_path / "torn" / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 50)
    sound_only(tmp_path / "song.m4a")
    clip = grey_video(tmp_path / "clip.mp4", 30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(clip[: clip.index(b"moov") - 20])
    for name in PRECIOUS:
        (tmp_path / name).write_text(f"precious {name}")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.mp4", "no such file: nothing.mp4"),
        ("no/folder/clip.mp4", "no such file"),
        ("text.mp4", "text.mp4 is not a video that can be read: its format is not recognised"),
        ("notes.txt", "it is text"),
        ("text.png", "text.png is not an image that can be read"),
        ("zero.mp4", "zero.mp4 is empty (0 bytes)"),
        ("zero.jpg", "zero.jpg is empty (0 bytes)"),
        ("cut.mp4", "cut off before it was finished"),
        ("song.m4a", "song.m4a has no video stream (streams: audio)"),
        ("empty", "empty holds no images"),
        ("documents", "documents holds no images"),
        ("torn", "torn: none of the 2 images can be read"),
        ("*.bmp", "no image matches *.bmp"),
        ("t*.mp4", "of a glob only images are taken"),
        ("synthetic://63x48", "must be even"),
        ("synthetic://x", "is not of the form"),
        ("rstp://user:s3cret@cam/live", "did you mean rtsp://"),
        ("x" * 300 + ".mp4", "File name too long"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_in_one_line(desk: Path, source: str, message: str) -> None:
    done = frameloom("run", "--source", source, "--record", "out.mp4", "--events", "log.jsonl", *NO_MODEL, cwd=desk)
    assert message in done.complaint
    assert done.code == 2
    assert done.out == ""
    assert "s3cret" not in done.error
    assert [(desk / name).read_text() for name in PRECIOUS] == [f"precious {name}" for name in PRECIOUS]


def test_one_bad_source_among_good_ones_refuses_the_run(desk: Path) -> None:
    done = frameloom(
        "run", "--source", "clip.mp4", "--source", "text.mp4", "--events", "log.jsonl", *NO_MODEL, cwd=desk
    )
    assert "text.mp4" in done.complaint
    assert done.code == 2
    assert (desk / "log.jsonl").read_text() == "precious log.jsonl"


def run(desk: Path, *arguments: str) -> tuple[str, list[dict[str, object]]]:
    """Run to a good end in silence; return what was said and the log."""
    done = frameloom("run", *arguments, "--events", "log.jsonl", *NO_MODEL, cwd=desk)
    assert (done.code, done.error) == (0, "")
    return done.out, [json.loads(line) for line in (desk / "log.jsonl").read_text().splitlines()]


def test_of_a_damaged_film_the_rest_is_used_and_a_note_says_how_much(desk: Path) -> None:
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 255, (96, 128, 3)).astype(np.uint8) for _ in range(40)]
    path = encode(desk / "film.mp4", noise, gop=8, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out, lines = run(desk, "--source", "film.mp4", "--record", "new.mp4")
    count = len(lines) - 1
    assert 10 < count < 30
    assert f"note: film.mp4: damaged or truncated; {count} of about 40 frames decoded" in out
    assert len(look_into(desk / "new.mp4").times) == count


def test_an_unreadable_image_in_a_folder_is_counted_and_named(desk: Path) -> None:
    encode(desk / "torn" / "c.png", [grey_picture(64, 48, 90)], codec="png", pix_fmt="rgb24")
    out, lines = run(desk, "--source", "torn")
    assert [line.get("file") for line in lines] == ["torn/c.png", None]
    assert lines[-1]["sources"]["torn"]["dropped"]["corrupt"] == 2  # type: ignore[index]
    assert "2 of 3 images cannot be read: a.png, b.jpg" in out


def test_a_file_cut_short_by_max_frames_is_not_called_damaged(desk: Path) -> None:
    out, lines = run(desk, "--source", "clip.mp4", "--max-frames", "5")
    assert len(lines) == 6
    assert "note" not in out


def test_odd_names_and_two_of_a_kind_work(desk: Path) -> None:
    clip = (desk / "clip.mp4").read_bytes()
    (desk / "b").mkdir()
    for name in ("ü 猫.mp4", "a[1].mp4", "b/a[1].mp4", "c:d.mp4"):
        (desk / name).write_bytes(clip)
    sources = [part for name in ("ü 猫.mp4", "a[1].mp4", "b/a[1].mp4", "c:d.mp4") for part in ("--source", name)]
    _, lines = run(desk, *sources, "--record", "new.mp4")
    names = {"ü_猫", "a_1", "a_1-2", "c_d"}
    assert set(lines[-1]["sources"]) == names  # type: ignore[call-overload]
    assert all(len(look_into(desk / f"new-{name}.mp4").times) == 30 for name in names)


def test_a_change_of_size_in_mid_stream_makes_a_second_recording(desk: Path) -> None:
    small, large = grey_video(desk / "a.ts", 10), grey_video(desk / "b.ts", 10, size=(128, 96))
    (desk / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    _, lines = run(desk, "--source", "both.ts", "--record", "new.mp4")
    assert len(lines) == 21
    assert look_into(desk / "new.mp4").sizes == {(64, 48)}
    assert look_into(desk / "new-002.mp4").sizes == {(128, 96)}


def test_files_of_different_rates_keep_step_in_the_grid(desk: Path) -> None:
    grey_video(desk / "slow.mp4", 20, rate=5, options={"qp": "1"})
    grey_video(desk / "fast.mp4", 200, rate=50, options={"qp": "1"})
    how = ("--set", "sinks.record.layout=grid", "--set", "sinks.record.crf=1", "--set", "render.enabled=false")
    run(desk, "--source", "slow.mp4", "--source", "fast.mp4", "--record", "new.mp4", *how)
    seen = look_into(desk / "new.mp4")
    assert seen.times == pytest.approx([index / 50 for index in range(200)], abs=1e-3)
    for index, image in enumerate(seen.images):
        slow, fast = image[5:40, 5:55].mean(), image[5:40, 70:120].mean()
        assert fast == pytest.approx(20 + 4 * index % 200, abs=4)
        assert slow == pytest.approx(20 + 4 * (index // 10), abs=4)
