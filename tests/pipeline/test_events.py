"""The event log: the schema of every line, plain JSON, whole lines only, the summary last."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.config.sink_settings import EventsSettings
from pipeline.errors import ConfigError, SinkError
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.masks import Masks
from pipeline.picture import Picture
from pipeline.sinks.events import Events

PICTURE = Picture(bgr=np.zeros((4, 4, 3), np.uint8))
REPOSITORY = Path(__file__).resolve().parents[2]
SUMMARY: dict[str, Any] = {
    "fps": 10.0,
    "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": None},
    "stages": {},
    "sources": {"a": {"captured": 1, "delivered": 1, "dropped": {"stale": 0}}},
}


def frame(index: int = 0, **fields: Any) -> Frame:
    return Frame("a", index, index / 10, 0.0, PICTURE, **fields)


def found(score: float = 0.91234567, class_ids: tuple[int, ...] = (0,)) -> Detections:
    count = len(class_ids)
    return Detections(np.full((count, 4), 1 / 3), np.full(count, score), np.array(class_ids))


def log(path: Path, **settings: Any) -> Events:
    return Events(EventsSettings(path=path, **settings))


def written(
    path: Path, *frames: Frame, summary: dict[str, Any] = SUMMARY, encodings: bool = False, masks: bool = False
) -> list[dict[str, Any]]:
    sink = log(path, encodings=encodings, masks=masks)
    sink.check([])
    sink.open()
    for each in frames:
        sink.consume(each)
    sink.close()
    sink.report(summary)
    return strict(path)


def strict(path: Path) -> list[dict[str, Any]]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_a_frame_line_has_exactly_the_fields_of_the_interface(tmp_path: Path) -> None:
    detections = found(class_ids=(1, 7))
    detections.track_ids = np.array([3, 4], np.int32)
    line, _ = written(tmp_path / "e.jsonl", frame(12, detections=detections, labels=("person", "car")))
    assert line == {
        "type": "frame",
        "source": "a",
        "frame": 12,
        "pts": 1.2,
        "wall_time": None,
        "detections": [
            {"box": [0.33] * 4, "score": 0.9123, "class": "car", "class_id": 1, "track": 3},
            {"box": [0.33] * 4, "score": 0.9123, "class": "7", "class_id": 7, "track": 4},
        ],
        "faces": [],
    }
    assert list(line)[:4] == ["type", "source", "frame", "pts"]


def test_keypoints_are_written_where_the_model_gives_some(tmp_path: Path) -> None:
    detections = found(class_ids=(1, 7))
    detections.keypoints = np.array([[[1 / 3, 2, 0.98766], [4, 5, 6]], [[7, 8, 9], [1, np.nan, 0]]], np.float32)
    line, _ = written(tmp_path / "e.jsonl", frame(detections=detections))
    points = [each["keypoints"] for each in line["detections"]]
    assert points == [[[0.33, 2, 0.9877], [4, 5, 6]], [[7, 8, 9], [1, None, 0]]]


@pytest.mark.parametrize("asked", [False, True])
def test_outlines_of_masks_are_long_and_written_only_on_request(tmp_path: Path, asked: bool) -> None:
    detections = found(class_ids=(1, 7))
    dense = np.zeros((2, 8, 8), bool)
    dense[0, 2:4, 3:8] = dense[0, 6, 0] = True
    detections.masks = Masks.of(dense)
    line, _ = written(tmp_path / "e.jsonl", frame(detections=detections), masks=asked)
    outlines = [each.get("mask") for each in line["detections"]]
    if asked:
        first, second = outlines
        assert sorted(map(len, first)) == [8, 8]
        assert {tuple(polygon[:2]) for polygon in first} <= {(0, 6), (3, 2)}
        assert second == []
    else:
        assert outlines == [None, None]


def faces(**fields: Any) -> Faces:
    """Two faces with numbers that need rounding."""
    boxes = np.array([[1 / 3, 2, 30.126, 40], [50, 60, 70, 80]])
    return Faces(boxes, np.array([0.98768, 0.5]), np.arange(20).reshape(2, 5, 2) + 1 / 3, **fields)


def test_a_face_has_exactly_the_fields_of_the_interface(tmp_path: Path) -> None:
    found = faces(
        names=("Zoë 猫", None),
        similarities=np.array([0.712349, -0.25], np.float32),
        track_ids=np.array([3, 4], np.int32),
        qualities=np.array([0.87654, 0.0], np.float32),
    )
    line, _ = written(tmp_path / "e.jsonl", frame(faces=found))
    first, second = line["faces"]
    assert first == {
        "box": [0.33, 2.0, 30.13, 40.0],
        "score": 0.9877,
        "landmarks": [[0.33, 1.33], [2.33, 3.33], [4.33, 5.33], [6.33, 7.33], [8.33, 9.33]],
        "name": "Zoë 猫",
        "similarity": 0.7123,
        "track": 3,
        "quality": 0.8765,
    }
    assert list(first)[:6] == ["box", "score", "landmarks", "name", "similarity", "track"]
    assert (second["name"], second["similarity"], second["track"], second["quality"]) == (None, -0.25, 4, 0.0)


def test_what_nobody_measured_of_a_face_is_null_or_left_out(tmp_path: Path) -> None:
    line, _ = written(tmp_path / "e.jsonl", frame(faces=faces()), encodings=True)
    for each in line["faces"]:
        assert set(each) == {"box", "score", "landmarks", "name", "similarity", "track"}
        assert (each["name"], each["similarity"], each["track"]) == (None, None, None)


def test_a_face_that_was_not_matched_or_looked_at_has_null_and_no_nan(tmp_path: Path) -> None:
    numbers = np.array([0.5, np.nan], np.float32)
    found = faces(names=("ann", None), similarities=numbers, qualities=numbers, liveness=numbers)
    line, _ = written(tmp_path / "e.jsonl", frame(faces=found))
    for key in ("similarity", "quality", "liveness"):
        assert [each[key] for each in line["faces"]] == [0.5, None]


def test_the_68_points_of_a_face_are_written_where_there_are_some(tmp_path: Path) -> None:
    points = np.arange(2 * 68 * 2).reshape(2, 68, 2) / 7
    line, _ = written(tmp_path / "e.jsonl", frame(faces=faces(points=points)))
    assert np.array([each["points"] for each in line["faces"]]) == pytest.approx(points, abs=0.0051)
    assert line["faces"][1]["points"][3] == [20.29, 20.43]


@pytest.mark.parametrize("asked", [False, True])
def test_encodings_are_personal_data_and_written_only_on_request(tmp_path: Path, asked: bool) -> None:
    encodings = np.array([[1 / 3, -2 / 3, 1e-9], [np.nan] * 3], np.float32)
    found = faces(encodings=encodings, embedder="ab" * 32)
    line, _ = written(tmp_path / "e.jsonl", frame(faces=found), encodings=asked)
    first, second = line["faces"]
    if asked:
        assert first["encoding"] == [0.333333, -0.666667, 0.0]
        assert first["embedder"] == "ab" * 32
    else:
        assert "encoding" not in (tmp_path / "e.jsonl").read_text()
    assert not {"encoding", "embedder"} & set(second)  # it was not encoded


def test_encodings_are_exact_enough_to_be_matched_again(tmp_path: Path) -> None:
    encoding = np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)
    encoding /= np.linalg.norm(encoding, axis=1, keepdims=True)
    line, _ = written(tmp_path / "e.jsonl", frame(faces=faces(encodings=encoding)), encodings=True)
    read = np.array([each["encoding"] for each in line["faces"]])
    assert np.linalg.norm(read - encoding, axis=1).max() < 1e-5


def test_faces_that_are_taken_over_say_so(tmp_path: Path) -> None:
    fresh, carried, _ = written(tmp_path / "e.jsonl", frame(faces=faces()), frame(1, faces=faces(predicted=True)))
    assert not {"predicted", "faces_predicted"} & set(fresh)
    assert carried["faces_predicted"] is True
    assert "predicted" not in carried  # which is about detections


@pytest.mark.parametrize(("asked", "mode"), [(False, 0o644), (True, 0o600)])
def test_a_log_with_encodings_is_for_its_owner_alone(tmp_path: Path, asked: bool, mode: int) -> None:
    path = tmp_path / "e.jsonl"
    path.touch(0o644)
    path.chmod(0o644)
    written(path, frame(), encodings=asked)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("detections", [None, Detections.empty()])
def test_detections_are_an_empty_list_where_there_are_none(tmp_path: Path, detections: Detections | None) -> None:
    nobody = None if detections is None else Faces.empty()
    line, _ = written(tmp_path / "e.jsonl", frame(detections=detections, faces=nobody))
    assert (line["detections"], line["faces"]) == ([], [])
    assert "file" not in line


def test_image_sources_name_the_file_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("ü 猫.png", os.fsdecode(b"\xff.png"), 'a"b\\c\n.png'):
        line, _ = written(tmp_path / "e.jsonl", frame(file=Path("x") / name))
        assert line["file"] == f"x/{name}"


def test_a_track_is_null_where_nothing_tracks(tmp_path: Path) -> None:
    line, _ = written(tmp_path / "e.jsonl", frame(detections=found()))
    assert line["detections"][0]["track"] is None


def test_the_summary_is_last_and_once(tmp_path: Path) -> None:
    lines = written(tmp_path / "e.jsonl", *(frame(index) for index in range(5)))
    assert [line["type"] for line in lines] == ["frame"] * 5 + ["summary"]
    assert lines[-1] == {"type": "summary", **SUMMARY}


def test_events_of_stages_follow_their_frame_and_cannot_change_its_place(tmp_path: Path) -> None:
    event = {"event": "people", "count": 2, "type": "frame", "pts": 99}
    _, line, _ = written(tmp_path / "e.jsonl", frame(3, events=[event]))
    assert line == {"type": "event", "source": "a", "frame": 3, "pts": 0.3, "wall_time": None} | {
        "event": "people",
        "count": 2,
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_become_null(tmp_path: Path, value: float) -> None:
    odd = Frame("a", 0, value, 0.0, PICTURE, wall_time=value, detections=found(value), events=[{"x": [value, 1.0]}])
    line, event, _ = written(tmp_path / "e.jsonl", odd)
    assert (line["pts"], line["wall_time"], line["detections"][0]["score"]) == (None, None, None)
    assert event["x"] == [None, 1.0]


def test_numpy_and_paths_in_events_become_plain_json(tmp_path: Path) -> None:
    event = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": Path("x"),
        "d": {1: (np.int64(2),)},
        "e": np.bool_(True),
        "f": {"only"},
    }
    _, line, _ = written(tmp_path / "e.jsonl", frame(events=[event]))
    assert [line[key] for key in "abcdef"] == [0.5, [0, 1, 2], "x", {"1": [2]}, True, ["only"]]


def test_an_event_that_is_no_json_fails_clearly_and_leaves_whole_lines(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    for event in ({"x": object()}, loop):
        sink = log(tmp_path / "e.jsonl")
        sink.open()
        with pytest.raises(SinkError, match="an event is no JSON"):
            sink.consume(frame(events=[event]))
        sink.report(SUMMARY)
        assert [line["type"] for line in strict(tmp_path / "e.jsonl")] == ["frame", "summary"]


# --- the file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("64k")


def fill(path: Path, lines: int = 400) -> Events:
    """Write more than fits."""
    sink = log(path)
    sink.open()
    for index in range(lines):
        sink.consume(frame(index, detections=found(class_ids=(0,) * (1 + index % 7))))
    return sink


def end(sink: Events) -> None:
    sink.close()
    sink.report(SUMMARY)


def test_a_full_disk_costs_whole_lines_and_not_the_run(tiny_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tiny_disk / "e.jsonl"
    sink = fill(path)
    kept = strict(path)
    assert len(kept) > 50
    assert [line["frame"] for line in kept] == list(range(len(kept)))
    assert sink.dropped == 400 - len(kept)
    assert [record.getMessage() for record in caplog.records] == [
        f"sinks.events: cannot write to {path}: No space left on device; what does not fit is left out, until there "
        "is room"
    ]
    assert sink.remark() == f"sinks.events: {sink.dropped} lines are missing in {path}: the disk was full"
    end(sink)
    strict(path)


def test_a_disk_that_has_room_again_is_written_to_again(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(40_000))
    sink = fill(tiny_disk / "e.jsonl", 200)
    lost = sink.dropped
    assert lost > 0
    ballast.unlink()
    sink.consume(frame(200))
    assert sink.dropped == lost + 1, "a full disk is not asked for every line"
    time.sleep(1.05)
    sink.consume(frame(201))
    end(sink)
    lines = strict(tiny_disk / "e.jsonl")
    assert [line.get("frame") for line in lines[-2:]] == [201, None]
    assert lines[-1]["type"] == "summary"
    assert sink.dropped == lost + 1


def test_the_summary_is_tried_although_the_disk_was_full_a_moment_ago(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(40_000))
    sink = fill(tiny_disk / "e.jsonl", 200)
    ballast.unlink()
    end(sink)
    assert strict(tiny_disk / "e.jsonl")[-1]["type"] == "summary"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.pipeline.test_events import end, fill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_001, 50_001))
sink = fill(Path(sys.argv[1]))
end(sink)
print(sink.dropped)
"""


