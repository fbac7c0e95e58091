"""Manifest: what a compiled engine was made of and for, in a JSON file beside it.

A plan names nothing: not its model, not its precision, and TensorRT's own header says too little of the machine. So
all that decides whether a plan may be used is written here, and its hash is part of the file's name: a plan for other
circumstances is another file, and machines that share a home directory do not take each other's place.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from engines.tensorrt.recipe import Recipe

State = Literal["verified", "unverified", "refused"]
SETTINGS = ("input_size", "batch", "usual_batch", "candidates")
"""Fields that the user chooses: plans that differ in them do not replace each other."""
CALIBRATED = "calibrated"
"""In place of a backend: an int8 network, calibrated on pictures, that backends build plans of."""
HASH_DIGITS = 16
NAME_LENGTH = 100


class Key(BaseModel):
    """Everything that decides whether a compiled engine may be used; two engines with one key are the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    model_sha256: str
    backend: str
    version: str
    """Exact version of the backend."""
    precision: str
    recipe: int
    """`engines.tensorrt.recipe.VERSION`."""
    colour: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    declared_batch: int | str | None
    """`InputSpec.batch`."""
    input_size: tuple[int, int]
    batch: int
    usual_batch: int
    candidates: tuple[int, int | None, int] | None
    """First column of classes, column of the objectness, count."""
    calibrated_sha256: str | None = None
    """Of the int8 network that it is built of; None: it is not int8, or the model file is so itself."""
    targets: tuple[str, ...] = ()
    """Compute capabilities that a portable engine was built for; empty: those the backend chooses."""
    gpu: str | None = None
    """None: built without a GPU, or not for one."""
    compute_capability: str | None = None
    driver: str | None = None
    system: str
    """Operating system and architecture, such as `Linux x86_64`."""

    @property
    def portable(self) -> bool:
        """Whether it is for any GPU of its targets."""
        return self.gpu is None

    @property
    def name(self) -> str:
        """Stem of the files' names."""
        fields = {name: getattr(self, name) for name in Key.model_fields}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{self.model[:NAME_LENGTH]}-{self.backend}-{self.precision}")
        return f"{readable.lstrip('.')}-{digest[:HASH_DIGITS]}"

    def runs_on(self, compute_capability: str) -> bool:
        """Whether it is worth trying on a GPU of this compute capability; the runtime has the last word."""
        if not self.portable:
            return self.compute_capability == compute_capability
        return not self.targets or compute_capability in self.targets


class Quantisation(BaseModel):
    """How an int8 network for a CPU was made, and what it was accepted for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration_pictures: int
    calibration_sha256: str
    """Of those pictures, as the model's input."""
    layers: int
    """Convolutions in int8."""
    in_float: dict[str, float]
    """Convolutions that were left in float for what each alone does to decisions, by name: that loss, 0..1."""
    depthwise: int
    """Convolutions that are never in int8."""
    figure: str
    """What was judged: `AP`, or `matched` boxes, both in percent."""
    judged_on: str
    """Which pictures, in words."""
    float_precision: str
    """What it was compared with."""
    before: float
    after: float
    bound: float
    """The least that `after` had to be."""
    float_ms: float
    """Median of one request at a time, on that machine then."""
    int8_ms: float
    float_cpu_ms: float
    int8_cpu_ms: float
    float_bytes: int
    answers: dict[str, list[float]]
    """What it said of known pictures when it was accepted; see `engines.int8.answers`."""


class Manifest(Key):
    """What is written beside an engine: its key, and what became of it."""

    model_path: str = ""
    """Where the model file was: it says whether the engine is up to date, and is never loaded from here."""
    plan_sha256: str
    bytes: int
    built_at: datetime
    """UTC."""
    build_s: float
    workspace_bytes: int | None = None
    """What the build was told; it decides which kernels were found, not what they compute."""
    state: State
    """`unverified`: it has not been compared with its model file yet, and must be before it is used."""
    parity: dict[str, Any] | None = None
    """`engines.trust.parity.ParityReport.as_dict`, once it was compared."""
    refusal: str | None = None
    """For a refused one: how it disagrees with its model file."""
    quantisation: Quantisation | None = None
    """For an int8 network that a CPU backend runs."""

    @property
    def key(self) -> Key:
        """What it is for."""
        return Key(**{name: getattr(self, name) for name in Key.model_fields})


