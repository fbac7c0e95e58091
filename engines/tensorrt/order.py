"""Order: what is wanted of TensorRT (a model, how, by which flavour, on which GPU), and what the cache has for it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engines.cache.engine_cache import EngineCache, Lookup
from engines.cache.manifest import CALIBRATED, Key, State, key_of
from engines.errors import BackendUnavailable, EngineBuildError, EngineError, ParityFailed
from engines.model_files import identity_of
from engines.tensorrt.flavour import builds_without_gpu
from engines.tensorrt.recipe import Recipe

if TYPE_CHECKING:
    from engines.cache.engine_cache import Cached
    from engines.cuda.driver import Gpu
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from engines.tensorrt.flavour import Flavour, TensorRTBackend
    from engines.tensorrt.recipe import PlanPrecision

BATCH, USUAL_BATCH = 8, 1
"""Most pictures at once, and the number that is tuned for: a source's frames come one by one."""
FACES, USUAL_FACES = 32, 4
"""The same for encoders: all faces of a frame are one batch."""
MIB = 1 << 20


@dataclass(frozen=True)
class Order:
    """One model, in one way, on one GPU; without a GPU: for any of the recipe's targets."""

    flavour: Flavour
    spec: ModelSpec
    options: EngineOptions
    recipe: Recipe
    gpu: Gpu | None
    cache: EngineCache = field(default_factory=EngineCache)

    @cached_property
    def key(self) -> Key:
        """What its plan is kept under."""
        calibrated = None if self.calibrated is None else self.calibrated.manifest.plan_sha256
        spec, flavour = self._spec, self.flavour
        key = key_of(spec, self.recipe, flavour.backend, flavour.version, calibrated_sha256=calibrated)
        if self.gpu is None:
            return key
        machine = {
            "gpu": self.gpu.name,
            "compute_capability": self.gpu.compute_capability,
            "driver": self.gpu.driver,
            "targets": (),  # the GPU says it all
        }
        return key.model_copy(update=machine)

    @cached_property
    def calibrated(self) -> Cached | None:
        """The int8 network that it is built of, as it is kept now; None: there is none, or it needs none."""
        return self.cache.find(self.calibrated_key).entry if self.recipe.precision == "int8" else None

    @cached_property
    def calibrated_key(self) -> Key:
        """What its int8 network is kept under: the same for all machines and versions, batches and candidates."""
        key = key_of(self._spec, Recipe("int8", self.recipe.input_size), CALIBRATED, "")
        return key.model_copy(update={"system": "any"})

    @cached_property
    def model_sha256(self) -> str:
        """Of the model file, as it was when it was looked at first."""
        return self.spec.sha256 or identity_of(self.spec.path)

    @property
    def _spec(self) -> ModelSpec:
        return replace(self.spec, sha256=self.model_sha256)

    @property
    def model_path(self) -> str:
        """Where the model file is."""
        return str(self.spec.path.absolute())

    def check_model(self) -> None:
        """Refuse what was made of a file, or compared with it, while that became another.

        Raises:
            EngineBuildError: it has changed since it was looked at first.
            ModelError: it cannot be read any more.
        """
        was, now = self.model_sha256, identity_of(self.spec.path)
        if now != was:
            raise EngineBuildError(
                f"the model file {self.spec.path} changed while it was built: its sha256 was {was}, and is {now} now; "
                "do it again"
            )

    def look_up(self) -> Lookup:
        """Return the plan for this GPU, else one that was built for GPUs of its kind, else what is wrong.

        Raises:
            ParityFailed: there is one, and it is known to disagree with its model file.
            EngineBuildError: there is one, and it is known not to run here.
        """
        found = self.cache.find(self.key)
        if found.entry is None and self.gpu is not None and builds_without_gpu(self.flavour):
            portable = self.cache.find_portable(self.key)
            found = portable if portable.entry is not None else Lookup(None, found.problem or portable.problem)
        if found.entry is not None and found.entry.manifest.state == "refused":
            manifest = found.entry.manifest
            kind: type[EngineError] = EngineBuildError if manifest.parity is None else ParityFailed
            raise kind(
                f"{manifest.refusal}; {self.way_out} (found out before: {found.entry.path.name}; to try once more: "
                f"{self.command} --force)"
            )
        return found

    def is_served_by(self, entry: Cached) -> bool:
        """Whether a plan that was found was built with the working space that is asked for, if any is."""
        return self.recipe.workspace_bytes in (None, entry.manifest.workspace_bytes)

    def is_settled(self, entry: Cached) -> bool:
        """Whether a plan was compared with its model file on this very GPU."""
        return entry.manifest.key == self.key and entry.manifest.state == "verified"

    def settle(self, entry: Cached, state: State, parity: dict[str, Any] | None, refusal: str | None) -> Cached:
        """Keep what the comparison has shown; of a portable plan, this GPU gets its own copy."""
        if entry.manifest.key == self.key:
            return self.cache.mark(entry, state, parity, refusal)
        with self.cache.lock(self.key, f"stores {self.what}"):
            build_s, workspace = entry.manifest.build_s, entry.manifest.workspace_bytes
            known = {"model_path": self.model_path, "workspace_bytes": workspace, "parity": parity, "refusal": refusal}
            return self.cache.store(self.key, entry.plan, build_s, state, **known)

    @property
    def what(self) -> str:
        """In words."""
        targets = f"compute capability {', '.join(self.recipe.compute_capabilities)}"
        place = self.gpu.name if self.gpu else targets if self.recipe.compute_capabilities else "GPUs of its choice"
        return (
            f"{self.spec.name} by {self.flavour.backend} {self.flavour.version} in {self.recipe.precision} for {place}"
        )

    @property
    def command(self) -> str:
        """What builds it by hand."""
        parts = ["frameloom engines build", _argument(self.spec), f"--backend {self.flavour.backend}"]
        parts.append(f"--precision {self.recipe.precision}")
        if self.options.batch is not None:
            parts.append(f"--batch {self.options.batch}")
        if self.options.input_size is not None:
            parts.append("--input-size {}x{}".format(*self.options.input_size))
        if self.gpu is not None and self.gpu.index:
            parts.append(f"--device cuda:{self.gpu.index}")
        if self.recipe.compute_capabilities:
            parts.append(f"--compute-capability {','.join(self.recipe.compute_capabilities)}")
        if self.recipe.workspace_bytes is not None:
            parts.append(f"--workspace-mib {self.recipe.workspace_bytes // MIB}")
        if self.recipe.precision == "int8" and self.calibrated is None:
            parts.append("--images FOLDER")
        return " ".join(parts)

    @property
    def way_out(self) -> str:
        """What to do where it cannot be used."""
        if self.recipe.precision == "fp32":
            return "use another backend (--set engine.backend=openvino)"
        return "use fp32 (--set engine.precision=fp32) or another backend (--set engine.backend=openvino)"


def _argument(spec: ModelSpec) -> str:
    """Return the model as the command line takes it."""
    from engines.zoo import Zoo

    return spec.name if spec.name in Zoo.load() else shlex.quote(str(spec.path))


def recipe_for(backend: TensorRTBackend, spec: ModelSpec, options: EngineOptions) -> Recipe:
    """Return how a model is built.

    Raises:
        BackendUnavailable: the precision does not exist here.
    """
    most, usual = (FACES, USUAL_FACES) if spec.task == "face-encode" else (BATCH, USUAL_BATCH)
    batch = options.batch or most
    return Recipe(
        precision=_precision(backend, spec, options),
        input_size=options.input_size,
        batch=batch,
        usual_batch=min(usual, batch),
        candidates=options.candidates,
    )


def _precision(backend: TensorRTBackend, spec: ModelSpec, options: EngineOptions) -> PlanPrecision:
    wanted = options.precision if options.precision != "auto" else spec.precision
    if wanted == "auto":
        return "fp16"
    if wanted == "bf16":
        raise BackendUnavailable(f"{backend} runs fp32, fp16 or int8 here, not bf16")
    return wanted