def test_a_limit_on_file_size_leaves_only_whole_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "e.jsonl")]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    lines = strict(tmp_path / "e.jsonl")
    assert len(lines) + int(done.stdout) == 401
    assert len(lines) > 50
    assert 40_000 < (tmp_path / "e.jsonl").stat().st_size <= 50_001


def test_a_disk_that_fails_for_another_reason_fails_the_run(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)))
    reader.start()
    sink = log(pipe)
    sink.open()
    reader.join()
    with pytest.raises(SinkError, match=r"^sinks\.events: cannot write to .*pipe: Broken pipe$"):
        sink.consume(frame())
    with pytest.raises(SinkError, match="Broken pipe"):
        sink.report(SUMMARY)


# --- rotation ---------------------------------------------------------------------------------------------------


def test_without_frames_there_are_events_and_the_summary_only(tmp_path: Path) -> None:
    sink = log(tmp_path / "e.jsonl", frames=False)
    (tmp_path / "e.jsonl").write_text("old\n")
    sink.open()
    sink.consume(frame(0))
    assert (tmp_path / "e.jsonl").read_text() == ""
    sink.consume(frame(1, events=[{"event": "zone.enter"}]))
    end(sink)
    lines = strict(tmp_path / "e.jsonl")
    assert [line["type"] for line in lines] == ["event", "summary"]


