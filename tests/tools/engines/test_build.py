"""`frameloom engines build` with the real TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto
from typer.testing import CliRunner

from engines.cache.engine_cache import Cached
from engines.cuda import driver as nvidia
from engines.cuda.driver import Driver
from engines.engine import EngineOptions
from engines.errors import BackendUnavailable, EngineBuildError, ModelError, ModelNotFound, ParityFailed
from engines.spec import ModelSpec
from engines.tensorrt import plans
from pipeline.errors import ConfigError, SourceError
from tests.engines.onnx_files import identity
from tools.engines.commands import app

RTX = ("--backend", "tensorrt-rtx")


@pytest.fixture(autouse=True)
def mirrored(face_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "80"})


def words(result: Any) -> str:
    return " ".join(result.stdout.split())


def cached() -> list[dict[str, Any]]:
    """The manifests of what is in the cache."""
    return [each["manifest"] for each in json.loads(run("list", "--json").stdout)]


def narrow(result: Any) -> bool:
    """Whether all lines but those with a path, which must stay whole, fit into 80 columns."""
    return all(len(line) <= 80 for line in result.output.splitlines() if "/engines" not in line)


def test_the_default_detector_is_built_without_a_gpu_and_waits_to_be_compared(tmp_path: Path) -> None:
    result = run("build", "yolox-nano", *RTX)
    assert result.exit_code == 0, result.exception
    built = words(result)
    assert re.search(r"yolox-nano 416x416(, up to \d+)? fp16: built in [\d.]+ s, [\d.]+ MiB", built)
    assert "unverified: the first run on a GPU compares it with its model file" in built
    (path,) = (tmp_path / "cache" / "engines").glob("*.plan")
    assert str(path) in result.stdout
    assert narrow(result)
    (manifest,) = cached()
    assert (manifest["state"], manifest["gpu"], manifest["driver"]) == ("unverified", None, None)
    assert manifest["candidates"] == [5, 4, 1000]


def test_what_is_there_is_not_built_again_unless_forced() -> None:
    run("build", "yolox-nano", *RTX)
    again = run("build", "yolox-nano", *RTX)
    assert "was there already" in words(again)
    assert again.stderr == ""
    assert "built in" in words(run("build", "yolox-nano", *RTX, "--force"))
    assert len(cached()) == 1


def test_a_log_shows_how_far_it_is_by_tenths() -> None:
    lines = [line for line in run("build", "yolox-nano", *RTX).stderr.splitlines() if line.startswith("yolox-nano:")]
    shares = [int(re.match(r"yolox-nano: +(\d+)% \w", line)[1]) for line in lines]  # type: ignore[index]
    assert shares[0] == 0
    assert 3 <= len(shares) <= 11
    assert shares == sorted(shares)


def test_the_options_are_what_is_built() -> None:
    result = run(
        "build", "yolox-nano", "--backend", "auto", "--precision", "fp32", "--batch", 4, "--input-size", "320x640",
        "--compute-capability", "8.9, 8.6,8.9", "--workspace-mib", 512,
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    (manifest,) = cached()
    assert (manifest["backend"], manifest["precision"], manifest["batch"]) == ("tensorrt-rtx", "fp32", 4)
    assert manifest["input_size"] == [320, 640]
    assert manifest["targets"] in (["8.9", "8.6"], ["8.6", "8.9"])
    assert manifest["workspace_bytes"] == 512 << 20
    assert "yolox-nano 320x640, up to 4 fp32: built" in words(result)


def test_int8_is_calibrated_on_the_users_pictures(shared: Path) -> None:
    clip = shared / "data" / "videos" / "bikes.mp4"
    options = ("--precision", "int8", "--images", clip, "--frames", 16, "--input-size", 320)
    result = run("build", "yolox-nano", *RTX, *options)
    assert result.exit_code == 0, result.exception
    assert "yolox-nano 320x320" in words(result)
    assert "int8" in [manifest["precision"] for manifest in cached()]
    assert narrow(result)


def test_everything_that_a_configuration_uses_is_built(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "engine: {backend: tensorrt-rtx, batch: 2}\n"
        "detect: {input_size: 320}\n"
        "faces: {enabled: true, liveness: true, embedder: mobilefacenet}\n"
        "latency: {objective_ms: 50}\n"
        "sinks: {events: {path: e.jsonl, encodings: true}}\n"
    )
    result = run("build", "--config", config)
    assert result.exit_code == 0, result.exception
    built = sorted((each["model"], each["precision"], tuple(each["input_size"])) for each in cached())
    assert built == [
        ("centerface", "fp16", (256, 448)),
        ("minifasnet-v1se", "fp16", (80, 80)),
        ("minifasnet-v2", "fp16", (80, 80)),
        ("mobilefacenet", "fp32", (112, 112)),
        ("yolox-nano", "fp16", (256, 256)),
        ("yolox-nano", "fp16", (320, 320)),
    ]
    assert re.search(r"6 of 6 engines, [\d.]+ MiB, in [\d.]+ s", words(result))
    assert narrow(result)


def test_a_model_that_fails_does_not_stop_the_others_and_is_told_at_the_end(tmp_path: Path) -> None:
    takes_bytes = identity(tmp_path, (1, 3, 32, 32), TensorProto.UINT8)
    result = run("build", takes_bytes, "yolox-nano", *RTX)
    assert result.exit_code == 1
    assert "1 of 2 engines" in words(result)
    (failure,) = [line for line in result.stderr.splitlines() if line.startswith("frameloom: ")]
    assert failure.startswith(f"frameloom: made: TensorRT cannot build {takes_bytes}: its input x is uint8")
    assert [each["model"] for each in cached()] == ["yolox-nano"]
    assert "note: made: only tensors are compared" in words(result)
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if "/engines" not in line)


def test_an_engine_that_disagrees_with_its_file_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def disagrees(*_: object, **__: object) -> Cached:
        raise ParityFailed("yolox-nano disagrees with its ONNX file")

    monkeypatch.setattr(plans, "build_for", disagrees)
    result = run("build", "yolox-nano", *RTX)
    assert result.exit_code == 1
    assert "frameloom: yolox-nano: yolox-nano disagrees with its ONNX file" in result.stderr


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ((ModelError, ModelError), 2),
        ((BackendUnavailable,), None),
        ((ModelError, EngineBuildError), 1),
        ((None, ModelError), 2),
    ],
)
def test_the_exit_code_says_whether_the_request_was_at_fault(
    errors: tuple[type[Exception] | None, ...], code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, outcomes = plans.build_for, iter(errors)

    def fails(*arguments: Any, **rest: Any) -> Cached:
        if (error := next(outcomes)) is not None:
            raise error("it failed")
        return real(*arguments, **rest)

    monkeypatch.setattr(plans, "build_for", fails)
    result = run("build", *["yolox-nano"] * len(errors), *RTX)
    if code is None:
        assert isinstance(result.exception, BackendUnavailable), "which the program shows, and exits with 2"
    else:
        assert result.exit_code == code


def test_a_model_that_leaves_its_size_open_is_told_the_option(tmp_path: Path) -> None:
    error = run("build", identity(tmp_path, (1, 3, None, None)), *RTX).exception
    assert isinstance(error, ModelError)
    assert "say which: --input-size 640" in str(error)


def test_a_face_finder_of_one_size_only_is_built_at_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run, where `SizedEngines` finds out."""
    real, tried = plans.build_for, []

    def one_size(backend: Any, spec: ModelSpec, options: EngineOptions, **rest: Any) -> Cached:
        tried.append(options.input_size)
        if options.input_size != (640, 640):
            raise EngineBuildError("the shapes do not fit")
        return real(backend, spec, replace(options, input_size=(320, 320)), **rest)  # faster

    monkeypatch.setattr(plans, "build_for", one_size)
    result = run("build", "yunet", *RTX)
    assert result.exit_code == 0, result.stderr
    assert tried == [(256, 448), (640, 640)]
    assert "note: yunet runs at its own size only, 640x640" in words(result)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("yolox-nan", *RTX), ModelNotFound, "did you mean yolox-nano"),
        (("yolox-nano", "--backend", "tensorrt"), BackendUnavailable, "tensorrt"),
        (("yolox-nano", *RTX, "--precision", "int8"), BackendUnavailable, "is not calibrated for int8 yet"),
        (("yolox-nano", *RTX, "--images", "."), ConfigError, "say --precision int8"),
        (("yolox-nano", *RTX, "--precision", "int8", "--images", "no/such"), SourceError, "no/such"),
        (("yolox-nano", *RTX, "--compute-capability", "8.6,ampere"), ConfigError, "'ampere' is none"),
        (("yolox-nano", *RTX, "--compute-capability", ","), ConfigError, "is empty"),
        (("--input-size", "640", *RTX), ConfigError, "say which MODEL"),
        (("yolox-nano", "--input-size", "big", *RTX), ConfigError, "--input-size big"),
        (("--set", "engine.backend=openvino"), ConfigError, "openvino compiles in a second"),
        (("--set", "engine.precision=bf16", *RTX), ConfigError, "'bf16' does not work with backend tensorrt-rtx"),
        (("--config", "no/such.yaml"), ConfigError, "no/such.yaml"),
        (("--set", "detect.enabled=false", *RTX), ConfigError, "runs no model"),
        (("yolox-nano", *RTX, "--device", "banana"), ConfigError, "'banana' is no device"),
        (("--set", "engine.device=cuda:x", *RTX), ConfigError, "'cuda:x' is no device"),
        (("--set", "engine.batch=257", *RTX), ConfigError, "engine.batch"),
        (("yolox-nano", "mobilefacenet", *RTX, "--input-size", "224"), ModelError, "onnx only runs at 112x112"),
    ],
)
def test_a_wrong_request_is_one_sentence_before_anything_is_built(
    arguments: tuple[str, ...], error: type[Exception], words: str, tmp_path: Path
) -> None:
    raised = run("build", *arguments).exception
    assert isinstance(raised, error)
    assert words in str(raised)
    assert raised.request_was_wrong  # type: ignore[attr-defined]
    assert not list((tmp_path / "cache").rglob("*.plan"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--precision", "bf16"),
        ("--backend", "openvino"),
        ("--batch", "0"),
        ("--batch", "257"),
        ("--workspace-mib", "0"),
    ],
)
def test_a_value_that_no_plan_has_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = run("build", "yolox-nano", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_targets_are_for_tensorrt_rtx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.engines.build.chosen_backend", lambda wanted: "tensorrt")
    error = run("build", "yolox-nano", "--compute-capability", "8.6").exception
    assert isinstance(error, ConfigError)
    assert "--compute-capability is for tensorrt-rtx" in str(error)


def test_a_capability_that_tensorrt_does_not_know_is_refused_before_any_model_is_looked_for() -> None:
    for model in ("yolox-nano", "no-such-model"):
        error = run("build", model, *RTX, "--compute-capability", "8.6,3.5").exception
        assert isinstance(error, BackendUnavailable)
        assert error.request_was_wrong
        assert "cannot build for compute capability 3.5; it knows 7.5" in str(error)
