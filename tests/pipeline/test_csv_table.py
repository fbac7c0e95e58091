"""The table: what a spreadsheet and a data frame read, RFC 4180, whole rows only, no formulas."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.faces import Faces
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture
from pipeline.sinks.csv_table import COLUMNS, CsvTable, to_csv

PICTURE = Picture(bgr=np.zeros((4, 4, 3), np.uint8))
REPOSITORY = Path(__file__).resolve().parents[2]


def frame(index: int = 0, source: str = "a", **fields: Any) -> Frame:
    return Frame(source, index, index / 10, 0.0, PICTURE, **fields)


def found(count: int = 1, **fields: Any) -> Detections:
    boxes = np.array([[1 / 3, 2, 30.126, 40]] * count)
    return Detections(boxes, np.full(count, 0.91234567), np.zeros(count, np.int32), **fields)


def written(path: Path, *frames: Frame) -> list[dict[str, str]]:
    sink = CsvTable(path)
    sink.check([])
    sink.open()
    for each in frames:
        sink.consume(each)
    sink.close()
    return read(path)


def read(path: Path) -> list[dict[str, str]]:
    """Every row as text; each must have all columns."""
    with path.open(newline="", encoding="utf-8") as file:
        first, *rows = csv.reader(file, strict=True)
    assert first == list(COLUMNS)
    return [dict(zip(first, row, strict=True)) for row in rows]


def test_a_row_has_what_the_event_log_has(tmp_path: Path) -> None:
    objects = found(
        2,
        track_ids=np.array([7, UNTRACKED], np.int32),
        velocities=np.array([[3.0, 4.0], [np.nan, np.nan]], np.float32),
        speeds_m_s=np.array([1.25, np.nan], np.float32),
        names=("Zoë 猫", None),
    )
    faces = Faces(
        np.array([[5, 6, 7, 8]]),
        np.array([0.5]),
        np.zeros((1, 5, 2), np.float32),
        names=("ann",),
        similarities=np.array([0.71234]),
        track_ids=np.array([3], np.int32),
    )
    each = frame(12, wall_time=1.5, detections=objects, faces=faces, labels=("person",), file=Path("a b/1.jpg"))
    first, second, face = written(tmp_path / "t.csv", each)
    common = {"source": "a", "frame": "12", "pts": "1.2", "wall_time": "1.5", "file": "a b/1.jpg"}
    box = {"x1": "0.33", "y1": "2.0", "x2": "30.13", "y2": "40.0"}
    assert first == common | box | {
        "kind": "object", "class": "person", "score": "0.9123", "track": "7", "name": "Zoë 猫", "similarity": "",
        "speed": "5.0", "speed_m_s": "1.25",
    }  # fmt: skip
    assert (second["track"], second["name"], second["speed"], second["speed_m_s"]) == ("", "", "", "")
    assert face == common | {
        "kind": "face", "class": "", "score": "0.5", "track": "3", "name": "ann", "similarity": "0.7123",
        "speed": "", "speed_m_s": "", "x1": "5.0", "y1": "6.0", "x2": "7.0", "y2": "8.0",
    }  # fmt: skip


def test_sources_share_a_table_and_frames_without_anything_have_no_row(tmp_path: Path) -> None:
    frames = [frame(0), frame(0, "b", detections=found()), frame(1, detections=found(0)), frame(2, detections=found())]
    assert [(row["source"], row["frame"]) for row in written(tmp_path / "t.csv", *frames)] == [("b", "0"), ("a", "2")]


def test_pandas_reads_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    written(tmp_path / "t.csv", frame(3, detections=found(2, names=('o\'neil, "x"\r\ny', None))))
    table = pandas.read_csv(tmp_path / "t.csv")
    assert table["name"].tolist()[0] == 'o\'neil, "x"\r\ny'
    assert table["score"].tolist() == [0.9123, 0.9123]
    assert table["frame"].dtype.kind == "i"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http:x";"y")'])
def test_a_name_is_no_formula_for_a_spreadsheet(tmp_path: Path, name: str) -> None:
    (row,) = written(tmp_path / "t.csv", frame(detections=found(names=(name,)), labels=(name,), file=Path(name)))
    assert (row["name"], row["class"], row["file"]) == (f"'{name}",) * 3


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    faces = Faces(
        np.array([[-5, 6, 7, 8]]), np.array([0.5]), np.zeros((1, 5, 2), np.float32), similarities=np.array([-0.25])
    )
    (row,) = written(tmp_path / "t.csv", frame(faces=faces))
    assert (row["x1"], row["similarity"]) == ("-5.0", "-0.25")


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_comes_back(name: str, label: str) -> None:
    text = to_csv([{"name": name, "class": label}]).decode("utf-8")
    (row,) = csv.reader(io.StringIO(text, newline=""), strict=True)
    back = dict(zip(COLUMNS, row, strict=True))
    for given_text, column in ((name, "name"), (label, "class")):
        expected = given_text.encode("utf-8", "backslashreplace").decode()
        assert back[column] in (expected, f"'{expected}")


def test_a_file_name_that_is_no_utf_8_is_written_readably(tmp_path: Path) -> None:
    (row,) = written(tmp_path / "t.csv", frame(detections=found(), file=Path(os.fsdecode(b"\xff.jpg"))))
    assert row["file"] == "\\udcff.jpg"


def test_an_older_table_is_replaced_by_the_first_frame_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("older\n" * 1000)
    sink = CsvTable(path)
    sink.check([])
    sink.open()
    assert (path.read_text()[:5], sink.files) == ("older", [])
    sink.consume(frame())
    assert (read(path), sink.files) == ([], [path])
    sink.close()


def test_a_table_that_is_moved_goes_on_in_a_new_one_with_its_own_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    sink = CsvTable(path)
    sink.open()
    sink.consume(frame(0, detections=found()))
    path.rename(tmp_path / "old.csv")
    sink.consume(frame(1, detections=found()))
    os.truncate(path, 0)
    sink.consume(frame(2, detections=found()))
    sink.close()
    assert [row["frame"] for row in read(tmp_path / "old.csv")] == ["0"]
    assert [row["frame"] for row in read(path)] == ["2"]


def test_a_full_disk_costs_whole_frames_of_rows_and_not_the_run(disk_of: Callable[[str], Path]) -> None:
    path = disk_of("64k") / "t.csv"
    sink = CsvTable(path)
    sink.open()
    for index in range(400):
        sink.consume(frame(index, detections=found(7)))
    sink.close()
    rows = read(path)
    assert len(rows) > 300
    assert len(rows) % 7 == 0
    assert sink.dropped == 400 * 7 - len(rows)
    assert sink.remark() == f"sinks.csv: {sink.dropped} rows are missing in {path}: the disk was full"


KILLED = """
import itertools, sys
from pathlib import Path
from tests.pipeline.test_csv_table import CsvTable, found, frame
sink = CsvTable(Path(sys.argv[1]))
sink.open()
for index in itertools.count():
    sink.consume(frame(index, detections=found(3)))
    if index == 200:
        print("go", flush=True)
"""


def test_a_killed_process_leaves_whole_rows_up_to_the_last_frame(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "t.csv")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    rows = read(tmp_path / "t.csv")
    assert len(rows) >= 201 * 3
    assert len(rows) % 3 == 0


def test_a_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sinks\.csv: .* is a folder: name a file in it$"):
        CsvTable(tmp_path).check([])