def all_lines(*paths: Path) -> list[dict[str, Any]]:
    return [line for path in paths for line in strict(path)]


def test_a_log_is_rotated_between_lines_and_the_oldest_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    sink = log(path, rotate_mb=0.01, keep_files=3)
    sink.open()
    for index in range(600):
        sink.consume(frame(index))
    end(sink)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["e.jsonl", "e.jsonl.1", "e.jsonl.2", "e.jsonl.3"]
    assert sorted(each.name for each in sink.files) == names
    lines = all_lines(*(tmp_path / name for name in ("e.jsonl.3", "e.jsonl.2", "e.jsonl.1", "e.jsonl")))
    assert lines.pop()["type"] == "summary"
    numbers = [line["frame"] for line in lines]
    assert numbers == list(range(numbers[0], 600))
    sizes = [(tmp_path / name).stat().st_size for name in names]
    assert all(9_000 < size <= 10_000 for size in sizes[1:])
    assert sink.dropped == 0


def test_a_line_longer_than_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    sink = log(path, rotate_mb=0.001, keep_files=2)
    sink.open()
    sink.consume(frame(0))
    sink.consume(frame(1, detections=found(class_ids=(0,) * 50)))
    end(sink)
    assert [line["frame"] for line in strict(tmp_path / "e.jsonl.2")] == [0]
    assert len(strict(tmp_path / "e.jsonl.1")[0]["detections"]) == 50
    assert strict(path)[0]["type"] == "summary"


