"""Clips and kept segments of the real program: events of a real run, Ctrl-C, a kill, and requests that are wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import (
    ENDLESS,
    MODELS,
    NO_MODEL,
    begin,
    environment,
    events,
    frameloom,
    number_of_lines,
    run,
    times_of,
    until,
)

REPOSITORY = Path(__file__).resolve().parents[2]

ZONE = "zones: [{name: all, polygon: [[0, 0], [1, 0], [1, 1], [0, 1]], debounce_s: 0}]\n"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")


def configure(folder: Path, clips: str, rest: str = "") -> tuple[str, ...]:
    (folder / "run.yaml").write_text(f"clips: {{{clips}}}\n{rest}")
    return ("run.yaml",)


def clip_records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@needs_models
@pytest.mark.parametrize("record", [(), ("--record", "out.mp4")], ids=["clips alone", "encoded once with a recording"])
def test_an_event_of_a_real_run_makes_a_clip(tmp_path: Path, shared: Path, record: Sequence[str]) -> None:
    settings = configure(tmp_path, "on: [zone.enter], folder: seen, before_s: 1, after_s: 2, max_s: 60", ZONE)
    film = str(shared / "data" / "videos" / "vtest.avi")
    done = run(tmp_path, *settings, "--source", film, "--max-frames", "60", "--events", "events.jsonl", *record)
    assert done.returncode == 0, done.stderr
    entered = [line for line in events(tmp_path / "events.jsonl") if line.get("event") == "zone.enter"]
    assert entered
    (about,) = clip_records(tmp_path / "seen")
    assert about["source"] == "vtest"
    assert [line["frame"] for line in about["events"]] == [line["frame"] for line in entered]
    path = tmp_path / "seen" / about["file"]
    assert path.with_suffix(".jpg").stat().st_size > 5000
    times = times_of(path)
    assert times[0] == 0
    assert about["pts"] <= max(0.0, entered[0]["pts"] - 1) + 1e-6
    last = min(entered[-1]["pts"] + 2, max(e["pts"] for e in events(tmp_path / "events.jsonl") if "pts" in e))
    assert about["pts"] + times[-1] == pytest.approx(last, abs=0.11)
    if record:
        assert len(times_of(tmp_path / "out.mp4")) == 60


SCRIPT = """
from pipeline.api import Pipeline
from pipeline.stage import Stage

class Alarm(Stage):
    name = "alarm"
    def process(self, frame):
        if frame.index == 40:
            frame.events.append({"event": "alarm.test"})

with Pipeline("run.yaml", stages=[Alarm()]) as pipeline:
    for frame in pipeline:
        pass
"""


def test_clips_need_a_source_with_time(tmp_path: Path, shared: Path) -> None:
    settings = configure(tmp_path, "on: ['*']")
    done = frameloom("run", *settings, "--source", shared / "data" / "images", *NO_MODEL, cwd=tmp_path)
    assert done.code == 2
    assert "is images, which have no time: clips need videos or cameras" in done.complaint


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    settings = configure(tmp_path, "on: ['*'], folder: /proc/clips")
    done = frameloom("run", *settings, "--source", ENDLESS, *NO_MODEL, cwd=tmp_path)
    assert done.code == 2
    assert done.complaint.startswith("clips.folder: cannot write to folder /proc/clips: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clips: {on: [zone.enter], max_s: 6}", "max_s 6 is too short for before_s 5: at least 2 seconds more"),
        ("clips: {on: ['zone enter']}", "names no event"),
        ("sinks: {record: 'rec/%Q.mp4'}", "holds '%Q', which stands for no time; these do: %Y "),
        (
            "sinks: {record: {path: a.mp4, keep_mb: 5}}",
            "keep_mb needs segment_s, or times such as %Y%m%d-%H%M%S in path",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.yaml").write_text(text + "\n")
    done = frameloom("run", "run.yaml", "--source", ENDLESS, *NO_MODEL, cwd=tmp_path)
    assert done.code == 2
    assert "run.yaml:1:" in done.error
    assert said in done.error


def test_segments_named_by_time_are_kept_within_their_limit(tmp_path: Path) -> None:
    rest = "sinks: {record: {path: 'rec/%Y/%m%d-%H%M%S.mp4', segment_s: 1, keep_mb: 0.2}}\n"
    process = begin(tmp_path, *configure(tmp_path, "", rest), "--source", ENDLESS, *NO_MODEL)
    seen: set[Path] = set()

    def has_deleted() -> bool:
        there = set((tmp_path / "rec").rglob("*.mp4"))
        seen.update(there)
        assert sum(path.stat().st_size for path in there if path.exists()) <= 250_000
        return len(seen - there) >= 2

    until(has_deleted, process, within_s=60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    left = sorted((tmp_path / "rec").rglob("*.mp4"))
    assert left
    assert all(len(times_of(path)) > 3 for path in left)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("record", ["null", "out.mp4"], ids=["clips alone", "encoded once with a recording"])
def test_a_clip_that_is_being_recorded_plays_after_ctrl_c_and_after_a_kill(
    tmp_path: Path, number: signal.Signals, record: str
) -> None:
    rest = f"sources: ['{ENDLESS}']\ndetect: {{enabled: false}}\nsinks: {{events: log.jsonl, record: {record}}}\n"
    configure(tmp_path, "on: ['alarm.*'], before_s: 1, after_s: 600, max_s: 1000", rest)
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: number_of_lines(tmp_path / "log.jsonl") > 150, process)
    before = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=10)
    assert time.monotonic() - before < 2.5
    (about,) = clip_records(tmp_path / "clips")
    alarm = next(line for line in events(tmp_path / "log.jsonl") if line["type"] == "event")
    times = times_of(tmp_path / "clips" / about["file"])
    assert times[0] == 0
    assert times[-1] > 3.0
    assert (tmp_path / "clips" / about["file"]).with_suffix(".jpg").exists()
    assert (about["duration_s"] is None) == (number == signal.SIGKILL)
    if number == signal.SIGINT:
        (event,) = about["events"]
        assert 1 <= event["clip_s"] <= 2.1
        assert about["pts"] + event["clip_s"] == pytest.approx(alarm["pts"], abs=2e-3)
