"""What the figures of `frameloom bench gpu` depend on: the GPU, its driver, and all versions in between."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.cuda.driver import driver
from tools.benchmark import environment
from tools.gpu.layer import memory_limit

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu

PACKAGES = ("cuda-bindings", "pycuda", "nvidia-cuda-nvrtc", "onnx", "onnxruntime", "numpy", "opencv-python", "av")


@dataclass(frozen=True)
class Machine:
    """A GPU and what reaches it."""

    gpu: str
    compute_capability: str
    memory_bytes: int
    memory_gb_per_s: float | None
    """By clock and bus width; None where the driver does not tell."""
    driver: str
    cuda: str
    """The newest CUDA that the driver speaks."""
    layer: str
    """`cuda-python` or `pycuda`."""
    tensorrt: str
    """Backend and version; else why there is none."""
    packages: dict[str, str]
    environment: dict[str, Any]


def look_at(gpu: Gpu, layer: str, tensorrt: str) -> Machine:
    """Return what there is."""
    return Machine(
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        memory_bytes=gpu.memory_bytes,
        memory_gb_per_s=memory_limit(gpu.index),
        driver=gpu.driver,
        cuda=driver().cuda,
        layer=layer,
        tensorrt=tensorrt,
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        environment=environment(),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def in_words(machine: Machine) -> list[str]:
    """Return it as lines."""
    limit = "" if machine.memory_gb_per_s is None else f" at {machine.memory_gb_per_s:,.0f} GB/s"
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB{limit}"
    here = machine.environment
    return [
        f"{machine.gpu}, compute capability {machine.compute_capability}, {memory}",
        f"driver {machine.driver}, speaks CUDA {machine.cuda}; by {machine.layer}; TensorRT: {machine.tensorrt}",
        ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        f"{here['cpu']}, {here['cores']} cores, load {here['load']}, Python {here['python']}, {here['date']}",
    ]