def test_a_log_of_an_earlier_run_becomes_an_old_one_where_logs_are_rotated(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text("of yesterday\n")
    sink = log(path, rotate_mb=1)
    sink.open()
    assert path.read_text() == "of yesterday\n"
    sink.consume(frame())
    end(sink)
    assert (tmp_path / "e.jsonl.1").read_text() == "of yesterday\n"
    assert [line["type"] for line in strict(path)] == ["frame", "summary"]


def move(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def replace_by_empty(path: Path) -> None:
    move(path)
    path.touch()


def copy_and_truncate(path: Path) -> None:
    path.with_suffix(".old").write_bytes(path.read_bytes())
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [move, replace_by_empty, copy_and_truncate])
def test_a_log_that_logrotate_takes_loses_no_line(tmp_path: Path, rotate: Callable[[Path], None]) -> None:
    path = tmp_path / "e.jsonl"
    sink = log(path)
    sink.open()
    for index in range(50):
        sink.consume(frame(index))
    rotate(path)
    for index in range(50, 100):
        sink.consume(frame(index))
    end(sink)
    lines = all_lines(tmp_path / "e.old", path)
    assert [line["frame"] for line in lines[:-1]] == list(range(100))
    assert strict(path)[0]["frame"] == 50
    assert strict(path)[-1]["type"] == "summary"


def test_a_deleted_log_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    sink = log(path, encodings=True)
    sink.open()
    sink.consume(frame(0))
    path.unlink()
    sink.consume(frame(1))
    path.unlink()
    end(sink)
    assert [line["type"] for line in strict(path)] == ["summary"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_real_logrotate_loses_no_line(tmp_path: Path) -> None:
    program = shutil.which("logrotate") or "/usr/sbin/logrotate"
    if not os.path.exists(program):
        pytest.skip("no logrotate here (apt: logrotate)")
    path = tmp_path / "e.jsonl"
    rules = tmp_path / "rules"
    rules.write_text(f"{path} {{\n  rotate 3\n  missingok\n  size 1\n}}\n")
    sink = log(path)
    sink.open()
    for index in range(90):
        sink.consume(frame(index))
        if index in (29, 59):
            command = [program, "--force", "--state", str(tmp_path / "state"), str(rules)]
            subprocess.run(command, check=True, capture_output=True)
    end(sink)
    lines = all_lines(tmp_path / "e.jsonl.2", tmp_path / "e.jsonl.1", path)
    assert [line["frame"] for line in lines[:-1]] == list(range(90))


def test_a_log_whose_folder_is_gone_is_said_and_comes_back_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = log(folder / "e.jsonl")
    sink.open()
    sink.consume(frame(0))
    folder.rename(tmp_path / "away")
    sink.consume(frame(1))
    sink.consume(frame(2))
    assert ["is gone, and no new one can be made" in record.getMessage() for record in caplog.records] == [True]
    folder.mkdir()
    sink.consume(frame(3))
    end(sink)
    assert [line["frame"] for line in strict(tmp_path / "away" / "e.jsonl")] == [0, 1, 2]
    assert [line.get("frame") for line in strict(folder / "e.jsonl")] == [3, None]


def test_a_source_that_would_become_an_old_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl.2").write_bytes(b"a video")
    source = SourceInfo("a", str(tmp_path / "e.jsonl.2"))
    log(tmp_path / "e.jsonl").check([source])
    with pytest.raises(ConfigError, match=r"^sinks\.events: .*e\.jsonl\.2 is also a source"):
        log(tmp_path / "e.jsonl", rotate_mb=1).check([source])


def test_an_older_log_is_replaced_by_the_first_line_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text("an older and much longer log\n" * 1000)
    sink = log(path)
    sink.check([])
    sink.open()
    assert "older" in path.read_text()
    assert sink.files == []
    sink.consume(frame())
    assert "older" not in path.read_text()
    assert sink.files == [path]
    sink.report(SUMMARY)


def test_a_run_that_captured_nothing_leaves_an_older_log(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text("old\n")
    nothing = {**SUMMARY, "sources": {"a": {"captured": 0, "delivered": 0, "dropped": {}}}}
    sink = log(tmp_path / "e.jsonl")
    sink.open()
    sink.report(nothing)
    assert (tmp_path / "e.jsonl").read_text() == "old\n"
    assert written(tmp_path / "new.jsonl", summary=nothing)[0]["type"] == "summary"


def test_lines_go_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.extend(pipe.read_text().splitlines()))
    reader.start()
    sink = log(pipe)
    sink.check([])
    sink.open()
    for index in range(300):
        sink.consume(frame(index))
    sink.report(SUMMARY)
    reader.join(5)
    assert len(got) == 301
    assert all(re.match(r'\{"type":', line) for line in got)


@pytest.mark.parametrize("place", ["file/e.jsonl", "/proc/frameloom/e.jsonl", "folder"])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    sink = log(tmp_path / place)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"sinks\.events: "):
        sink.check([])


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    assert len(written(tmp_path / "a" / "b" / "e.jsonl", frame())) == 2
