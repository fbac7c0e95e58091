"""`frameloom bench track` runs all trackers on the same detections, and its figures are those of `eval track`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.errors import ConfigError
from pipeline.frame import Detections
from tools import bench_track
from tools.cli import app
from tools.tracking import packages
from tools.tracking.follow import follow
from tools.tracking.score import score_sequence
from tools.tracking.sequences import find_sequences

TRACKERS = ("frameloom", "ByteTrack", "OC-SORT")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_track, "COST_FRAMES", bench_track.WARM_UP + 10)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Three people who walk past each other; half of what is detected has a score below 0.5."""
    folder = tmp_path / "set" / "street"
    folder.mkdir(parents=True)
    places = [(frame, track, 5 * frame * (track - 1.5), 120 * track) for frame in range(1, 41) for track in (0, 1, 2)]
    truth = [f"{frame},{track},{left},{top},40,100,1" for frame, track, left, top in places]
    found = [f"{frame},-1,{left},{top},40,100,{0.95 - 0.025 * (frame % 20)}" for frame, track, left, top in places]
    (folder / "gt.txt").write_text("\n".join(truth))
    (folder / "det.txt").write_text("\n".join(found))
    return folder.parent


def run(*asked: object) -> Any:
    result = CliRunner().invoke(app, ["bench", "track", *map(str, asked)], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_cost_of_each_tracker_for_each_number_of_objects(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    stdout = run("--objects", 3, "--objects", 12, "--json", file).stdout
    report = json.loads(file.read_text())
    assert [(each["tracker"], each["objects"]) for each in report["costs"]] == [
        (name, count) for count in (3, 12) for name in TRACKERS
    ]
    for each in report["costs"]:
        assert 0 < each["min_ms"] <= each["median_ms"] <= each["p95_ms"]
    assert report["results"] == []
    assert stdout.count("| frameloom") == 2
    assert f"trackers {packages.installed()}" in stdout


def test_every_tracker_gets_all_frames_and_those_left_when_some_are_removed(street: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    stdout = run("--objects", 3, "--det", street, "--gt", street, "--json", file).stdout
    results = json.loads(file.read_text())["results"]
    frames = {"all": 40, "every second removed": 20, "every third removed": 27, "every third kept": 14}
    assert len(results) == len(TRACKERS) * len(frames) * 2
    for each in results:
        assert each["score"]["objects"] == 3 * frames[each["frames"]]
        assert each["update_ms"] > 0
    whole = {(each["tracker"], each["threshold"] is None): each for each in results if each["frames"] == "all"}
    assert set(whole) == {(name, default) for name in TRACKERS for default in (True, False)}
    for name in TRACKERS:  # who walks straight on and is always found is followed, with the right threshold
        assert whole[name, False]["score"]["idf1"] > 0.9
        assert whole[name, False]["score"]["switches"] == 0
    assert "| set " in stdout
    assert stdout.count("every third kept") == 2 * len(TRACKERS)


def test_figures_are_those_of_eval_track(street: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "bench.json", tmp_path / "eval.json"
    run("--objects", 3, "--det", street, "--gt", street, "--no-best", "--json", file)
    asked = ["eval", "track", "--det", str(street), "--gt", str(street), "--drop-every", "3", "--json", str(other)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    ours = [each for each in json.loads(file.read_text())["results"] if each["tracker"] == "frameloom"]
    assert [each["threshold"] for each in ours] == [None] * 4
    third = next(each for each in ours if each["frames"] == "every third removed")
    assert third["score"] == json.loads(other.read_text())["overall"]


def test_without_the_package_only_ours_is_measured(
    street: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    file = tmp_path / "results.json"
    stdout = run("--objects", 3, "--det", street, "--gt", street, "--no-best", "--json", file).stdout
    report = json.loads(file.read_text())
    assert {each["tracker"] for each in report["costs"] + report["results"]} == {"frameloom"}
    assert report["trackers"] is None
    assert "the package trackers is not installed" in stdout


def test_folders_come_in_pairs(street: Path) -> None:
    with pytest.raises(ConfigError, match="2 --det and 1 --gt: give as many of each"):
        run("--det", street, "--det", street, "--gt", street)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bench track --json"):
        run("--json", tmp_path)


def test_made_crowds_are_the_same_each_time_and_stay_in_the_picture() -> None:
    one, other = bench_track.crowd(50, 60), bench_track.crowd(50, 60)
    assert one.detections.boxes.tolist() == other.detections.boxes.tolist()
    counts = np.bincount(one.detections.frames)[1:]
    assert 45 < counts.mean() < 55
    assert (one.detections.boxes[:, :2] > -20).all()
    assert (one.detections.boxes[:, 2:] < (1940, 1100)).all()


def test_the_packages_trackers_get_the_time_of_each_frame(street: Path) -> None:
    """They end tracks after a second: one that was not seen for 1.46 s comes back with another number."""
    tracker = packages.FromPackage("ByteTrack", fps=25.0)
    box = Detections(np.array([[0, 0, 40, 80]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32))
    ids = []
    for time_s, found in ((0.0, box), (0.04, box), (0.08, box), (1.5, Detections.empty()), (1.54, box), (1.58, box)):
        result = tracker.read(tracker.update(tracker.prepare(found), time_s))
        assert result.track_ids is not None
        ids += result.track_ids.tolist()
    assert ids[2] != ids[4]
    assert max(ids) > max(ids[:3])


def test_published_detections_of_tud_are_followed_about_as_well_by_all(shared: Path) -> None:
    """So a mistake in how the others are fed would show: their papers' figures are of this size."""
    found = find_sequences(shared / "data" / "mot" / "dets", shared / "data" / "mot" / "tud").sequences
    stadtmitte = next(each for each in found if each.name == "TUD-Stadtmitte")
    for name, make in bench_track.contestants().items():
        score = score_sequence(stadtmitte, follow(stadtmitte, make(25.0, None)).tracks).score
        assert score.mota is not None, name
        assert score.idf1 is not None, name
        assert 0.65 < score.mota < 0.85, name
        assert 0.65 < score.idf1 < 0.85, name


@pytest.mark.parametrize(("det", "gt"), [("dets", "tud"), ("kitti/Pedestrian",) * 2, ("kitti/Car",) * 2])
def test_ours_is_within_a_point_of_bytetrack_or_better(shared: Path, det: str, gt: str) -> None:
    """On the first six sequences of each set; `frameloom bench track` has all."""
    sequences = find_sequences(shared / "data" / "mot" / det, shared / "data" / "mot" / gt).sequences[:6]
    makers = bench_track.contestants()
    ours, other = (
        bench_track.measure(gt, sequences, name, makers[name], threshold=None).score
        for name in ("frameloom", "ByteTrack")
    )
    for name in ("mota", "idf1", "hota"):
        assert getattr(ours, name) > getattr(other, name) - 0.01, name
