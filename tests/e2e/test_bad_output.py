"""Results that cannot be written: refused before the run where that can be known, else a clear failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.program import NO_MODEL, frameloom
from tests.pipeline.videos import encode, grey_video, look_into, noise_planes


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    grey_video(tmp_path / "clip.mp4", 20)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.mp4").mkdir()
    return tmp_path


@pytest.mark.parametrize("option", ["--record", "--events", "--frames"])
@pytest.mark.parametrize("place", ["file/out.mp4", "/proc/frameloom/out.mp4"])
def test_a_place_below_a_file_or_in_proc_is_refused(desk: Path, option: str, place: str) -> None:
    done = frameloom("run", "--source", "clip.mp4", option, place, *NO_MODEL, cwd=desk)
    assert "cannot write to folder" in done.complaint
    assert done.code == 2
    assert (desk / "file").read_text() == "precious"


def test_a_folder_as_a_file_and_a_source_as_a_result_are_refused(desk: Path) -> None:
    before = (desk / "clip.mp4").read_bytes()
    for option, place in (("--record", "folder.mp4"), ("--events", "folder.mp4"), ("--record", "clip.mp4")):
        done = frameloom("run", "--source", "clip.mp4", option, place, *NO_MODEL, cwd=desk)
        assert done.code == 2
        assert "frameloom: " in done.error
        assert "Traceback" not in done.error
    assert (desk / "clip.mp4").read_bytes() == before


def test_a_source_that_a_recording_would_replace_is_kept(desk: Path) -> None:
    grey_video(desk / "out-a.mp4", 5)
    before = (desk / "out-a.mp4").read_bytes()
    (desk / "run.yaml").write_text("sources: [{url: out-a.mp4, name: a}, clip.mp4]\nsinks: {record: out.mp4}\n")
    done = frameloom("run", "run.yaml", *NO_MODEL, cwd=desk)
    assert "it would be overwritten" in done.complaint
    assert done.code == 2
    assert (desk / "out-a.mp4").read_bytes() == before


def test_a_missing_folder_is_made(desk: Path) -> None:
    done = frameloom("run", "--source", "clip.mp4", "--record", "a/b/out.mp4", *NO_MODEL, cwd=desk)
    assert (done.code, done.error) == (0, "")
    assert len(look_into(desk / "a" / "b" / "out.mp4").times) == 20


def test_an_encoder_without_its_hardware_is_replaced_and_that_is_said(desk: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    encoder = ("--set", "sinks.record.encoder=h264_nvenc")
    done = frameloom("run", "--source", "clip.mp4", "--record", "out.mp4", *encoder, *NO_MODEL, cwd=desk)
    assert done.code == 0
    assert "sinks.record.encoder: h264_nvenc does not work here" in done.error
    assert len(look_into(desk / "out.mp4").times) == 20


@pytest.fixture
def tiny_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("1m")


def test_a_full_disk_fails_the_run_and_keeps_what_was_recorded(desk: Path, tiny_disk: Path) -> None:
    noise = [noise_planes(320, 240, seed).to_video_frame() for seed in range(120)]
    encode(desk / "noise.mp4", noise, options={"preset": "ultrafast"})
    record = tiny_disk / "out.mp4"
    done = frameloom("run", "--source", "noise.mp4", "--record", record, "--events", "log.jsonl", *NO_MODEL, cwd=desk)
    assert done.complaint == f"cannot record to {record}: No space left on device"
    assert done.code == 1
    assert len(look_into(record).times) >= 1
    assert '"type":"summary"' in (desk / "log.jsonl").read_text().splitlines()[-1]


def test_a_full_disk_costs_lines_of_the_log_and_not_the_run(desk: Path, disk_of: Callable[[str], Path]) -> None:
    log = disk_of("16k") / "log.jsonl"
    done = frameloom("run", "--source", "synthetic://64x64?frames=300", "--events", log, *NO_MODEL, cwd=desk)
    assert done.code == 0
    whole = [json.loads(line) for line in log.read_text().splitlines()]
    frames = [line["frame"] for line in whole if line["type"] == "frame"]
    assert frames == list(range(len(frames)))
    missing = 301 - len(whole)
    assert f"note: sinks.events: {missing} lines are missing in {log}: the disk was full" in done.out
    assert f"sinks.events: cannot write to {log}: No space left on device" in done.error
    assert len(done.error.splitlines()) == 1
