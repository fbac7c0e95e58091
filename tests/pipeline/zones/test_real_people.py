"""Real streets: crossings that annotated people make, from their boxes and from a detector's; speeds in metres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.frame import Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.postprocess.zones.stage import WatchZones
from tests.pipeline.zones.scenes import PIXELS, make_frame, zone

FPS = 25
PLACES = (260, 320, 380)
SEQUENCES = ("TUD-Campus", "TUD-Stadtmitte")
Rows = npt.NDArray[np.float64]


@pytest.fixture
def mot(shared: Path) -> Path:
    folder = shared / "data" / "mot"
    if not folder.is_dir():
        pytest.skip("no tracks of real people in 'shared'")
    return folder


def truth_of(mot: Path, sequence: str) -> Rows:
    return np.loadtxt(mot / "tud" / sequence / "gt.txt", delimiter=",")


def frames(rows: Rows, tracker: Tracker | None = None, every: int = 1, noise: float = 0) -> Iterator[Frame]:
    """Yield frames of 640 x 480 from rows of MOT text; tracks are those of the rows, or the tracker's."""
    random = np.random.default_rng(0)
    for number in range(every, int(rows[:, 0].max()) + 1, every):
        here = rows[rows[:, 0] == number]
        boxes = here[:, 2:6].copy()
        boxes[:, 2:] += boxes[:, :2]
        boxes += random.normal(0, noise, boxes.shape)
        scores = np.ones(len(here)) if tracker is None else here[:, 6].clip(0, 1)
        found = Detections(
            boxes.astype(np.float32),
            scores.astype(np.float32),
            np.zeros(len(here), np.int32),
            track_ids=None if tracker else here[:, 1].astype(np.int32),
        ).clip(640, 480)
        frame = Frame("cam", number, number / FPS, 0, Picture(bgr=PIXELS), labels=("person",))
        frame.detections = tracker.update(found, frame.pts) if tracker else found
        yield frame


def crossings(watched: Iterator[Frame], x: float) -> tuple[int, int]:
    """Return how many cross a vertical line to the left of the picture, and to its right."""
    line = zone(line=((x, 0.0), (x, 480.0)))  # looking down, the right hand is on the left
    watching = WatchZones([line], {}, [SourceInfo("cam", "cam", width=640, height=480)])
    for frame in watched:
        watching.process(frame)
    last = make_frame([], frame.pts + 10)
    watching.process(last)
    return last.zones[0].entered.get("person", 0), last.zones[0].left.get("person", 0)


def true_crossings(truth: Rows, x: float) -> tuple[int, int]:
    """Return the same from whole tracks: changes of side, by more than 5 % of the height."""
    left = right = 0
    for track in np.unique(truth[:, 1]):
        rows = truth[truth[:, 1] == track]
        away = (rows[:, 2] + rows[:, 4] / 2 - x) / rows[:, 5]
        changes = np.diff(np.sign(away[np.abs(away) > 0.05]))
        left, right = left + int((changes < 0).sum()), right + int((changes > 0).sum())
    return left, right


@pytest.mark.parametrize(("every", "noise"), [(1, 0), (1, 3), (3, 0), (3, 3)])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_annotated_people_are_counted_exactly(mot: Path, sequence: str, every: int, noise: float) -> None:
    truth = truth_of(mot, sequence)
    expected = [true_crossings(truth, x) for x in PLACES]
    assert sum(map(sum, expected)) >= 6
    assert [crossings(frames(truth, every=every, noise=noise), x) for x in PLACES] == expected


def test_tracked_detections_never_count_more_than_there_is_and_few_are_missed(mot: Path) -> None:
    found: list[int] = []
    expected: list[int] = []
    for sequence in SEQUENCES:
        rows = np.loadtxt(mot / "dets" / sequence / "det.txt", delimiter=",")
        for x in PLACES:
            found += crossings(frames(rows, Tracker(TrackerOptions())), x)
            expected += true_crossings(truth_of(mot, sequence), x)
    assert all(one <= true for one, true in zip(found, expected, strict=True)), (found, expected)
    assert sum(found) >= 0.8 * sum(expected)  # the detector misses people altogether


def test_speeds_of_annotated_people_are_those_of_their_places_on_the_ground(mot: Path) -> None:
    """TUD-Stadtmitte says where people are in metres; the mean speed of the last second is the truth."""
    truth = truth_of(mot, "TUD-Stadtmitte")
    feet = np.stack([truth[:, 2] + truth[:, 4] / 2, truth[:, 3] + truth[:, 5], truth[:, 7], truth[:, 8]], axis=1)
    ground = tuple((x, y, east, north) for x, y, east, north in feet[::40].tolist())
    watching = WatchZones([], {"cam": ground}, [SourceInfo("cam", "cam", width=640, height=480)])
    found: dict[tuple[int, int], float] = {}
    for frame in frames(truth):
        watching.process(frame)
        assert frame.detections is not None
        assert frame.detections.track_ids is not None
        assert frame.detections.speeds_m_s is not None
        tracks, speeds = frame.detections.track_ids.tolist(), frame.detections.speeds_m_s.tolist()
        found |= {(frame.index, track): speed for track, speed in zip(tracks, speeds, strict=True)}
    errors = []
    for track in np.unique(truth[:, 1]):
        rows = truth[truth[:, 1] == track]
        for before, now in zip(rows, rows[FPS:], strict=False):
            true = float(np.hypot(*(now[7:9] - before[7:9])))
            if now[0] - before[0] == FPS and true > 0.5:
                errors.append(abs(found[int(now[0]), int(track)] / true - 1))
    assert len(errors) > 500
    assert np.median(errors) < 0.08
