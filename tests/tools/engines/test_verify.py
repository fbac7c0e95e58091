"""`frameloom engines verify`: what is compared on which pictures, and that a wrong engine is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.engine import EngineOptions, open_engine
from engines.errors import ModelNotFound, ParityFailed
from engines.spec import ModelSpec
from engines.trust.parity import Judge
from pipeline.errors import ConfigError, SourceError
from tests.engines.onnx_files import focus
from tools.engines import verify as engines_verify
from tools.engines.commands import app
from tools.engines.pictures import sample


@pytest.fixture(autouse=True)
def mirrored(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", f"{shared / 'models'}{os.pathsep}{shared / 'data' / 'videos'}")
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, ["verify", *map(str, arguments)], env={"COLUMNS": "80"})


def words(result: Any) -> str:
    return " ".join(result.stdout.split())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_default_detector_passes_in_fp32_on_the_demo_clip(backend: str) -> None:
    result = run("yolox-nano", "--backend", backend, "--precision", "fp32", "--frames", 8)
    assert result.exit_code == 0, result.exception
    for text in (f"on {backend}", "the largest error of output", "the mean score drift", "8 pictures;", "boxes by the"):
        assert text in words(result)
    assert "FAILED" not in words(result)
    assert " 0 boxes" not in words(result)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_bf16_passes_its_own_bounds() -> None:
    result = run("yolox-nano", "--backend", "openvino", "--precision", "bf16", "--frames", 25)
    assert result.exit_code == 0, result.exception
    assert "CPU bf16" in words(result)


def test_an_engine_that_is_fed_wrong_colours_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(spec: ModelSpec, options: EngineOptions, judge: Judge | None) -> Any:
        return open_engine(replace(spec, input=replace(spec.input, colour="rgb")), options, judge)

    monkeypatch.setattr(engines_verify, "open_engine", wrong)
    result = run("yolox-nano", "--backend", "onnxruntime", "--frames", 4)
    assert isinstance(result.exception, ParityFailed)
    assert not result.exception.request_was_wrong
    assert "yolox-nano on onnxruntime in fp32 disagrees with its ONNX file" in str(result.exception)
    assert "FAILED" in result.stdout


def test_a_model_of_another_kind_is_compared_by_tensors_and_that_is_said() -> None:
    result = run("minifasnet-v2", "--frames", 2)
    assert result.exit_code == 0, result.exception
    assert "note: minifasnet-v2 finds no boxes (liveness): only its tensors were compared" in words(result)


def test_a_face_encoder_is_compared_by_its_encodings() -> None:
    result = run("mobilefacenet", "--frames", 2)
    assert result.exit_code == 0, result.exception
    assert "the largest drift of an encoding" in words(result)
    assert "note" not in words(result)


def test_a_face_finder_is_compared_by_its_boxes_on_a_clip_with_a_face() -> None:
    result = run("yunet", "--frames", 4, "--backend", "openvino", "--precision", "fp32")
    assert result.exit_code == 0, result.exception
    assert "yunet 448x256 on openvino" in words(result)
    assert "4 pictures; 4 boxes by the file, 4 by the engine, 4 matched" in words(result)


def test_a_model_is_compared_at_the_size_that_is_asked_for() -> None:
    result = run("yolox-nano", "--input-size", "320x640", "--frames", 2, "--backend", "onnxruntime")
    assert result.exit_code == 0, result.exception
    assert "yolox-nano 640x320 on onnxruntime" in words(result)


def test_a_file_with_unknown_outputs_is_compared_by_tensors(tmp_path: Path) -> None:
    result = run(focus(tmp_path), "--frames", 2, "--backend", "openvino", "--precision", "fp32")
    assert result.exit_code == 0, result.exception
    assert "only tensors are compared: the model is no detector" in words(result)


def test_pictures_without_objects_leave_a_note(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    result = run("yolox-nano", "--backend", "onnxruntime", "--images", tmp_path)
    assert result.exit_code == 0, result.exception
    assert "decisions were not tested" in words(result)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("yolox-nan",), ModelNotFound),
        (("yolox-nano", "--images", "no/such/folder"), SourceError),
        (("yolox-nano", "--backend", "onnxruntime", "--precision", "bf16"), ConfigError),
    ],
)
def test_a_wrong_request_is_raised_for_the_program_to_show(arguments: tuple[str, ...], error: type[Exception]) -> None:
    assert isinstance(run(*arguments).exception, error)


def test_a_backend_that_does_not_exist_is_a_wrong_request() -> None:
    result = run("yolox-nano", "--backend", "abacus")
    assert result.exit_code == 2
    assert "abacus" in result.output


def test_pictures_are_spread_evenly_over_places_and_frames(tmp_path: Path) -> None:
    for place, count in (("a", 10), ("b", 2)):
        (tmp_path / place).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / place / f"{number}.png"), np.full((4, 4, 3), number * 20, np.uint8))
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    shades = [int(picture.bgr[0, 0, 0]) // 20 for picture in sample(places, 7)]
    assert shades == [0, 3, 6, 0, 1]
    assert [int(picture.bgr[0, 0, 0]) // 20 for picture in sample(places, 1)] == [0]


def test_a_folder_whose_pictures_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    (tmp_path / "torn2.png").write_bytes(b"torn")
    with pytest.raises(SourceError, match=r"(not one picture|none of the 2 images) can be read"):
        list(sample([str(tmp_path)], 3))
