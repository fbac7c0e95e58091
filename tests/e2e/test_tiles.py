"""The real program with tiles, a region, motion: every frame accounted for, and a stop in the middle of its tiles."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.e2e.program import ENDLESS, MODELS, begin, events, number_of_lines, run, until

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")
VIDEO = SHARED / "data" / "videos" / "vtest.avi"


@pytest.mark.parametrize(
    ("source", "sets"),
    [
        pytest.param(str(VIDEO), ("detect.tiles=2x2",), id="tiles"),
        pytest.param(
            f"{{url: {VIDEO}, detect_in: [300, 0, 400, 500]}}", ("detect.tiles=auto",), id="tiles in a region"
        ),
        pytest.param(str(VIDEO), ("detect.when=motion", "detect.every=2"), id="motion"),
    ],
)
def test_every_frame_is_detected_in_and_accounted_for(tmp_path: Path, source: str, sets: tuple[str, ...]) -> None:
    options = [part for each in sets for part in ("--set", each)]
    done = run(tmp_path, "--source", source, "--max-frames", "12", "--events", "e.jsonl", *options)
    assert (done.returncode, done.stderr) == (0, "")
    *frames, summary = events(tmp_path / "e.jsonl")
    assert summary["sources"]["vtest"]["captured"] == summary["sources"]["vtest"]["delivered"] == len(frames) == 12
    assert all(line["detections"] for line in frames)


@pytest.mark.parametrize("live", [False, True], ids=["two files", "a camera"])
def test_a_run_is_stopped_within_2_s_in_the_middle_of_its_tiles(tmp_path: Path, live: bool) -> None:
    sources = [ENDLESS.replace("640x480", "1920x1080") + ("?live=1" if live else "")] * (1 if live else 2)
    named = [part for source in sources for part in ("--source", source)]
    process = begin(tmp_path, *named, "--events", "e.jsonl", "--set", "detect.tiles=4x6")
    until(lambda: number_of_lines(tmp_path / "e.jsonl") > 3, process)
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - before < 2.2
    assert (process.returncode, err) == (0, "")
    assert "abandoned" not in out
    for counts in events(tmp_path / "e.jsonl")[-1]["sources"].values():
        assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--source", f"{{url: {VIDEO}, detect_in: [700, 0, 100, 100]}}", "--events", "e.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "frameloom: vtest: detect_in [700, 0, 100, 100] (left, top, width, height) reaches beyond the picture, which "
        "is 768 x 576\n"
    )
