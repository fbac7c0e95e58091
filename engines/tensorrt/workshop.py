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
from engines.tensorrt.network import network_of
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
) -> tuple[Cached, str]:
    """Return the plan of the cache, or build it and keep it; and which of the two: `cache`, `compiled`.

    Args:
        order: what is wanted.
        progress: told how far it is; None: what happens is logged, for it takes minutes.
        frames: for int8; None: it was calibrated before.
        force: whether to build what is there already.

    Raises:
        BackendUnavailable: int8, and it never was calibrated; or no library for CUDA.
        EngineBuildError: it cannot be built or kept, or is known not to run here.
        ParityFailed: it is known to disagree with its model file.
        ModelError: the model file is at fault.
    """
    if not force and (entry := order.look_up().entry) is not None:
        return entry, "cache"
    with order.cache.lock(order.key, f"builds {order.what}"):
        problem = None
        if not force:
            found = order.look_up()  # who held the lock may have built it
            if found.entry is not None:
                return found.entry, "cache"
            problem = found.problem
        network = _network(order, frames)
        if problem is not None:
            logger.warning("%s, so it is built again (by hand: %s)", problem, order.command)
        return _built(order, network, progress), "compiled"


def _network(order: Order, frames: Iterable[Batch] | None) -> onnx.ModelProto:
    """Return what is built: for int8 the network that was calibrated, now or before."""
    spec, recipe, key = order.spec, order.recipe, order.calibrated_key
    if recipe.precision != "int8" or is_quantised(load(spec.path)):
        return network_of(spec, recipe)
    if frames is None:
        kept = order.cache.find(key).entry
        if kept is None:
            raise BackendUnavailable(
                f"{spec.name} is not calibrated for int8 yet, on pictures like those of the run: {order.command}"
            )
        return onnx.load_from_string(kept.plan)
    began = time.monotonic()
    network = network_of(spec, recipe, frames)
    with order.cache.lock(key, f"calibrates {spec.name}"):
        order.cache.store(key, network.SerializeToString(), time.monotonic() - began)
    return network


def _built(order: Order, network: onnx.ModelProto, progress: Progress | None) -> Cached:
    """Build under the lock, for the GPU whose context is current."""
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
    entry = order.cache.store(order.key, plan, seconds, workspace_bytes=order.recipe.workspace_bytes)
    if progress is None:
        logger.warning("built in %.1f s: %s", seconds, entry.path)
    return entry


def _for_gpu(order: Order) -> Recipe:
    """Return the recipe with the GPU at hand as its target, where TensorRT-RTX has a name for its kind."""
    kinds = getattr(order.flavour.trt, "ComputeCapability", None)
    if order.gpu is None or kinds is None:
        return order.recipe
    capability = order.gpu.compute_capability
    known = f"SM{capability.replace('.', '')}" in kinds.__members__
    return replace(order.recipe, compute_capabilities=(capability,) if known else ())
