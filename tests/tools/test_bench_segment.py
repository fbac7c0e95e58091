"""`frameloom bench segment` measures what it says, on a real clip with the real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from tests.e2e.program import frameloom
from tests.pipeline.videos import grey_video
from tools import bench_segment
from tools.bench_segment import EFFECTS, RUNS, SIZE, STAGES, pictures_of


def test_every_part_and_every_run_is_measured(tmp_path: Path, shared: Path) -> None:
    clip = shared / "data" / "videos" / "carphone.mp4"
    done = frameloom(
        "bench", "segment", "--source", clip, "--frames", "12", "--rounds", "1", "--json", "bench.json",
        cwd=tmp_path, env={"FRAMELOOM_MIRROR": str(shared / "models")},
    )  # fmt: skip
    assert done.code == 0, done.error
    report = json.loads((tmp_path / "bench.json").read_text())
    cost = {each["part"]: each for each in report["costs"]}
    parts = ["cut", "model", "reading, edges, smoothing", *STAGES, *(f"effect: {each}" for each in EFFECTS)]
    assert list(cost) == parts
    assert all(each["cpu_ms"] > 0 and each["wall_ms"] > 0 for name, each in cost.items() if "reading" not in name)
    assert cost["stage"]["cpu_ms"] > cost["stage, every: 3"]["cpu_ms"]
    assert cost["stage"]["cpu_ms"] > cost["effect: cut-out"]["cpu_ms"]
    assert [each["run"] for each in report["runs"]] == list(RUNS)
    assert all(each["fps"] > 0 for each in report["runs"])
    assert report["runs"][1]["cpu_ms"] > report["runs"][0]["cpu_ms"]
    for name in parts:
        assert name in done.out


def test_pictures_are_planes_of_one_size_and_there_must_be_enough_of_them(tmp_path: Path) -> None:
    pictures = pictures_of(grey_video(tmp_path / "long.mp4", count=20))
    assert len(pictures) == 20
    assert {(each.width, each.height) for each in pictures} == {SIZE}
    assert all(each.planes is not None for each in pictures)
    with pytest.raises(
        ConfigError, match=rf"short.mp4 has 5 pictures: at least {bench_segment.WARM_UP + 1} are needed"
    ):
        pictures_of(grey_video(tmp_path / "short.mp4", count=5))
