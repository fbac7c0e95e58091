"""Does TensorRT take this GPU, and do plans say what their model files say? Asked as a run would ask.

A refusal is a result: it is kept in TensorRT's own words.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.cuda.choose import open_cuda
from engines.engine import EngineOptions
from engines.errors import DeviceLost, EngineStale, FrameloomError, ParityFailed
from engines.tensorrt.build import build_plan
from engines.tensorrt.engine import TensorRTEngine
from engines.tensorrt.flavour import has_targets
from engines.tensorrt.network import network_of
from engines.tensorrt.order import Order, recipe_for
from engines.tensorrt.recipe import Recipe
from tools.engines.models import Wanted, named

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu
    from engines.cuda.layer import Choice
    from engines.spec import ModelSpec
    from engines.tensorrt.flavour import Flavour
    from engines.tensorrt.recipe import PlanPrecision
    from pipeline.config.settings import Settings


@dataclass(frozen=True)
class Acceptance:
    """What became of one small plan."""

    built_for: str
    built: bool
    """Whether there is a plan at all."""
    accepted: bool
    """Whether it was loaded and has run."""
    seconds: float
    """From the network to the first result: building, loading, compiling of kernels."""
    words: str
    """Of TensorRT, where it refuses."""


def ask(flavour: Flavour, gpu: Gpu, choice: Choice, spec: ModelSpec) -> Iterator[Acceptance]:
    """Build a plan of a model for each kind of target and run it: the first answer that is yes is the last.

    Args:
        flavour: which TensorRT.
        gpu: on which GPU.
        choice: by which library for CUDA.
        spec: a small model.
    """
    for name, targets in _targets(flavour, gpu):
        answer = _try(flavour, gpu, choice, spec, name, targets)
        yield answer
        if answer.accepted:
            return


def _targets(flavour: Flavour, gpu: Gpu) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a plan may be built for, in words and as a recipe has it; the first is what a run uses."""
    if not has_targets(flavour):
        yield "the GPU at hand", ()
        return
    if f"SM{gpu.compute_capability.replace('.', '')}" in flavour.trt.ComputeCapability.__members__:
        yield f"compute capability {gpu.compute_capability}", (gpu.compute_capability,)
    yield "what it chooses by itself", ()


def _try(
    flavour: Flavour, gpu: Gpu, choice: Choice, spec: ModelSpec, name: str, targets: tuple[str, ...]
) -> Acceptance:
    began, built, words = time.monotonic(), False, ""
    cuda = open_cuda(choice, gpu)
    try:
        cuda.activate()
        recipe = Recipe("fp16", compute_capabilities=targets)
        plan = build_plan(flavour, network_of(spec, recipe), recipe)
        built = True
        options = EngineOptions(requests=1, cuda=choice)
        own = open_cuda(choice, gpu)  # which the engine closes
        TensorRTEngine(spec, plan, flavour, own, options, "fp16", "compiled").close()
    except DeviceLost:
        raise
    except FrameloomError as error:
        words = _of_whom(error)
    finally:
        cuda.close()
    return Acceptance(name, built, not words, time.monotonic() - began, words)


def _of_whom(error: FrameloomError) -> str:
    return str(error) if isinstance(error, EngineStale) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Agreement:
    """How a plan compares with its model file."""

    model: str
    precision: str
    state: str
    """As in the manifest; else `disagrees`, `fails`, or `not at hand`."""
    input_size: tuple[int, int] | None = None
    batch: int | None = None
    build_s: float | None = None
    """From the network to the plan; of an earlier day where it was in the cache."""
    bytes: int | None = None
    """Of the plan."""
    pictures: int | None = None
    largest_error: float | None = None
    """Of any output's values."""
    mean_error: float | None = None
    """The largest of the outputs' means."""
    boxes: int | None = None
    """Found by the model file."""
    unmatched: int | None = None
    """Boxes that only one of the two has."""
    score_drift: float | None = None
    encoding_drift: float | None = None
    words: str = ""
    """Why it is not verified."""


def agreements(
    flavour: Flavour, settings: Settings, models: Sequence[str], precisions: Sequence[PlanPrecision]
) -> Iterator[Agreement]:
    """Yield each model in each precision; int8 only where it has been calibrated."""
    for model in models:
        try:
            (wanted,) = named([model], settings, None)
        except FrameloomError as error:
            yield Agreement(model, "", "not at hand", words=str(error))
            continue
        for precision in precisions:
            each = in_precision(wanted, flavour, precision)
            if precision != "int8" or _is_calibrated(flavour, each):
                yield agreement(flavour, each)


def in_precision(wanted: Wanted, flavour: Flavour, precision: PlanPrecision) -> Wanted:
    """Return a model as it is to be run."""
    return replace(wanted, options=replace(wanted.options, backend=flavour.backend, precision=precision))


def _is_calibrated(flavour: Flavour, wanted: Wanted) -> bool:
    recipe = recipe_for(flavour.backend, wanted.spec, wanted.options)
    order = Order(flavour, wanted.spec, wanted.options, recipe, None)
    return order.cache.find(order.calibrated_key).entry is not None


def agreement(flavour: Flavour, wanted: Wanted) -> Agreement:
    """Build a plan, where the cache has none, and compare it with its model file.

    Raises:
        DeviceLost: the GPU is gone.
    """
    from engines.tensorrt.plans import build_for  # brings onnxruntime's quantisation

    spec, precision = wanted.spec, wanted.options.precision
    try:
        entry = build_for(flavour.backend, spec, wanted.options, judge=wanted.judge)
    except DeviceLost:
        raise
    except FrameloomError as error:
        state = "disagrees" if isinstance(error, ParityFailed) else "fails"
        return Agreement(spec.name, precision, state, words=str(error))
    manifest = entry.manifest
    return Agreement(
        spec.name,
        precision,
        manifest.state,
        manifest.input_size,
        manifest.batch,
        manifest.build_s,
        manifest.bytes,
        words=manifest.refusal or "",
        **_measured(manifest.parity or {}),
    )


def _measured(parity: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of `ParityReport.as_dict` that a table has room for."""
    tensors = (parity.get("tensors") or {}).values()
    boxes, faces = parity.get("decisions") or {}, parity.get("encodings") or {}
    return {
        "pictures": parity.get("pictures"),
        "largest_error": max((each["max_error"] for each in tensors), default=None),
        "mean_error": max((each["mean_error"] for each in tensors), default=None),
        "boxes": boxes.get("reference"),
        "unmatched": boxes.get("unmatched"),
        "score_drift": boxes.get("max_score_drift"),
        "encoding_drift": faces.get("max_drift"),
    }
