"""A network becomes a plan: what TensorRT runs, compiled for a GPU or, by TensorRT-RTX, for kinds of GPUs.

TensorRT fails by returning None or False and saying why to its logger; here every such failure becomes an
`EngineBuildError` with those lines. A builder is used on a thread of its own (see `engines.tensorrt.apart`), for the
GPU whose context is current where `build_plan` is called.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.cache.file_lock import locked_if_free
from engines.cache.folder import LOCK
from engines.cache.whole_files import write_whole
from engines.cuda import driver as cuda
from engines.errors import EngineBuildError
from engines.tensorrt.apart import run_apart
from engines.tensorrt.flavour import (
    builds_without_gpu,
    creation_flags,
    guard,
    has_progress_monitor,
    has_timing_cache,
    recording_flag,
    refuses_recording,
    targets,
)
from engines.tensorrt.log import collecting_logger
from engines.tensorrt.monitor import progress_monitor

if TYPE_CHECKING:
    import onnx

    from engines.tensorrt.flavour import Flavour
    from engines.tensorrt.recipe import Recipe

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""What is being done, in words, and the share of the whole that is done, 0..1; called from TensorRT's threads."""


def build_plan(
    flavour: Flavour,
    model: onnx.ModelProto,
    recipe: Recipe,
    progress: Progress | None = None,
    timing_cache: Path | None = None,
) -> bytes:
    """Build a plan.

    Args:
        flavour: which TensorRT.
        model: from `engines.tensorrt.network.network_of`.
        recipe: batch, targets and workspace.
        progress: told how far it is.
        timing_cache: a file that keeps what was measured on this GPU for the next build; plain TensorRT only.

    Raises:
        BackendUnavailable: plain TensorRT, and no GPU; or it does not know a compute capability.
        EngineBuildError: TensorRT refuses the network, with its own words.
        KeyboardInterrupt: and whatever else interrupts the waiting; the build has been stopped.
    """
    if not builds_without_gpu(flavour):
        guard(flavour, cuda.driver())

    def work(cancelled: threading.Event) -> bytes:
        log = collecting_logger(flavour.trt)
        try:
            monitor = progress_monitor(flavour.trt, progress, cancelled) if has_progress_monitor(flavour) else None
            return _build(flavour, log, model, recipe, monitor, timing_cache)
        finally:
            log.leave()

    plan = run_apart(work)
    if progress is not None:
        progress("built", 1.0)
    return plan


def _build(
    flavour: Flavour, log: Any, model: onnx.ModelProto, recipe: Recipe, monitor: Any, timing_cache: Path | None
) -> bytes:
    trt = flavour.trt
    builder = trt.Builder(log)
    network = builder.create_network(creation_flags(flavour))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        raise EngineBuildError(f"{flavour.backend} {flavour.version} cannot read the network: {_words(parser, log)}")
    config = builder.create_builder_config()
    _configure(config, trt, targets(flavour, recipe.compute_capabilities), recipe)
    config.add_optimization_profile(_profile(builder, network, recipe))
    cache = _use_timing_cache(config, timing_cache) if timing_cache and has_timing_cache(flavour) else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = _built(flavour, builder, network, config, log)
    if cache is not None and timing_cache is not None:
        _keep(timing_cache, bytes(memoryview(cache.serialize())))
    return bytes(memoryview(plan))


def _built(flavour: Flavour, builder: Any, network: Any, config: Any, log: Any) -> Any:
    """Build a plan whose runs can be recorded as CUDA graphs, where that takes a flag and can be had."""
    flag = recording_flag(flavour)
    if flag is not None:
        config.set_flag(flag)
    plan = builder.build_serialized_network(network, config)
    reason = log.words() if plan is None else ""
    if flag is not None and refuses_recording(reason):  # else it would take twice the minutes to be refused again
        config.clear_flag(flag)
        plan = builder.build_serialized_network(network, config)
        if plan is not None:
            logger.info("the plan takes memory of its own when it runs, so CUDA graphs may be off: %s", reason)
        else:
            reason = log.words()
    if plan is None:
        raise EngineBuildError(f"{flavour.backend} {flavour.version} cannot build the network: {reason}")
    return plan


def _words(parser: Any, log: Any) -> str:
    lines = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        node = f"{error.node_operator()} {error.node_name()!r}: " if error.node_operator() else ""
        lines.append(" ".join(f"{node}{error.desc()}".split()))
    return "; ".join(lines) or str(log.words())


def _configure(config: Any, trt: Any, kinds: list[Any], recipe: Recipe) -> None:
    if recipe.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # it is fp32 with ten bits, and on by default
    if recipe.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    if kinds:
        config.num_compute_capabilities = len(kinds)
        for number, kind in enumerate(kinds):
            config.set_compute_capability(kind, number)


def _profile(builder: Any, network: Any, recipe: Recipe) -> Any:
    """Return the range of batches, for each input that leaves it open."""
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        value = network.get_input(number)
        shape = tuple(value.shape)
        if -1 in shape[1:]:
            raise EngineBuildError(f"the input {value.name} leaves more open than the number of pictures: {shape}")
        if shape[0] == -1:
            usual = min(max(recipe.usual_batch, 1), recipe.batch)
            profile.set_shape(value.name, *((batch, *shape[1:]) for batch in (1, usual, recipe.batch)))
    return profile


def _use_timing_cache(config: Any, path: Path) -> Any:
    """Give the builder what earlier builds measured; an empty cache where there is none, or it is another GPU's."""
    content = b""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
    for candidate in (content, b""):
        cache = config.create_timing_cache(candidate)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _keep(path: Path, content: bytes) -> None:
    """Replace what was measured; what cannot be kept, or not now, only costs the next build its time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_if_free(path.with_name(f".{path.stem}{LOCK}")) as free:
            if free:
                write_whole(path, content)
