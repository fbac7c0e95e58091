"""`frameloom bench models`: figures for what runs, reasons for what does not, and a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

from pipeline.errors import ConfigError
from tests.engines.int8.squares import pictures, write_pictures
from tests.tools.engines.test_quantize import described, label_file
from tools import bench_models_measure
from tools.bench_models_measure import Candidate, Row, Speed, measure
from tools.bench_models_plot import draw
from tools.cli import app

QUICK = ("--requests", 3, "--rounds", 1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)
    monkeypatch.setattr(bench_models_measure, "apart", lambda work, *arguments: work(*arguments))  # a second each


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, ["bench", "models", *map(str, arguments)], env={"COLUMNS": "100"})


def test_a_model_is_measured_with_ap_and_drawn(tmp_path: Path) -> None:
    frames = pictures(6)
    folder = write_pictures(tmp_path / "images", frames)
    labels, spec = label_file(tmp_path, frames), described(tmp_path)
    plot, file = tmp_path / "models.png", tmp_path / "models.json"
    result = run("--model", spec.path, "--backend", "openvino", "--backend", "onnxruntime", "--precision", "fp32",
                 "--annotations", labels, "--images", folder, "--plot", plot, "--json", file, *QUICK)  # fmt: skip
    assert result.exit_code == 0, result.exception
    report = json.loads(file.read_text())
    assert [row["backend"] for row in report["rows"]] == ["openvino", "onnxruntime"]
    for row in report["rows"]:
        assert row["ap"] > 0.95
        assert 0 < row["ms"] <= row["p95_ms"]
        assert row["fps"] > 0
        assert row["size"] == [64, 64]
    assert report["environment"]["cores"] > 0
    assert "squares.onnx" in result.stdout
    assert cv2.imread(str(plot)) is not None


def test_without_labels_there_is_no_ap_and_the_plot_has_bars(tmp_path: Path) -> None:
    result = run("--model", described(tmp_path).path, "--plot", tmp_path / "bars.png", *QUICK)
    assert result.exit_code == 0, result.exception
    assert "AP is not measured without labels" in result.stdout
    assert " - " in result.stdout
    assert cv2.imread(str(tmp_path / "bars.png")) is not None


def test_what_cannot_run_is_a_row_with_the_reason(tmp_path: Path) -> None:
    precisions = ("--precision", "fp32", "--precision", "int8")
    result = run("--model", described(tmp_path).path, "--backend", "openvino", *precisions, *QUICK)
    assert result.exit_code == 0, result.exception
    words = " ".join(result.stdout.split())
    assert "squares.onnx on openvino int8: squares has no int8 engine for openvino yet" in words
    nothing = run("--model", tmp_path / "squares.onnx", "--backend", "openvino", "--precision", "int8", *QUICK)
    assert nothing.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no detector is at hand"),
        (("--backend", "frobnicate"), "--backend frobnicate: choose from auto"),
        (("--precision", "fp13"), "--precision fp13: choose from auto"),
        (("--limit", "3"), "add --annotations PATH"),
        (("--json", "/nowhere/x.json"), "there is no folder /nowhere"),
    ],
)
def test_a_wrong_request_is_said_before_anything_is_measured(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)


def test_rounds_are_taken_in_turns_and_medians_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Candidate("a", "openvino", "fp32"), Candidate("b", "openvino", "fp32")
    times = {"a": iter([5.0, 1.0, 9.0]), "b": iter([2.0, 4.0, 3.0])}
    order: list[str] = []
    speed = Speed("a", "openvino", "fp32", (64, 64), 0, 10, 100, 8)

    def once(candidate: Candidate, requests: int) -> Speed:
        order.append(candidate.model)
        return replace(speed, ms=next(times[candidate.model]))

    monkeypatch.setattr(bench_models_measure, "_speed_of", once)
    rows = measure([first, second], None, 1, 3, lambda done, total: None)
    assert order == ["a", "b"] * 3
    assert [row.ms for row in rows] == [5.0, 3.0]
    assert rows[0].ap is None


def test_a_plot_of_nothing_measured_is_still_a_picture(tmp_path: Path) -> None:
    draw(tmp_path / "empty.png", [Row("a.onnx", "openvino", "int8", "no")])
    assert cv2.imread(str(tmp_path / "empty.png")) is not None
