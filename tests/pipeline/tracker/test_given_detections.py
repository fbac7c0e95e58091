"""The tracker on detections of real sequences, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import motmetrics
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.frame import Detections
from pipeline.postprocess.overlaps import iou_matrix
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from tests.pipeline.tracker.scenes import detections

Rows = npt.NDArray[np.float64]
OPTIONS = TrackerOptions(high=0.6, low=0.1)


def rows_of(path: Path) -> Rows:
    """Return (N, 7) frame, id, x1, y1, x2, y2, score; skips where the file is not there."""
    if not path.is_file():
        pytest.skip(f"no {path.name} of {path.parent.name} in the test material")
    rows = np.loadtxt(path, delimiter=",", usecols=range(7), ndmin=2)
    rows[:, 4:6] += rows[:, 2:4]
    return rows


def tracked(rows: Rows, fps: float, keep: Callable[[int], bool] = lambda frame: True) -> list[tuple[int, Detections]]:
    """Return what the tracker says about each frame that is kept, from 1."""
    tracker, results = Tracker(OPTIONS), []
    for frame in filter(keep, range(1, int(rows[:, 0].max()) + 1)):
        now = rows[rows[:, 0] == frame]
        found = Detections(now[:, 2:6].astype(np.float32), now[:, 6].astype(np.float32), np.zeros(len(now), np.int32))
        results.append((frame, tracker.update(found, frame / fps)))
    return results


def idf1(results: list[tuple[int, Detections]], truth: Rows) -> float:
    """Return IDF1 at IoU 0.5, 0..100."""
    score = motmetrics.MOTAccumulator()
    for frame, result in results:
        assert result.track_ids is not None
        real, has_number = truth[truth[:, 0] == frame], result.track_ids > 0
        distance = 1 - iou_matrix(real[:, 2:6], result.boxes[has_number])
        distance[distance > 0.5] = np.nan
        score.update(real[:, 1].astype(int), result.track_ids[has_number], distance, frameid=frame)
    summary = motmetrics.metrics.create().compute(score, metrics=["idf1"])
    return 100 * float(summary["idf1"].iloc[0])


@pytest.mark.parametrize(("sequence", "least"), [("TUD-Campus", 56), ("TUD-Stadtmitte", 73)])
def test_people_in_a_street_are_followed(shared: Path, sequence: str, least: float) -> None:
    found = rows_of(shared / f"data/mot/dets/{sequence}/det.txt")
    truth = rows_of(shared / f"data/mot/tud/{sequence}/gt.txt")
    assert idf1(tracked(found, 25), truth) >= least


def test_cars_are_followed_when_every_second_frame_is_missing(shared: Path) -> None:
    folder = shared / "data/mot/kitti/Car/KITTI-0006"
    found, truth = rows_of(folder / "det/det.txt"), rows_of(folder / "gt/gt.txt")
    whole = idf1(tracked(found, 10), truth)
    half = idf1(tracked(found, 10, lambda frame: frame % 2 == 1), truth)
    assert whole >= 80
    assert half >= whole - 5


def test_the_people_of_pets_are_about_as_many_tracks_as_there_are(shared: Path) -> None:
    results = tracked(rows_of(shared / "data/mot/dets/PETS09-S2L1/det.txt"), 10)
    frames = dict[int, int]()
    for _, result in results:
        assert result.track_ids is not None
        for number in result.track_ids[result.track_ids > 0].tolist():
            frames[number] = frames.get(number, 0) + 1
    assert len(results) == 795
    assert (
        19 <= sum(count >= 70 for count in frames.values()) <= 30
    )  # 19 people; some hide behind a sign, or each other


def test_fifty_things_take_less_than_a_frame_of_a_fast_camera() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(100, 1800, (50, 2)), rng.uniform(40, 120, (50, 2))], axis=1)
    speed = np.concatenate([rng.normal(0, 40, (50, 2)), np.zeros((50, 2))], axis=1)
    tracker, took_ms = Tracker(), []
    for frame in range(100):
        found = detections((places + speed * frame / 30 + rng.normal(0, 1, (50, 4))).tolist())
        began = time.thread_time()
        tracker.update(found, frame / 30)
        took_ms.append(1e3 * (time.thread_time() - began))
    assert min(took_ms) < 3  # 0.5 on an idle core of 2.5 GHz: the promise of 1 ms is measured by `bench track`
