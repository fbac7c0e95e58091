"""From a model to a plan that is trusted: found in the cache, or built; and compared with its model file before use.

A plan's life: `unverified` when it is built; then it is loaded and compared with its file (`engines.trust.gate`), and
is `verified` from there on, or `refused`, which is remembered, so that a run does not spend minutes on it again. What
has been verified once stays until a new one is loaded: why the runtime refuses it may pass. What
TensorRT-RTX has built without a GPU stays `unverified` where it is, and each GPU that it is tried on keeps its own
copy with what came of that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.cuda.choose import open_cuda
from engines.cuda.driver import driver, gpu_for
from engines.errors import BackendUnavailable, EngineBuildError, EngineStale, ParityFailed
from engines.tensorrt.engine import TensorRTEngine
from engines.tensorrt.flavour import builds_without_gpu, compiles_in_runs, find_flavour, guard
from engines.tensorrt.order import Order, recipe_for
from engines.tensorrt.workshop import build, obtain
from engines.trust.gate import examine
from engines.trust.parity import bounds_for

if TYPE_CHECKING:
    from engines.cache.engine_cache import Cached
    from engines.engine import Batch, Engine, EngineOptions
    from engines.spec import ModelSpec
    from engines.tensorrt.build import Progress
    from engines.tensorrt.flavour import TensorRTBackend
    from engines.trust.parity import Judge, ParityReport

logger = logging.getLogger(__name__)


def open_tensorrt(
    backend: TensorRTBackend, spec: ModelSpec, options: EngineOptions, judge: Judge | None = None
) -> Engine:
    """Return a running engine that agrees with its model file, built where the cache has none.

    Args:
        backend: which TensorRT.
        spec: the model.
        options: how to run it.
        judge: how the outputs are read as boxes, for the comparison; None: only values are compared.

    Raises:
        BackendUnavailable: no GPU, no TensorRT, no library for CUDA, or int8 and nothing was calibrated.
        EngineBuildError: it cannot be built, or the runtime refuses what was built.
        ParityFailed: it disagrees with its model file.
        EngineError: the GPU is out of memory; DeviceLost.
        ModelError: the model file is at fault.
    """
    gpu = gpu_for(options.device)  # the driver before all else: without one, TensorRT must not be touched
    order = Order(find_flavour(backend), spec, options, recipe_for(backend, spec, options), gpu)
    entry, origin = obtain(order)
    engine, entry = _load(order, entry, origin)
    _trust(order, engine, entry, judge)
    return engine


def build_for(
    backend: TensorRTBackend,
    spec: ModelSpec,
    options: EngineOptions,
    *,
    compute_capabilities: tuple[str, ...] = (),
    workspace_bytes: int | None = None,
    frames: Iterable[Batch] | None = None,
    judge: Judge | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Cached:
    """Build a plan ahead of a run, and compare it with its model file where a GPU can run it.

    Args:
        backend: which TensorRT.
        spec: the model.
        options: as a run will open it.
        compute_capabilities: TensorRT-RTX: the GPUs that it is for; empty: the one at hand, else what it chooses.
        workspace_bytes: most device memory for tactics; None: what TensorRT chooses.
        frames: for int8: batches of uint8 N x H x W x 3 BGR of the input's size, to calibrate on; None: it was
            calibrated before.
        judge: see `open_tensorrt`.
        progress: told how far it is, while something is built.
        force: whether to build what is there already.

    Returns:
        The entry of the cache; `unverified` where no GPU here can run it.

    Raises:
        As `open_tensorrt`, and EngineBuildError where it would have to be built and cannot be kept; no GPU is only an
        error for plain TensorRT, and where a device is asked for.
    """
    flavour = find_flavour(backend)
    if not builds_without_gpu(flavour):
        guard(flavour, driver())
    recipe = replace(
        recipe_for(backend, spec, options), compute_capabilities=compute_capabilities, workspace_bytes=workspace_bytes
    )
    asked_for = options.device.strip().lower() != "auto"
    here = gpu_for(options.device) if asked_for or driver().problem is None else None
    order = Order(flavour, spec, options, recipe, None if compute_capabilities else here)
    entry, origin = obtain(order, progress=progress, frames=frames, force=force, must_keep=True)
    if here is None or not entry.manifest.runs_on(here.compute_capability) or order.is_settled(entry):
        return entry
    at_hand = replace(order, gpu=here, spec=replace(spec, sha256=order.model_sha256))
    try:
        if order.gpu is None:  # it is what was asked for, whether this GPU takes it or not
            engine = _opened(at_hand, entry, origin)
        else:
            engine, entry = _load(order, entry, origin)
    except (BackendUnavailable, EngineStale) as reason:
        logger.warning("%s was not compared with its model file on %s: %s", entry.path.name, here, reason)
        return entry
    entry = _trust(at_hand, engine, entry, judge)
    engine.close()
    return entry


def _load(order: Order, entry: Cached, origin: str) -> tuple[Engine, Cached]:
    """Return a running engine and its plan: a new one, built once, where the runtime refuses that of the cache."""
    assert order.gpu is not None
    try:
        return _opened(order, entry, origin), entry
    except EngineStale as reason:
        if origin == "compiled":
            with order.cache.lock(order.key, f"stores {order.what}"):
                raise _unloadable(order, entry, reason) from reason
        logger.warning("%s is built again for %s: %s (%s)", entry.path.name, order.gpu, reason, order.command)
    with order.cache.lock(order.key, f"builds {order.what}"):
        found = order.cache.find(order.key).entry
        if found is None or found.plan == entry.plan:
            return _load_anew(order, entry)
    return _opened(order, found, "cache"), found  # who held the lock has built it


def _load_anew(order: Order, old: Cached) -> tuple[Engine, Cached]:
    """Build a plan in place of one that the runtime refuses; that one stays where the new one is refused, too."""
    new = build(order)
    try:
        engine = _opened(order, new, "compiled")
    except EngineStale as reason:
        if order.is_settled(old):
            raise EngineBuildError(
                f"{order.what} has run here before, and now neither that plan nor a new one can be loaded: {reason}; "
                f"{order.way_out}"
            ) from reason
        raise _unloadable(order, new, reason) from reason
    try:
        return engine, order.cache.keep(new)
    except BaseException:
        engine.close()
        raise


def _opened(order: Order, entry: Cached, origin: str) -> Engine:
    assert order.gpu is not None
    cuda = open_cuda(order.options.cuda, order.gpu)
    kernels = order.cache.kernels(entry, order.gpu) if compiles_in_runs(order.flavour) else None
    precision = order.recipe.precision
    return TensorRTEngine(order.spec, entry.plan, order.flavour, cuda, order.options, precision, origin, kernels)


def _unloadable(order: Order, entry: Cached, reason: EngineStale) -> EngineBuildError:
    """Remember that a new plan is of no use on this GPU, and return what to raise. The caller holds its lock."""
    words = f"{order.what} was built, and cannot be loaded: {reason}"
    refused = entry.manifest.model_copy(update={"state": "refused", "refusal": words})
    order.cache.keep(replace(entry, manifest=refused))
    return EngineBuildError(f"{words}; {order.way_out}")


def _trust(order: Order, engine: Engine, entry: Cached, judge: Judge | None) -> Cached:
    """Compare an engine with its model file, unless that was done, and keep what came of it.

    Raises:
        ParityFailed: it disagrees; the engine is closed.
    """
    if order.is_settled(entry):
        return entry
    try:
        report, refusal = _examined(order, engine, judge)
        order.check_model()
        parity = None if report is None else report.as_dict()
        entry = order.settle(entry, "refused" if refusal else "verified", parity, refusal)
        if refusal:
            raise ParityFailed(f"{refusal}; {order.way_out}")
    except BaseException:
        engine.close()
        raise
    pictures = 0 if report is None else report.pictures
    logger.info("%s agrees with its model file on %d pictures", order.what, pictures)
    return entry


def _examined(order: Order, engine: Engine, judge: Judge | None) -> tuple[ParityReport | None, str | None]:
    """Return the report, and in words why the engine must not be used; None: it may."""
    try:
        report = examine(order.spec, engine, judge)
    except ParityFailed as error:
        return None, f"{order.what}: {error}"
    failures = report.failures(bounds_for(order.recipe.precision))
    return report, f"{order.what} disagrees with its model file: {'; '.join(failures)}" if failures else None
