"""What an int8 verdict on a CPU depends on beside the model: recipe, version of the backend, arithmetic of the CPU."""

from __future__ import annotations

from functools import cache
from importlib import import_module, metadata
from pathlib import Path

from engines.cache.manifest import system

VERSION = 2
"""Of the recipe; raised whenever it makes another network: what was accepted of an older one is not used any more."""
CPU_BACKENDS = ("openvino", "onnxruntime")
ARITHMETIC = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512bw", "avx2", "asimddp")
"""CPU flags that decide how 8 bits are multiplied and added up, the best first; without VNNI, sums may saturate."""


@cache
def version_of(backend: str) -> str | None:
    """Return the version of a CPU backend that is installed; None: it is not."""
    try:
        return metadata.version(backend)
    except metadata.PackageNotFoundError:
        try:
            return str(import_module(backend).__version__)  # installed under another name, such as onnxruntime-gpu
        except ImportError:
            return None


@cache
def machine() -> str:
    """Return operating system, architecture, and how the CPU computes in 8 bits: `Linux x86_64 avx512_vnni`."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    best = next((flag for flag in ARITHMETIC if flag in flags), None)
    return f"{system()} {best}" if best else system()
