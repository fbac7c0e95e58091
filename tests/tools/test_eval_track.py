"""`frameloom eval track`: figures that can be computed by hand, published ones, and one sentence for what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.errors import ConfigError
from tools.cli import app
from tools.eval_track import evaluate, options_of
from tools.tracking.mot_rows import MotRows, read_mot
from tools.tracking.score import Score, score_sequence, score_together
from tools.tracking.sequences import Labelled, Thinning, find_sequences

TUD = {
    "TUD-Campus": {"mota": 52.6, "idf1": 55.8, "switches": 7, "false_positives": 13, "misses": 150, "objects": 359},
    "TUD-Stadtmitte": {
        "mota": 56.4,
        "idf1": 64.5,
        "switches": 7,
        "false_positives": 45,
        "misses": 452,
        "objects": 1156,
    },
}
"""Of result.txt, by the MOTChallenge's own evaluation (README of the test data)."""

ALL = Thinning()
Row = tuple[float, ...]
Box = tuple[float, float, float, float]


@pytest.fixture
def mot(shared: Path) -> Path:
    return shared / "data" / "mot"


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def along(track: int, frames: Iterable[int], top: float = 0, value: float = 1) -> list[Row]:
    """A box of 20 x 40 that walks 2 pixels a frame to the right."""
    return [(frame, track, 2 * frame, top, 20, 40, value, -1, -1, -1) for frame in frames]


def run(*asked: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["eval", "track", *map(str, asked)], env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def score(truth: Sequence[Row], tracks: Sequence[Row], folder: Path, thinning: Thinning = ALL) -> Score:
    write(folder / "gt" / "street" / "gt.txt", truth)
    write(folder / "tracks" / "street.txt", tracks)
    sequence = thinning(find_sequences(folder / "tracks", folder / "gt", tracks=True).sequences[0])
    assert sequence.tracks is not None
    return score_sequence(sequence, sequence.tracks).score


# ---- figures by hand


def test_tracks_that_are_the_truth_have_full_marks(tmp_path: Path) -> None:
    truth = along(1, range(1, 11)) + along(2, range(3, 8), top=200)
    assert score(truth, truth, tmp_path) == Score(1, 1, 1, 0, 0, 0, 0, objects=15, ignored=0)


def test_figures_of_a_track_that_changes_its_number_by_hand(tmp_path: Path) -> None:
    """Ten boxes of one object: 1-4 as track 5, 6-10 as track 6, which is far beside in frame 5."""
    tracks = along(5, range(1, 5)) + along(6, [5], top=500) + along(6, range(6, 11))
    found = score(along(1, range(1, 11)), tracks, tmp_path)
    # frame 5 is a miss and a false box; 5 to 6 is a switch; lost and found again once
    assert (found.misses, found.false_positives, found.switches, found.fragments) == (1, 1, 1, 1)
    assert found.mota == pytest.approx(1 - (1 + 1 + 1) / 10)
    # IDF1: one track is the object, at best track 6: 5 boxes right of 10 true and 10 given
    assert found.idf1 == pytest.approx(2 * 5 / (10 + 10))
    # HOTA, the same at every IoU, for boxes fit fully or not. DetA = 9 / (9 + 1 + 1); the association of each of the
    # 4 boxes of track 5 is 4 / (10 + 4 - 4), of each of the 5 of track 6 it is 5 / (10 + 6 - 5)
    association = (4 * 4 / 10 + 5 * 5 / 11) / 9
    assert found.hota == pytest.approx(np.sqrt(9 / 11 * association))


def test_boxes_that_overlap_by_less_than_half_do_not_fit(tmp_path: Path) -> None:
    truth = [(1, 1, 0, 0, 10, 10, 1), (2, 1, 0, 0, 10, 10, 1)]
    half = [(1, 1, 0, 0, 10, 5, 1), (2, 1, 0, 0, 10, 4.9, 1)]  # IoU 0.5 and 0.49
    assert (score(truth, half, tmp_path).misses, score(truth, half, tmp_path).false_positives) == (1, 1)


def test_all_sequences_together_are_sums_before_shares(tmp_path: Path) -> None:
    for name, last, seen in (("long", 90, 90), ("short", 10, 5)):
        write(tmp_path / "gt" / name / "gt.txt", along(1, range(1, last + 1)))
        write(tmp_path / "tracks" / f"{name}.txt", along(1, range(1, seen + 1)))
    result = run("--tracks", tmp_path / "tracks", "--gt", tmp_path / "gt", "--json", tmp_path / "scores.json")
    report = json.loads((tmp_path / "scores.json").read_text())
    assert report["overall"]["mota"] == pytest.approx(0.95)
    assert report["overall"]["idf1"] == pytest.approx(2 * 95 / (100 + 95))
    assert report["sequences"]["short"]["mota"] == pytest.approx(0.5)
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:4]] == [
        ["long", "100.0"],
        ["short", "50.0"],
        ["all", "95.0"],
    ]


