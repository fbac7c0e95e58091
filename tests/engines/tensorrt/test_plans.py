"""From a model to a trusted plan: TensorRT-RTX really builds where that needs no GPU, a fake one runs what is built."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engines.cache.engine_cache import Cached, EngineCache
from engines.cuda import driver as nvidia
from engines.cuda.driver import Driver
from engines.engine import Candidates, Engine, EngineOptions, open_engine
from engines.errors import BackendUnavailable, EngineBuildError, EngineError, EngineStale, ParityFailed
from engines.spec import ModelSpec
from engines.tensorrt import plans, workshop
from engines.tensorrt.engine import TensorRTEngine
from engines.tensorrt.flavour import Flavour
from engines.tensorrt.order import recipe_for
from engines.tensorrt.plans import build_for
from engines.tensorrt.recipe import Recipe
from engines.trust.gate import examine
from engines.trust.parity import Decisions
from tests.engines.cuda.fake_driver import fake_gpu, fake_gpus  # noqa: F401
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.onnx_files import save, spec_of, value
from tests.engines.tensorrt.fake_trt import EngineValidity, fake_plan
from tests.engines.tensorrt.machine import Fakes, on_fakes, without_letterbox


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))
    return EngineCache()


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    return replace(spec_of(small(tmp_path)), task="segment")


def small(folder: Path, bias: float = 0.0, layers: int = 1) -> Path:
    """Convolutions that make four maps of a picture."""
    random = np.random.default_rng(0)
    nodes, tensors, name = [], [numpy_helper.from_array(np.full(4, bias, np.float32), "b")], "x"
    for layer in range(layers):
        inputs, scale = (4, 0.2) if layer else (3, 0.002)
        weights = random.normal(scale=scale, size=(4, inputs, 3, 3)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weights, f"w{layer}"))
        output = "y" if layer == layers - 1 else f"x{layer}"
        nodes.append(helper.make_node("Conv", [name, f"w{layer}", "b"], [output], f"c{layer}", pads=[1] * 4))
        name = output
    return save(folder, nodes, [value("x", ("n", 3, 32, 48))], [value("y", ("n", 4, 32, 48))], tensors)


@pytest.fixture
def deep(tmp_path: Path) -> ModelSpec:
    """A model with enough layers for int8."""
    return replace(spec_of(small(tmp_path, layers=5)), task="segment")


def frames(count: int = 16) -> Iterator[Any]:
    random = np.random.default_rng(1)
    for _ in range(count):
        yield random.integers(0, 256, (1, 32, 48, 3), np.uint8)


# ---- how a model is built


@pytest.mark.parametrize(
    ("options", "task", "recipe"),
    [
        (EngineOptions(), "detect", Recipe("fp16", batch=8)),
        (EngineOptions(), "face-encode", Recipe("fp16", batch=32, usual_batch=4)),
        (EngineOptions(batch=2), "face-encode", Recipe("fp16", batch=2, usual_batch=2)),
        (EngineOptions(precision="int8", batch=1), "detect", Recipe("int8")),
        (EngineOptions(input_size=(64, 96)), "detect", Recipe("fp16", (64, 96), batch=8)),
        (EngineOptions(candidates=Candidates(5, 4)), "detect", Recipe(batch=8, candidates=Candidates(5, 4))),
    ],
    ids=str,
)
def test_batches_and_precision_follow_the_task_unless_asked_for(
    options: EngineOptions, task: str, recipe: Recipe
) -> None:
    spec = ModelSpec("any", Path("any.onnx"), task)
    assert recipe_for("tensorrt", spec, options) == recipe


def test_the_spec_decides_precision_auto_and_a_request_wins() -> None:
    encoder = ModelSpec("any", Path("any.onnx"), "face-encode", precision="fp32")
    assert recipe_for("tensorrt", encoder, EngineOptions()).precision == "fp32"
    assert recipe_for("tensorrt", encoder, EngineOptions(precision="fp16")).precision == "fp16"


def test_bf16_is_refused(model: ModelSpec) -> None:
    with pytest.raises(BackendUnavailable, match="fp32, fp16 or int8 here, not bf16"):
        build_for("tensorrt-rtx", model, EngineOptions(precision="bf16"))


# ---- without a GPU, by the real TensorRT-RTX


def test_what_is_built_without_a_gpu_is_unverified_and_found_the_second_time(
    model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    first = build_for("tensorrt-rtx", model, EngineOptions(), progress=lambda *each: told.append(each))
    assert first.manifest.state == "unverified"
    assert (first.manifest.gpu, first.manifest.driver, first.manifest.targets) == (None, None, ())
    assert first.path.parent == cache.folder
    assert first.path.read_bytes() == first.plan
    assert told[-1][1] == 1.0
    monkeypatch.setattr(workshop, "build_plan", never)
    told.clear()
    second = build_for("tensorrt-rtx", model, EngineOptions(), progress=lambda *each: told.append(each))
    assert second == first
    assert told == []


def never(*arguments: Any, **more: Any) -> Any:
    raise AssertionError("built although there was no need")


def test_force_builds_again_and_targets_make_another_engine(model: ModelSpec, cache: EngineCache) -> None:
    first = build_for("tensorrt-rtx", model, EngineOptions())
    first.path.write_bytes(b"rot")
    again = build_for("tensorrt-rtx", model, EngineOptions(), force=True)
    assert again.path == first.path
    assert again.plan == first.plan
    for_two = build_for("tensorrt-rtx", model, EngineOptions(), compute_capabilities=("8.6", "8.9"))
    assert for_two.path != first.path
    assert for_two.manifest.targets == ("8.6", "8.9")
    assert len(cache.plans()) == 2


def test_a_build_that_tensorrt_refuses_leaves_nothing(model: ModelSpec, cache: EngineCache) -> None:
    with pytest.raises(BackendUnavailable, match=r"cannot build for compute capability 3\.5"):
        build_for("tensorrt-rtx", model, EngineOptions(), compute_capabilities=("3.5",))
    assert list(cache.folder.iterdir()) == []


def test_a_plan_whose_model_file_has_changed_is_built_again_and_both_hashes_are_said(
    tmp_path: Path, model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    first = build_for("tensorrt-rtx", model, EngineOptions())
    small(tmp_path, bias=1.0)
    second = build_for("tensorrt-rtx", model, EngineOptions())
    assert second.plan != first.plan
    warnings = [line for line in lines(caplog) if "built again" in line]
    assert len(warnings) == 1
    assert f"sha256 {first.manifest.model_sha256}, which is now {second.manifest.model_sha256}" in warnings[0]
    command = f"frameloom engines build {shlex.quote(str(model.path))} --backend tensorrt-rtx --precision fp16"
    assert f"(by hand: {command})" in warnings[0]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what a user sees who asked for nothing."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_int8_needs_pictures_once_and_never_again(deep: ModelSpec, cache: EngineCache) -> None:
    int8 = EngineOptions(precision="int8")
    command = f"frameloom engines build {deep.path} --backend tensorrt-rtx --precision int8 --images FOLDER"
    with pytest.raises(BackendUnavailable, match=f"is not calibrated for int8 yet.*: {command}$"):
        build_for("tensorrt-rtx", deep, int8)
    first = build_for("tensorrt-rtx", deep, int8, frames=frames())
    assert first.manifest.precision == "int8"
    assert sorted(each.manifest.backend for each in cache.entries() if each.manifest) == ["calibrated", "tensorrt-rtx"]
    other = build_for("tensorrt-rtx", deep, int8, compute_capabilities=("8.9",))
    assert other.path != first.path
    first.path.unlink()
    assert build_for("tensorrt-rtx", deep, int8).plan == first.plan
    for more in (EngineOptions(precision="int8", batch=1), EngineOptions(precision="int8", batch=3)):
        assert build_for("tensorrt-rtx", deep, more).manifest.batch == more.batch
    assert sum("-calibrated-" in path.name for path in cache.plans()) == 1


def test_a_calibrated_network_that_is_damaged_is_not_used(deep: ModelSpec, cache: EngineCache) -> None:
    int8 = EngineOptions(precision="int8")
    build_for("tensorrt-rtx", deep, int8, frames=frames())
    kept = next(path for path in cache.plans() if "-calibrated-" in path.name)
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(BackendUnavailable, match="not calibrated for int8 yet"):
        build_for("tensorrt-rtx", deep, int8, force=True)


def test_two_processes_that_build_at_once_build_once(model: ModelSpec, cache: EngineCache) -> None:
    code = """
