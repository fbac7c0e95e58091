"""`frameloom bench style`: flicker is measured as it is defined, and the command measures the real stage."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.engine import EngineOptions
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tests.pipeline.style_models import style_model, style_spec
from tests.pipeline.videos import encode
from tools import bench_style
from tools.cli import app
from tools.flicker import changes, flicker

HEIGHT, WIDTH = 96, 128
WIDE = np.asarray(
    cv2.resize(
        np.random.default_rng(0).integers(0, 256, (16, 28, 3), np.uint8), (224, HEIGHT), interpolation=cv2.INTER_CUBIC
    ),
    np.uint8,
)


def panning(count: int, step: int) -> list[Image]:
    return [np.ascontiguousarray(WIDE[:, step * i : step * i + WIDTH]) for i in range(count)]


def with_noise(frames: list[Image], deviation: float) -> list[Image]:
    random = np.random.default_rng(1)
    return [
        np.clip(frame * 0.6 + 50 + random.normal(0, deviation, frame.shape), 0, 255).astype(np.uint8)
        for frame in frames
    ]


def test_of_what_does_not_move_both_errors_are_twice_the_variance_of_the_flicker() -> None:
    still = panning(1, 0) * 5
    measured = flicker(with_noise(still, 8), changes(still))
    assert measured.warping_error == pytest.approx(2 * 64, rel=0.05)
    assert measured.still_error == pytest.approx(2 * 64, rel=0.05)
    assert np.isnan(measured.strokes)


def test_what_moves_with_the_picture_does_not_flicker() -> None:
    frames = panning(6, 3)
    happens = changes(frames)
    assert np.mean([change.moving for change in happens]) > 0.8
    steady, noisy = (flicker(with_noise(frames, deviation), happens) for deviation in (0, 8))
    assert steady.warping_error < noisy.warping_error / 8
    assert noisy.strokes > 1.5 * steady.strokes


def test_each_way_to_use_the_stage_costs_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_style, "TIMED", 6)
    costs = bench_style.stage_costs(
        style_spec(tmp_path), EngineOptions("onnxruntime", "fp32", threads=1, requests=1), (90, 160)
    )
    assert list(costs) == list(bench_style.WAYS)
    assert all(cost > 0 for cost in costs.values())
    assert costs["steady"] > costs["each picture by itself"]


def test_the_network_alone_is_timed_at_640_by_360(tmp_path: Path) -> None:
    alone = bench_style.measure_alone(style_spec(tmp_path), EngineOptions("onnxruntime", "fp32"))
    assert alone.size == "640x360"
    assert alone.fps == pytest.approx(1e3 / alone.ms)
    assert alone.cpu_ms > 0


def test_the_command_compares_each_picture_by_itself_with_kept_steady(tmp_path: Path) -> None:
    video = encode(tmp_path / "noise.mp4", with_noise(panning(1, 0) * 8, 6))
    model = style_model(tmp_path / "loud.onnx", factor=2.0, shift=(-100.0,) * 3)
    report = tmp_path / "report.json"
    command = ["bench", "style", "--model", str(model), "--flicker", str(video), "--frames", "8", "--json", str(report)]
    result = CliRunner().invoke(app, [*command, "--backend", "onnxruntime"])
    assert result.exit_code == 0, result.output
    (measured,) = json.loads(report.read_text())["videos"]
    assert measured["frames"] == 8
    assert measured["alone"]["warping_error"] > 2 * measured["original"]["warping_error"]
    assert measured["steady"]["warping_error"] < measured["alone"]["warping_error"] / 2
    assert "noise.mp4" in result.output


def test_a_model_that_is_no_style_is_a_wrong_request(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "style", "--model", str(tmp_path / "nothing.onnx")])
    assert result.exit_code != 0
    assert "there is no model file" in str(result.exception)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "1 frame, where flicker needs two or more"),
        (["--set", "stylize.where=side-by-side"], "side-by-side cannot go with --flicker"),
    ],
    ids=["an image", "not everywhere"],
)
def test_what_cannot_flicker_is_refused(tmp_path: Path, more: list[str], said: str) -> None:
    image = tmp_path / "one.png"
    cv2.imwrite(str(image), panning(1, 0)[0])
    command = ["bench", "style", "--model", str(style_model(tmp_path / "s.onnx")), "--flicker", str(image), *more]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
