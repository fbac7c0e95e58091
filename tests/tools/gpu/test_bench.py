"""`frameloom bench gpu` from end to end over fakes: a fake GPU, and a TensorRT whose plans ONNX Runtime executes."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from typer.testing import CliRunner

import engines.cuda.driver
from engines.cuda.driver import Driver
from engines.errors import BackendUnavailable, DeviceLost
from engines.tensorrt import workshop
from engines.tensorrt.flavour import Flavour
from engines.tensorrt.recipe import Recipe
from pipeline.errors import ConfigError
from tests.engines.cuda.fake_driver import fake_gpu  # noqa: F401
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.cuda.host_kernels import letterbox_kernels
from tests.engines.tensorrt.fake_trt import EngineValidity, fake_trt
from tests.engines.tensorrt.machine import build_fake_plan, installation
from tools.gpu import bench as bench_gpu
from tools.gpu import models as gpu_models

LITTLE = ("--seconds", 0, "--steps", 2, "--rounds", 1, "--frames", 4, "--batches", "1,2", "--copy-mib", 1)
SMALL = ("--model", "yolox-nano", "--set", "detect.input_size=160")
PARTS = ("layer", "accepted", "agreement", "layers", "latency", "graphs", "sweep")

ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])


@pytest.fixture
def machine(
    fake_gpu: FakeGpu,  # noqa: F811
    face_models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> FakeGpu:
    installation(monkeypatch, face_models, tmp_path / "cache")
    monkeypatch.setattr(gpu_models, "build_plan", build_fake_plan)
    fake_gpu.kernels.update(letterbox_kernels())
    return fake_gpu


@pytest.fixture
def trt(machine: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fake_trt(machine, rtx=True)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    return module


def run(*arguments: object) -> Any:  # typer does not export the result's type
    app = typer.Typer()
    app.command()(bench_gpu.gpu)
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def bench(tmp_path: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Return the file's content, and what was printed as one line."""
    file = tmp_path / "gpu.json"
    result = run(*LITTLE, "--json", file, *arguments)
    assert result.exit_code == 0, (result.exception, result.output)
    return json.loads(file.read_text()), " ".join(result.stdout.split())


def test_everything_is_measured_and_printed(machine: FakeGpu, trt: Any, tmp_path: Path) -> None:
    found, printed = bench(tmp_path, *SMALL, "--model", "mobilefacenet", "--precision", "fp32")
    assert found["problems"] == []
    assert set(found) == {"problems", "machine", *PARTS}
    assert found["machine"]["gpu"] == "Fake GPU 0"
    assert found["machine"]["tensorrt"] == "tensorrt-rtx 1.7.1.116"
    assert "Fake GPU 0, compute capability 8.9" in printed
    assert [row["accepted"] for row in found["accepted"]] == [True]
    detector, encoder = found["agreement"]
    assert (detector["model"], detector["state"], encoder["state"]) == ("yolox-nano", "verified", "verified")
    assert detector["boxes"] > 0
    assert detector["score_drift"] < 1e-3
    assert encoder["encoding_drift"] < 1e-6
    (layers,) = found["layers"]
    assert layers["batch"] == 8
    assert layers["of_bare"] == pytest.approx(layers["pipeline"] / layers["bare"])
    assert all(layers[each] > 0 for each in ("bare", "transfers", "frames", "pipeline", "recorded", "memory_mib"))
    assert [row["batch"] for row in found["sweep"]] == [1, 2]
    assert sum(row["is_plateau"] for row in found["sweep"]) == 1
    kinds = [(row["of"], row["graphs"]) for row in found["latency"]]
    assert kinds == [(of, graphs) for graphs in (True, False) for of in ("a picture", "a whole frame")]
    assert [row["what"] for row in found["graphs"]] == ["bare", "transfers"]
    assert {name for name, _, _ in machine.launched} == {"letterbox_bgr", "letterbox_yuv"}
    assert trt.knobs.wrong == []
    assert machine.problems() == []


def test_a_gpu_that_tensorrt_refuses_is_told_in_its_words_and_the_rest_is_measured(trt: Any, tmp_path: Path) -> None:
    trt.knobs.validity, trt.knobs.diagnostics = EngineValidity.INVALID, 2
    trt.ComputeCapability = ComputeCapability
    found, printed = bench(tmp_path, *SMALL, "--precision", "fp32")
    assert [row["built_for"] for row in found["accepted"]] == ["compute capability 8.9", "what it chooses by itself"]
    answer = found["accepted"][0]
    assert (answer["built"], answer["accepted"]) == (True, False)
    assert "is not valid on this GPU (UNSUPPORTED_CC)" in answer["words"]
    assert answer["words"] in printed
    assert [row["state"] for row in found["agreement"]] == ["fails"]
    assert "UNSUPPORTED_CC" in found["agreement"][0]["words"]
    assert len(found["layer"]) == 5
    assert not {"layers", "latency", "graphs", "sweep"} & set(found)


def test_without_a_tensorrt_the_cuda_layer_is_measured(
    machine: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    found, printed = bench(tmp_path)
    assert [problem["part"] for problem in found["problems"]] == ["tensorrt"]
    assert "pip install 'frameloom[rtx]'" in printed
    assert [row["what"].split()[0] for row in found["layer"]] == [
        "upload",
        "download",
        "fill",
        "letterbox",
        "letterbox",
    ]


def test_a_model_that_is_not_at_hand_is_a_row_and_not_the_end(trt: Any, tmp_path: Path) -> None:
    found, _ = bench(tmp_path, "--model", "no-such-model", "--model", "mobilefacenet", "--precision", "fp32")
    assert [row["state"] for row in found["agreement"]] == ["not at hand", "verified"]
    assert "no model is called 'no-such-model'" in found["agreement"][0]["words"]
    assert "layers" not in found, "there is no detector"


def test_a_precision_that_disagrees_is_not_timed(trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(flavour: Flavour, model: onnx.ModelProto, recipe: Recipe, *rest: Any) -> bytes:
        if recipe.precision == "fp16":
            for convolution in (node for node in model.graph.node if node.op_type == "Conv"):
                del convolution.input[2:]
        return build_fake_plan(flavour, model, recipe, *rest)

    monkeypatch.setattr(workshop, "build_plan", forgetful)
    found, _ = bench(tmp_path, *SMALL)
    states = {row["precision"]: row["state"] for row in found["agreement"]}
    assert states == {"fp32": "verified", "fp16": "disagrees"}, "int8 was never calibrated"
    assert [row["precision"] for row in found["layers"]] == ["fp32"]


def test_what_was_measured_before_the_device_was_lost_is_in_the_file(
    machine: FakeGpu, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> bytes:
        machine.lose()
        return b""

    monkeypatch.setattr(gpu_models, "build_plan", lose)
    file = tmp_path / "gpu.json"
    result = run(*LITTLE, "--model", "yolox-nano", "--json", file)
    assert isinstance(result.exception, DeviceLost)
    found = json.loads(file.read_text())
    assert len(found["layer"]) == 5
    assert [problem["part"] for problem in found["problems"]] == ["accepted"]


def test_without_a_driver_it_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))
    file = tmp_path / "gpu.json"
    error = run("--json", file).exception
    assert isinstance(error, BackendUnavailable)
    assert error.request_was_wrong, "exit code 2"
    assert str(error).startswith("no NVIDIA GPU can be used: no NVIDIA driver is installed; install or repair")
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batches", "1,x"), "--batches 1,x: write numbers"),
        (("--batches", "0"), "--batches 0: write numbers"),
        (("--precision", "bf16"), "--precision bf16: choose of fp32, fp16, int8"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, str], words: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith(words)