import sys
from pathlib import Path
from engines.engine import EngineOptions
from engines.spec import InputSpec, ModelSpec
from engines.tensorrt import plans, workshop
build = workshop.build_plan
def counted(*arguments):
    print("built", flush=True)
    return build(*arguments)
workshop.build_plan = counted
spec = ModelSpec("made", Path(sys.argv[1]), "segment", InputSpec(colour="bgr"))
print(plans.build_for("tensorrt-rtx", spec, EngineOptions()).manifest.plan_sha256)
"""
    command = [sys.executable, "-c", code, str(model.path)]
    root = Path(__file__).parents[3]
    both = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=100)[0].split() for process in both]
    assert sum(each.count("built") for each in told) == 1
    assert told[0][-1] == told[1][-1]
    assert len(cache.plans()) == 1


def test_killed_in_the_middle_of_a_build_leaves_nothing_and_the_next_one_builds(
    model: ModelSpec, cache: EngineCache
) -> None:
    code = """
import sys, time
from pathlib import Path
from engines.engine import EngineOptions
from engines.spec import InputSpec, ModelSpec
from engines.tensorrt import plans, workshop
def forever(*arguments):
    print("now", flush=True)
    time.sleep(100)
workshop.build_plan = forever
spec = ModelSpec("made", Path(sys.argv[1]), "segment", InputSpec(colour="bgr"))
plans.build_for("tensorrt-rtx", spec, EngineOptions())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(model.path)],
        cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()
    assert cache.plans() == []
    entry = build_for("tensorrt-rtx", model, EngineOptions())
    assert entry.manifest.state == "unverified"
    assert not list(cache.folder.glob(".*"))


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_without_a_driver_nothing_is_opened_and_the_reason_is_said(backend: Any, model: ModelSpec) -> None:
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver is installed"):
        open_engine(model, EngineOptions(backend))


