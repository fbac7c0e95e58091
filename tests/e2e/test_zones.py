"""Zones in a whole run: people who cross a line in a real clip, seen by two detectors apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.config.result_settings import ZoneSettings
from pipeline.frame import Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.postprocess.zones.stage import WatchZones
from tests.e2e.program import events, run

CONFIG = """
zones:
  - {name: path, line: [[384, 60], [384, 560]], classes: person}
  - {name: lawn, polygon: [[0, 0.5], [1, 0.9], [1, 1], [0, 1]], dwell_s: 5, max_objects: 1, classes: person}
sources:
  - {url: CLIP, ground: [[0, 200, 0, 0], [768, 200, 20, 0], [768, 560, 12, -12], [0, 560, 2, -12]]}
"""
FRAMES = 600
CLOSE = 6
"""Frames between two detectors' views of when somebody crosses: boxes differ by a few pixels."""


@pytest.fixture
def clip(shared: Path) -> Path:
    path = shared / "data" / "videos" / "vtest.avi"
    if not path.is_file():
        pytest.skip("no vtest.avi in 'shared'")
    return path


def published(shared: Path) -> list[dict[str, Any]]:
    """Return the crossings by the published detections of the same frames, in this process."""
    rows = np.loadtxt(shared / "data" / "mot" / "dets" / "PETS09-S2L1" / "det.txt", delimiter=",")
    tracker, black = Tracker(TrackerOptions()), Picture(bgr=np.zeros((576, 768, 3), np.uint8))
    line = ZoneSettings(name="path", line=((384.0, 60.0), (384.0, 560.0)))
    watching = WatchZones([line], {}, [SourceInfo("vtest", "vtest", width=768, height=576)])
    found = []
    for number in range(FRAMES):
        here = rows[rows[:, 0] == number + 1]
        boxes = here[:, 2:6].copy()
        boxes[:, 2:] += boxes[:, :2]
        detections = Detections(
            boxes.astype(np.float32), here[:, 6].clip(0, 1).astype(np.float32), np.zeros(len(here), np.int32)
        )
        frame = Frame("vtest", number, number / 10, 0, black, labels=("person",))
        frame.detections = tracker.update(detections.clip(768, 576), frame.pts)
        watching.process(frame)
        found += [event | {"frame": number} for event in frame.events]
    return found


def test_people_cross_a_line_when_and_where_another_detector_sees_them_cross(
    shared: Path, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.replace("CLIP", str(clip)))
    done = run(tmp_path, "config.yaml", "--max-frames", str(FRAMES), "--set", "sinks.events=events.jsonl")
    assert done.returncode == 0, done.stderr
    records = events(tmp_path / "events.jsonl")
    ours = [record for record in records if record.get("event") == "line.cross"]
    theirs = published(shared)
    for some, others in ((ours, theirs), (theirs, ours)):
        alike = [
            any(abs(a["frame"] - b["frame"]) <= CLOSE and a["direction"] == b["direction"] for b in others)
            for a in some
        ]
        assert len(alike) > 12
        assert np.mean(alike) >= 0.85
    last = ours[-1]
    assert sum(last["entered"].values()) + sum(last["left"].values()) == len(ours)

    visits: dict[int, list[str]] = {}
    for record in records:
        if record.get("event") in ("zone.enter", "zone.leave"):
            visits.setdefault(record["track"], []).append(record["event"])
    assert visits
    for visit in visits.values():
        assert visit == (["zone.enter", "zone.leave"] * len(visit))[: len(visit)]
    walkers = {record["track"] for record in ours}
    found = [each for record in records if record["type"] == "frame" for each in record["detections"]]
    speeds = [each["speed_m_s"] for each in found if each["track"] in walkers and each["speed_m_s"] is not None]
    assert 0.5 < np.median(speeds) < 2.5


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        (
            "{name: far, polygon: [[0, 0], [900, 0], [9, 9]]}",
            "far has the point [900, 0], which is outside the pictures",
        ),
        ("{name: gate, source: vtst, line: [[0, 0], [1, 1]]}", "gate is for 'vtst', which is no source: did you mean"),
        ("{name: dot, line: [[3, 3], [3, 3]]}", "cannot be zone 'dot': it has no length"),
        ("{name: a, line: [[0, 0], [1, 1]]}, {name: a, line: [[0, 1], [1, 0]]}", "'a' is also the name of zone 0"),
    ],
)
def test_a_zone_that_cannot_be_ends_the_run_before_it_begins(clip: Path, tmp_path: Path, zone: str, text: str) -> None:
    done = run(tmp_path, "--source", str(clip), "--set", f"zones=[{zone}]", "--set", "sinks.events=events.jsonl")
    assert done.returncode == 2
    assert text in " ".join(done.stderr.split())
    assert not (tmp_path / "events.jsonl").exists()
