"""The demo and the bench, whole, as a new user runs them; clips and models are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.program import events, frameloom, times_of


def test_the_demo_leaves_videos_a_picture_of_both_a_still_and_events(
    tmp_path: Path, face_models: dict[str, str]
) -> None:
    done = frameloom("demo", cwd=tmp_path, env=face_models)
    assert (done.code, done.error) == (0, "")
    demo = tmp_path / "demo"
    assert len(times_of(demo / "demo-bikes.mp4")) == 250
    assert len(times_of(demo / "demo-carphone.mp4")) == 120
    assert len(times_of(demo / "demo-grid.mp4")) >= 120
    assert (demo / "still.jpg").stat().st_size > 10_000
    lines = events(demo / "events.jsonl")
    found = {each["class"] for line in lines if line["type"] == "frame" for each in line["detections"]}
    assert {"bicycle", "car", "person"} <= found
    crossed = [line for line in lines if line["type"] == "event" and line["event"] == "line.cross"]
    assert {line["direction"] for line in crossed} == {"in", "out"}
    assert {line["zone"] for line in crossed} == {"middle"}
    tracks = {each["track"] for line in lines if line["type"] == "frame" for each in line["detections"]}
    assert len(tracks) > 10
    names = [face["name"] for line in lines if line["type"] == "frame" for face in line["faces"]]
    assert names.count("driver") >= 0.95 * 120
    assert set(names) <= {"driver", None}
    assert lines[-1]["sources"]["bikes"]["delivered"] == 250
    for name in ("demo-bikes.mp4", "demo-carphone.mp4", "demo-grid.mp4", "events.jsonl", "still.jpg"):
        assert f"wrote demo/{name}" in done.out


def test_the_bench_reports_stages_pipeline_and_plain_loop(tmp_path: Path, face_models: dict[str, str]) -> None:
    done = frameloom("bench", "--rounds", "1", "--frames", "20", "--json", "b.json", cwd=tmp_path, env=face_models)
    assert done.code == 0, done.error
    report = json.loads((tmp_path / "b.json").read_text())
    assert list(report["stages_cpu_ms"]) == ["decode", "letterbox", "model", "head + NMS", "draw", "encode"]
    assert all(cost > 0 for cost in report["stages_cpu_ms"].values())
    assert report["frames"] == 20
    (one,) = report["rounds"]
    assert report["times_baseline"] == one["pipeline"]["fps"] / one["baseline_fps"]
    assert report["of_bound"] == pytest.approx(
        one["pipeline"]["fps"] * sum(one["stages"].values()) / 1e3 / report["environment"]["cores"]
    )


def test_the_bench_refuses_a_place_it_cannot_write_before_it_measures(tmp_path: Path) -> None:
    done = frameloom("bench", "--json", "/proc/nowhere/b.json", cwd=tmp_path)
    assert done.complaint == "bench --json: cannot write to folder /proc/nowhere: No such file or directory"
    assert done.code == 2
