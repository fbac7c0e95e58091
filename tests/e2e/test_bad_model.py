"""Models that are none, or of another kind: refused in one line that says what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.program import frameloom
from tests.pipeline.videos import grey_video


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        ("face/MobileFaceNet.onnx", "'mobilefacenet' is a model for face-encode, not for detect: choose yolox-nano"),
        ("face/pfld_68.onnx", "it gives output [1, 136]"),
        ("style/tnet_candy.onnx", "leaves its input size open [1, 3, None, None]; say which"),
    ],
)
def test_a_model_that_is_no_detector_is_refused_with_what_it_is_instead(
    tmp_path: Path, shared: Path, model: str, seen: str
) -> None:
    grey_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "log.jsonl").write_text("precious")
    path = shared / "models" / model
    done = frameloom("run", "--source", "clip.mp4", "--model", path, "--events", "log.jsonl", cwd=tmp_path)
    assert done.code == 2
    assert seen in done.complaint
    assert (tmp_path / "log.jsonl").read_text() == "precious"


def test_a_style_network_is_refused_also_when_its_input_size_is_given(tmp_path: Path, shared: Path) -> None:
    grey_video(tmp_path / "clip.mp4", 3)
    model = shared / "models" / "style" / "tnet_candy.onnx"
    size = ("--set", "detect.input_size=64")
    done = frameloom("run", "--source", "clip.mp4", "--model", model, *size, cwd=tmp_path)
    assert "it gives out [1, 3, 64, 64]" in done.complaint
    assert done.code == 2


@pytest.mark.parametrize(("name", "content"), [("text.onnx", b"no model\n" * 50), ("zero.onnx", b"")])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    grey_video(tmp_path / "clip.mp4", 3)
    (tmp_path / name).write_bytes(content)
    done = frameloom("run", "--source", "clip.mp4", "--model", name, cwd=tmp_path)
    assert name in done.complaint
    assert done.code == 2


def test_a_model_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    grey_video(tmp_path / "clip.mp4", 3)
    done = frameloom("run", "--source", "clip.mp4", "--model", "nothing.onnx", cwd=tmp_path)
    assert "nothing.onnx" in done.complaint
    assert done.code == 2


def test_a_good_model_runs_in_silence(tmp_path: Path, shared: Path) -> None:
    grey_video(tmp_path / "clip.mp4", 3)
    env = {"FRAMELOOM_MIRROR": str(shared / "models")}
    done = frameloom("run", "--source", "clip.mp4", "--events", "log.jsonl", cwd=tmp_path, env=env)
    assert (done.code, done.error) == (0, "")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4
