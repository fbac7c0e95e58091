"""`frameloom engines` where a GPU answers: what is built is compared at once, told, and used from then on.

The GPU and TensorRT are fakes: a plan is the network itself, and ONNX Runtime executes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner

from engines.errors import ParityFailed
from engines.tensorrt import workshop
from engines.tensorrt.flavour import Flavour
from engines.tensorrt.recipe import Recipe
from pipeline.errors import ConfigError
from tests.engines.cuda.fake_driver import fake_gpu  # noqa: F401
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.tensorrt.fake_trt import fake_trt
from tests.engines.tensorrt.machine import build_fake_plan, installation, without_letterbox
from tools.engines.build import chosen_backend
from tools.engines.commands import app

TENSORRT = ("--backend", "tensorrt", "--batch", 4)


@pytest.fixture(autouse=True)
def machine(
    fake_gpu: FakeGpu,  # noqa: F811
    face_models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installation(monkeypatch, face_models, tmp_path / "cache")
    without_letterbox(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_trt(fake_gpu))


def build_plan_that_forgets_a_bias(flavour: Flavour, model: onnx.ModelProto, recipe: Recipe, *rest: Any) -> bytes:
    convolution = next(node for node in reversed(model.graph.node) if node.op_type == "Conv" and len(node.input) == 3)
    del convolution.input[2]
    return build_fake_plan(flavour, model, recipe, *rest)


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "80"})


def words(result: Any) -> str:
    assert result.exit_code == 0, (result.exception, result.output)
    return " ".join(result.stdout.split())


def states() -> dict[str, str]:
    return {each["manifest"]["model"]: each["state"] for each in json.loads(run("list", "--json").stdout)}


def test_what_is_built_is_compared_at_once_and_from_then_on_valid() -> None:
    built = words(run("build", "yolox-nano", "mobilefacenet", *TENSORRT))
    assert "yolox-nano 416x416, up to 4 fp16: built in" in built
    assert "boxes matched, score drift up to" in built
    assert "mobilefacenet 112x112, up to 4 fp32: built in" in built
    assert "encodings drift up to" in built
    assert "2 of 2 engines" in built
    assert states() == {"yolox-nano": "valid", "mobilefacenet": "valid"}
    assert "was there already" in words(run("build", "yolox-nano", *TENSORRT))


def test_auto_builds_for_tensorrt_where_it_and_a_gpu_are_there() -> None:
    assert chosen_backend("auto") == "tensorrt"


def test_verify_opens_the_engine_of_the_cache() -> None:
    run("build", "yolox-nano", *TENSORRT)
    checked = words(run("verify", "yolox-nano", *TENSORRT, "--frames", 3))
    assert "yolox-nano 416x416 on tensorrt 11.4.0.106" in checked
    assert "(cache)" in checked
    assert "3 pictures;" in checked
    assert "FAILED" not in checked


def test_an_engine_that_disagrees_is_refused_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "build_plan", build_plan_that_forgets_a_bias)
    result = run("build", "yolox-nano", "--precision", "fp32", *TENSORRT)
    assert result.exit_code == 1
    assert "frameloom: yolox-nano: yolox-nano by tensorrt 11.4.0.106 in fp32" in result.stderr
    assert "disagrees with its model file" in result.stderr
    assert states() == {"yolox-nano": "refused"}
    assert "disagrees with its model file" in words(run("show", "yolox-nano"))
    refused = run("verify", "yolox-nano", "--precision", "fp32", *TENSORRT).exception
    assert isinstance(refused, ParityFailed)


def test_a_damaged_plan_is_built_again(tmp_path: Path) -> None:
    run("build", "yolox-nano", *TENSORRT)
    (plan,) = (tmp_path / "cache" / "engines").glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    assert "is damaged" in words(run("list"))
    checked = words(run("verify", "yolox-nano", *TENSORRT, "--frames", 1))
    assert "(compiled)" in checked
    (again,) = json.loads(run("show", "yolox-nano", "--json").stdout)
    assert again["state"] == "valid"
    assert again["manifest"]["parity"]["decisions"]["matched"] > 0


@pytest.mark.parametrize("suffix", ["", ".plan"])
def test_verify_takes_the_name_of_an_engine_with_the_settings_it_was_built_with(suffix: str, tmp_path: Path) -> None:
    run("build", "yolox-nano", "--precision", "fp32", "--input-size", 320, *TENSORRT)
    (built,) = json.loads(run("list", "--json").stdout)
    result = run("verify", built["name"] + suffix, "--frames", 2, "--json")
    assert result.exit_code == 0, result.exception
    answer = json.loads(result.stdout)
    assert (answer["engine"]["precision"], answer["engine"]["origin"]) == ("fp32", "cache")
    assert answer["engine"]["input_shape"][1:] == [320, 320, 3]
    assert answer["report"]["pictures"] == 2
    assert answer["failures"] == []


def test_verify_of_a_damaged_engine_is_a_wrong_request(tmp_path: Path) -> None:
    run("build", "yolox-nano", *TENSORRT)
    (plan,) = (tmp_path / "cache" / "engines").glob("*.plan")
    plan.with_suffix(".json").write_text("{}")
    error = run("verify", plan.stem).exception
    assert isinstance(error, ConfigError)
    assert "is no manifest" in str(error)
