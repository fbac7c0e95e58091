"""`frameloom doctor` on GPUs: what it says where there are some, and why where there are none."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from engines.cuda import driver as nvidia
from engines.cuda.driver import Driver, Gpu
from tools import checks, checks_gpu
from tools.check import Check
from tools.doctor import doctor

app = typer.Typer()
app.command()(doctor)

ADA = Gpu(0, "NVIDIA RTX 4000 Ada Generation", "8.9", 20 * 2**30, "580.65.06")
HOPPER = Gpu(1, "NVIDIA H200", "9.0", 139 * 2**30, "580.65.06")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))


def seen(check: Callable[[], Iterator[Check]]) -> dict[str, Check]:
    return {each.name: each for each in check()}


def answers(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    monkeypatch.setattr(nvidia, "driver", lambda: driver)


def module(name: str, monkeypatch: pytest.MonkeyPatch, **contents: object) -> None:
    made = types.ModuleType(name)
    vars(made).update(contents)
    monkeypatch.setitem(sys.modules, name, made)


def test_each_gpu_has_a_line_with_capability_memory_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, Driver(None, (ADA, HOPPER), "13.0"))
    first, second = checks_gpu.gpu()
    assert (first.name, first.status, first.advice) == ("gpu", "ok", "")
    assert first.text == (
        "NVIDIA RTX 4000 Ada Generation (cuda:0, compute capability 8.9, 20 GiB), driver 580.65.06, speaks CUDA 13.0"
    )
    assert "cuda:1, compute capability 9.0, 139 GiB" in second.text


def test_no_driver_is_said_with_its_reason_and_that_a_cpu_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, nvidia.probe("libnosuch.so.7"))
    (check,) = checks_gpu.gpu()
    assert check.status == "missing"
    assert "libnosuch.so.7" in check.text
    assert "a CPU is enough" in check.advice
    assert not check.essential


@pytest.mark.parametrize(
    ("contents", "status", "words"),
    [
        ({"Builder": object, "Runtime": object, "__version__": "11.4.0"}, "ok", "11.4.0"),
        ({"Builder": object, "Runtime": object, "__version__": "8.6.1"}, "missing", "8.6.1 is too old"),
        ({"Runtime": object, "__version__": "11.4"}, "missing", "no Builder"),
        ({"Builder": object, "Runtime": object}, "missing", "no __version__"),
    ],
    ids=["whole", "old", "lean", "stubs"],
)
def test_a_tensorrt_flavour_has_its_version_or_the_reason_why_it_does_not_count(
    contents: dict[str, Any], status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module("tensorrt", monkeypatch, **contents)
    check = seen(checks_gpu.tensorrt)["tensorrt"]
    assert check.status == status
    assert words in check.text
    assert bool(check.advice) == (status != "ok")


def test_both_flavours_are_named_where_neither_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    found = seen(checks_gpu.tensorrt)
    assert [check.status for check in found.values()] == ["missing", "missing"]
    assert "frameloom[rtx]" in found["tensorrt-rtx"].text


def test_libraries_that_reach_the_gpu_are_named_with_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.bindings.driver", "cuda.bindings.nvrtc", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    found = seen(checks_gpu.cuda_libraries)
    assert list(found) == ["cuda-python", "pycuda", "nvrtc"]
    assert all(check.status == "missing" and "pip install" in check.advice for check in found.values())
    assert "frames are cut on the CPU" in found["nvrtc"].advice


def test_nvrtc_whose_library_is_missing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise RuntimeError("libnvrtc.so.13 not found")

    module("cuda.bindings.nvrtc", monkeypatch, nvrtcVersion=missing)
    check = seen(checks_gpu.cuda_libraries)["nvrtc"]
    assert (check.status, check.text) == ("missing", "libnvrtc.so.13 not found")


def test_compiled_engines_are_counted_unread(tmp_path: Path) -> None:
    assert not seen(checks_gpu.compiled_engines)
    folder = tmp_path / "cache" / "engines"
    folder.mkdir(parents=True)
    for name in ("a.plan", "b.plan"):
        (folder / name).write_bytes(bytes(1 << 20))
    (check,) = checks_gpu.compiled_engines()
    assert check.text == f"2 compiled, 2.0 MiB in {folder}"


def test_a_machine_with_gpus_fits_into_80_columns_and_into_json(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, Driver(None, (ADA, HOPPER), "13.0"))
    gpu_checks = (checks_gpu.gpu, checks_gpu.tensorrt, checks_gpu.cuda_libraries)
    monkeypatch.setattr(checks, "CHECKS", gpu_checks)
    table = CliRunner().invoke(app, [], env={"COLUMNS": "80"})
    assert table.exit_code == 0
    assert all(len(line) <= 80 for line in table.stdout.splitlines())
    assert "…" not in table.stdout
    listed = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    assert [each["name"] for each in listed[:2]] == ["gpu", "gpu"]
    assert all(set(each) == {"name", "status", "text", "advice", "essential"} for each in listed)
