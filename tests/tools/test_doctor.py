"""`frameloom doctor`: what it sees here, what it says where something is missing, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tools import checks
from tools.check import Check
from tools.checks import encoder_problem, run_checks
from tools.doctor import doctor

app = typer.Typer()
app.command()(doctor)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)


def run(*arguments: str, columns: int = 80) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns)})


def only(*found: Check) -> tuple[Callable[[], Iterator[Check]]]:
    return (lambda: iter(found),)


def seen(check: Callable[[], Iterator[Check]]) -> dict[str, Check]:
    return {each.name: each for each in check()}


def test_this_machine_can_run_and_the_table_fits_in_80_columns_uncut() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "…" not in result.stdout
    for name in ("python", "numpy", "opencv-python", "ffmpeg", "openvino", "onnxruntime", "gpu", "cpu", "decoders"):
        assert f"\n{name} " in f"\n{result.stdout}"
    assert "Frameloom can run here" in result.stdout


def test_json_lists_the_same_checks() -> None:
    result = run("--json")
    listed = json.loads(result.stdout)
    assert {"name", "status", "text", "advice", "essential"} == set(listed[0])
    assert {each["status"] for each in listed} <= {"ok", "missing", "problem"}
    assert all(each["advice"] for each in listed if each["status"] == "missing")


@pytest.mark.parametrize(
    ("check", "code", "words"),
    [
        (Check("x", "ok", "1.0", essential=True), 0, "can run here"),
        (Check("x", "missing", "not there", "pip install x"), 0, "pip install x"),
        (Check("x", "problem", "odd", "do this"), 0, "problems: 1"),
        (Check("x", "missing", "not there", "pip install x", essential=True), 1, "cannot run here: x"),
        (Check("[red]x", "ok", "[bold]path", ""), 0, "[bold]path"),
    ],
)
def test_only_what_is_essential_makes_it_fail(
    check: Check, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CHECKS", only(check))
    result = run()
    assert result.exit_code == code
    assert words in result.stdout


def test_a_check_that_fails_itself_is_a_problem_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken() -> Iterator[Check]:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(checks, "CHECKS", (_broken, *only(Check("y", "ok", "fine"))))
    first, second = run_checks()
    assert (first.name, first.status) == ("broken", "problem")
    assert "no such luck" in first.text
    assert second.name == "y"


def test_a_missing_library_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "pycocotools", "openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    libraries, backends = seen(checks._libraries), seen(checks._backends)
    assert libraries["onnx"].broken
    assert libraries["onnx"].advice == "pip install onnx"
    assert "frameloom[eval]" in libraries["pycocotools"].advice
    assert not libraries["pycocotools"].broken
    assert backends["openvino"].advice == "pip install openvino"
    assert backends["backends"].broken


def test_one_backend_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not any(check.broken for check in checks._backends())


def test_an_encoder_counts_only_if_it_can_be_opened() -> None:
    assert encoder_problem("libx264") is None
    assert encoder_problem("no_such_encoder") == "not in this FFmpeg"


def test_cache_and_mirrors_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "cache" / "models" / "a.onnx").write_bytes(bytes(1 << 20))
    monkeypatch.setenv("FRAMELOOM_MIRROR", f"{tmp_path}{os.pathsep}{tmp_path / 'nowhere'}")
    cache, mirror, wrong = checks._cache()
    assert cache.text.endswith("cache: 1 files, 1.0 MiB")
    assert mirror.text.endswith(": 1 files")
    assert (wrong.status, wrong.advice) == ("problem", "correct FRAMELOOM_MIRROR")


def test_a_cache_that_is_no_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "file"))
    assert next(checks._cache()).status == "problem"


def test_models_at_hand_are_named_and_a_wrong_one_is_a_problem(tmp_path: Path) -> None:
    (missing,) = checks._models()
    assert "frameloom models pull --default" in missing.advice
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "cache" / "models" / "yolox_nano.onnx").write_bytes(b"wrong")
    assert next(checks._models()).status == "problem"


def test_hardware_decoding_without_a_device_says_why_and_that_software_decodes() -> None:
    (check,) = checks._hardware_decoding()
    assert check.status == "ok" or ("cuda: " in check.text and "software decodes" in check.advice)


def test_cameras_are_named_or_there_are_none() -> None:
    (check,) = checks._cameras()
    assert (check.status == "ok") == ("/dev/video" in check.text)
