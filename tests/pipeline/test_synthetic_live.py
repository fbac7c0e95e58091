"""The test pattern as a camera: in real time, by itself and in a run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipeline import Pipeline
from pipeline.capture.synthetic import Synthetic
from pipeline.errors import SourceError
from pipeline.frame import Frame
from tests.e2e.program import events

STEP_S = 0.02
CAMERA = "synthetic://64x48@50?live=1"
LATE_S = 0.5
"""What a busy machine may add anywhere."""


def opened(url: str) -> Synthetic:
    source = Synthetic("cam", url)
    source.open()
    return source


def taken(source: Synthetic) -> list[Frame]:
    return [item for item in source.frames() if isinstance(item, Frame)]


@pytest.mark.parametrize(
    ("query", "live", "frames"),
    [
        ("", False, None),
        ("?live=1", True, None),
        ("?live=0", False, None),
        ("?frames=9", False, 9),
        ("?frames=9&live=1", True, 9),
        ("?live=1&frames=9", True, 9),
    ],
)
def test_what_follows_the_question_mark_may_come_in_any_order(query: str, live: bool, frames: int | None) -> None:
    info = Synthetic("cam", f"synthetic://64x48@50{query}").info
    assert (info.live, info.frames) == (live, frames)


@pytest.mark.parametrize("query", ["live", "live=2", "live=1&live=1", "live=1&", "&live=1", "frames=1&alive=1", ""])
def test_a_query_that_is_not_understood_is_refused_with_the_form(query: str) -> None:
    with pytest.raises(SourceError, match=r"is not of the form .*live=1"):
        Synthetic("cam", f"synthetic://64x48@50?{query}")


def test_pictures_come_at_their_rate_and_never_early() -> None:
    source = opened(f"{CAMERA}&frames=26")
    began = time.monotonic()
    frames = taken(source)
    assert [frame.index for frame in frames] == list(range(26))
    for frame in frames:
        assert frame.captured_at - began >= frame.pts
    assert 25 * STEP_S <= frames[-1].captured_at - began < 25 * STEP_S + LATE_S


def test_media_time_is_in_whole_steps_and_the_wall_clock_goes_with_it() -> None:
    frames = taken(opened(f"{CAMERA}&frames=10"))
    ticks = [frame.pts / STEP_S for frame in frames]
    assert ticks == pytest.approx([round(tick) for tick in ticks])
    assert all(frame.wall_time is not None and abs(frame.wall_time - time.time()) < 10 for frame in frames)


def test_pictures_that_nobody_took_in_time_are_lost_and_leave_a_gap_in_media_time() -> None:
    items = opened(CAMERA).frames()
    first = next(items)
    time.sleep(10.5 * STEP_S)
    late, next_one = next(items), next(items)
    assert isinstance(first, Frame)
    assert isinstance(late, Frame)
    assert isinstance(next_one, Frame)
    assert (first.index, late.index, next_one.index) == (0, 1, 2)
    assert 10 * STEP_S <= late.pts <= late.captured_at - first.captured_at + STEP_S / 10
    assert next_one.captured_at - first.captured_at >= next_one.pts > late.pts


def test_a_stop_wakes_it_from_a_long_wait_at_once() -> None:
    source = opened("synthetic://64x48@0.01?live=1")
    items = source.frames()
    next(items)
    threading.Timer(0.1, source.stop).start()
    began = time.monotonic()
    assert next(items, None) is None
    assert 0.05 < time.monotonic() - began < 0.1 + LATE_S


def test_a_run_takes_it_as_live_drops_what_is_too_much_and_accounts_for_it(tmp_path: Path) -> None:
    config = {
        "sources": [f"{CAMERA}&frames=50"],
        "detect": {"enabled": False},
        "sinks": {"events": str(tmp_path / "events.jsonl")},
    }
    pipeline = Pipeline(config)
    seen = 0
    for _ in pipeline:
        seen += 1
        time.sleep(4 * STEP_S)
    account = pipeline.summary()["sources"]["synthetic"]
    assert account["captured"] == 50
    assert account["captured"] == account["delivered"] + sum(account["dropped"].values())
    assert seen < 40  # a file would have waited
    assert pipeline.summary()["sink_drops"]["iteration"] == account["delivered"] - seen
    lines = [line for line in events(tmp_path / "events.jsonl") if line["type"] == "frame"]
    assert lines[-1]["pts"] >= 49 * STEP_S
