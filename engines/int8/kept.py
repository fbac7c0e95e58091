"""What was accepted in int8 for a CPU, in the cache of engines: kept with its verdict, and opened only with it.

An entry is only used where everything it was judged under still holds: the model file, the recipe, the backend's
version, and how this CPU computes in 8 bits (without VNNI, sums of ONNX Runtime's may saturate). Nothing is compared
again when it is opened: a difference is a sentence with the command that judges it anew.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from engines.cache.engine_cache import Cached, EngineCache
from engines.cache.manifest import Key, Quantisation, key_of
from engines.errors import BackendUnavailable, EngineStale, ParityFailed
from engines.int8.answers import CLOSE, answers_of, apart
from engines.int8.circumstances import VERSION, machine, version_of
from engines.tensorrt.recipe import Recipe

if TYPE_CHECKING:
    from engines.engine import Engine, EngineOptions
    from engines.spec import ModelSpec


def key_for(spec: ModelSpec, backend: str, size: tuple[int, int] | None) -> Key:
    """Return what the int8 network of a model is kept under.

    Args:
        spec: the model.
        backend: `openvino` or `onnxruntime`.
        size: height and width of the input; None: the model's own.
    """
    key = key_of(spec, Recipe("int8", size), backend, version_of(backend) or "")
    return key.model_copy(update={"recipe": VERSION, "system": machine()})


def accepted(spec: ModelSpec, backend: str, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Return the int8 network of a model that was accepted for this backend here.

    Raises:
        BackendUnavailable: there is none.
        EngineStale: there is one for other circumstances, a damaged one, or one that was not accepted.
        EngineBuildError: others can put files into the cache.
    """
    found = EngineCache().find(key_for(spec, backend, size))
    again = f"judge it again: {command(spec, backend, size)}"
    if found.entry is None and found.problem is None:
        raise BackendUnavailable(
            f"{spec.name} has no int8 engine for {backend} yet; it is made of pictures of the place of use, and judged "
            f"on others: {command(spec, backend, size)}"
        )
    if found.entry is None:
        raise EngineStale(f"the int8 engine of {spec.name} for {backend} cannot be used: {found.problem}; {again}")
    manifest = found.entry.manifest
    if manifest.state != "verified" or manifest.quantisation is None:
        raise EngineStale(f"{found.entry.path.name} was not accepted, so it is not used; {again}")
    return onnx.load_from_string(found.entry.plan)


def check(engine: Engine, spec: ModelSpec, size: tuple[int, int] | None) -> None:
    """Close and refuse an engine that was made of an accepted network and does not say what it said then.

    Raises:
        ParityFailed: it says something else.
    """
    backend = engine.describe().backend
    found = EngineCache().find(key_for(spec, backend, size)).entry
    made = None if found is None else found.manifest.quantisation
    error = apart(answers_of(spec, engine), {} if made is None else made.answers)
    if not error <= CLOSE:
        engine.close()
        raise ParityFailed(
            f"{spec.name} in int8, as {backend} has compiled it now, is {error:.0%} off what it said of the same "
            f"pictures when it was accepted: start again, or judge it again: {command(spec, backend, size)}"
        )


def keep(
    spec: ModelSpec,
    backend: str,
    size: tuple[int, int] | None,
    network: onnx.ModelProto,
    made: Quantisation,
    took_s: float,
) -> Cached:
    """Store a network that was accepted, with its verdict, in place of an older one.

    Raises:
        EngineBuildError: it cannot be kept.
    """
    engines, key = EngineCache(), key_for(spec, backend, size)
    engines.check_writable()
    with engines.lock(key, f"stores {spec.name}"):
        content, path = network.SerializeToString(), str(spec.path.absolute())
        return engines.store(key, content, took_s, "verified", model_path=path, quantisation=made)


def opened(spec: ModelSpec, backend: str, options: EngineOptions, network: onnx.ModelProto) -> Engine:
    """Return an engine on an int8 network that nobody has accepted yet: to be judged.

    Raises:
        BackendUnavailable: the backend is not installed.
        EngineBuildError: it refuses the network.
    """
    options = replace(options, precision="int8")
    if backend == "openvino":
        from engines.openvino import OpenVINOEngine

        return OpenVINOEngine(spec, options, network)
    from engines.onnxruntime import ONNXRuntimeEngine

    return ONNXRuntimeEngine(spec, options, network)


def command(spec: ModelSpec, backend: str, size: tuple[int, int] | None = None) -> str:
    """Return what makes and judges the int8 engine of a model."""
    from engines.zoo import Zoo

    model = spec.name if spec.name in Zoo.load() else shlex.quote(str(spec.path))
    shape = "" if size is None else f" --input-size {size[0]}x{size[1]}"
    return f"frameloom engines quantize {model} --backend {backend}{shape} --images FOLDER"