def key_of(spec: ModelSpec, recipe: Recipe, backend: str, version: str, **machine: Any) -> Key:
    """Return the key of what `recipe` makes of `spec`.

    Args:
        spec: the model; its sha256 is worked out where it does not say it.
        recipe: how it is built.
        backend: what builds it.
        version: exact version of that.
        machine: `gpu`, `compute_capability` and `driver`, for an engine for one GPU; `calibrated_sha256`.

    Raises:
        ModelError: the model file cannot be read, or leaves its input size open and nobody says it.
    """
    from engines.model_files import identity_of
    from engines.tensorrt.recipe import VERSION

    chosen = recipe.candidates
    return Key(
        model=spec.name,
        model_sha256=spec.sha256 or identity_of(spec.path),
        backend=backend,
        version=version,
        precision=recipe.precision,
        recipe=VERSION,
        colour=spec.input.colour,
        mean=spec.input.mean,
        std=spec.input.std,
        declared_batch=spec.input.batch,
        input_size=recipe.input_size or _own_size(spec),
        batch=recipe.batch,
        usual_batch=recipe.usual_batch,
        candidates=None if chosen is None else (chosen.classes, chosen.objectness, chosen.count),
        targets=recipe.compute_capabilities,
        system=system(),
        **machine,
    )


def _own_size(spec: ModelSpec) -> tuple[int, int]:
    """Return height and width of a model's input, from its file where nothing else says them."""
    if spec.input.height is not None and spec.input.width is not None:
        return spec.input.height, spec.input.width
    from engines.graph import load
    from engines.prepare import input_size

    return input_size(load(spec.path), spec.input)


def system() -> str:
    """Return operating system and architecture."""
    return f"{platform.system()} {platform.machine()}"


def differences(built: Key, wanted: Key) -> list[str]:
    """Say in what respects an engine was made for something else, each with both values; nothing: it will do."""
    return list(_differences(built, wanted))


def _differences(built: Key, wanted: Key) -> Iterator[str]:
    if built.model_sha256 != wanted.model_sha256:
        yield f"from a model file of sha256 {built.model_sha256}, which is now {wanted.model_sha256}"
    for field_name in ("colour", "mean", "std", "declared_batch"):
        ours, theirs = getattr(built, field_name), getattr(wanted, field_name)
        if ours != theirs:
            yield f"for an input of {field_name} {ours}, which is now {theirs}"
    if built.version != wanted.version:
        yield f"by {built.backend} {built.version}, and {wanted.version} is installed"
    if built.recipe != wanted.recipe:
        yield f"by recipe {built.recipe}, which is now {wanted.recipe}"
    if built.system != wanted.system:
        yield f"on {built.system}, and this is {wanted.system}"
    if built.calibrated_sha256 != wanted.calibrated_sha256:
        yield "of a network that was calibrated on other pictures"
    yield from _machine_differences(built, wanted)


def _machine_differences(built: Key, wanted: Key) -> Iterator[str]:
    if wanted.gpu is None or wanted.compute_capability is None:
        return
    if built.portable:
        if not built.runs_on(wanted.compute_capability):
            yield f"for compute capability {', '.join(built.targets)}, and {wanted.gpu} has {wanted.compute_capability}"
        return
    if (built.gpu, built.compute_capability) != (wanted.gpu, wanted.compute_capability):
        yield (
            f"for {built.gpu} (compute capability {built.compute_capability}), and this is {wanted.gpu} "
            f"({wanted.compute_capability})"
        )
    if built.driver != wanted.driver:
        yield f"with driver {built.driver}, which is now {wanted.driver}"