def test_a_sequence_with_nothing_to_find_has_no_shares_but_counts(tmp_path: Path) -> None:
    full, nothing = tmp_path / "gt" / "full", tmp_path / "gt" / "nothing"
    write(full / "gt.txt", along(1, range(1, 11)))
    write(full / "det.txt", along(-1, range(1, 11)))
    write(nothing / "gt.txt", [])
    write(nothing / "det.txt", along(-1, range(1, 5)))
    result = run("--det", tmp_path / "gt", "--gt", tmp_path / "gt")
    assert result.stdout.splitlines()[2].split() == ["nothing", "-", "-", "-", "0", "4", "0", "0", "0"]
    assert "all" in result.stdout


# ---- against others


@pytest.mark.parametrize("name", TUD)
def test_published_values_of_known_results(mot: Path, tmp_path: Path, name: str) -> None:
    run("--tracks", mot / "tud", "--gt", mot / "tud", "--json", tmp_path / "scores.json")
    found = json.loads((tmp_path / "scores.json").read_text())["sequences"][name]
    shares = {key: round(100 * found[key], 1) for key in ("mota", "idf1")}
    assert found | shares == found | TUD[name]


def motmetrics_of(truth: MotRows, tracks: MotRows, frames: Iterable[int]) -> Any:
    """MOTA, IDF1 and counts by the other package; the overlaps are computed here, its own helper needs NumPy 1."""
    import motmetrics

    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        real, mine = truth.at(frame), tracks.at(frame)
        distances = np.array([[1 - plain_iou(a, b) for b in mine.boxes] for a in real.boxes])
        distances = distances.reshape(len(real), len(mine))
        distances[distances > 0.5] = np.nan
        accumulator.update(real.ids, mine.ids, distances)
    wanted = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses"]
    return motmetrics.metrics.create().compute(accumulator, metrics=wanted).iloc[0]