def test_plain_tensorrt_builds_nothing_without_a_gpu(model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "find_flavour", lambda backend: Flavour("tensorrt", None, "10.13"))
    with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU: no NVIDIA driver"):
        build_for("tensorrt", model, EngineOptions())


# ---- on a fake GPU


@dataclass
class Gate:
    """A machine with a fake GPU, where the network itself is the plan."""

    fakes: Fakes
    gpu: FakeGpu
    backend: Any
    built: list[Recipe] = field(default_factory=list)
    spoil: Callable[[onnx.ModelProto], None] | None = None
    """What is done to a network before it becomes a plan."""
    opened: list[Engine] = field(default_factory=list)

    def build_plan(self, flavour: Flavour, model: onnx.ModelProto, recipe: Recipe, *more: Any) -> bytes:
        self.built.append(recipe)
        if self.spoil is not None:
            self.spoil(model)
        return fake_plan(model, recipe.batch)

    def open(self, spec: ModelSpec, judge: Any = None, backend: Any = None, **options: Any) -> Engine:
        chosen = EngineOptions(backend or self.backend, **{"cuda": "cuda-python", **options})
        self.opened.append(open_engine(spec, chosen, judge))
        return self.opened[-1]

    def build(self, spec: ModelSpec, **more: Any) -> Cached:
        return build_for(self.backend, spec, EngineOptions(cuda="cuda-python"), **more)


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def gate(request: pytest.FixtureRequest, cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    without_letterbox(monkeypatch)
    gpu = request.getfixturevalue("fake_gpu")
    for fakes in on_fakes(request, "cuda-python", request.param):
        made = Gate(fakes, gpu, request.param)
        monkeypatch.setattr(workshop, "build_plan", made.build_plan)
        monkeypatch.setattr(plans, "find_flavour", lambda backend, only=made: only_has(only, backend))
        yield made
        for engine in made.opened:
            engine.close()


def only_has(gate: Gate, backend: str) -> Flavour:
    if backend != gate.backend:
        raise BackendUnavailable(f"{backend} cannot be imported")
    return gate.fakes.flavour


rtx = pytest.mark.parametrize("gate", ["tensorrt-rtx"], indirect=True)


def brighter(model: onnx.ModelProto) -> None:
    """A plan that adds what the file does not say."""
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [4]:
            wrong = numpy_helper.to_array(tensor) + np.asarray(0.5, numpy_helper.to_array(tensor).dtype)
            tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))


def only(cache: EngineCache) -> Any:
    """Return the one entry that is for this GPU."""
    [entry] = [each for each in cache.entries() if each.manifest is None or each.manifest.gpu is not None]
    return entry


