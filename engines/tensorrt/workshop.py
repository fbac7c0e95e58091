"""Where plans are built: one process at a time for each, and what it learns about int8 is kept, too."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from engines.cuda.choose import open_cuda
from engines.errors import BackendUnavailable
from engines.graph import load
from engines.tensorrt.build import build_plan
from engines.tensorrt.flavour import CURRENT
from engines.tensorrt.network import calibrated, network_of, network_of_calibrated
from engines.tensorrt.refusals import is_quantised

if TYPE_CHECKING:
    from engines.cache.engine_cache import Cached
    from engines.engine import Batch
    from engines.tensorrt.build import Progress
    from engines.tensorrt.order import Order
    from engines.tensorrt.recipe import Recipe

logger = logging.getLogger(__name__)


def obtain(
    order: Order,
    *,
    progress: Progress | None = None,
    frames: Iterable[Batch] | None = None,
    force: bool = False,
    must_keep: bool = False,
) -> tuple[Cached, str]:
    """Return the plan of the cache, or build it and keep it; and which of the two: `cache`, `compiled`.

    Args:
        order: what is wanted.
        progress: told how far it is; None: what happens is logged, for it takes minutes.
        frames: for int8: it is calibrated on them and built anew; None: it was calibrated before. To be given
            before anybody asks the order for its key.
        force: whether to build what is there already.
        must_keep: whether to build nothing where it cannot be kept.

    Raises:
        BackendUnavailable: int8, and it never was calibrated; or no library for CUDA.
        EngineBuildError: it cannot be built or kept, or is known not to run here.
        ParityFailed: it is known to disagree with its model file.
        ModelError: the model file is at fault.
    """
    if frames is not None:
        order.cache.check_writable()
        _calibrate(order, frames)
        force = True
    if not force and (entry := order.look_up().entry) is not None and order.is_served_by(entry):
        return entry, "cache"
    if must_keep:
        order.cache.check_writable()
    with order.cache.lock(order.key, f"builds {order.what}"):
        problem = None
        if not force:
            found = order.look_up()  # who held the lock may have built it
            if found.entry is not None and order.is_served_by(found.entry):
                return found.entry, "cache"
            problem = found.problem
        return order.cache.keep(build(order, progress, problem)), "compiled"


def _calibrate(order: Order, frames: Iterable[Batch]) -> None:
    """Keep an int8 network that plans are built of from here on, on this machine and on others."""
    spec, key = order.spec, order.calibrated_key
    if is_quantised(load(spec.path)):
        logger.warning("%s is in int8 already, so the pictures are not used", spec.path)
        return
    began = time.monotonic()
    network = calibrated(spec, order.recipe.input_size, frames).SerializeToString()
    order.check_model()
    with order.cache.lock(key, f"calibrates {spec.name}"):
        order.cache.store(key, network, time.monotonic() - began, model_path=order.model_path)


def _network(order: Order) -> onnx.ModelProto:
    """Return what is built: for int8 of the network that was calibrated."""
    spec, recipe = order.spec, order.recipe
    if recipe.precision != "int8" or is_quantised(load(spec.path)):
        return network_of(spec, recipe)
    if order.calibrated is None:
        raise BackendUnavailable(
            f"{spec.name} is not calibrated for int8 yet, on pictures like those of the run: {order.command}"
        )
    return network_of_calibrated(onnx.load_from_string(order.calibrated.plan), spec, recipe)


def build(order: Order, progress: Progress | None = None, problem: str | None = None) -> Cached:
    """Return a new plan, for the GPU of the order; it is only in memory so far. The caller holds its lock.

    Args:
        order: what is wanted.
        progress: see `obtain`.
        problem: why that of the cache is not used, to be told.

    Raises:
        As `obtain`.
    """
    network = _network(order)
    if problem is not None:
        logger.warning("%s, so it is built again (by hand: %s)", problem, order.command)
    if progress is None:
        logger.warning("building an engine of %s; this takes minutes, once", order.what)
    began = time.monotonic()
    with ExitStack() as opened:
        if order.gpu is not None:
            cuda = open_cuda(order.options.cuda, order.gpu)
            opened.callback(cuda.close)
            cuda.activate()
        plan = build_plan(order.flavour, network, _for_gpu(order), progress, order.cache.timing_cache(order.key))
    seconds = time.monotonic() - began
    order.check_model()
    workspace = order.recipe.workspace_bytes
    entry = order.cache.entry(order.key, plan, seconds, model_path=order.model_path, workspace_bytes=workspace)
    if progress is None:
        logger.warning("built in %.1f s: %s", seconds, entry.path)
    return entry


def _for_gpu(order: Order) -> Recipe:
    """Return the recipe with the GPU at hand as its target: by name, where TensorRT-RTX has one for its kind."""
    kinds = getattr(order.flavour.trt, "ComputeCapability", None)
    if order.gpu is None or kinds is None:
        return order.recipe
    capability = order.gpu.compute_capability
    if f"SM{capability.replace('.', '')}" not in kinds.__members__:
        capability = CURRENT
    return replace(order.recipe, compute_capabilities=(capability,))