def plain_iou(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def test_motmetrics_says_the_same_of_our_tracks(mot: Path, tmp_path: Path) -> None:
    run("--det", mot / "dets", "--gt", mot / "tud", "--save", tmp_path, "--json", tmp_path / "scores.json")
    report = json.loads((tmp_path / "scores.json").read_text())
    for name in TUD:
        truth, tracks = read_mot(mot / "tud" / name / "gt.txt"), read_mot(tmp_path / f"{name}.txt")
        other, ours = motmetrics_of(truth, tracks, range(1, truth.last + 1)), report["sequences"][name]
        assert ours["mota"] == pytest.approx(other.mota, abs=0.002)
        assert ours["idf1"] == pytest.approx(other.idf1, abs=1e-9)
        assert ours["switches"] == pytest.approx(other.num_switches, abs=2)


@given(st.data())
def test_counts_add_up_whatever_the_tracks_are(data: st.DataObject) -> None:
    """Right boxes are those of truth that are not missed, and those of tracks that are not false."""
    place = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
    rows = [
        [
            (frame, track, left, 0, 20, 20, 1)
            for frame, track, left in data.draw(st.lists(place, unique_by=lambda x: x[:2]))
        ]
        for _ in range(2)
    ]
    truth, tracks = map(MotRows.of, rows)
    sequence = labelled(truth)
    found = score_sequence(sequence, tracks).score
    assert found.objects - found.misses == len(tracks) - found.false_positives
    together = score_together([score_sequence(sequence, tracks)] * 2)
    assert (together.misses, together.mota) == (2 * found.misses, pytest.approx(found.mota) if len(truth) else None)


def labelled(truth: MotRows, ignored: MotRows | None = None) -> Labelled:
    nothing = MotRows.of([])
    return Labelled("street", 25.0, (1, 2, 3, 4), nothing, truth, ignored or nothing)


# ---- what is not scored


def test_boxes_mostly_in_an_ignored_region_count_only_where_they_fit_an_object(tmp_path: Path) -> None:
    region: Row = (1, -1, 100, 100, 100, 100, 0)
    write(tmp_path / "gt" / "street" / "ignore.txt", [region])
    truth: list[Row] = [(1, 1, 150, 110, 20, 20, 1), (1, 2, 0, 0, 20, 20, 1)]
    inside: Row = (1, 7, 110, 110, 20, 20, 1)
    rather_out: Row = (1, 8, 89, 110, 20, 20, 1)  # 9 of its 20 columns are inside
    rather_in: Row = (1, 9, 91, 150, 20, 20, 1)  # 11 of them
    fits: Row = (1, 5, 152, 110, 20, 20, 1)
    found = score(truth, [inside, rather_out, rather_in, fits], tmp_path)
    assert (found.ignored, found.false_positives, found.misses) == (2, 1, 1)
    second_frame = score(truth, [(2, *inside[1:])], tmp_path)  # the region is one of frame 1
    assert (second_frame.ignored, second_frame.false_positives) == (0, 1)


def test_truth_marked_with_0_is_not_to_be_found(tmp_path: Path) -> None:
    found = score(along(1, range(1, 5)) + along(2, range(1, 5), top=200, value=0), along(1, range(1, 5)), tmp_path)
    assert (found.objects, found.misses) == (4, 0)


def test_removed_frames_are_neither_tracked_nor_scored(tmp_path: Path) -> None:
    truth = along(1, range(1, 13))
    assert score(truth, truth, tmp_path, Thinning(drop_every=3)).objects == 8
    assert score(truth, truth, tmp_path, Thinning(keep_every=3)).objects == 4
    write(tmp_path / "det" / "street" / "det.txt", along(-1, range(1, 13)))
    asked = ("--det", tmp_path / "det", "--gt", tmp_path / "gt", "--save", tmp_path / "out")
    stdout = run(*asked, "--drop-every", 2, "--set", "track.confirm_frames=1").stdout
    assert "6 frames (every second removed) at 25 fps" in stdout
    assert read_mot(tmp_path / "out" / "street.txt").frames.tolist() == [1, 3, 5, 7, 9, 11]


# ---- the layouts, and the tracker


def sequence_of(folder: Path, det: Sequence[Row], gt: Sequence[Row] | None = None) -> tuple[object, ...]:
    write(folder / "street" / "det" / "det.txt", det)
    write(folder / "street" / "gt" / "gt.txt", gt if gt is not None else along(1, range(1, 11)))
    return ("--det", folder, "--gt", folder)


def test_tracks_are_saved_as_mot_text_with_the_boxes_of_the_detections(tmp_path: Path) -> None:
    asked = sequence_of(tmp_path, along(-1, range(1, 11), value=0.9))
    run(*asked, "--save", tmp_path / "new" / "folder", "--set", "track.confirm_frames=1")
    lines = (tmp_path / "new" / "folder" / "street.txt").read_text().splitlines()
    assert lines == [f"{frame},1,{2 * frame}.00,0.00,20.00,40.00,0.9000,-1,-1,-1" for frame in range(1, 11)]


def test_saved_tracks_have_the_scores_that_were_printed_for_them(mot: Path, tmp_path: Path) -> None:
    first = run("--det", mot / "dets", "--gt", mot / "tud", "--save", tmp_path).stdout
    again = run("--tracks", tmp_path, "--gt", mot / "tud").stdout
    assert first.splitlines()[:4] == again.splitlines()[:4]
    assert "all" in first.splitlines()[3]


def test_time_comes_from_seqinfo_unless_fps_is_given(tmp_path: Path) -> None:
    """Frames 1 to 5 and 20 to 24: whether that is one track hangs on how long 15 frames are."""
    frames = [*range(1, 6), *range(20, 25)]
    still = [(frame, -1, 50, 50, 40, 80, 1) for frame in frames]
    asked = sequence_of(tmp_path, still, [(frame, 1, 50, 50, 40, 80, 1) for frame in frames])
    (tmp_path / "street" / "seqinfo.ini").write_text("[Sequence]\nname=street\nframeRate=5\nseqLength=30\n")

    def tracks(*options: object) -> int:
        run(*asked, "--save", tmp_path / "out", *options)
        return len(np.unique(read_mot(tmp_path / "out" / "street.txt").ids))

    assert tracks() == 2  # 3 s
    assert tracks("--fps", 25) == 1  # 0.6 s
    assert tracks("--set", "track.max_gap_s=4") == 1
    assert "30 frames (all) at 5 fps" in run(*asked).stdout


def test_scores_of_any_kind_can_be_thresholds(tmp_path: Path) -> None:
    det = along(-1, range(1, 11), value=12.5) + along(-1, range(1, 11), top=200, value=-0.5)
    asked = sequence_of(tmp_path, det)
    assert " 0.0 " not in run(*asked).stdout
    run(*asked, "--confidence", -1, "--save", tmp_path / "out")
    assert set(read_mot(tmp_path / "out" / "street.txt").ids.tolist()) == {1, 2}
    run(*asked, "--save", tmp_path / "out")
    assert set(read_mot(tmp_path / "out" / "street.txt").ids.tolist()) == {1}
    run(*asked, "--confidence", 13, "--save", tmp_path / "out")
    assert len(read_mot(tmp_path / "out" / "street.txt")) == 0


def test_an_empty_file_of_detections_is_a_sequence_without_tracks(tmp_path: Path) -> None:
    stdout = run(*sequence_of(tmp_path, [])).stdout
    assert stdout.splitlines()[1].split() == ["street", "0.0", "0.0", "0.0", "0", "0", "10", "0", "10"]


def test_sequences_that_only_one_folder_has_are_named(tmp_path: Path) -> None:
    asked = sequence_of(tmp_path, along(-1, range(1, 11)))
    write(tmp_path / "alley" / "det.txt", [])
    write(tmp_path / "square" / "gt.txt", [])
    stdout = run(*asked).stdout
    assert "2 sequences were left out: alley: no gt.txt" in stdout
    assert "square: no det.txt" in stdout


def test_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    det = [*along(-1, range(1, 11)), (3, -1, 5, 5, 0, 9, 1), (4, -1, 5, 5, 9, 0, 1)]
    assert "street: left out 2 boxes without area" in run(*sequence_of(tmp_path, det)).stdout


def test_results_without_a_track_are_left_out_and_counted(tmp_path: Path) -> None:
    sequence_of(tmp_path, [])
    write(tmp_path / "tracks" / "street" / "result.txt", along(1, range(1, 11)) + along(-1, range(1, 11), top=300))
    stdout = run("--tracks", tmp_path / "tracks", "--gt", tmp_path).stdout
    assert "left out 10 boxes of no track" in stdout
    assert stdout.splitlines()[1].split()[1:4] == ["100.0"] * 3


# ---- what is wrong gets a sentence


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("det/det.txt", "1,-1,5,5", r"det\.txt:3: '1,-1,5,5' is no MOT row"),
        ("det/det.txt", "1;-1;5;5;9;9;1", r"det\.txt:3: .* is no MOT row"),
        ("det/det.txt", "1,-1,5,five,9,9,1", r"det\.txt:3: 'five' is no number"),
        ("det/det.txt", "1,-1,5,nan,9,9,1", r"det\.txt:3: .* not finite"),
        ("det/det.txt", "1,-1,5,inf,9,9,1", r"det\.txt:3: .* not finite"),
        ("det/det.txt", "0,-1,5,5,9,9,1", r"det\.txt:3: the frame is 0: frames are whole numbers from 1"),
        ("det/det.txt", "1.5,-1,5,5,9,9,1", r"det\.txt:3: the frame is 1\.5"),
        ("det/det.txt", "99999999999,-1,5,5,9,9,1", r"det\.txt:3: the frame is 99999999999"),
        ("det/det.txt", "1,-1,5,5,-9,9,1", r"det\.txt:3: the box is -9 x 9 pixels"),
        ("det/det.txt", "1,2.5,5,5,9,9,1", r"det\.txt:3: the id is 2\.5"),
        ("gt/gt.txt", "1,-1,5,5,9,9,1", r"gt\.txt: a box of frame 1 has the id -1"),
        ("gt/gt.txt", "1,1,5,5,9,9,1", r"gt\.txt: id 1 has two boxes in frame 1"),
        ("gt/ignore.txt", "1,-1,5,5,x,9,1", r"ignore\.txt:1: 'x' is no number"),
        ("seqinfo.ini", "[Sequence]\nframeRate=0", r"seqinfo\.ini: frameRate is 0: write a number above 0"),
        ("seqinfo.ini", "[Sequence]\nframeRate=fast", r"seqinfo\.ini: frameRate is 'fast', which is no number"),
        ("seqinfo.ini", "[Sequence]\nseqLength=2.5", r"seqinfo\.ini: seqLength is 2\.5"),
        ("seqinfo.ini", "frameRate=5", r"seqinfo\.ini: cannot be read: File contains no section headers"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_line(tmp_path: Path, file: str, line: str, said: str) -> None:
    asked = sequence_of(tmp_path, along(-1, [1, 2]), along(1, [1, 2]))
    with (tmp_path / "street" / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ConfigError, match=said) as refused:
        run(*asked)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    asked = sequence_of(tmp_path, [])
    (tmp_path / "street" / "det" / "det.txt").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"det\.txt: this is no text"):
        run(*asked)


def _no_det(folder: Path) -> tuple[object, ...]:
    return ("--det", folder / "nowhere", "--gt", folder)


def _no_gt(folder: Path) -> tuple[object, ...]:
    return ("--det", folder, "--gt", folder / "nowhere")


def _nothing_common(folder: Path) -> tuple[object, ...]:
    write(folder / "other" / "alley" / "gt.txt", [])
    return ("--det", folder, "--gt", folder / "other")


def _one_too_deep(folder: Path) -> tuple[object, ...]:
    return ("--det", folder / "street", "--gt", folder / "street")


def _with(*more: object) -> Callable[[Path], tuple[object, ...]]:
    return lambda folder: ("--det", folder, "--gt", folder, *more)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (_no_det, "--det .*nowhere: there is no such folder"),
        (_no_gt, "--gt .*nowhere: there is no such folder"),
        (_nothing_common, "have no sequence in common: .*alley: no det.txt"),
        (_one_too_deep, "--det .*street: this is a sequence itself, name the folder around it"),
        (lambda folder: ("--gt", folder), "there is nothing to track: give --det"),
        (_with("--tracks", "."), "give one of them"),
        (lambda folder: ("--tracks", folder, "--gt", folder, "--save", folder), "--save writes what the tracker finds"),
        (_with("--fps", 0), "--fps 0: write a number above 0"),
        (_with("--fps", "nan"), "--fps nan: write a number above 0"),
        (_with("--confidence", "nan"), "--confidence nan: write a number"),
        (_with("--start-confidence", 0.2), "--start-confidence 0.2 is below --confidence"),
        (_with("--set", "track.camera_motion=true"), "track.camera_motion: without pictures and classes these can"),
        (_with("--set", "detect.model=x"), "detect.model: without pictures"),
        (_with("--set", "track.min_iou=2"), "track.min_iou"),
        (_with("--drop-every", 2, "--keep-every", 2), "exclude each other"),
        (_with("--json", "/nowhere/scores.json"), "--json /nowhere/scores.json: there is no folder"),
        (_with("--save", "/proc/tracks"), "--save: cannot write to folder /proc/tracks"),
    ],
)
def test_a_request_that_is_wrong_gets_one_sentence(
    tmp_path: Path, asked: Callable[[Path], tuple[object, ...]], said: str
) -> None:
    sequence_of(tmp_path, along(-1, range(1, 11)))
    with pytest.raises(ConfigError, match=said) as refused:
        run(*asked(tmp_path))
    assert refused.value.request_was_wrong


def test_truth_without_a_box_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not one box that is to be scored.*street"):
        run(*sequence_of(tmp_path, along(-1, [1, 2]), []))


def test_without_trackeval_the_command_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sequence_of(tmp_path, [])
    monkeypatch.setitem(sys.modules, "trackeval", None)
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(ConfigError, match=r"pip install 'frameloom\[eval\]'"):
        run(*asked)


# ---- the tracker itself, so that it does not get worse unnoticed


def test_our_tracks_of_the_tud_detections_stay_as_good_as_they_are(mot: Path) -> None:
    found = find_sequences(mot / "dets", mot / "tud").sequences
    score = evaluate(found, options_of()).overall
    assert score.mota is not None
    assert score.idf1 is not None
    assert score.mota > 0.67
    assert score.idf1 > 0.71
