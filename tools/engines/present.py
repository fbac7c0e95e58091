"""What is here and now, as far as it decides whether a compiled engine could be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.cache.validity import Present, PresentGpu
from engines.cuda.driver import driver
from engines.errors import BackendUnavailable, ModelError
from engines.model_files import sha256_of
from engines.tensorrt.flavour import MODULES, find_flavour
from engines.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Iterable


def present(models: Iterable[str]) -> Present:
    """Return installed backends, GPUs, and the sha256 of those of `models` that the zoo knows and finds."""
    versions: dict[str, str] = {}
    for backend in MODULES:
        try:
            versions[backend] = find_flavour(backend).version
        except BackendUnavailable:
            continue
    gpus = tuple(PresentGpu(gpu.name, gpu.compute_capability, gpu.driver) for gpu in driver().gpus)
    return Present(versions, gpus, _hashes(models))


def _hashes(models: Iterable[str]) -> dict[str, str]:
    zoo, hashes = Zoo.load(), {}
    for name in set(models):
        try:
            path = zoo.locate(name) if name in zoo else None
        except ModelError:  # a damaged file is told by `frameloom models check`
            path = None
        if path is not None:
            hashes[name] = sha256_of(path)
    return hashes
