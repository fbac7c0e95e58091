"""Tracks as text: what motmetrics and our own evaluation read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture
from pipeline.sinks.mot_text import MotText
from tests.e2e.program import frameloom

PICTURE = Picture(bgr=np.zeros((4, 4, 3), np.uint8))
ONE = [SourceInfo("a", "a.mp4")]


def frame(index: int, *tracks: int, source: str = "a", **fields: Any) -> Frame:
    boxes = np.array([[10 + number, 20, 40 + number, 90.5] for number in tracks]).reshape(-1, 4)
    found = Detections(
        boxes, np.full(len(tracks), 0.9), np.zeros(len(tracks), np.int32), track_ids=np.array(tracks, np.int32)
    )
    return Frame(source, index, index / 10, 0.0, PICTURE, detections=found, **fields)


def written(path: Path, *frames: Frame, sources: list[SourceInfo] = ONE) -> MotText:
    sink = MotText(path)
    sink.check(sources)
    sink.open()
    for each in frames:
        sink.consume(each)
    sink.close()
    return sink


def test_a_line_is_as_motchallenge_has_it(tmp_path: Path) -> None:
    sink = written(tmp_path / "out.txt", frame(0, 5, 2, UNTRACKED), frame(1), frame(2, 5))
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "1,2,12.00,20.00,30.00,70.50,0.9000,-1,-1,-1",
        "1,5,15.00,20.00,30.00,70.50,0.9000,-1,-1,-1",
        "3,5,15.00,20.00,30.00,70.50,0.9000,-1,-1,-1",
    ]
    assert sink.files == [tmp_path / "out.txt"]


@pytest.mark.filterwarnings("ignore:Operation with tuple")  # motmetrics' own use of pandas
def test_motmetrics_reads_it(tmp_path: Path) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    written(tmp_path / "out.txt", frame(0, 5, 2), frame(1, 5), frame(3, 9))
    table = motmetrics.io.loadtxt(str(tmp_path / "out.txt"), fmt="mot15-2D").reset_index()
    rows = table[["FrameId", "Id", "X", "Y", "Width", "Height", "Confidence"]].to_numpy().tolist()
    assert rows[-1] == pytest.approx([4, 9, 18, 19, 30, 70.5, 0.9])  # it takes the first pixel for 1, 1
    assert sorted(row[:2] for row in rows) == [[1, 2], [1, 5], [2, 5], [4, 9]]


def test_our_own_evaluation_finds_tracks_that_are_the_truth_perfect(tmp_path: Path) -> None:
    frames = [frame(index, 1, 2 + index // 5) for index in range(10)]
    written(tmp_path / "tracks" / "street.txt", *frames)
    (tmp_path / "gt" / "street").mkdir(parents=True)
    text = (tmp_path / "tracks" / "street.txt").read_text()
    (tmp_path / "gt" / "street" / "gt.txt").write_text(text.replace("0.9000,-1,-1,-1", "1,1,1"))
    done = frameloom("eval", "track", "--tracks", "tracks", "--gt", "gt", "--json", "scores.json", cwd=tmp_path)
    assert done.code == 0, done.error
    scores = json.loads((tmp_path / "scores.json").read_text())["overall"]
    assert [scores[name] for name in ("mota", "idf1", "hota")] == [1.0, 1.0, 1.0]


def test_several_sources_have_a_file_each(tmp_path: Path) -> None:
    sources = [SourceInfo("a", "a.mp4"), SourceInfo("b", "b.mp4")]
    sink = written(tmp_path / "out.txt", frame(0, 1), frame(0, 2, source="b"), sources=sources)
    assert sink.files == [tmp_path / "out-a.txt", tmp_path / "out-b.txt"]
    assert [path.read_text().split(",")[1] for path in sink.files] == ["1", "2"]
    assert not (tmp_path / "out.txt").exists()


def test_a_source_without_tracks_leaves_an_empty_file(tmp_path: Path) -> None:
    nothing = Frame("a", 0, 0.0, 0.0, PICTURE)
    written(tmp_path / "out.txt", nothing)
    assert (tmp_path / "out.txt").read_text() == ""


def test_a_source_that_would_be_replaced_is_refused(tmp_path: Path) -> None:
    sources = [SourceInfo("a", str(tmp_path / "out-b.txt")), SourceInfo("b", "b.mp4")]
    with pytest.raises(ConfigError, match=r"^sinks\.mot: .*out-b\.txt is also a source: it would be overwritten$"):
        MotText(tmp_path / "out.txt").check(sources)


def test_a_full_disk_costs_lines_and_not_the_run(disk_of: Callable[[str], Path]) -> None:
    path = disk_of("32k") / "out.txt"
    sink = written(path, *(frame(index, 1, 2, 3) for index in range(1000)))
    lines = path.read_text().splitlines()
    assert all(len(line.split(",")) == 10 for line in lines)
    assert len(lines) > 200
    assert sink.dropped == 3000 - len(lines)
    assert sink.remark() == f"sinks.mot: {sink.dropped} lines are missing in {path}: the disk was full"
