"""What is here and now, as far as it decides whether a compiled engine could be used."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engines.cache.validity import Present, PresentGpu
from engines.cuda.driver import driver
from engines.errors import BackendUnavailable, ModelError
from engines.int8.circumstances import CPU_BACKENDS, version_of
from engines.model_files import identity_of
from engines.tensorrt.flavour import MODULES, find_flavour

if TYPE_CHECKING:
    from collections.abc import Iterable


def present(models: Iterable[str]) -> Present:
    """Return installed backends, GPUs, and the sha256 of the files of `models`, paths, that are there."""
    versions: dict[str, str] = {}
    for backend in MODULES:
        try:
            versions[backend] = find_flavour(backend).version
        except BackendUnavailable:
            continue
    versions |= {backend: version for backend in CPU_BACKENDS if (version := version_of(backend)) is not None}
    gpus = tuple(PresentGpu(gpu.name, gpu.compute_capability, gpu.driver) for gpu in driver().gpus)
    return Present(versions, gpus, _hashes(models))


def _hashes(models: Iterable[str]) -> dict[str, str]:
    hashes = {}
    for model in set(models):
        with suppress(OSError, ModelError):  # a file that cannot be read says nothing of its engines
            if Path(model).is_file():
                hashes[model] = identity_of(Path(model))
    return hashes
