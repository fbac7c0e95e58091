"""Could an engine of the cache be used here and now? For the list of engines, and for what may be deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engines.cache.manifest import CALIBRATED, system
from engines.int8 import circumstances
from engines.int8.circumstances import CPU_BACKENDS

if TYPE_CHECKING:
    from engines.cache.manifest import Manifest

Word = Literal["valid", "unverified", "refused", "stale", "elsewhere", "damaged"]
DAMAGED: Word = "damaged"


@dataclass(frozen=True)
class Verdict:
    """What is to be said of an engine."""

    word: Word
    """`unverified`: it will be compared with its model file before its first use; `elsewhere`: it is for another
    machine, which may share this folder; `stale`: for this one, but not as it is now."""
    reason: str = ""
    """In words, with both values, where it is not valid."""

    @property
    def useless(self) -> bool:
        """Whether nobody will ever use it again."""
        return self.word in ("stale", "damaged")


@dataclass(frozen=True)
class PresentGpu:
    """A GPU, as far as engines depend on it."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class Present:
    """The circumstances here and now."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Exact version of each backend that is installed."""
    gpus: tuple[PresentGpu, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each model file that is there, by its path as manifests have it (`Manifest.model_path`)."""


def judge(manifest: Manifest, present: Present) -> Verdict:
    """Say whether an engine that is whole could be used."""
    if reason := next(_stale(manifest, present), None):
        return Verdict("stale", reason)
    if reason := next(_elsewhere(manifest, present), None):
        return Verdict("elsewhere", reason)
    if manifest.backend in CPU_BACKENDS and manifest.quantisation is None:
        return Verdict("refused", "nothing says that it was accepted")
    if manifest.backend == CALIBRATED:
        return Verdict("valid")
    if manifest.state == "refused":
        return Verdict("refused", manifest.refusal or "it disagrees with its model file")
    if manifest.state == "unverified":
        return Verdict("unverified", "it has not been compared with its model file yet")
    return Verdict("valid")


def _stale(manifest: Manifest, present: Present) -> Iterator[str]:
    model = present.models.get(manifest.model_path, manifest.model_sha256)  # one that is not there may come back
    if model != manifest.model_sha256:
        yield f"its model file {manifest.model_path} had sha256 {manifest.model_sha256}, and has {model} now"
    if manifest.recipe != (recipe := _recipe(manifest)):
        yield f"it was built by recipe {manifest.recipe}, which is {recipe} now"
    if manifest.system != _system(manifest) or not _may_be_of_here(manifest, present):
        return
    version = present.versions.get(manifest.backend, manifest.version)
    if version != manifest.version:
        yield f"it was built by {manifest.backend} {manifest.version}, and {version} is installed"
    same = [gpu for gpu in present.gpus if gpu.name == manifest.gpu]
    if same and all(gpu.driver != manifest.driver for gpu in same):
        yield f"it was built with driver {manifest.driver}, which is {same[0].driver} now"


def _recipe(manifest: Manifest) -> int:
    from engines.tensorrt.recipe import VERSION

    return circumstances.VERSION if manifest.backend in CPU_BACKENDS else VERSION


def _system(manifest: Manifest) -> str:
    return circumstances.machine() if manifest.backend in CPU_BACKENDS else system()


def _may_be_of_here(manifest: Manifest, present: Present) -> bool:
    """Whether it is for a GPU of this machine; what is for none in particular may be, where there is none."""
    if manifest.backend in CPU_BACKENDS:
        return True
    if manifest.portable:
        return not present.gpus or any(manifest.runs_on(gpu.compute_capability) for gpu in present.gpus)
    return any(gpu.name == manifest.gpu for gpu in present.gpus)


def _elsewhere(manifest: Manifest, present: Present) -> Iterator[str]:
    if manifest.backend == CALIBRATED:
        return
    if manifest.system != (here := _system(manifest)):
        yield f"it is for {manifest.system}, and this is {here}"
    if manifest.backend not in present.versions:
        yield f"{manifest.backend} {manifest.version} is not installed here"
    if _may_be_of_here(manifest, present):
        return
    gpus = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in present.gpus) or "none that answers"
    yield f"it is for {manifest.gpu or 'compute capability ' + ', '.join(manifest.targets)}; the GPU here is {gpus}"
