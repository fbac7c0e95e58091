"""The NVIDIA driver itself, asked through ctypes: is it there, and which GPUs does it know?

TensorRT must be asked nothing before this: without a driver its Runtime is a broken object that crashes the process
when it is destroyed.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engines.errors import BackendUnavailable

LIBRARY = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
DEVICES = re.compile(r"auto|(?:(?:cuda|gpu):?)?(\d*)")
"""How a setting names a GPU, in small letters; the group is its index, the first where it is empty."""
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


class _NoGpu(Exception):
    """Why there is no GPU to be used."""


def load(library: str = LIBRARY) -> ctypes.CDLL:
    """Load the driver's library.

    Raises:
        OSError: it is not there.
    """
    return ctypes.CDLL(library)


def driver() -> Driver:
    """Return what the driver of this machine says; it is asked once in a process."""
    return _probe_once()


@cache
def _probe_once() -> Driver:
    return probe()


def probe(library: str = LIBRARY) -> Driver:
    """Ask the driver which GPUs there are. Whatever goes wrong is the answer's `problem`."""
    try:
        cuda = load(library)
    except OSError as error:
        return Driver(f"no NVIDIA driver is installed ({error})")
    spoken = ""
    try:
        _call(cuda, "cuInit", 0)
        spoken = _cuda_version(cuda)
        count = ctypes.c_int()
        _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise _NoGpu("the NVIDIA driver lists no GPU: CUDA_VISIBLE_DEVICES may hide it, or the container lacks it")
        version = _kernel_module() or f"for CUDA {spoken}"
        return Driver(None, tuple(_gpu(cuda, index, version) for index in range(count.value)), spoken)
    except _NoGpu as reason:
        return Driver(str(reason), cuda=spoken)


def _call(cuda: ctypes.CDLL, name: str, *arguments: Any) -> None:
    function = getattr(cuda, name, None)
    if function is None:
        raise _NoGpu(f"the NVIDIA driver has no function {name}: it is too old, or {cuda._name} is a stub")
    if code := function(*arguments):
        raise _NoGpu(f"the NVIDIA driver fails: {name} answers {_described(cuda, code)}")


def _described(cuda: ctypes.CDLL, code: int) -> str:
    name, text = ctypes.c_char_p(), ctypes.c_char_p()
    for function, out in (("cuGetErrorName", name), ("cuGetErrorString", text)):
        if hasattr(cuda, function):
            getattr(cuda, function)(code, ctypes.byref(out))
    if not name.value:
        return f"error {code}"
    return f"{name.value.decode()} ({code}): {(text.value or b'').decode()}".removesuffix(": ")


def _cuda_version(cuda: ctypes.CDLL) -> str:
    version = ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _kernel_module() -> str | None:
    """Return the version of the kernel's driver, such as `580.65.06`; None where Linux does not tell (Jetson, WSL)."""
    try:
        text = KERNEL_MODULE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found.group() if found else None


def _gpu(cuda: ctypes.CDLL, index: int, version: str) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), index)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    capability = [ctypes.c_int(), ctypes.c_int()]
    for number, attribute in zip(capability, (CAPABILITY_MAJOR, CAPABILITY_MINOR), strict=True):
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor = capability
    return Gpu(index, name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value, version)


def gpu_for(device: str) -> Gpu:
    """Return the GPU that a setting means: `auto`, `gpu`, `cuda` and `0` the first, `1`, `cuda:1`, `gpu:1` the second.

    Raises:
        BackendUnavailable: there is no driver, or no such GPU; the message says what there is.
    """
    found = driver()
    if found.problem is not None:
        raise BackendUnavailable(
            f"no NVIDIA GPU can be used: {found.problem}; install or repair the NVIDIA driver, or run on the CPU "
            "(--backend openvino)"
        )
    wanted = DEVICES.fullmatch(device.strip().lower())
    there_is = "; ".join(map(str, found.gpus))
    if wanted is None or not device.strip():
        raise BackendUnavailable(f"{device!r} is no NVIDIA GPU: choose auto or an index such as 0; there is {there_is}")
    index = int(wanted.group(1) or 0)
    if index >= len(found.gpus):
        raise BackendUnavailable(f"there is no GPU {index}: there is {there_is}")
    return found.gpus[index]
