"""`frameloom engines build`: compile ahead what a run would compile while it starts, which takes minutes."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from engines import graph
from engines.cuda.driver import driver
from engines.engine import Backend
from engines.errors import BackendUnavailable, EngineBuildError, FrameloomError, UnknownHead
from engines.prepare import input_size as own_input_size
from engines.tensorrt.flavour import TensorRTBackend, builds_without_gpu, find_flavour, guard, targets
from pipeline.errors import ConfigError
from pipeline.infer.sized_engines import PLACEHOLDER, declared_size
from tools.engines.models import Wanted, configured, named
from tools.engines.options import (
    BatchOption,
    ConfigOption,
    DeviceOption,
    InputSizeOption,
    SetsOption,
    input_size_of,
    settings_of,
)
from tools.engines.pictures import batches, sample
from tools.engines.progress import build_progress
from tools.engines.words import mebibytes, shape_words, state_words
from tools.terminal import say

if TYPE_CHECKING:
    from engines.cache.engine_cache import Cached
    from engines.engine import Batch

logger = logging.getLogger(__name__)

MIB = 1 << 20


@dataclass(frozen=True)
class Request:
    """What is the same for all models of a command."""

    backend: TensorRTBackend
    capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    images: tuple[str, ...] = ()
    """Where int8 takes its pictures from; empty: it is not int8."""
    frames: int = 0
    """How many of them."""
    force: bool = False


def build(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", show_default=False, help="Default: all that the configuration uses."),
    ] = None,
    config: ConfigOption = None,
    backend: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"] | None,
        typer.Option(help="auto: tensorrt where it and a driver are there, else tensorrt-rtx."),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "int8"] | None,
        typer.Option(help="auto: what the model asks for, else fp16."),
    ] = None,
    batch: BatchOption = None,
    input_size: InputSizeOption = None,
    device: DeviceOption = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER|VIDEO", help="Pictures like those of the run, to calibrate int8 on; repeatable."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many of them, spread evenly.")] = 100,
    compute_capability: Annotated[
        str | None,
        typer.Option(metavar="8.6,8.9,...", help="tensorrt-rtx: the GPUs to build for. Default: what it chooses."),
    ] = None,
    workspace_mib: Annotated[
        int | None, typer.Option(min=1, help="Most GPU memory for working space. Default: what TensorRT chooses.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build also what is there already.")] = False,
    set_: SetsOption = None,
) -> None:
    """Compile models for TensorRT ahead of a run; exit 1 if one cannot be, 2 if the request is at fault for all."""
    given = {"backend": backend, "precision": precision, "batch": batch, "device": device}
    settings = settings_of(config, set_, given)
    if input_size is not None and not models:
        raise ConfigError("--input-size is for models that are named: say which MODEL, or set detect.input_size")
    request = Request(
        chosen_backend(settings.engine.backend),
        _capabilities(compute_capability),
        None if workspace_mib is None else workspace_mib * MIB,
        _calibration(settings.engine.precision, images),
        frames,
        force,
    )
    if request.capabilities and request.backend != "tensorrt-rtx":
        raise ConfigError(f"--compute-capability is for tensorrt-rtx: {request.backend} builds for the GPU it runs on")
    targets(find_flavour(request.backend), request.capabilities)  # what it does not know is said before all else
    size = input_size_of(input_size, any_step=True)
    wanted = list(named(models, settings, size) if models else configured(settings))
    build_all([replace(each, options=replace(each.options, backend=request.backend)) for each in wanted], request)


def chosen_backend(wanted: Backend) -> TensorRTBackend:
    """Return the TensorRT that builds: the one asked for, else the first that can.

    Raises:
        ConfigError: another backend was asked for.
        BackendUnavailable: it is not installed, or plain TensorRT finds no GPU.
    """
    if wanted in ("openvino", "onnxruntime"):
        raise ConfigError(
            f"{wanted} compiles in a second when a run starts, so nothing is built ahead: say --backend tensorrt or "
            f"tensorrt-rtx; for int8 on a CPU: frameloom engines quantize MODEL --backend {wanted} --images FOLDER"
        )
    if wanted == "auto":
        try:
            return _usable("tensorrt")
        except BackendUnavailable as reason:
            logger.info("tensorrt skipped: %s", reason)
    return _usable("tensorrt" if wanted == "tensorrt" else "tensorrt-rtx")


def _usable(backend: TensorRTBackend) -> TensorRTBackend:
    flavour = find_flavour(backend)
    if not builds_without_gpu(flavour):
        guard(flavour, driver())
    return backend


def _capabilities(text: str | None) -> tuple[str, ...]:
    each = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    for capability in each:
        if not re.fullmatch(r"\d{1,2}\.\d", capability):
            raise ConfigError(f"--compute-capability {text}: {capability!r} is none; write such as 8.6,8.9")
    if text is not None and not each:
        raise ConfigError("--compute-capability is empty: write such as 8.6,8.9")
    return tuple(dict.fromkeys(each))


def _calibration(precision: str, images: Sequence[str] | None) -> tuple[str, ...]:
    """Return the places of pictures for int8, each of which has some; none where it was calibrated before."""
    if precision != "int8" and images:
        raise ConfigError(f"--images calibrates int8, and the precision is {precision}: say --precision int8")
    for place in images or ():
        list(sample([place], 1))
    return tuple(images or ())


def build_all(wanted: Sequence[Wanted], request: Request) -> None:
    """Build each model and print what became of it; what failed is said once more at the end.

    Raises:
        typer.Exit: something failed; with 2 where only the request was at fault, as for one error, else 1.
    """
    began, built, total_bytes = time.monotonic(), 0, 0
    failed: list[tuple[str, FrameloomError]] = []
    for each in wanted:
        if each.note:
            _note(f"{each.spec.name}: {each.note}")
        try:
            cached, seconds = _build(each, request)
        except FrameloomError as failure:
            if isinstance(failure, BackendUnavailable) and not built and not failed:
                raise  # it would be the same for all
            failed.append((each.spec.name, failure))
            continue
        _print_built(cached, seconds)
        built, total_bytes = built + 1, total_bytes + cached.manifest.bytes
    if len(wanted) > 1 and built:
        say(f"{built} of {len(wanted)} engines, {mebibytes(total_bytes)}, in {time.monotonic() - began:.1f} s")
    for name, error in failed:
        sys.stderr.write(f"frameloom: {name}: {error}\n")
    if failed:
        raise typer.Exit(2 if all(error.request_was_wrong for _, error in failed) else 1)


def _build(wanted: Wanted, request: Request) -> tuple[Cached, float | None]:
    """Return the entry, and the seconds it took to build; None where it was there already.

    A face finder that cannot be had at the size for the usual frame gets its own, as in a run.
    """
    try:
        return _build_at(wanted, request)
    except (EngineBuildError, UnknownHead) as reason:
        own = declared_size(wanted.spec) if wanted.spec.task == "face-detect" else None
        if own is None or own == wanted.options.input_size or min(own) < PLACEHOLDER:
            raise
        logger.info("%s", reason)
    _note(f"{wanted.spec.name} runs at its own size only, {own[0]}x{own[1]}")
    return _build_at(replace(wanted, options=replace(wanted.options, input_size=own)), request)


def _build_at(wanted: Wanted, request: Request) -> tuple[Cached, float | None]:
    from engines.tensorrt.plans import build_for  # brings onnxruntime's quantisation: half a second that others save

    began, reported = time.monotonic(), False
    with build_progress(wanted.spec.name) as progress:

        def report(doing: str, share: float) -> None:
            nonlocal reported
            reported = True
            progress(doing, share)

        cached = build_for(
            request.backend,
            wanted.spec,
            wanted.options,
            compute_capabilities=request.capabilities,
            workspace_bytes=request.workspace_bytes,
            frames=_frames(wanted, request),
            judge=wanted.judge,
            progress=report,
            force=request.force,
        )
    return cached, time.monotonic() - began if reported else None


def _frames(wanted: Wanted, request: Request) -> Iterator[Batch] | None:
    """Return the pictures that int8 is calibrated on, read when they are asked for."""
    if not request.images:
        return None
    spec = wanted.spec
    size = wanted.options.input_size or own_input_size(graph.load(spec.path), spec.input)
    return batches(spec, size, sample(request.images, request.frames))


def _note(text: str) -> None:
    Console(highlight=False).print(f"note: {text}", markup=False, style="yellow")


def _print_built(cached: Cached, seconds: float | None) -> None:
    manifest = cached.manifest
    how = "was there already" if seconds is None else f"built in {seconds:.1f} s"
    say(f"{manifest.model} {shape_words(manifest)} {manifest.precision}: {how}, {mebibytes(manifest.bytes)}")
    Console(highlight=False).print(Padding(Text(state_words(manifest)), (0, 0, 0, 2)))
    say(f"  {cached.path}")
