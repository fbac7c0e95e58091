"""Machines that the tests of the engine run on: fakes of both CUDA libraries and both TensorRTs, and the real thing.

The fakes take a plan that is the network itself; the real one builds it. All tests of the engine's contract run on
each; those that need a knob of a fake run on `Fakes` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import engines.tensorrt.engine
from engines.cuda.choose import open_cuda
from engines.cuda.driver import driver, gpu_for
from engines.cuda.layer import Choice, Cuda
from engines.engine import Batch, Candidates, EngineOptions, Outputs
from engines.errors import BackendUnavailable, EngineBuildError
from engines.spec import ModelSpec
from engines.tensorrt import workshop
from engines.tensorrt.build import build_plan
from engines.tensorrt.engine import TensorRTEngine
from engines.tensorrt.flavour import Flavour, TensorRTBackend, find_flavour, guard
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import Recipe
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.tensorrt.fake_trt import Knobs, fake_plan, fake_trt

FAKES: list[tuple[Choice, TensorRTBackend]] = [
    ("cuda-python", "tensorrt"),
    ("pycuda", "tensorrt"),
    ("cuda-python", "tensorrt-rtx"),
]


class Machine:
    """Where engines are opened; those that a test leaves open are closed after it."""

    flavour: Flavour
    choice: Choice
    tolerance = 1e-4
    """How far fp32 values may be from the file's, of a value of size 1."""

    def __init__(self) -> None:
        self.opened: list[TensorRTEngine] = []

    def plan(self, spec: ModelSpec, most: int = 1, candidates: Candidates | None = None) -> bytes:
        raise NotImplementedError

    def cuda(self) -> Cuda:
        return open_cuda(self.choice, gpu_for("auto"))

    def open(
        self,
        spec: ModelSpec,
        most: int = 1,
        candidates: Candidates | None = None,
        plan: bytes | None = None,
        **options: Any,
    ) -> TensorRTEngine:
        """Open an fp32 engine for 1 to `most` pictures."""
        made = self.plan(spec, most, candidates) if plan is None else plan
        chosen = EngineOptions(candidates=candidates, **options)
        self.opened.append(TensorRTEngine(spec, made, self.flavour, self.cuda(), chosen, "fp32", "compiled"))
        return self.opened[-1]

    def slow_down(self) -> None:
        """Let results take a while, where that can be had: who does not wait for them, gets rubbish."""

    def close(self) -> None:
        for engine in self.opened:
            engine.close()


class Fakes(Machine):
    """A fake GPU, a fake CUDA library and a fake TensorRT."""

    def __init__(self, gpu: FakeGpu, choice: Choice, backend: TensorRTBackend) -> None:
        super().__init__()
        self.gpu = gpu
        self.choice = choice
        trt = fake_trt(gpu, rtx=backend == "tensorrt-rtx")
        self.knobs: Knobs = trt.knobs
        self.flavour = Flavour(backend, trt, trt.__version__)

    def plan(self, spec: ModelSpec, most: int = 1, candidates: Candidates | None = None) -> bytes:
        recipe = Recipe("fp32", batch=most, usual_batch=1, candidates=candidates)
        model = network_of(spec, recipe)
        takes_any = not model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
        return fake_plan(model, most if takes_any else 1)

    def slow_down(self) -> None:
        self.gpu.delay_s = 0.002

    @property
    def has_graphs(self) -> bool:
        return self.choice == "cuda-python"


class Real(Machine):
    """The machine's own GPU and TensorRT."""

    choice: Choice = "auto"
    tolerance = 1e-2

    def __init__(self) -> None:
        super().__init__()
        if driver().problem is not None:
            pytest.skip(f"needs an NVIDIA GPU: {driver().problem}")
        self.flavour = _installed()
        guard(self.flavour, driver())

    def plan(self, spec: ModelSpec, most: int = 1, candidates: Candidates | None = None) -> bytes:
        recipe = Recipe("fp32", batch=most, usual_batch=1, candidates=candidates)
        return build_plan(self.flavour, network_of(spec, recipe), recipe)


def _installed() -> Flavour:
    backends: list[TensorRTBackend] = ["tensorrt", "tensorrt-rtx"]
    for backend in backends:
        try:
            return find_flavour(backend)
        except BackendUnavailable:
            continue
    pytest.skip("needs an NVIDIA GPU with a TensorRT installed")


def installation(monkeypatch: pytest.MonkeyPatch, face_models: dict[str, str], cache: Path) -> None:
    """Let what a program opens find the models, keep its engines in `cache`, and build plans for `fake_trt`."""
    monkeypatch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
    monkeypatch.setenv("FRAMELOOM_CACHE", str(cache))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.setattr(workshop, "build_plan", build_fake_plan)


def build_fake_plan(
    flavour: Flavour,
    model: onnx.ModelProto,
    recipe: Recipe,
    progress: Callable[[str, float], None] | None = None,
    *_: object,
) -> bytes:
    """Stand for `build_plan`: at once, and for `fake_trt`."""
    if progress is not None:
        progress("Building engine", 0.0)
    return fake_plan(model, recipe.batch)


def on_fakes(request: pytest.FixtureRequest, choice: Choice, backend: TensorRTBackend) -> Iterator[Fakes]:
    """Yield the fakes, with everything closed and nothing gone wrong in the end."""
    gpu: FakeGpu = request.getfixturevalue("fake_gpu")
    fakes = Fakes(gpu, choice, backend)
    yield fakes
    gpu.running.set()
    fakes.close()
    assert fakes.knobs.wrong == []
    assert fakes.knobs.live == {"runtime": 0, "engine": 0, "context": 0}


def without_letterbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no kernel be compiled: it takes longer than the tests that need none."""

    def refuse(cuda: Cuda) -> None:
        raise EngineBuildError("not in this test")

    monkeypatch.setattr(engines.tensorrt.engine, "GpuLetterbox", refuse)


def noise(*shape: int, seed: int = 0) -> Batch:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def as_planes(batch: Batch) -> Any:
    return batch.transpose(0, 3, 1, 2).astype(np.float32)


def same(ours: Outputs, theirs: Outputs, tolerance: float) -> None:
    """Hold outputs against the file's, name by name and in order."""
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        np.testing.assert_allclose(ours[name], expected, rtol=tolerance, atol=tolerance)
