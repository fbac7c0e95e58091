"""A detector that a user brings: it runs and says its classes' names, or one line says what is wrong with it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import FrameloomError
from tests.e2e.program import Done, frameloom
from tests.engines.own_files import (
    BOX,
    NAMES,
    SCORE,
    SIDE,
    classifier,
    detector,
    fails_when_run,
    foreign_operator,
    rows,
    with_weights_beside,
)
from tests.pipeline.videos import grey_video, look_into

ULTRALYTICS = {"names": NAMES, "task": "detect", "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]"}
FRAMES = 3
OUTPUTS = ("out.mp4", "log.jsonl")
WHERE = ("--source", "clip.mp4", "--record", "out.mp4", "--events", "log.jsonl")
WIDTH, HEIGHT = 64, 48


def run(folder: Path, model: Path, *options: str) -> Done:
    return frameloom("run", *WHERE, "--model", model.name, *options, cwd=folder)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    grey_video(tmp_path / "clip.mp4", FRAMES)
    return tmp_path


def found(folder: Path) -> list[list[dict[str, Any]]]:
    """What was found, by frame."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["detections"] for line in lines if line["type"] == "frame"]


def in_frame(box: tuple[float, ...]) -> list[float]:
    """A box of the input, in pixels of the frame: no scaling, centred."""
    shift = (SIDE - HEIGHT) / 2
    return [box[0], max(0, box[1] - shift), box[2], min(HEIGHT, box[3] - shift)]


def test_an_export_with_metadata_runs_to_an_annotated_video_with_its_names(desk: Path) -> None:
    done = run(desk, detector(desk / "best.onnx", metadata=ULTRALYTICS))
    assert (done.code, done.error) == (0, "")
    per_frame = found(desk)
    assert len(per_frame) == FRAMES
    for (only,) in per_frame:
        assert (only["class"], only["class_id"], only["score"]) == ("red door", 1, pytest.approx(SCORE, abs=0.01))
        assert only["box"] == pytest.approx(in_frame(BOX), abs=0.5)
    recorded = look_into(desk / "out.mp4").images
    assert len(recorded) == FRAMES
    assert np.ptp(np.asarray(recorded[0], np.int16)) > 30  # a box is drawn on grey


def test_weights_beside_the_file_and_an_open_size_do_no_harm(desk: Path) -> None:
    (desk / "models").mkdir()
    model = with_weights_beside(desk / "models" / "best.onnx")
    done = frameloom("run", "--source", "clip.mp4", "--events", "log.jsonl", "--model", model, cwd=desk)
    assert (done.code, done.error) == (0, "")
    assert [only["class"] for (only,) in found(desk)] == ["1"] * FRAMES


def test_what_inspect_writes_down_changes_what_run_does(desk: Path) -> None:
    model = detector(desk / "best.onnx", metadata=ULTRALYTICS)
    stated = ("--labels", "a,b,c", "--fit", "stretch", "--save-spec")
    said = frameloom("models", "inspect", model.name, *stated, cwd=desk)
    assert (said.code, said.error) == (0, "")
    assert "wrote best.yaml" in said.out
    assert run(desk, model).code == 0
    for (only,) in found(desk):
        assert only["class"] == "b"
        assert only["box"] == pytest.approx([BOX[0], BOX[1] * HEIGHT / SIDE, BOX[2], BOX[3] * HEIGHT / SIDE], abs=0.5)


def test_classes_beyond_the_names_are_called_by_their_number(desk: Path) -> None:
    done = run(desk, detector(desk / "best.onnx", metadata={**ULTRALYTICS, "names": "['cat']"}))
    assert (done.code, done.error) == (0, "")
    assert [only["class"] for (only,) in found(desk)] == ["1"] * FRAMES


def negative_sizes(path: Path) -> Path:
    output = rows()
    output[0, 2:4] *= -1
    return detector(path, output)


def without_numbers(path: Path) -> Path:
    output = rows()
    output[0, :4] = np.nan
    return detector(path, output)


def large(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(b"\x08\x08\x3a")
        file.truncate(3_000_000_000)
    return path


def encrypted(path: Path) -> Path:
    path.write_bytes(b"\xfe" + random.Random(1).randbytes(20_000))
    return path


def truncated(path: Path) -> Path:
    whole = detector(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def weights_missing(path: Path) -> Path:
    with_weights_beside(path)
    (path.parent / "weights.bin").unlink()
    return path


def page(path: Path) -> Path:
    path.write_text("<!DOCTYPE html><html>sign in</html>")
    return path


def refused(folder: Path, model: Path) -> Done:
    """The same command in this process: most of the time is that of starting Python."""
    from tools import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FRAMELOOM_CACHE", str(folder / ".cache"))
        patch.delenv("FRAMELOOM_MIRROR", raising=False)
        with pytest.raises(FrameloomError) as caught:
            CliRunner().invoke(cli.app, ["run", *WHERE, "--model", model.name], catch_exceptions=False)
    return Done(2 if caught.value.request_was_wrong else 1, "", f"frameloom: {caught.value}\n")


@pytest.mark.parametrize(
    ("make", "code", "words", "start"),
    [
        pytest.param(without_numbers, 2, "are no numbers (NaN); export it again", run, id="nan"),
        pytest.param(fails_when_run, 1, "cannot be reshaped to the requested shape", run, id="dynamic"),
        pytest.param(
            foreign_operator, 2, "operators that are not ONNX's own (EfficientNMS_TRT '/nms')", run, id="plugin"
        ),
        pytest.param(large, 2, "has 3.0 GB, and an ONNX file can hold 2 GB at most", run, id="3-gb"),
        pytest.param(weights_missing, 2, "keeps its weights in 'weights.bin', which is not in", refused, id="weights"),
        pytest.param(
            lambda path: detector(path, opset=99), 2, "uses version 99 of ONNX's operators", refused, id="opset"
        ),
        pytest.param(lambda path: detector(path, rows()[0]), 2, "no detector that can be read", refused, id="rank-2"),
        pytest.param(
            lambda path: detector(path, rows()[None]), 2, "no detector that can be read", refused, id="rank-4"
        ),
        pytest.param(negative_sizes, 2, "84 of its 84 boxes have a negative width or height", refused, id="negative"),
        pytest.param(encrypted, 2, "is not an ONNX model: it is encrypted, or damaged", refused, id="encrypted"),
        pytest.param(truncated, 2, "is cut off", refused, id="truncated"),
        pytest.param(page, 2, "is a web page", refused, id="page"),
        pytest.param(classifier, 2, "it looks like a classifier of 1000 classes (for input", refused, id="classifier"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line_and_nothing_is_lost(
    make: Callable[[Path], Path], code: int, words: str, start: Callable[[Path, Path], Done], desk: Path
) -> None:
    model = make(desk / "best.onnx")
    for name in OUTPUTS:
        (desk / name).write_text("precious")
    before = sorted(path.name for path in desk.iterdir())
    done = start(desk, model)
    assert words in done.complaint
    assert (done.code, done.out) == (code, "")
    assert {(desk / name).read_text() for name in OUTPUTS} == {"precious"}
    assert sorted(path.name for path in desk.iterdir() if path.name != ".cache") == before