def test_the_first_run_builds_says_so_compares_and_keeps_it_the_second_only_loads(
    gate: Gate, model: ModelSpec, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    engine = gate.open(model)
    assert engine.describe().origin == "compiled"
    assert engine.describe().precision == "fp16"
    manifest = only(cache).manifest
    gpu = gate.gpu.gpu
    assert (manifest.state, manifest.gpu, manifest.driver) == ("verified", gpu.name, gpu.driver)
    assert manifest.parity["pictures"] >= 7
    before, after = lines(caplog)
    version = gate.fakes.flavour.version
    assert before == (
        f"building an engine of made by {gate.backend} {version} in fp16 for {gpu.name}; this takes minutes, once"
    )
    assert after.startswith("built in ")
    assert after.endswith(f" s: {only(cache).path}")
    caplog.clear()
    gate.fakes.knobs.runs.clear()
    second = gate.open(model)
    assert second.describe().origin == "cache"
    assert lines(caplog) == []
    assert len(gate.built) == 1
    assert len(gate.fakes.knobs.runs) <= 2 * second.requests  # warming up, and no comparison


def test_a_plan_that_disagrees_is_refused_and_remembered(
    gate: Gate, model: ModelSpec, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    gate.spoil = brighter
    with pytest.raises(
        ParityFailed, match=r"made by .* disagrees with its model file: the mean error of y is 0\.5"
    ) as raised:
        gate.open(model)
    assert "--set engine.precision=fp32" in str(raised.value)
    manifest = only(cache).manifest
    assert manifest.state == "refused"
    assert "the mean error of y" in manifest.refusal
    assert gate.fakes.knobs.live["engine"] == 0
    with pytest.raises(ParityFailed, match=r"the mean error of y is 0\.5.*found out before: made-"):
        gate.open(model)
    assert len(gate.built) == 1
    gate.spoil = None
    assert gate.build(model, force=True).manifest.state == "verified"
    assert gate.open(model).describe().origin == "cache"


def test_auto_goes_on_to_the_next_backend_with_a_warning(
    gate: Gate, model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    gate.spoil = brighter
    engine = gate.open(model, backend="auto")
    assert engine.describe().backend == "openvino"
    [warning] = [line for line in lines(caplog) if "skipped" in line]
    assert warning.startswith(f"{gate.backend} skipped, though it is here: made by ")


def test_auto_goes_on_where_a_build_fails_and_who_asked_is_told(
    gate: Gate, model: ModelSpec, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> bytes:
        raise EngineBuildError("its own words")

    monkeypatch.setattr(workshop, "build_plan", fail)
    assert gate.open(model, backend="auto").describe().backend == "openvino"
    assert any("its own words" in line for line in lines(caplog))
    with pytest.raises(EngineBuildError, match="its own words"):
        gate.open(model)


def test_boxes_are_compared_by_the_judge(gate: Gate, model: ModelSpec, cache: EngineCache) -> None:
    asked: list[tuple[int, int]] = []

    def judge(size: tuple[int, int]) -> Any:
        asked.append(size)
        one = np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
        return lambda outputs: Decisions(*one)

    gate.open(replace(model, task="detect"), judge)
    assert asked == [(32, 48)]
    decisions = only(cache).manifest.parity["decisions"]
    assert decisions["matched"] == decisions["reference"] > 7


@pytest.mark.parametrize("what", ["driver", "version", "damaged", "torn", "model"])
def test_a_plan_that_does_not_fit_is_built_again_with_one_sentence(
    gate: Gate, model: ModelSpec, cache: EngineCache, caplog: pytest.LogCaptureFixture, what: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    gate.open(model)
    path = only(cache).path
    if what == "driver":
        newer = replace(gate.gpu.gpu, driver="999.1")
        monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver(None, (newer,), "13.0"))
    elif what == "version":
        gate.fakes.flavour = replace(gate.fakes.flavour, version="99.1")
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "torn":
        path.with_suffix(".json").write_bytes(b"{")
    else:
        small(tmp_path, bias=0.25)
    caplog.clear()
    assert gate.open(model).describe().origin == "compiled"
    told = lines(caplog)
    assert ["built again" in line for line in told] == [True, False, False]
    both = {
        "driver": (gate.gpu.gpu.driver, "999.1"),
        "version": ("by", "99.1"),
        "damaged": ("its sha256 is", "and was"),
        "torn": (path.with_suffix(".json").name, "is no manifest"),
        "model": ("sha256", "which is now"),
    }[what]
    assert all(text in told[0] for text in both)
    assert f"--backend {gate.backend} --precision fp16" in told[0]
    caplog.clear()
    assert gate.open(model).describe().origin == "cache"
    assert lines(caplog) == []
    assert len(gate.built) == 2


def test_what_the_runtime_refuses_is_built_again_once(
    gate: Gate, model: ModelSpec, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open(model)
    gate.fakes.knobs.refuse = "the GPU's own reason"
    build = gate.build_plan

    def works_again(*arguments: Any) -> bytes:
        gate.fakes.knobs.refuse = ""
        return build(*arguments)

    monkeypatch.setattr(workshop, "build_plan", works_again)
    caplog.clear()
    assert gate.open(model).describe().origin == "compiled"
    told = [line for line in lines(caplog) if "is built again" in line]
    assert len(told) == 1
    assert "the GPU's own reason" in told[0]
    assert f"--backend {gate.backend}" in told[0]
    assert len(gate.built) == 2


def test_what_the_runtime_still_refuses_is_an_error_that_is_remembered(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plans, "examine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gate.open(model)
    gate.fakes.knobs.refuse = "the GPU's own reason"
    with pytest.raises(EngineBuildError, match=r"cannot be loaded: .*own reason.*engine\.backend=openvino"):
        gate.open(model)
    assert len(gate.built) == 2
    assert only(cache).manifest.state == "refused"
    command = f"frameloom engines build {model.path} --backend {gate.backend} --precision fp16 --force"
    with pytest.raises(EngineBuildError, match=f"own reason.*found out before.*to try once more: {command}"):
        gate.open(model)
    assert len(gate.built) == 2
    assert gate.fakes.knobs.live == {"runtime": 0, "engine": 0, "context": 0}


def interrupted(*arguments: Any) -> Any:
    raise KeyboardInterrupt


def test_a_verified_plan_outlives_a_time_in_which_nothing_can_be_loaded(
    gate: Gate, model: ModelSpec, cache: EngineCache
) -> None:
    gate.open(model).close()
    before = only(cache)
    gate.fakes.knobs.refuse = "no room for it today"
    for _ in range(2):
        with pytest.raises(EngineBuildError, match=r"has run here before, and now neither .*no room for it today"):
            gate.open(model)
    assert only(cache) == before
    assert gate.open(model, backend="auto").describe().backend == "openvino"
    gate.fakes.knobs.refuse = ""
    built = len(gate.built)
    assert gate.open(model).describe().origin == "cache"
    assert len(gate.built) == built


def test_a_verified_plan_stays_where_there_is_no_room_for_a_new_one(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open(model).close()
    before = only(cache)
    gate.fakes.knobs.refuse = "the GPU's own reason"
    origins: list[str] = []

    def no_room(*arguments: Any) -> Any:
        origins.append(arguments[6])
        if origins[-1] == "compiled":
            arguments[3].close()
            raise EngineError("out of memory")
        return TensorRTEngine(*arguments)

    monkeypatch.setattr(plans, "TensorRTEngine", no_room)
    with pytest.raises(EngineError, match="out of memory"):
        gate.open(model)
    assert origins == ["cache", "compiled"]
    assert only(cache) == before


def test_what_another_process_has_built_anew_meanwhile_is_taken(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open(model).close()

    def refused_once(*arguments: Any) -> Any:
        arguments[3].close()
        monkeypatch.setattr(plans, "TensorRTEngine", TensorRTEngine)
        old = cache.read(only(cache).path)
        cache.store(old.manifest.key, old.plan.replace(b"{", b"{ ", 1), state="verified")
        raise EngineStale("of old")

    monkeypatch.setattr(plans, "TensorRTEngine", refused_once)
    assert gate.open(model).describe().origin == "cache"
    assert len(gate.built) == 1


def test_a_new_plan_that_the_runtime_refuses_is_not_built_twice(gate: Gate, model: ModelSpec) -> None:
    gate.fakes.knobs.refuse = "the GPU's own reason"
    with pytest.raises(EngineBuildError, match="own reason"):
        gate.open(model)
    assert len(gate.built) == 1


def test_an_engine_that_fails_while_it_is_compared_is_closed_and_stays_unverified(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise EngineError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(plans, "examine", fail)
        with pytest.raises(EngineError, match="out of memory"):
            gate.open(model)
    assert gate.fakes.knobs.live["engine"] == 0
    assert only(cache).manifest.state == "unverified"
    gate.open(model)  # compares what is there
    assert only(cache).manifest.state == "verified"
    assert len(gate.built) == 1


def test_two_runs_at_once_build_once(gate: Gate, model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    build = gate.build_plan

    def slowly(*arguments: Any) -> bytes:
        time.sleep(0.3)
        return build(*arguments)

    monkeypatch.setattr(workshop, "build_plan", slowly)
    threads = [threading.Thread(target=gate.open, args=(model,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gate.opened) == 2
    assert len(gate.built) == 1


def test_int8_without_a_plan_says_how_to_get_one_and_builds_from_what_was_calibrated(
    gate: Gate, deep: ModelSpec, cache: EngineCache
) -> None:
    with pytest.raises(BackendUnavailable, match=f"--backend {gate.backend} --precision int8 --images FOLDER"):
        gate.open(deep, precision="int8")
    assert gate.built == []
    int8 = EngineOptions(precision="int8", cuda="cuda-python")
    entry = build_for(gate.backend, deep, int8, frames=frames())
    assert entry.manifest.state == "verified"
    assert build_for(gate.backend, deep, int8).path == entry.path
    build_for(gate.backend, deep, int8, frames=frames())
    assert len(gate.built) == 2
    again = build_for(gate.backend, deep, int8, frames=frames(20))
    assert again.path != entry.path
    assert build_for(gate.backend, deep, int8).path == again.path
    assert len(gate.built) == 3
    entry = again
    entry.path.unlink()
    assert gate.open(deep, precision="int8").describe().precision == "int8"
    assert len(gate.built) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(
    gate: Gate, model: ModelSpec, disk_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    disk = disk_of("64k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    monkeypatch.setenv("FRAMELOOM_CACHE", str(disk))
    assert gate.open(model).describe().origin == "compiled"
    assert gate.open(model).describe().origin == "compiled"
    assert len([line for line in lines(caplog) if "cannot be written" in line]) == 1
    gate.spoil = brighter
    with pytest.raises(ParityFailed):
        gate.open(model)


def test_a_library_for_cuda_that_is_missing_is_told_before_anything_is_built(gate: Gate, model: ModelSpec) -> None:
    from engines.cuda import choose

    def missing(gpu: Any) -> Any:
        raise BackendUnavailable("cuda-python is not installed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "CudaPython", missing)
        with pytest.raises(BackendUnavailable, match="cuda-python is not installed"):
            gate.open(model)
    assert gate.built == []


def test_what_cannot_be_kept_is_not_built_ahead_and_what_is_there_is_told(
    model: ModelSpec, disk_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, deep: ModelSpec
) -> None:
    disk = disk_of("8m")
    monkeypatch.setenv("FRAMELOOM_CACHE", str(disk))
    first = build_for("tensorrt-rtx", model, EngineOptions())
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    monkeypatch.setattr(workshop, "build_plan", never)
    assert build_for("tensorrt-rtx", model, EngineOptions()) == first
    words = f"{disk}/engines cannot be written, so what is built could not be kept"
    with pytest.raises(EngineBuildError, match=words):
        build_for("tensorrt-rtx", model, EngineOptions(), force=True)
    with pytest.raises(EngineBuildError, match=words):
        build_for("tensorrt-rtx", deep, EngineOptions(precision="int8"), frames=frames())


def test_a_folder_that_others_may_write_stops_a_run_before_anything_is_loaded(
    gate: Gate, model: ModelSpec, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    gate.open(model).close()
    cache.folder.chmod(0o777)
    with pytest.raises(EngineBuildError, match=f"chmod 700 {cache.folder}"):
        gate.open(model)
    assert gate.open(model, backend="auto").describe().backend == "openvino"
    assert any(f"chmod 700 {cache.folder}" in line for line in lines(caplog))


def test_a_model_file_that_changes_while_it_is_built_is_told_and_nothing_is_kept(
    gate: Gate, model: ModelSpec, cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(*arguments: Any) -> bytes:
        small(tmp_path, bias=0.25)
        return gate.build_plan(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(workshop, "build_plan", changing)
        with pytest.raises(EngineBuildError, match=f"{model.path} changed while it was built: its sha256 was"):
            gate.open(model)
    assert list(cache.folder.iterdir()) == []


def test_a_model_file_that_changes_while_it_is_compared_is_told_and_nothing_is_marked(
    gate: Gate, model: ModelSpec, cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(*arguments: Any) -> Any:
        report = examine(*arguments)
        small(tmp_path, bias=0.25)
        return report

    monkeypatch.setattr(plans, "examine", changing)
    with pytest.raises(EngineBuildError, match="changed while it was built"):
        gate.open(model)
    assert only(cache).manifest.state == "unverified"
    assert gate.fakes.knobs.live["engine"] == 0


def test_a_model_file_that_changes_while_it_is_calibrated_is_told_and_nothing_is_kept(
    deep: ModelSpec, cache: EngineCache, tmp_path: Path
) -> None:
    def changing() -> Iterator[Any]:
        yield from frames()
        small(tmp_path, bias=0.25, layers=5)

    with pytest.raises(EngineBuildError, match="changed while it was built"):
        build_for("tensorrt-rtx", deep, EngineOptions(precision="int8"), frames=changing())
    assert cache.plans() == []


def test_the_manifest_says_where_the_model_file_is(gate: Gate, model: ModelSpec, cache: EngineCache) -> None:
    gate.open(model)
    assert only(cache).manifest.model_path == str(model.path)


def test_other_working_space_that_is_asked_for_is_built_and_a_run_takes_any(gate: Gate, model: ModelSpec) -> None:
    assert gate.build(model).manifest.workspace_bytes is None
    assert gate.build(model, workspace_bytes=1 << 24).manifest.workspace_bytes == 1 << 24
    assert len(gate.built) == 2
    gate.build(model, workspace_bytes=1 << 24)
    gate.build(model)
    assert gate.open(model).describe().origin == "cache"
    assert len(gate.built) == 2


@pytest.mark.parametrize("device", ["cuda:0", "1", "nonsense", ""])
def test_a_device_that_is_asked_for_must_be_there(model: ModelSpec, device: str) -> None:
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver"):
        build_for("tensorrt-rtx", model, EngineOptions(device=device))


@pytest.mark.parametrize("targets", [(), ("12.0",)], ids=str)
@rtx
def test_nonsense_is_no_device_whatever_is_built(gate: Gate, model: ModelSpec, targets: tuple[str, ...]) -> None:
    with pytest.raises(BackendUnavailable, match="'nonsense' is no NVIDIA GPU"):
        build_for(gate.backend, model, EngineOptions(device="nonsense"), compute_capabilities=targets)
    assert gate.built == []


def test_engines_for_other_targets_are_not_called_stale_and_commands_name_all_that_was_asked_for(
    tmp_path: Path, model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    def build(*targets: str) -> Cached:
        mib = 512 << 20
        return build_for(
            "tensorrt-rtx", model, EngineOptions(), compute_capabilities=targets, workspace_bytes=mib,
            progress=lambda *told: None,
        )  # fmt: skip

    build()
    build("8.6")
    build("8.9", "12.0")
    assert lines(caplog) == []
    small(tmp_path, bias=0.25)
    build("8.9", "12.0")
    [warning] = lines(caplog)
    assert "--compute-capability 8.9,12.0 --workspace-mib 512)" in warning


# ---- portable plans


def without_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nvidia, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))


@rtx
@pytest.mark.parametrize("targets", [(), ("8.6", "8.9")], ids=str)
def test_a_portable_plan_is_compared_on_its_first_gpu_and_kept_for_it(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        without_gpu(patch)
        portable = gate.build(model, compute_capabilities=targets)
    assert portable.manifest.state == "unverified"
    monkeypatch.setattr(workshop, "build_plan", never)
    assert gate.open(model).describe().origin == "cache"
    kept = only(cache).manifest
    assert (kept.state, kept.gpu, kept.plan_sha256) == ("verified", gate.gpu.gpu.name, portable.manifest.plan_sha256)
    assert cache.read(portable.path).manifest.state == "unverified"  # for other GPUs
    monkeypatch.setattr(plans, "examine", never)
    assert gate.open(model).describe().origin == "cache"


def test_kernels_that_a_run_has_compiled_are_there_for_the_next(
    gate: Gate, model: ModelSpec, cache: EngineCache
) -> None:
    gate.open(model).close()
    compiles = gate.backend == "tensorrt-rtx"
    assert bool(gate.fakes.knobs.compiled) is compiles
    assert len(list(cache.folder.glob("*.kernels"))) == compiles
    gate.fakes.knobs.compiled.clear()
    gate.open(model)
    assert gate.fakes.knobs.compiled == []


@rtx
def test_a_portable_plan_that_disagrees_is_refused_for_this_gpu_only(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.spoil = brighter
    with monkeypatch.context() as patch:
        without_gpu(patch)
        portable = gate.build(model)
    for _ in range(2):
        with pytest.raises(ParityFailed, match="disagrees with its model file"):
            gate.open(model)
    assert only(cache).manifest.state == "refused"
    assert cache.read(portable.path).manifest.state == "unverified"
    assert len(gate.built) == 1


@rtx
def test_a_portable_plan_for_other_gpus_is_told_and_another_is_built(
    gate: Gate, model: ModelSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        without_gpu(patch)
        gate.build(model, compute_capabilities=("12.0",))
    caplog.clear()
    assert gate.open(model).describe().origin == "compiled"
    gpu = gate.gpu.gpu
    assert f"for compute capability 12.0, and {gpu.name} has {gpu.compute_capability}" in lines(caplog)[0]


@rtx
@pytest.mark.parametrize("by", ["a run", "frameloom engines build"])
def test_a_portable_plan_that_this_gpu_does_not_take_is_built_for_it(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    by: str,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        without_gpu(patch)
        gate.build(model)
    gate.fakes.knobs.validity = EngineValidity.INVALID
    build = gate.build_plan

    def fits(*arguments: Any) -> bytes:
        gate.fakes.knobs.validity = EngineValidity.VALID
        return build(*arguments)

    monkeypatch.setattr(workshop, "build_plan", fits)
    if by == "a run":
        assert gate.open(model).describe().origin == "compiled"
    else:
        assert gate.build(model).manifest.state == "verified"
    assert any("is not valid on this GPU" in line for line in lines(caplog))
    assert only(cache).manifest.state == "verified"


@rtx
def test_a_portable_plan_that_calls_itself_verified_is_compared_all_the_same(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        without_gpu(patch)
        cache.mark(gate.build(model), "verified", {})
    monkeypatch.setattr(plans, "examine", never)
    with pytest.raises(AssertionError, match="no need"):
        gate.open(model)


@rtx
def test_what_is_built_for_other_gpus_is_returned_unverified_and_for_this_one_compared(
    gate: Gate, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gate.build(model, compute_capabilities=("12.0",)).manifest.state == "unverified"
    here = gate.gpu.gpu.compute_capability
    assert gate.build(model, compute_capabilities=(here,)).manifest.state == "verified"
    with monkeypatch.context() as patch:
        patch.setattr(plans, "examine", never)
        assert gate.open(model).describe().origin == "cache"
    gate.fakes.knobs.validity = EngineValidity.INVALID
    assert gate.build(model, compute_capabilities=("7.5", here), force=True).manifest.state == "unverified"


@rtx
def test_tensorrt_rtx_builds_for_the_gpu_at_hand_by_its_name_or_as_the_current_one(
    gate: Gate, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = type("ComputeCapability", (), {"__members__": {"SM86": 1, "SM120": 2}})
    monkeypatch.setattr(gate.fakes.flavour.trt, "ComputeCapability", kinds, raising=False)
    for capability, targets in (("12.0", ("12.0",)), ("9.0", ("current",))):
        gpu = replace(gate.gpu.gpu, compute_capability=capability)
        monkeypatch.setattr(nvidia, "_probe_once", lambda gpu=gpu: Driver(None, (gpu,), "13.0"))
        gate.open(model)
        assert gate.built[-1].compute_capabilities == targets


def test_the_second_gpu_has_its_own_plan(
    gate: Gate, model: ModelSpec, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open(model)
    with monkeypatch.context() as patch:
        other = replace(gate.gpu.gpu, name="another GPU")
        patch.setattr(nvidia, "_probe_once", lambda: Driver(None, (other,), "13.0"))
        gate.open(model)
    assert len(gate.built) == 2
    assert {each.manifest.gpu for each in cache.entries() if each.manifest} == {gate.gpu.gpu.name, "another GPU"}
    gate.open(model)
    assert len(gate.built) == 2
