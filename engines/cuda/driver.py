"""The NVIDIA driver itself, asked through ctypes: is it there, and which GPUs does it know?

TensorRT must be asked nothing before this: without a driver its Runtime is a broken object that crashes the process
when it is destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
KERNEL_MODULE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """A device."""

    index: int
    name: str
    compute_capability: str
    """Such as `8.9`."""
    memory_bytes: int
    driver: str
    """Version of the driver, such as `580.65.06`, else of the CUDA it speaks."""

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.name} (cuda:{self.index}, compute capability {self.compute_capability}, {memory})"


@dataclass(frozen=True)
class Driver:
    """What the driver answered."""

    problem: str | None
    """Why there is no GPU to be used; None: there is."""
    gpus: tuple[Gpu, ...] = ()
    cuda: str = ""
    """The newest CUDA it speaks, such as `13.0`."""
